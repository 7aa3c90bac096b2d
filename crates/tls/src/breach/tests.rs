use nuncio_model::{Failure, Reason};
use rustls::ProtocolVersion;

use super::*;
use crate::Closed;
use crate::failure::tests::{answered_with, server, server_hello};
use crate::fixture::*;

/// Every identifier that rustls prints is one word of capitals and small letters, or has a parenthesis.
#[test]
fn no_identifier_of_the_library_is_in_the_words() {
    let errors = [
        Error::DecryptError,
        Error::PeerSentOversizedRecord,
        Error::PeerMisbehaved(PeerMisbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported),
        Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare),
        Error::PeerMisbehaved(PeerMisbehaved::DuplicateClientHelloExtensions),
        Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic),
        Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion),
        Error::InvalidMessage(InvalidMessage::InvalidServerName),
        Error::General(format!("{:?}", ProtocolVersion::TLSv1_3)),
    ];
    for error in errors {
        let (words, debug) = (words(&error), format!("{error:?}"));
        let inner = debug.trim_end_matches(')').rsplit('(').next().unwrap_or(&debug);
        assert!(!words.contains(inner), "{words}");
        assert!(words.starts_with("it"), "{words}");
    }
}

#[test]
fn a_message_out_of_place_has_the_name_of_the_rfc() {
    let error = Error::InappropriateHandshakeMessage {
        expect_types: vec![HandshakeType::EncryptedExtensions],
        got_type: HandshakeType::Unknown(77),
    };
    assert_eq!(
        words(&error),
        "it sent a handshake message of the unknown type 77 where only an EncryptedExtensions message may come"
    );
}

#[test]
fn a_message_that_cannot_be_read_breaks_the_rules() {
    let short = answered_with(settings(), &[22, 3, 3, 0, 4, 1, 0, 0, 0]);
    assert_broken(&short, "it sent a message that ends too early");
}

#[test]
fn a_downgrade_breaks_the_rules() {
    let mut hello = server_hello([3, 3], [0xc0, 0x2f]);
    hello[5 + 6 + 24..5 + 6 + 32].copy_from_slice(b"DOWNGRD\x01");
    assert_broken(
        &answered_with(settings(), &hello),
        "a party on the way forced the lower version",
    );
}

/// A TLS 1.3 ServerHello that chooses `group`, with this key share; a HelloRetryRequest where there is none.
fn server_hello_13(client: &[u8], group: u16, share: Option<&[u8]>) -> Vec<u8> {
    const RETRY: [u8; 32] = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
        0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
    ];
    let sized = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
        [&length[..], bytes].concat()
    };
    let key_share = match share {
        Some(share) => [&group.to_be_bytes()[..], &sized(share)].concat(),
        None => group.to_be_bytes().to_vec(),
    };
    let extensions = [&[0, 43, 0, 2, 3, 4, 0, 51][..], &sized(&key_share)].concat();
    // Record, message, version and random bytes stand before the session id.
    let session = &client[43..44 + usize::from(client[43])];
    let random = if share.is_some() { [7; 32] } else { RETRY };
    let hello = [&[3, 3][..], &random, session, &[0x13, 1, 0], &sized(&extensions)].concat();
    let message = [&[2, 0][..], &sized(&hello)].concat();
    [&[22, 3, 3][..], &sized(&message)].concat()
}

/// What a server makes of a ClientHello.
type Answer<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

/// What becomes of a handshake whose server answers each ClientHello with the next of these.
fn answered_in_turn(answers: &[Answer<'_>]) -> Failure {
    let mut handshake = endpoint(settings()).start().expect("a ClientHello");
    for answer in answers {
        let mut hello = Vec::new();
        handshake.connection().write_tls(&mut hello).expect("memory");
        // A ChangeCipherSpec record for middleboxes may stand before it.
        let hello = hello.strip_prefix(&[20, 3, 3, 0, 1, 1]).unwrap_or(&hello);
        handshake.read_tls(&mut answer(hello).as_slice()).expect("memory");
        if let Err(failure) = handshake.process() {
            return failure;
        }
    }
    handshake.closed(Closed::Eof, &[])
}

const X25519: u16 = 29;
const SECP256R1: u16 = 23;
const SECP384R1: u16 = 24;

#[test]
fn a_key_share_that_is_none_breaks_the_rules() {
    let zeros = answered_in_turn(&[&|hello| server_hello_13(hello, X25519, Some(&[0; 32]))]);
    assert_broken(&zeros, "its key share is no valid key");
    let unasked = answered_in_turn(&[&|hello| server_hello_13(hello, SECP256R1, Some(&[4; 65]))]);
    assert_broken(
        &unasked,
        "its key share is for a group for which it was sent none",
    );
}

#[test]
fn a_second_hello_retry_request_breaks_the_rules() {
    let retry = |hello: &[u8]| server_hello_13(hello, SECP384R1, None);
    assert_broken(
        &answered_in_turn(&[&retry, &retry]),
        "it sent a second HelloRetryRequest",
    );
}

#[test]
fn a_suite_that_was_not_offered_is_no_shared_cipher() {
    let chosen = answered_in_turn(&[&|hello| {
        let mut answer = server_hello_13(hello, X25519, Some(&[9; 32]));
        let suite = 5 + 4 + 2 + 32 + 1 + usize::from(hello[43]);
        answer[suite..suite + 2].copy_from_slice(&[0x13, 5]);
        answer
    }]);
    assert_says(&chosen, Reason::NoSharedCipher, "that was not offered", "");
}

#[test]
fn noise_behind_a_server_hello_breaks_the_rules() {
    for noise in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        &[
            23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
        ],
    ] {
        let failure = answered_in_turn(&[&|hello| {
            let mut answer = server_hello_13(hello, X25519, Some(&[9; 32]));
            answer.extend(noise);
            answer
        }]);
        assert_broken(&failure, "it sent a record");
    }
}

#[test]
fn data_that_does_not_decrypt_breaks_the_rules() {
    let broken = |mut record: &[u8]| {
        let meeting = meet(&endpoint(settings()), server());
        let mut established = meeting.client.into_connection();
        loop {
            established.connection.read_tls(&mut record).expect("memory");
            let processed =
                crate::process_established(&mut established.connection, &established.seen, &settings());
            if let Err(failure) = processed {
                return failure;
            }
            assert!(!record.is_empty(), "it was all taken");
        }
    };
    let mut noise = vec![23, 3, 3, 0, 32];
    noise.extend([9; 32]);
    assert_broken(&broken(&noise), "it sent a record that cannot be decrypted");
    let mut oversized = vec![23, 3, 3, 0x48, 1];
    oversized.extend([9; 0x4801]);
    assert_broken(&broken(&oversized), "it sent a record longer than TLS allows");
}

/// Nobody whose TLS fails is sent to cleartext, nor to the names of a library.
#[track_caller]
fn assert_broken(failure: &Failure, message: &str) {
    assert_says(failure, Reason::TlsProtocolError, message, "on the way");
    let all = format!("{} {}", failure.message, failure.remedy);
    assert!(
        !all.contains("http://") && !all.contains("does not speak TLS"),
        "{all}"
    );
}
