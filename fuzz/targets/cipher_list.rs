//! The words of a TLSContext: suites, groups, versions, protocols and pins, one a line. What is understood is spoken,
//! and what is not is told with a nearest name that would have been.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use nuncio_tls::{ClientTls, UnknownName, alpn_protocol, cipher_suite, cipher_suites, group, pin, version};

#[path = "../peer/settings.rs"]
mod settings;

fuzz_target!(|text: &str| {
    settings::keep_roots();
    let lines: Vec<&str> = text.lines().collect();
    let named = cipher_suites(&lines);
    for suite in named.spoken.iter().chain(&named.always) {
        assert_eq!(cipher_suite(suite), Ok(Some(*suite)), "a name is not its own");
    }
    for unknown in &named.unknown {
        nearest_is_known(unknown, |name| cipher_suite(name).is_ok());
    }
    let mut settings = settings::lenient();
    settings.cipher_suites = named.spoken.into();

    let mut groups = Vec::new();
    for line in &lines {
        match group(line) {
            Ok(known) => groups.extend(known),
            Err(unknown) => nearest_is_known(&unknown, |name| group(name).is_ok()),
        }
        if let Err(unknown) = version(line) {
            nearest_is_known(&unknown, |name| version(name).is_ok());
        }
        if let Err(unknown) = alpn_protocol(line) {
            nearest_is_known(&unknown, |name| alpn_protocol(name).is_ok());
        }
        if let Ok(read) = pin(line) {
            assert_eq!(read.to_string(), *line);
        }
    }
    settings.groups = groups.into();
    // Whatever was understood can be spoken.
    let hello = ClientTls::new(&Arc::new(settings)).map(|tls| tls.endpoint().start().is_ok());
    assert!(matches!(hello, Ok(true)));
});

fn nearest_is_known(unknown: &UnknownName, is_known: impl Fn(&str) -> bool) {
    assert!(!is_known(&unknown.name));
    assert!(unknown.nearest.is_none_or(is_known), "{unknown:?}");
}
