//! Secrets, by themselves and behind a Mapping: whatever they hold, there is a value or a reason, nothing falls open,
//! and a message never holds a piece of a private key.
#![no_main]

use std::time::{Duration, SystemTime};

use data_encoding::BASE64;
use libfuzzer_sys::fuzz_target;
use nuncio_compile::{LastGood, Object, Objects, Options, compile};
use nuncio_tls::{MaterialError, client_identity};
use serde_json::{Value, json};

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
    behind_a_mapping(chain, key, now);
});

/// Chain and key stand in one input, with a zero byte between them.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    (&data[..end], data.get(end + 1..).unwrap_or_default())
}

/// The Mapping shows the Secret's certificate to its upstream, or it has none.
fn behind_a_mapping(chain: &[u8], key: &[u8], now: SystemTime) {
    let objects = [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
            "data": {"tls.crt": BASE64.encode(chain), "tls.key": BASE64.encode(key), "ca.crt": BASE64.encode(chain)}}),
        json!({"apiVersion": "getambassador.io/v3alpha1", "kind": "TLSContext", "metadata": {"name": "c"},
            "spec": {"secret": "s", "ca_secret": "s"}}),
        json!({"apiVersion": "getambassador.io/v3alpha1", "kind": "Mapping", "metadata": {"name": "m"},
            "spec": {"hostname": "*", "prefix": "/", "service": "https://a.test", "tls": "c"}}),
    ];
    let objects = Objects {
        objects: objects.into_iter().map(object).collect(),
        ..Objects::default()
    };
    let options = Options {
        open_default_listeners: true,
        // Both take a while, so it is one or the other.
        force_secret_validation: chain.len().is_multiple_of(2),
        now,
        ..Options::default()
    };
    let snapshot = compile(&objects, &options, &LastGood::default()).snapshot;
    for upstream in &snapshot.upstreams {
        let tls = upstream
            .identity
            .tls
            .as_ref()
            .expect("https:// is never cleartext");
        assert!(tls.client.is_some(), "the certificate is left out");
        assert!(tls.verify.roots.bundle.is_some(), "the CA is left out");
    }
    for problem in snapshot.problems.iter() {
        keeps_secret(&problem.message, key);
    }
}

fn object(document: Value) -> Object {
    Object::from_document(document, None).expect("an object")
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
