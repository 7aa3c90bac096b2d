//! Revocation lists: whatever stands there, there is a set or a reason, and what nobody signed is no set.
#![no_main]

use std::time::{Duration, SystemTime};

use data_encoding::BASE64;
use libfuzzer_sys::fuzz_target;
use nuncio_model::Roots;
use nuncio_tls::crl_set;

fuzz_target!(|data: &[u8]| {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    // Nobody is trusted, so every list is parsed whole and then refused.
    let roots = Roots {
        bundle: None,
        system: false,
    };
    let wrapped = format!(
        "-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n",
        BASE64.encode(data)
    );
    for pem in [data, wrapped.as_bytes()] {
        let refused = crl_set(pem, &roots, now);
        assert!(refused.is_err_and(|error| !error.reason.is_empty() && !error.message.is_empty()));
    }
});
