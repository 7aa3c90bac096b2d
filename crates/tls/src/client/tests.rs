use nuncio_model::{Outcome, Reason};
use rustls::version::{TLS12 as ONLY_12, TLS13 as ONLY_13};

use super::*;
use crate::fixture::*;

fn wire_hello(settings: TlsSettings) -> rustls::server::Accepted {
    let mut client = endpoint(settings).start().expect("a hello");
    let mut bytes = Vec::new();
    client.connection().write_tls(&mut bytes).expect("memory");
    let mut acceptor = rustls::server::Acceptor::default();
    acceptor.read_tls(&mut bytes.as_slice()).expect("memory");
    acceptor.accept().expect("a hello").expect("a whole hello")
}

#[test]
fn p1_both_versions_are_spoken() {
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    for (version, name) in [(&ONLY_12, "TLSv1.2"), (&ONLY_13, "TLSv1.3")] {
        let meeting = meet(&endpoint(settings()), leaf.server_with(&provider(), &[version]));
        assert_eq!(meeting.outcome, Ok(()));
        assert_eq!(meeting.report().version.map(TlsVersion::as_str), Some(name));
    }
}

#[test]
fn a_report_names_what_was_negotiated_as_the_rfcs_do() {
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    let report = meet(&endpoint(settings()), leaf.server()).report();
    assert_eq!(report.cipher.as_deref(), Some("TLS_AES_128_GCM_SHA256"));
    assert_eq!(report.group.as_deref(), Some("X25519MLKEM768"));
    assert_eq!(report.sni.as_deref(), Some("a.test"));
    assert!((report.duration_ms - 3.1).abs() < 1e-9);
    assert!(!report.resumed);
    let mut older = settings();
    older.max_version = TlsVersion::V1_2;
    let report = meet(&endpoint(older), leaf.server()).report();
    assert_eq!(
        report.cipher.as_deref(),
        Some("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
    );
}

#[test]
fn s1_s8_the_server_name_is_sent_or_not() {
    assert_eq!(
        wire_hello(settings()).client_hello().server_name(),
        Some("a.test")
    );
    let mut nameless = settings();
    nameless.sni = None;
    assert_eq!(wire_hello(nameless).client_hello().server_name(), None);
}

#[test]
fn s17_a_server_name_that_cannot_be_sent_is_an_error() {
    for name in ["10.0.0.5", "a.test:443", "", "a b", &"x".repeat(300)] {
        let mut settings = settings();
        settings.sni = Some(name.into());
        let error = ClientTls::new(&Arc::new(settings)).expect_err("no name");
        assert_eq!(error.reason, "bad_sni", "{name}");
    }
    let mut settings = settings();
    settings.sni = Some("with_underscore.test".into());
    assert!(ClientTls::new(&Arc::new(settings)).is_ok());
}

#[test]
fn the_hello_offers_what_is_configured() {
    let accepted = wire_hello(settings());
    let hello = accepted.client_hello();
    assert_eq!(
        hello.cipher_suites().len(),
        TLS13_SUITES.len() + TLS12_SUITES.len() + 1
    );
    let protocols: Vec<_> = hello.alpn().expect("ALPN").collect();
    assert_eq!(protocols, [b"http/1.1"]);
    let groups: Vec<_> = hello
        .named_groups()
        .expect("groups")
        .iter()
        .map(|g| format!("{g:?}"))
        .collect();
    assert_eq!(groups, DEFAULT_GROUPS);

    let mut narrow = settings();
    narrow.cipher_suites = ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"].into();
    narrow.groups = ["secp256r1", "X25519"].into();
    narrow.alpn = [].into();
    let accepted = wire_hello(narrow);
    let hello = accepted.client_hello();
    let suites: Vec<_> = hello
        .cipher_suites()
        .iter()
        .map(|suite| suite_name(*suite))
        .collect();
    assert_eq!(&suites[..3], TLS13_SUITES);
    assert_eq!(suites[3], "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384");
    let groups: Vec<_> = hello
        .named_groups()
        .expect("groups")
        .iter()
        .map(|g| format!("{g:?}"))
        .collect();
    assert_eq!(groups, ["secp256r1", "X25519"]);
    assert!(hello.alpn().is_none());
}

#[test]
fn d12_suites_are_offered_for_the_versions_in_bounds_only() {
    let mut older = settings();
    older.max_version = TlsVersion::V1_2;
    let accepted = wire_hello(older);
    let suites: Vec<_> = accepted
        .client_hello()
        .cipher_suites()
        .iter()
        .map(|s| suite_name(*s))
        .collect();
    assert!(
        suites.iter().all(|suite| !TLS13_SUITES.contains(&suite.as_str())),
        "{suites:?}"
    );
    let mut newer = settings();
    newer.min_version = TlsVersion::V1_3;
    let accepted = wire_hello(newer);
    let suites: Vec<_> = accepted
        .client_hello()
        .cipher_suites()
        .iter()
        .map(|s| suite_name(*s))
        .collect();
    assert_eq!(&suites[..3], TLS13_SUITES);
    assert!(suites.iter().all(|suite| !suite.contains("ECDHE")), "{suites:?}");
}

#[test]
fn every_name_that_users_may_write_can_be_offered() {
    for (name, rfc) in TLS12_SUITES {
        assert_eq!(
            suites(&[rfc], TlsVersion::V1_2, TlsVersion::V1_2).len(),
            1,
            "{name}"
        );
    }
    for name in [
        "X25519MLKEM768",
        "X25519",
        "P-256",
        "P-384",
        "SecP256r1MLKEM768",
        "MLKEM1024",
    ] {
        let rfc = crate::group(name).expect("known").expect("spoken");
        assert!(kx_group_named(rfc).is_some(), "{name}");
    }
}

#[test]
fn d13_bounds_that_leave_nothing_are_an_error() {
    let mut settings = settings();
    settings.min_version = TlsVersion::V1_3;
    settings.max_version = TlsVersion::V1_2;
    assert_eq!(
        ClientTls::new(&Arc::new(settings)).expect_err("bounds").reason,
        "bad_settings"
    );
}

#[test]
fn p13_a_peer_with_another_group_is_met_by_retry_and_then_by_memory() {
    let mut p256 = (*provider()).clone();
    p256.kx_groups
        .retain(|group| group.name() == rustls::NamedGroup::secp256r1);
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    let server = leaf.server_with(&Arc::new(p256), &[&ONLY_13]);
    let endpoint = endpoint(settings());
    let kind = |endpoint: &EndpointTls| {
        endpoint.forget_sessions();
        let mut meeting = meet(endpoint, server.clone());
        assert_eq!(meeting.outcome, Ok(()));
        meeting.client.connection().handshake_kind()
    };
    assert_eq!(
        kind(&endpoint),
        Some(rustls::HandshakeKind::FullWithHelloRetryRequest)
    );
    assert_eq!(kind(&endpoint), Some(rustls::HandshakeKind::Full));
}

/// Decision 19.
#[test]
fn p14_a_small_hello_fits_into_one_packet() {
    const PACKET: usize = 1400;
    let size = |handshake: Result<Handshake, Failure>| {
        let mut bytes = Vec::new();
        let mut handshake = handshake.expect("a hello");
        handshake.connection().write_tls(&mut bytes).expect("memory");
        bytes.len()
    };
    let unasked = endpoint(settings());
    assert!(unasked.hello_is_large());
    assert!(size(unasked.start()) > PACKET);
    assert!(size(unasked.start_small()) < PACKET);

    let mut asked = settings();
    asked.groups = ["X25519MLKEM768", "X25519"].into();
    let mut older = settings();
    older.max_version = TlsVersion::V1_2;
    for settings in [asked, older] {
        assert!(!endpoint(settings).hello_is_large(), "its size is as configured");
    }
}

#[test]
fn p14_what_a_small_hello_led_to_is_no_choice_of_the_peer() {
    let server = Arc::new(Authority::new("ca").leaf(&["a.test"]).server());
    let endpoint = endpoint(settings());
    let small = |endpoint: &EndpointTls| meet_with(endpoint.start_small().expect("a hello"), &server);
    let report = small(&endpoint).report();
    assert_eq!(
        (report.outcome, report.group.as_deref()),
        (Outcome::Ok, Some("X25519"))
    );
    assert!(small(&endpoint).report().resumed);
    assert!(endpoint.hello_is_large());
    // Tickets serve both.
    let report = meet_shared(&endpoint, &server).report();
    assert_eq!(
        (report.resumed, report.group.as_deref()),
        (true, Some("X25519MLKEM768"))
    );

    // A peer that chose a small group of all that were offered is known to take one.
    let mut classical = (*provider()).clone();
    classical
        .kx_groups
        .retain(|group| group.name() == rustls::NamedGroup::X25519);
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    let chosen = meet(&endpoint, leaf.server_with(&Arc::new(classical), &[&ONLY_13]));
    assert_eq!(chosen.outcome, Ok(()));
    assert!(!endpoint.hello_is_large());
}

fn resumes(endpoint: &EndpointTls, server: &Arc<rustls::ServerConfig>) -> bool {
    let meeting = meet_shared(endpoint, server);
    assert_eq!(meeting.outcome, Ok(()));
    meeting.report().resumed
}

#[test]
fn sessions_are_resumed_by_the_endpoint_and_by_no_other() {
    let ca = Authority::new("ca");
    for version in rustls::ALL_VERSIONS {
        let server = Arc::new(ca.leaf(&["a.test"]).server_with(&provider(), &[version]));
        for mode in VerifyMode::ALL {
            let tls = ClientTls::new(&Arc::new(trusting(&ca.pem(), mode))).expect("settings");
            let (first, second) = (tls.endpoint(), tls.endpoint());
            assert!(!resumes(&first, &server), "{mode:?} {version:?}");
            assert!(resumes(&first, &server), "{mode:?} {version:?}");
            assert!(resumes(&first.clone(), &server), "{mode:?} {version:?}");
            assert!(!resumes(&second, &server), "{mode:?} {version:?}");
            first.forget_sessions();
            assert!(!resumes(&first, &server), "{mode:?} {version:?}");
        }
    }
}

#[test]
fn a_resumed_session_still_has_its_report() {
    let ca = Authority::new("ca");
    let server = Arc::new(ca.leaf(&["a.test"]).server());
    let endpoint = endpoint(trusting(&ca.pem(), VerifyMode::Full));
    meet_shared(&endpoint, &server);
    let report = meet_shared(&endpoint, &server).report();
    assert!(report.resumed);
    assert_eq!(report.peer[0].subject, "CN=a.test");
    assert_eq!(report.verify.result, nuncio_model::Outcome::Ok);
}

#[test]
fn v19_a_session_made_under_another_trust_is_not_resumed() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let server = Arc::new(ca.leaf(&["a.test"]).server());
    let both = endpoint(trusting(&(ca.pem() + &other.pem()), VerifyMode::Full));
    assert!(!resumes(&both, &server));
    assert!(resumes(&both, &server));
    let without = meet_shared(&endpoint(trusting(&other.pem(), VerifyMode::Full)), &server);
    assert_eq!(without.failure().reason, Reason::UnknownIssuer);
}

/// A clock that stands where a test puts it.
#[derive(Debug)]
struct Clock(std::sync::atomic::AtomicU64);

impl Clock {
    const HOUR: u64 = 3600;

    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, std::sync::atomic::Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.0.load(std::sync::atomic::Ordering::Relaxed);
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            seconds,
        )))
    }
}

#[test]
fn r9_a_session_does_not_outlive_the_certificate_it_came_with() {
    let ca = Authority::new("ca");
    let now = std::time::SystemTime::now();
    let clock = Arc::new(Clock(UnixTime::now().as_secs().into()));
    let mut params = leaf_params(&["a.test"]);
    params.not_after = (now + std::time::Duration::from_secs(Clock::HOUR)).into();
    let old = ca.issue(&params);
    for version in rustls::ALL_VERSIONS {
        let mut server = old.server_with(&provider(), &[version]);
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().expect("tickets");
        let settings = Arc::new(trusting(&ca.pem(), VerifyMode::Chain));
        let tls = ClientTls::with_clock(&settings, Arc::clone(&clock) as _).expect("settings");
        let endpoint = tls.endpoint();
        assert!(!resumes(&endpoint, &Arc::new(server.clone())));
        assert!(resumes(&endpoint, &Arc::new(server.clone())));
        // A peer with a new certificate is asked for it, although it would still resume.
        let mut renewed = server.clone();
        renewed.cert_resolver = ca.leaf(&["a.test"]).resolver();
        let renewed = Arc::new(renewed);
        clock.advance(2 * Clock::HOUR);
        assert!(!resumes(&endpoint, &renewed));
        assert!(resumes(&endpoint, &renewed));
        endpoint.forget_sessions();
        assert_eq!(meet(&endpoint, server).failure().reason, Reason::Expired);
        clock
            .0
            .store(UnixTime::now().as_secs(), std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn r9_a_certificate_that_expires_while_its_session_is_resumed_is_refused() {
    let ca = Authority::new("ca");
    let now = std::time::SystemTime::now();
    let clock = Arc::new(Clock(UnixTime::now().as_secs().into()));
    let mut params = leaf_params(&["a.test"]);
    params.not_after = (now + std::time::Duration::from_secs(Clock::HOUR)).into();
    let server = Arc::new(ca.issue(&params).server());
    let settings = Arc::new(trusting(&ca.pem(), VerifyMode::Chain));
    let tls = ClientTls::with_clock(&settings, Arc::clone(&clock) as _).expect("settings");
    let endpoint = tls.endpoint();
    meet_shared(&endpoint, &server);
    let client = endpoint.start().expect("a hello");
    let server = rustls::server::ServerConnection::new(server).expect("a server");
    let mut meeting = Meeting {
        client,
        server,
        outcome: Ok(()),
    };
    clock.advance(2 * Clock::HOUR);
    meeting.run();
    assert_eq!(meeting.failure().reason, Reason::Expired);
    assert!(meeting.report().resumed);
}

#[test]
fn d16_each_client_certificate_is_shown_where_it_is_configured() {
    let ca = Authority::new("ca");
    let server = Arc::new(
        ca.leaf(&["a.test"])
            .server_demanding(&ca, rustls::ALL_VERSIONS, true),
    );
    for name in ["one", "two"] {
        let ours = ca.leaf(&[name]);
        let meeting = meet_shared(&endpoint(with_client(settings(), &ours)), &server);
        assert_eq!(meeting.outcome, Ok(()));
        let shown = meeting.server.peer_certificates().expect("a certificate");
        assert_eq!(shown[0].as_ref(), ours.der());
        let report = meeting.report();
        assert!(report.client_certificate.requested && report.client_certificate.sent);
    }
}

#[test]
fn d11_no_certificate_is_shown_where_none_is_configured() {
    let ca = Authority::new("ca");
    let server = ca
        .leaf(&["a.test"])
        .server_demanding(&ca, rustls::ALL_VERSIONS, false);
    let meeting = meet(&endpoint(trusting(&ca.pem(), VerifyMode::Full)), server);
    assert_eq!(meeting.outcome, Ok(()));
    assert!(meeting.server.peer_certificates().is_none());
}

#[test]
fn g6_equal_bundles_are_one_parsed_store_and_equal_keys_one_key() {
    let ca = Authority::new("ca");
    let ours = ca.leaf(&["client"]);
    let make = || with_client(trusting(&ca.pem(), VerifyMode::Full), &ours);
    let (first, second) = (make(), make());
    assert!(Arc::ptr_eq(
        &Trust::of(&first.verify.roots),
        &Trust::of(&second.verify.roots)
    ));
    let key = |settings: &TlsSettings| certified_key(settings.client.as_ref().expect("ours")).expect("a key");
    assert!(Arc::ptr_eq(&key(&first), &key(&second)));
}

#[test]
fn every_kind_of_client_key_signs() {
    let ca = Authority::new("ca");
    let server = Arc::new(
        ca.leaf(&["a.test"])
            .server_demanding(&ca, rustls::ALL_VERSIONS, true),
    );
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
        let ours = ca.issue_for(&leaf_params(&["client"]), key);
        let meeting = meet_shared(&endpoint(with_client(settings(), &ours)), &server);
        assert_eq!(meeting.outcome, Ok(()), "{algorithm:?}");
    }
}

#[test]
fn k16_nothing_that_is_printed_holds_a_key() {
    let ours = Authority::new("ca").leaf(&["client"]);
    let tls = ClientTls::new(&Arc::new(with_client(settings(), &ours))).expect("settings");
    let endpoint = tls.endpoint();
    let handshake = endpoint.start().expect("a hello");
    let secret = ours.key.serialized_der();
    // The scalar of a P-256 key in PKCS#8, as a list of numbers and in hexadecimal.
    let scalar = &secret[36..68];
    let numbers = format!("{scalar:?}");
    for printed in [
        format!("{tls:?}"),
        format!("{endpoint:?}"),
        format!("{handshake:?}"),
    ] {
        assert!(!printed.contains(&numbers[1..40]), "{printed}");
        assert!(
            !printed.to_lowercase().contains(&nuncio_model::hex(&scalar[..8])),
            "{printed}"
        );
    }
}

#[test]
fn server_config_terminates_for_the_echo_upstream() {
    let ca = Authority::new("ca");
    let (leaf, ours) = (ca.leaf(&["a.test"]), ca.leaf(&["client"]));
    let config = |client_ca: Option<&[u8]>, require| {
        crate::server_config(
            leaf.pem().as_bytes(),
            leaf.key_pem().as_bytes(),
            client_ca,
            require,
            &[nuncio_model::Alpn::Http1],
            TlsVersion::V1_2,
            TlsVersion::V1_3,
        )
        .expect("a server")
    };
    let ca_pem = ca.pem();
    let endpoint_without = endpoint(trusting(&ca_pem, VerifyMode::Full));
    let endpoint_with = endpoint(with_client(trusting(&ca_pem, VerifyMode::Full), &ours));
    let shown = |endpoint: &EndpointTls, server: &Arc<rustls::ServerConfig>| {
        let meeting = meet_shared(endpoint, server);
        meeting
            .outcome
            .clone()
            .map(|()| meeting.server.peer_certificates().is_some())
    };
    assert_eq!(shown(&endpoint_with, &config(None, false)), Ok(false));
    assert_eq!(
        shown(&endpoint_with, &config(Some(ca_pem.as_bytes()), false)),
        Ok(true)
    );
    assert_eq!(
        shown(&endpoint_without, &config(Some(ca_pem.as_bytes()), false)),
        Ok(false)
    );
    let required = config(Some(ca_pem.as_bytes()), true);
    assert_eq!(shown(&endpoint_with, &required), Ok(true));
    endpoint_without.forget_sessions();
    let refused = shown(&endpoint_without, &required).expect_err("refused");
    assert_eq!(refused.reason, Reason::ClientCertRequired);
    assert_eq!(
        meet_shared(&endpoint_with, &required).report().alpn.as_deref(),
        Some("http/1.1")
    );
    assert!(resumes(&endpoint_with, &required));
}

#[test]
fn server_config_says_what_is_wrong() {
    let leaf = Authority::new("ca").leaf(&["a.test"]);
    let other = new_key().serialize_pem();
    let attempt = |key: &str, ca: Option<&[u8]>, min, max| {
        crate::server_config(leaf.pem().as_bytes(), key.as_bytes(), ca, true, &[], min, max)
            .expect_err("an error")
            .reason
    };
    let (low, high) = (TlsVersion::V1_2, TlsVersion::V1_3);
    assert_eq!(attempt(&other, None, low, high), "key_mismatch");
    assert_eq!(
        attempt(&leaf.key_pem(), Some(b"nothing"), low, high),
        "no_certificate"
    );
    assert_eq!(attempt(&leaf.key_pem(), None, high, low), "bad_settings");
}
