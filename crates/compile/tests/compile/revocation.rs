//! Revocation lists and pins of TLSContexts: rows C and what the contract says of pins.

use std::path::PathBuf;

use nuncio_compile::{LastGood, referenced_files};
use nuncio_model::{Reason, Severity, VerifyMode};

use crate::material::{Authority, authority, ca_secret};
use crate::world::{World, context, mapping, objects, options, world};

const NEXT_YEAR: (i32, u8, u8) = (2027, 1, 1);

/// A world with these Secrets, one context and a Mapping that uses it.
fn with(secrets: &str, spec: &str) -> World {
    world(&manifests(secrets, spec))
}

fn manifests(secrets: &str, spec: &str) -> String {
    context("ctx", spec) + &mapping("m", "service: https://svc; tls: ctx") + secrets
}

/// Asserts that a context is unusable, that the field is named and that the Mapping says why.
#[track_caller]
fn assert_refused(secrets: &str, spec: &str, field: &str, text: &str) {
    let world = with(secrets, spec);
    world.refuses("m", Reason::TlsConfigUnresolved);
    world.tells(Severity::Error, &format!("TLSContext ctx {field}:"), text);
}

/// The Secrets `ca` and `crl`.
fn secrets(ca: &Authority, crl: &str) -> String {
    ca_secret("ca", "tls.crt", &ca.pem) + &ca_secret("crl", "crl.pem", crl)
}

const BOTH: &str = "ca_secret: ca; crl_secret: crl";

#[test]
fn c2_lists_are_part_of_the_identity() {
    let ca = authority("ca");
    let list = ca.crl(&[7], NEXT_YEAR);
    let good = with(&secrets(&ca, &list), BOTH).fine();
    let tls = good.tls("m");
    assert_eq!(tls.verify.crls.as_ref().unwrap().lists.len(), 1);
    assert_eq!(tls.verify.mode, VerifyMode::Chain);
    let origin = good.upstream("m").origins.clone().unwrap().crl.unwrap();
    assert!(origin.to_string().ends_with("spec.crl_secret"), "{origin}");

    let again = with(&secrets(&ca, &format!("fetched again\n{list}")), BOTH).fine();
    assert_eq!(again.tls("m"), tls);
    let revoked = with(&secrets(&ca, &ca.crl(&[7, 8], NEXT_YEAR)), BOTH).fine();
    assert_ne!(revoked.tls("m"), tls);
    let without = with(&secrets(&ca, &list), "ca_secret: ca").fine();
    assert_eq!(without.tls("m").verify.crls, None);
    assert_eq!(without.upstream("m").origins.clone().unwrap().crl, None);
}

#[test]
fn c6_an_overdue_list_serves_with_a_warning_on_the_context() {
    let ca = authority("ca");
    let world = with(&secrets(&ca, &ca.crl(&[7], (2026, 4, 1))), BOTH);
    assert!(world.tls("m").verify.crls.is_some());
    assert_eq!(world.errors(), [""; 0]);
    world.tells(
        Severity::Warning,
        "TLSContext ctx spec.crl_secret:",
        "the revocation list of `CN=ca` was to be followed by the next by 2026-04-01T00:00:00Z",
    );
    let reason = world
        .problems()
        .iter()
        .find(|problem| problem.severity == Severity::Warning);
    assert_eq!(reason.unwrap().reason, "crl_expired");
}

#[test]
fn c8_lists_that_cannot_be_used_fail_closed() {
    let (ca, stranger) = (authority("ca"), authority("stranger"));
    let field = "spec.crl_secret";
    for (crl, text) in [
        (
            stranger.crl(&[7], NEXT_YEAR),
            "is by `CN=stranger`, which is not among the trusted CA",
        ),
        (
            authority("ca").crl(&[7], NEXT_YEAR),
            "another key made its signature",
        ),
        (
            "garbage".to_owned(),
            "Secret `crl` in namespace `default`, which cannot be used: no revocation list",
        ),
        (
            ca.pem.clone(),
            "no revocation list (`X509 CRL`) was found among the PEM blocks",
        ),
    ] {
        assert_refused(&secrets(&ca, &crl), BOTH, field, text);
    }
    let ca_only = ca_secret("ca", "tls.crt", &ca.pem);
    assert_refused(
        &ca_only,
        BOTH,
        field,
        "names Secret `crl` in namespace `default`, which does not exist",
    );
    let elsewhere = ca_only + &ca_secret("crl", "tls.crt", &ca.crl(&[], NEXT_YEAR));
    assert_refused(
        &elsewhere,
        BOTH,
        field,
        "which holds no revocation list under a key that counts, but `tls.crt`; put one under the key `crl.pem`",
    );
}

#[test]
fn c8_a_list_that_breaks_leaves_the_last_good_one() {
    let ca = authority("ca");
    let good = with(&secrets(&ca, &ca.crl(&[7], NEXT_YEAR)), BOTH).fine();
    let broken = good.then(&manifests(&secrets(&ca, "garbage"), BOTH));
    assert_eq!(broken.tls("m"), good.tls("m"));
    assert!(broken.upstream("m").origins.as_ref().unwrap().stale);
    broken.tells(
        Severity::Error,
        "TLSContext ctx spec.crl_secret:",
        "no revocation list was found",
    );
}

#[test]
fn d_20_lists_need_a_ca() {
    let ca = authority("ca");
    let crl = ca_secret("crl", "crl.pem", &ca.crl(&[7], NEXT_YEAR));
    for spec in [
        "crl_secret: crl; sni: a.test",
        "crl_secret: crl; verify: {mode: full}",
    ] {
        assert_refused(
            &crl,
            spec,
            "spec.crl_secret",
            "needs a CA that its lists are checked against, and none is given; set `spec.ca_secret`",
        );
    }
    // The system's roots will do, and this list is by none of them.
    assert_refused(
        &crl,
        "crl_secret: crl; verify: {mode: full, roots: system}",
        "spec.crl_secret",
        "is by `CN=ca`, which is not among the trusted CA certificates",
    );
    // A CA that cannot be used is trouble enough.
    let world = with(&crl, BOTH);
    assert_eq!(
        world
            .errors()
            .iter()
            .filter(|line| line.starts_with("TLSContext"))
            .count(),
        1
    );
    world.tells(
        Severity::Error,
        "TLSContext ctx spec.ca_secret:",
        "does not exist",
    );
}

#[test]
fn d_5_a_list_of_another_namespace() {
    let ca = authority("ca");
    let list = ca.crl(&[7], NEXT_YEAR);
    let ca_only = ca_secret("ca", "tls.crt", &ca.pem);
    let elsewhere = ca_only.clone() + &crate::material::secret("crl", "pki", "Opaque", &[("crl.pem", &list)]);
    let spec = "ca_secret: ca; crl_secret: crl.pki";
    assert!(with(&elsewhere, spec).fine().tls("m").verify.crls.is_some());
    let dotted = ca_only + &ca_secret("crl.pki", "crl.pem", &list);
    let literal = format!("{spec}; secret_namespacing: false");
    assert!(with(&dotted, &literal).fine().tls("m").verify.crls.is_some());
    assert_refused(
        &dotted,
        spec,
        "spec.crl_secret",
        "Secret `crl` in namespace `pki`",
    );
}

#[test]
fn d_4_the_old_key_of_a_list_is_read_and_the_new_one_wins() {
    let ca = authority("ca");
    let (old, new) = (ca.crl(&[7], NEXT_YEAR), ca.crl(&[8], NEXT_YEAR));
    let of = |entries: &[(&str, &str)]| {
        let crl = crate::material::secret("crl", "default", "Opaque", entries);
        with(&(ca_secret("ca", "tls.crt", &ca.pem) + &crl), BOTH)
            .fine()
            .tls("m")
    };
    assert!(of(&[("user.key", &old)]).verify.crls.is_some());
    assert_eq!(
        of(&[("user.key", &old), ("crl.pem", &new)]),
        of(&[("crl.pem", &new)])
    );
}

#[test]
fn a_ca_and_its_list_may_share_a_secret() {
    let ca = authority("ca");
    let entries = [("ca.crt", ca.pem.as_str()), ("crl.pem", &ca.crl(&[7], NEXT_YEAR))];
    let both = crate::material::secret("pki", "default", "Opaque", &entries);
    let world = with(&both, "ca_secret: pki; crl_secret: pki").fine();
    assert!(world.tls("m").verify.crls.is_some());
}

#[test]
fn one_secret_is_checked_against_the_ca_of_each_context() {
    let (ca, other) = (authority("ca"), authority("other"));
    let secrets = secrets(&ca, &ca.crl(&[7], NEXT_YEAR)) + &ca_secret("other", "tls.crt", &other.pem);
    let world = world(
        &(manifests(&secrets, BOTH)
            + &context("wrong", "ca_secret: other; crl_secret: crl")
            + &mapping("n", "service: https://svc; tls: wrong")),
    );
    assert!(world.tls("m").verify.crls.is_some());
    world.refuses("n", Reason::TlsConfigUnresolved);
    world.tells(
        Severity::Error,
        "TLSContext wrong spec.crl_secret:",
        "is by `CN=ca`",
    );
}

#[test]
fn a_file_serves_like_a_secret() {
    let ca = authority("ca");
    let spec = "ca_secret: ca; crl_file: /crl.pem";
    let mut objects = objects(&manifests(&ca_secret("ca", "tls.crt", &ca.pem), spec));
    assert_eq!(referenced_files(&objects.objects), [PathBuf::from("/crl.pem")]);
    let list = ca.crl(&[7], NEXT_YEAR);
    objects
        .files
        .insert("/crl.pem".into(), Ok(list.clone().into_bytes()));
    let read = World::of(&objects, &options(), &LastGood::default()).fine();
    assert_eq!(read.tls("m"), with(&secrets(&ca, &list), BOTH).tls("m"));

    objects
        .files
        .insert("/crl.pem".into(), Err("permission denied".into()));
    let unread = World::of(&objects, &options(), &LastGood::default());
    unread.refuses("m", Reason::TlsConfigUnresolved);
    unread.tells(
        Severity::Error,
        "TLSContext ctx spec.crl_file:",
        "permission denied",
    );
    let both = with(&secrets(&ca, &list), &format!("{BOTH}; crl_file: /crl.pem"));
    both.tells(
        Severity::Warning,
        "TLSContext ctx spec.crl_file:",
        "keep one of them",
    );
}

#[test]
fn a_mode_that_refuses_nothing_is_told() {
    let ca = authority("ca");
    let secrets = secrets(&ca, &ca.crl(&[7], NEXT_YEAR));
    let of = |mode: &str| with(&secrets, &format!("{BOTH}; verify: {{mode: {mode}}}"));
    for mode in ["report", "chain", "full"] {
        let world = of(mode).fine();
        assert!(
            !world
                .told(Severity::Notice)
                .iter()
                .any(|line| line.contains("crl_secret"))
        );
    }
    of("none").fine().tells(
        Severity::Notice,
        "TLSContext ctx spec.crl_secret:",
        "write chain or full to have a revoked certificate refused",
    );
    let pins = format!("verify: {{pins: [{FIRST}, {SECOND}]}}");
    with("", &pins).tells(
        Severity::Warning,
        "TLSContext ctx spec.verify.pins:",
        "a certificate with another key is let pass in spite of `spec.verify.pins`, because the verification mode is report (built-in default)",
    );
}

const FIRST: &str = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const SECOND: &str = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

#[test]
fn pins_are_part_of_the_identity() {
    let ca = authority("ca");
    let secrets = ca_secret("ca", "tls.crt", &ca.pem);
    let of = |pins: &str| with(&secrets, &format!("ca_secret: ca; verify: {{pins: [{pins}]}}"));
    let both = of(&format!("{FIRST}, {SECOND}, {FIRST}")).fine();
    let shown: Vec<String> = both
        .tls("m")
        .verify
        .pins
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(shown, [FIRST, SECOND]);
    let origin = both.upstream("m").origins.clone().unwrap().pins.unwrap();
    assert!(origin.to_string().ends_with("spec.verify.pins"), "{origin}");

    let single = of(FIRST);
    assert_ne!(single.tls("m"), both.tls("m"));
    assert_eq!(single.errors(), [""; 0]);
    single.tells(
        Severity::Warning,
        "TLSContext ctx spec.verify.pins:",
        "add the pin of a backup key",
    );
}

#[test]
fn a_malformed_pin_fails_closed() {
    for (pins, text) in [
        (
            "sha256/AAAA",
            "`sha256/AAAA`, which is not the 32 bytes of a SHA-256 digest",
        ),
        ("sha1/AAAA", "does not begin with `sha256/`"),
        ("sha256/***", "is no base64 after `sha256/`"),
    ] {
        let spec = format!("verify: {{mode: full, pins: [{FIRST}, \"{pins}\"]}}");
        assert_refused("", &spec, "spec.verify.pins", text);
    }
    let empty = context("ctx", "sni: a.test").replace(
        "  namespace: default\n",
        "  namespace: default\n  annotations:\n    nuncio/verify-pins: \"\"\n",
    );
    let world = world(&(empty + &mapping("m", "service: https://svc; tls: ctx")));
    world.refuses("m", Reason::TlsConfigUnresolved);
}
