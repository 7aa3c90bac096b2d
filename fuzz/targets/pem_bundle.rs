//! CA bundles: whatever they are, there are certificates, findings or a reason.
#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use nuncio_tls::{certificates, describe, is_ca, trust_bundle};

fuzz_target!(|data: &[u8]| {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let (read, findings) = certificates(data);
    assert!(findings.iter().all(|finding| !finding.message.is_empty()));
    for der in &read {
        is_ca(der);
        if let Err(error) = describe(der) {
            assert!(!error.message.is_empty());
        }
    }
    is_ca(data);
    match trust_bundle(data, now) {
        Ok((_, findings)) => assert!(findings.iter().all(|finding| !finding.message.is_empty())),
        Err(error) => assert!(!error.reason.is_empty() && !error.message.is_empty()),
    }
});
