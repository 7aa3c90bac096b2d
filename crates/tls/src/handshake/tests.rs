use nuncio_model::Reason;
use rustls::version::{TLS12, TLS13};

use super::*;
use crate::fixture::*;
use crate::provider;

#[test]
fn p17_renegotiation_is_noticed_at_once() {
    let mut server = Authority::new("ca")
        .leaf(&["a.test"])
        .server_with(&provider(), &[&TLS12]);
    server.enable_secret_extraction = true;
    let mut settings = settings();
    settings.cipher_suites = ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"].into();
    let meeting = meet(&endpoint(settings.clone()), server);
    assert_eq!(meeting.outcome, Ok(()));
    let hello_request = encrypted_hello_request(meeting.server);
    let mut established = meeting.client.into_connection();
    established
        .connection
        .read_tls(&mut hello_request.as_slice())
        .expect("memory");
    let failure = crate::process_established(&mut established.connection, &established.seen, &settings)
        .expect_err("a failure");
    assert_says(
        &failure,
        Reason::RenegotiationUnsupported,
        "asked to renegotiate",
        "first handshake",
    );
}

/// The same where the request arrives together with the end of the handshake.
#[test]
fn p17_renegotiation_right_behind_the_handshake_is_noticed() {
    let mut server = Authority::new("ca")
        .leaf(&["a.test"])
        .server_with(&provider(), &[&TLS12]);
    server.enable_secret_extraction = true;
    server.send_tls13_tickets = 0;
    let mut settings = settings();
    settings.cipher_suites = ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"].into();
    let mut client = endpoint(settings).start().expect("a hello");
    let mut server = rustls::ServerConnection::new(server.into()).expect("a server");
    let mut bytes = Vec::new();
    while client.is_handshaking() {
        let mut sent = Vec::new();
        client.connection().write_tls(&mut sent).expect("memory");
        server.read_tls(&mut sent.as_slice()).expect("memory");
        server.process_new_packets().expect("a good client");
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("memory");
        }
        if !server.is_handshaking() {
            break;
        }
        let answer = std::mem::take(&mut bytes);
        client.read_tls(&mut answer.as_slice()).expect("memory");
        client.process().expect("a good server");
    }
    bytes.extend(encrypted_hello_request(server));
    client.read_tls(&mut bytes.as_slice()).expect("memory");
    let failure = client.process().expect_err("a failure");
    assert_says(
        &failure,
        Reason::RenegotiationUnsupported,
        "asked to renegotiate",
        "first handshake",
    );
}

/// What does not decrypt is of the session, though the handshake ended in the same read.
#[test]
fn garbage_right_behind_the_handshake_breaks_the_rules() {
    let mut server = rustls::ServerConnection::new(Authority::new("ca").leaf(&["a.test"]).server().into())
        .expect("a server");
    let mut client = endpoint(settings()).start().expect("a hello");
    let (mut sent, mut answer) = (Vec::new(), Vec::new());
    client.connection().write_tls(&mut sent).expect("memory");
    server.read_tls(&mut sent.as_slice()).expect("memory");
    server.process_new_packets().expect("a good client");
    while server.wants_write() {
        server.write_tls(&mut answer).expect("memory");
    }
    answer.extend([23, 3, 3, 0, 32]);
    answer.extend([9; 32]);
    let mut rest = answer.as_slice();
    while client.is_handshaking() {
        client.read_tls(&mut rest).expect("memory");
        if let Err(failure) = client.process() {
            assert_eq!(failure.reason, Reason::TlsProtocolError, "{failure:?}");
            return;
        }
    }
    panic!("nothing was noticed");
}

/// The record in which a TLS 1.2 server asks for a new handshake, sealed with AES-128-GCM (RFC 5288).
fn encrypted_hello_request(server: rustls::server::ServerConnection) -> Vec<u8> {
    use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let secrets = server.dangerous_extract_secrets().expect("secrets");
    let (sequence, rustls::ConnectionTrafficSecrets::Aes128Gcm { key, iv }) = secrets.tx else {
        panic!("another cipher");
    };
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key.as_ref()).expect("a key"));
    let mut message = vec![0, 0, 0, 0];
    let mut aad = sequence.to_be_bytes().to_vec();
    aad.extend([22, 3, 3, 0, 4]);
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&iv.as_ref()[..4]);
    nonce[4..].copy_from_slice(&sequence.to_be_bytes());
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut message)
        .expect("sealed");
    let mut record = vec![22, 3, 3, 0, u8::try_from(8 + message.len()).expect("short")];
    record.extend(&nonce[4..]);
    record.extend(message);
    record
}

#[test]
fn a_close_is_no_renegotiation() {
    let mut meeting = meet(
        &endpoint(settings()),
        Authority::new("ca")
            .leaf(&["a.test"])
            .server_with(&provider(), &[&TLS12]),
    );
    meeting.server.send_close_notify();
    let mut bytes = Vec::new();
    meeting.server.write_tls(&mut bytes).expect("memory");
    let mut established = meeting.client.into_connection();
    established
        .connection
        .read_tls(&mut bytes.as_slice())
        .expect("memory");
    let state = crate::process_established(&mut established.connection, &established.seen, &settings())
        .expect("a close");
    assert!(state.peer_has_closed());
}

/// What becomes of a handshake with a server whose chain is about this long.
fn met_with_chain_of(
    bytes: usize,
    version: &'static rustls::SupportedProtocolVersion,
) -> Result<(), Failure> {
    let ca = Authority::new("ca");
    let names: Vec<String> = (0..bytes / 64).map(|n| format!("{n:0>23}.a.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut leaf = ca.leaf(&["a.test"]);
    leaf.chain.extend((0..2).flat_map(|_| ca.leaf(&names).chain));
    let mut client = endpoint(settings()).start()?;
    let mut server =
        rustls::ServerConnection::new(leaf.server_with(&provider(), &[version]).into()).expect("a server");
    while client.is_handshaking() {
        let (mut sent, mut answer) = (Vec::new(), Vec::new());
        client.connection().write_tls(&mut sent).expect("memory");
        server.read_tls(&mut sent.as_slice()).expect("memory");
        server.process_new_packets().expect("a good client");
        while server.wants_write() {
            server.write_tls(&mut answer).expect("memory");
        }
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            if let Err(error) = client.read_tls(&mut rest) {
                return Err(client.closed(Closed::Io(error.kind()), &[]));
            }
            client.process()?;
        }
    }
    Ok(())
}

/// One limit of rustls is about the message, another about the buffer that holds it.
#[test]
fn f14_a_chain_that_is_too_long_has_its_reason_at_any_length() {
    for version in [&TLS12, &TLS13] {
        assert_eq!(met_with_chain_of(60_000, version), Ok(()));
        for bytes in (64_000..67_000).step_by(64) {
            if let Err(failure) = met_with_chain_of(bytes, version) {
                assert_says(
                    &failure,
                    Reason::BadCertificate,
                    "of about 64 KiB or more",
                    "intermediates",
                );
            }
        }
        assert!(met_with_chain_of(70_000, version).is_err());
    }
}
