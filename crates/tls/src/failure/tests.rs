use nuncio_model::{Alpn, Outcome, VerifyMode};
use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};

use super::*;
use crate::fixture::*;
use crate::{ended_at_once, ended_in_silence, provider};

pub(crate) fn server() -> ServerConfig {
    Authority::new("ca").leaf(&["a.test"]).server()
}

fn failed(settings: TlsSettings, server: ServerConfig) -> Failure {
    meet(&endpoint(settings), server).failure().clone()
}

pub(crate) fn answered_with(settings: TlsSettings, bytes: &[u8]) -> Failure {
    answered(&endpoint(settings), bytes).1.expect_err("a failure")
}

#[test]
fn protocol_version_from_a_peer_of_older_version() {
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    let mut settings = settings();
    settings.min_version = TlsVersion::V1_3;
    let failure = failed(settings, leaf.server_with(&provider(), &[&TLS12]));
    assert_says(
        &failure,
        Reason::ProtocolVersion,
        "only TLSv1.3 (alert `protocol_version`)",
        "spec.min_tls_version",
    );
}

#[test]
fn protocol_version_from_a_peer_of_newer_version() {
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    let mut settings = settings();
    settings.max_version = TlsVersion::V1_2;
    let failure = failed(settings, leaf.server_with(&provider(), &[&TLS13]));
    assert_says(
        &failure,
        Reason::ProtocolVersion,
        "only TLSv1.2",
        "spec.max_tls_version",
    );
}

#[test]
fn p2_a_peer_of_tls_1_1_is_protocol_version() {
    // As OpenSSL answers: the alert's record already bears the lower version.
    let by_alert = answered_with(settings(), &[21, 3, 2, 0, 2, 2, 70]);
    assert_says(
        &by_alert,
        Reason::ProtocolVersion,
        "TLSv1.2 to TLSv1.3",
        "TLS 1.1 and older are not spoken",
    );
    let by_hello = answered_with(settings(), &server_hello([3, 2], [0xc0, 0x2f]));
    assert_says(&by_hello, Reason::ProtocolVersion, "below 1.2", "not spoken");
}

#[test]
fn p2_a_peer_of_rsa_key_exchange_is_no_shared_cipher() {
    let by_alert = answered_with(settings(), &alert(40));
    assert_says(
        &by_alert,
        Reason::NoSharedCipher,
        "alert `handshake_failure`",
        "RSA key exchange",
    );
    let by_choice = answered_with(settings(), &server_hello([3, 3], [0x00, 0x9c]));
    assert_says(
        &by_choice,
        Reason::NoSharedCipher,
        "that was not offered",
        "RSA key exchange",
    );
}

/// A TLS 1.2 ServerHello without extensions.
pub(crate) fn server_hello(version: [u8; 2], suite: [u8; 2]) -> Vec<u8> {
    let mut hello = vec![2, 0, 0, 38, version[0], version[1]];
    hello.extend([7; 32]);
    hello.extend([0, suite[0], suite[1], 0]);
    let mut record = vec![
        22,
        version[0],
        version[1],
        0,
        u8::try_from(hello.len()).expect("short"),
    ];
    record.extend(hello);
    record
}

#[test]
fn no_shared_cipher_from_a_peer_with_another_kind_of_key() {
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    let mut settings = settings();
    settings.max_version = TlsVersion::V1_2;
    settings.cipher_suites = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"].into();
    let failure = failed(settings, leaf.server());
    assert_says(
        &failure,
        Reason::NoSharedCipher,
        "no cipher suite",
        "spec.cipher_suites",
    );
}

#[test]
fn no_shared_group_where_the_groups_were_narrowed() {
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    let mut only_x25519 = (*provider()).clone();
    only_x25519
        .kx_groups
        .retain(|group| group.name() == rustls::NamedGroup::X25519);
    let mut settings = settings();
    settings.groups = ["secp384r1"].into();
    let failure = failed(
        settings,
        leaf.server_with(&Arc::new(only_x25519), rustls::ALL_VERSIONS),
    );
    assert_says(
        &failure,
        Reason::NoSharedGroup,
        "key-exchange group",
        "spec.ecdh_curves",
    );
}

#[test]
fn alpn_mismatch_by_alert_and_by_decision() {
    let mut server = server();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let failure = failed(settings(), server);
    assert_says(
        &failure,
        Reason::AlpnMismatch,
        "http/1.1 (alert `no_application_protocol`)",
        "spec.alpn_protocols",
    );
    let failure = alpn_mismatch("h2", Some("http/1.1"), &settings());
    assert_says(
        &failure,
        Reason::AlpnMismatch,
        "chose `http/1.1` by ALPN and `h2` is needed",
        "spec.alpn_protocols",
    );
}

#[test]
fn d6_not_tls_shows_what_a_plain_http_server_said() {
    let answer = b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n";
    let failure = answered_with(settings(), answer);
    assert_says(
        &failure,
        Reason::NotTls,
        "`HTTP/1.1 400 Bad Request..Server`",
        "the upstream speaks plain HTTP on this port: use http:// or another port",
    );
}

#[test]
fn not_tls_shows_nothing_that_cannot_be_printed() {
    let failure = answered_with(settings(), b"\x00\x1b[31mSSH-2.0\xff\x07");
    assert_says(
        &failure,
        Reason::NotTls,
        "`..[31mSSH-2.0..`",
        "check host and port",
    );
    // Read by somebody else, and then the end.
    let handshake = endpoint(settings()).start().expect("a hello");
    let failure = handshake.closed(Closed::Eof, b"220 mail ESMTP\r\n");
    assert_says(
        &failure,
        Reason::NotTls,
        "`220 mail ESMTP..`",
        "check host and port",
    );
}

#[test]
fn not_tls_names_the_protocol_that_is_spoken_instead() {
    for (answer, message) in [
        (
            &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
            "but SSH, it answered `SSH-2.0-OpenSSH_9.6..`",
        ),
        (b"220 mail.a.test ESMTP\r\n", "but SMTP or FTP"),
        (b"E\0\0\0\x85SFATAL\0VFATAL\0C0A000\0", "but PostgreSQL"),
    ] {
        assert_says(
            &answered_with(settings(), answer),
            Reason::NotTls,
            message,
            "check host and port",
        );
    }
}

#[test]
fn what_answers_in_ssl_is_protocol_version() {
    let of_ssl3 = answered_with(settings(), &[21, 3, 0, 0, 2, 2, 40]);
    assert_says(&of_ssl3, Reason::ProtocolVersion, "SSL 3.0", "TLS 1.2");
    let hello_of_ssl3 = answered_with(settings(), &server_hello([3, 0], [0, 5]));
    assert_says(&hello_of_ssl3, Reason::ProtocolVersion, "below 1.2", "TLS 1.2");
    let of_ssl2 = answered_with(settings(), &[0x80, 3, 0, 0, 1]);
    assert_says(&of_ssl2, Reason::ProtocolVersion, "SSL 2.0", "TLS 1.2");
}

#[test]
fn f1_handshake_timeout_hints_at_the_large_hello() {
    // Only where somebody asked for it; else a small one is tried without being told to.
    let mut asked = settings();
    asked.groups = ["X25519MLKEM768", "X25519"].into();
    let handshake = endpoint(asked).start().expect("a hello");
    let failure = handshake.closed(Closed::Timeout, &[]);
    assert_says(
        &failure,
        Reason::HandshakeTimeout,
        "did not answer",
        "spec.ecdh_curves to [X25519, P-256]",
    );
    let mut classic = settings();
    classic.groups = ["X25519"].into();
    for settings in [settings(), classic] {
        let handshake = endpoint(settings).start().expect("a hello");
        let remedy = handshake.closed(Closed::Timeout, &[]).remedy;
        assert!(!remedy.contains("ecdh_curves"), "{remedy}");
    }
}

#[test]
fn f3_reset_during_handshake_suggests_a_server_name_where_none_is_sent() {
    let handshake = endpoint(settings()).start().expect("a hello");
    let failure = handshake.closed(Closed::Reset, &[]);
    assert_says(
        &failure,
        Reason::ResetDuringHandshake,
        "reset the connection before it answered",
        "",
    );
    let mut nameless = settings();
    nameless.sni = None;
    let handshake = endpoint(nameless).start().expect("a hello");
    let failure = handshake.closed(Closed::Eof, &[]);
    assert_says(
        &failure,
        Reason::ResetDuringHandshake,
        "closed the connection",
        "set spec.sni",
    );
    let lost = handshake.closed(Closed::Io(std::io::ErrorKind::BrokenPipe), &[]);
    assert_says(
        &lost,
        Reason::ResetDuringHandshake,
        "the connection to the upstream was lost",
        "",
    );
}

#[test]
fn f4_the_alert_is_the_cause_and_not_the_reset_that_follows() {
    let (mut handshake, outcome) = answered(&endpoint(settings()), &alert(40));
    let failure = outcome.expect_err("a failure");
    assert_eq!(handshake.closed(Closed::Reset, &[]), failure);
    assert_eq!(handshake.process().map(|_| ()), Err(failure));
}

#[test]
fn an_alert_without_a_reason_of_its_own_is_named() {
    let failure = answered_with(settings(), &alert(112));
    assert_says(
        &failure,
        Reason::AlertReceived(Alert::UnrecognizedName),
        "unrecognized_name",
        "set spec.sni",
    );
    assert_eq!(failure.reason.code(), "alert_received:unrecognized_name");
    let mut nameless = settings();
    nameless.sni = None;
    let failure = answered_with(nameless, &alert(80));
    assert_says(
        &failure,
        Reason::AlertReceived(Alert::InternalError),
        "internal_error",
        "set spec.sni",
    );
    let unheard_of = answered_with(settings(), &alert(200));
    assert_says(
        &unheard_of,
        Reason::AlertReceived(Alert::Unknown),
        "(alert 200)",
        "",
    );
    // Those that a later RFC took back have no name either.
    let withdrawn = answered_with(settings(), &alert(60));
    assert_says(
        &withdrawn,
        Reason::AlertReceived(Alert::Unknown),
        "(alert 60)",
        "",
    );
}

#[test]
fn every_alert_of_the_model_has_its_number() {
    const NUMBERS: &[(u8, Alert)] = &[
        (0, Alert::CloseNotify),
        (10, Alert::UnexpectedMessage),
        (20, Alert::BadRecordMac),
        (22, Alert::RecordOverflow),
        (40, Alert::HandshakeFailure),
        (42, Alert::BadCertificate),
        (43, Alert::UnsupportedCertificate),
        (44, Alert::CertificateRevoked),
        (45, Alert::CertificateExpired),
        (46, Alert::CertificateUnknown),
        (47, Alert::IllegalParameter),
        (48, Alert::UnknownCa),
        (49, Alert::AccessDenied),
        (50, Alert::DecodeError),
        (51, Alert::DecryptError),
        (70, Alert::ProtocolVersion),
        (71, Alert::InsufficientSecurity),
        (80, Alert::InternalError),
        (86, Alert::InappropriateFallback),
        (90, Alert::UserCanceled),
        (100, Alert::NoRenegotiation),
        (109, Alert::MissingExtension),
        (110, Alert::UnsupportedExtension),
        (112, Alert::UnrecognizedName),
        (113, Alert::BadCertificateStatusResponse),
        (115, Alert::UnknownPskIdentity),
        (116, Alert::CertificateRequired),
        (120, Alert::NoApplicationProtocol),
    ];
    assert_eq!(NUMBERS.len() + 1, Alert::ALL.len());
    for (number, alert) in NUMBERS {
        assert_eq!(known(AlertDescription::from(*number)), *alert);
    }
}

#[test]
fn p15_client_cert_required_after_a_handshake_of_tls_1_3() {
    let ca = Authority::new("ca");
    let leaf = ca.leaf(&["a.test"]);
    let meeting = meet(&endpoint(settings()), leaf.server_demanding(&ca, &[&TLS13], true));
    assert_says(
        meeting.failure(),
        Reason::ClientCertRequired,
        "requires a client certificate",
        "set spec.secret",
    );
    let report = meeting.report();
    assert!(report.client_certificate.requested && !report.client_certificate.sent);
    assert_eq!(report.outcome, Outcome::Failed(Reason::ClientCertRequired));
    assert_eq!(report.peer.len(), 1);
}

#[test]
fn p15_client_cert_required_within_a_handshake_of_tls_1_2() {
    let ca = Authority::new("ca");
    let leaf = ca.leaf(&["a.test"]);
    let meeting = meet(&endpoint(settings()), leaf.server_demanding(&ca, &[&TLS12], true));
    assert_says(
        meeting.failure(),
        Reason::ClientCertRequired,
        "client certificate",
        "set spec.secret",
    );
}

#[test]
fn p15_a_client_certificate_that_is_optional_may_be_missing() {
    let ca = Authority::new("ca");
    let leaf = ca.leaf(&["a.test"]);
    for version in rustls::ALL_VERSIONS {
        let meeting = meet(
            &endpoint(settings()),
            leaf.server_demanding(&ca, &[version], false),
        );
        assert_eq!(meeting.outcome, Ok(()));
        let report = meeting.report();
        assert!(report.client_certificate.requested && !report.client_certificate.sent);
    }
}

/// Drives a TLS 1.2 handshake with a server that asks for a certificate to where the server would
/// answer it, and answers with an alert instead.
fn alert_after_certificate(settings: TlsSettings, ca: &Authority, code: u8) -> Failure {
    let leaf = ca.leaf(&["a.test"]);
    let server = leaf.server_demanding(ca, &[&TLS12], false);
    let client = endpoint(settings).start().expect("a hello");
    let server = rustls::server::ServerConnection::new(Arc::new(server)).expect("a server");
    let mut meeting = Meeting {
        client,
        server,
        outcome: Ok(()),
    };
    meeting.client_speaks();
    meeting.server_speaks();
    meeting.feed(&alert(code));
    meeting.failure().clone()
}

#[test]
fn client_cert_required_by_servers_that_only_say_handshake_failure() {
    let ca = Authority::new("ca");
    for code in [40, 42, 46] {
        let failure = alert_after_certificate(settings(), &ca, code);
        assert_says(
            &failure,
            Reason::ClientCertRequired,
            "asked for a client certificate, got none",
            "set spec.secret",
        );
    }
}

#[test]
fn client_cert_rejected_names_the_alert() {
    let ca = Authority::new("ca");
    let ours = Authority::new("other").leaf(&["client"]);
    for (code, name) in [
        (42, "bad_certificate"),
        (48, "unknown_ca"),
        (45, "certificate_expired"),
        (51, "decrypt_error"),
    ] {
        let failure = alert_after_certificate(with_client(settings(), &ours), &ca, code);
        assert_says(&failure, Reason::ClientCertRejected, name, "spec.secret");
    }
}

#[test]
fn p16_client_cert_rejected_by_either_version() {
    let ca = Authority::new("ca");
    let ours = Authority::new("other").leaf(&["client"]);
    let leaf = ca.leaf(&["a.test"]);
    for version in rustls::ALL_VERSIONS {
        let server = leaf.server_demanding(&ca, &[version], true);
        let meeting = meet(&endpoint(with_client(settings(), &ours)), server);
        assert_says(
            meeting.failure(),
            Reason::ClientCertRejected,
            "unknown_ca",
            "spec.secret",
        );
        assert!(meeting.report().client_certificate.sent);
    }
}

#[test]
fn p16_a_rejection_that_comes_when_data_flows_is_explained_by_what_was_seen() {
    let ca = Authority::new("ca");
    let ours = Authority::new("other").leaf(&["client"]);
    let server = ca.leaf(&["a.test"]).server_demanding(&ca, &[&TLS13], true);
    let endpoint = endpoint(with_client(settings(), &ours));
    let server = rustls::server::ServerConnection::new(Arc::new(server)).expect("a server");
    let client = endpoint.start().expect("a hello");
    let mut meeting = Meeting {
        client,
        server,
        outcome: Ok(()),
    };
    meeting.client_speaks();
    meeting.server_speaks();
    assert!(
        !meeting.client.is_handshaking(),
        "the client is done before the server has seen its certificate"
    );
    meeting.client_speaks();
    let mut bytes = Vec::new();
    meeting.server.write_tls(&mut bytes).expect("an alert");
    let mut established = meeting.client.into_connection();
    established
        .connection
        .read_tls(&mut bytes.as_slice())
        .expect("memory");
    let failure = crate::process_established(&mut established.connection, &established.seen, &settings())
        .expect_err("a failure");
    assert_says(&failure, Reason::ClientCertRejected, "unknown_ca", "spec.secret");
}

#[test]
fn a_close_after_the_question_for_a_certificate_is_an_answer() {
    let ca = Authority::new("ca");
    let server = ca.leaf(&["a.test"]).server_demanding(&ca, &[&TLS12], true);
    let client = endpoint(settings()).start().expect("a hello");
    let server = rustls::server::ServerConnection::new(Arc::new(server)).expect("a server");
    let mut meeting = Meeting {
        client,
        server,
        outcome: Ok(()),
    };
    meeting.client_speaks();
    meeting.server_speaks();
    for (how, verb) in [(Closed::Eof, "closed"), (Closed::Reset, "reset")] {
        let message = format!("asked for a client certificate, got none and {verb} the connection");
        let failure = meeting.client.closed(how, &[]);
        assert_says(&failure, Reason::ClientCertRequired, &message, "spec.secret");
    }
}

/// A handshake with a server that asks for a certificate and takes anything, over when both are done with it, but for
/// the session tickets that the server has to send.
fn asked_for_a_certificate(
    ca: &Authority,
    settings: TlsSettings,
    version: &'static rustls::SupportedProtocolVersion,
) -> Meeting {
    let server = ca.leaf(&["a.test"]).server_demanding(ca, &[version], false);
    let mut meeting = Meeting {
        client: endpoint(settings).start().expect("a ClientHello"),
        server: rustls::server::ServerConnection::new(Arc::new(server)).expect("a server"),
        outcome: Ok(()),
    };
    while meeting.client.is_handshaking() {
        assert!(meeting.client_speaks() | meeting.server_speaks(), "both wait");
    }
    meeting
}

#[test]
fn p15_p16_an_end_without_a_word_is_a_verdict_in_both_versions() {
    let ca = Authority::new("ca");
    let ours = ca.leaf(&["client"]);
    for version in [&TLS12, &TLS13] {
        for (settings, reason) in [
            (settings(), Reason::ClientCertRequired),
            (with_client(settings(), &ours), Reason::ClientCertRejected),
        ] {
            let meeting = asked_for_a_certificate(&ca, settings.clone(), version);
            let established = meeting.client.into_connection();
            let (connection, seen) = (&established.connection, &established.seen);
            let failure = ended_in_silence(Closed::Eof, connection, seen, &settings).expect("a verdict");
            assert_says(&failure, reason, "closed the connection", "spec.secret");
            assert_eq!(ended_at_once(Closed::Eof, connection, seen, &settings), failure);
        }
    }
}

#[test]
fn p15_silence_is_no_verdict_where_nothing_was_asked() {
    let meeting = meet(&endpoint(settings()), server());
    let established = meeting.client.into_connection();
    let (connection, seen) = (&established.connection, &established.seen);
    assert_eq!(
        ended_in_silence(Closed::Reset, connection, seen, &settings()),
        None
    );
    let failure = ended_at_once(Closed::Reset, connection, seen, &settings());
    assert_says(
        &failure,
        Reason::ResetDuringHandshake,
        "reset the connection as soon as the handshake was over",
        "",
    );
}

#[test]
fn p16_a_server_that_sent_tickets_has_accepted_the_certificate() {
    let ca = Authority::new("ca");
    let ours = with_client(settings(), &ca.leaf(&["client"]));
    let meeting = meet(
        &endpoint(ours.clone()),
        ca.leaf(&["a.test"]).server_demanding(&ca, &[&TLS13], true),
    );
    assert_eq!(meeting.outcome, Ok(()));
    let established = meeting.client.into_connection();
    assert!(established.seen.certificate_sent);
    assert!(established.connection.tls13_tickets_received() > 0);
    assert_eq!(
        ended_in_silence(Closed::Eof, &established.connection, &established.seen, &ours),
        None
    );
}

#[test]
fn bad_certificate_where_the_peer_does_not_hold_the_key() {
    let ca = Authority::new("ca");
    let mut impostor = ca.leaf(&["a.test"]);
    impostor.key = new_key();
    for version in rustls::ALL_VERSIONS {
        // Also where nothing is asked of the certificate itself.
        for mode in VerifyMode::ALL {
            let meeting = meet(
                &endpoint(trusting(&ca.pem(), mode)),
                impostor.server_with(&provider(), &[version]),
            );
            assert_says(
                meeting.failure(),
                Reason::BadCertificate,
                "did not prove that it holds the key",
                "",
            );
        }
    }
}

#[test]
fn alpn_is_what_was_negotiated() {
    let mut settings = settings();
    settings.alpn = [Alpn::H2, Alpn::Http1].into();
    let mut speaks_h2 = server();
    speaks_h2.alpn_protocols = vec![b"h2".to_vec()];
    let meeting = meet(&endpoint(settings.clone()), speaks_h2);
    assert_eq!(meeting.report().alpn.as_deref(), Some("h2"));
    assert_eq!(
        meeting.client.into_connection().alpn,
        crate::Selected::Http(Alpn::H2)
    );
    let meeting = meet(&endpoint(settings), server());
    assert_eq!(meeting.client.into_connection().alpn, crate::Selected::Undecided);
}
