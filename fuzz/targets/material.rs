//! Contents of Secrets and PEM files: whatever they are, there is a value or a reason, and a message never
//! holds a piece of a private key.
#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use nuncio_tls::{MaterialError, certificates, client_identity, is_ca, trust_bundle};

/// So many bytes of the input in a row are no accident.
const TELLING: usize = 24;

fuzz_target!(|data: &[u8]| {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let (chain, key) = halves(data);
    for (chain, key) in [(chain, key), (data, data)] {
        match client_identity(chain, key, now) {
            Ok((_, findings)) => findings
                .iter()
                .for_each(|finding| keeps_secret(&finding.message, key)),
            Err(MaterialError { message, .. }) => keeps_secret(&message, key),
        }
    }
    if let Ok((_, findings)) = trust_bundle(data, now) {
        assert!(findings.iter().all(|finding| !finding.message.is_empty()));
    }
    for der in certificates(data).0 {
        is_ca(&der);
    }
    is_ca(data);
});

/// Chain and key stand in one input, with a zero byte between them.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    (&data[..end], data.get(end + 1..).unwrap_or_default())
}

/// Base64 lines of a key are what must not be told; labels may be, which are capitals, as no key's lines are.
fn keeps_secret(message: &str, key: &[u8]) {
    let lines = key.split(|byte| byte.is_ascii_whitespace() || *byte == b'-');
    for line in lines.filter(|line| line.len() >= TELLING) {
        let pieces = line.windows(TELLING);
        for piece in pieces.filter(|piece| piece.iter().any(u8::is_ascii_lowercase)) {
            let told = message.as_bytes().windows(TELLING).any(|window| window == piece);
            assert!(!told, "a message holds bytes of the key: {message}");
        }
    }
}
