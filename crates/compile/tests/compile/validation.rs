//! Secrets that are wrong, with and without `AMBASSADOR_FORCE_SECRET_VALIDATION` (row K15).

use std::time::Duration;

use nuncio_compile::{LastGood, Options};
use nuncio_model::{Reason, Severity};

use crate::material::{Pair, authority, ca_secret, secret, tls_secret};
use crate::world::{World, context, mapping, options, world};

const USER: &str = "service: https://svc; tls: ctx";

fn forced(manifests: &str) -> World {
    let forced = Options {
        force_secret_validation: true,
        ..options()
    };
    World::new(manifests, &forced, &LastGood::default())
}

/// A Secret `s` with these values.
fn values(values: &[(&str, &str)]) -> String {
    secret("s", "default", "Opaque", values)
}

/// What is told of the Secret `s` that a Mapping beside it does not use; the Mapping is served.
fn told_unused(secret: &str) -> Vec<String> {
    let manifests = secret.to_owned() + &mapping("m", "service: https://svc");
    world(&manifests).fine();
    let world = forced(&manifests);
    world.forward("m");
    let errors = world.errors();
    errors
        .into_iter()
        .filter(|line| line.starts_with("Secret s "))
        .collect()
}

fn pair() -> Pair {
    authority("ca").leaf("client")
}

#[test]
fn k15_a_bad_secret_that_nobody_uses_is_told_only_on_demand() {
    let (pair, other) = (pair(), pair());
    let no_certificate = pair.key.replace("PRIVATE KEY", "CERTIFICATE");
    let no_key = pair.chain.replace("CERTIFICATE", "PRIVATE KEY");
    let encrypted = pair.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (secret, field, text) in [
        (
            values(&[("tls.key", "no PEM")]),
            "stringData.tls.key",
            "K8sSecret secret s.default tls.key is not a PEM-encoded key",
        ),
        (
            values(&[("tls.key", &no_key)]),
            "stringData.tls.key",
            "K8sSecret secret s.default tls.key cannot be parsed as PKCS1, PKCS8, or EC: ",
        ),
        (
            values(&[("tls.key", &encrypted)]),
            "stringData.tls.key",
            "cannot be parsed as PKCS1, PKCS8, or EC: the private key in line 1 is encrypted",
        ),
        (
            values(&[("tls.crt", "no PEM")]),
            "stringData.tls.crt",
            "K8sSecret secret s.default tls.crt is not a PEM-encoded certificate",
        ),
        (
            values(&[("tls.crt", &no_certificate)]),
            "stringData.tls.crt",
            "K8sSecret secret s.default tls.crt cannot be parsed as x.509: ",
        ),
        (
            values(&[("tls.crt", &pair.chain), ("tls.key", &other.key)]),
            "stringData.tls.crt",
            "the private key does not belong to certificate `CN=client`",
        ),
        (
            values(&[("ca.crt", "no PEM")]),
            "stringData.ca.crt",
            "ca.crt is not a PEM-encoded certificate",
        ),
        (
            values(&[("crl.pem", "no PEM")]),
            "stringData.crl.pem",
            "crl.pem cannot be used: no revocation list was found",
        ),
        (
            "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {tls.crt: \"%%\"}\n".into(),
            "",
            "K8sSecret secret s.default, whose `data.tls.crt` is no base64",
        ),
    ] {
        let told = told_unused(&secret);
        let [only] = told.as_slice() else {
            panic!("{text}: {told:?}");
        };
        assert!(only.starts_with(&format!("Secret s {field}: ")), "{only}");
        assert!(only.contains(text), "{only}");
        assert!(only.contains("AMBASSADOR_FORCE_SECRET_VALIDATION"), "{only}");
    }
}

#[test]
fn k15_several_flaws_are_told_in_one_text() {
    let told = told_unused(&values(&[("tls.crt", "none"), ("tls.key", "none")]));
    let [only] = told.as_slice() else {
        panic!("{told:?}");
    };
    let shape = "2 errors:;  1. K8sSecret secret s.default tls.crt is not a PEM-encoded certificate";
    assert!(only.contains(shape), "{only}");
    let second = ";  2. K8sSecret secret s.default tls.key is not a PEM-encoded key";
    assert!(only.contains(second), "{only}");
}

#[test]
fn k15_secrets_that_are_right_or_of_others_are_not_told() {
    let (ca, pair) = (authority("ca"), pair());
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    for secret in [
        tls_secret("s", "default", &pair),
        // The reference refuses this one, for it looks at the first block only.
        values(&[
            ("tls.crt", &pair.chain),
            ("tls.key", &format!("{parameters}{}", pair.key)),
        ]),
        values(&[("tls.crt", &ca.pem)]),
        values(&[("crl.pem", &ca.crl(&[1], (2026, 12, 31)))]),
        values(&[("user.key", "an account")]),
        values(&[("password", "secret"), ("tls.crt", "")]),
        secret("s", "default", "helm.sh/release", &[("tls.crt", "anything")]),
    ] {
        assert_eq!(told_unused(&secret), Vec::<String>::new());
    }
}

#[test]
fn k15_a_bad_secret_is_withheld_from_everybody_on_demand() {
    let ca = authority("ca");
    // Its CA is good, and so without the switch whoever wants no more than that is served.
    let manifests = values(&[("tls.crt", &ca.pem), ("tls.key", "no PEM")])
        + &context("ctx", "ca_secret: s")
        + &mapping("m", USER);
    world(&manifests).fine();
    let world = forced(&manifests);
    world.refuses("m", Reason::TlsConfigUnresolved);
    world.tells(
        Severity::Error,
        "Secret s stringData.tls.key",
        "is not a PEM-encoded key",
    );
    world.tells(
        Severity::Error,
        "TLSContext ctx spec.ca_secret",
        "AMBASSADOR_FORCE_SECRET_VALIDATION withholds: K8sSecret secret s.default tls.key",
    );
}

#[test]
fn k15_a_bad_secret_in_use_is_told_by_its_users_without_the_switch() {
    let manifests = values(&[("tls.crt", "no PEM"), ("tls.key", "no PEM")])
        + &context("ctx", "secret: s")
        + &mapping("m", USER);
    let world = world(&manifests);
    world.refuses("m", Reason::TlsConfigUnresolved);
    world.tells(Severity::Error, "TLSContext ctx spec.secret", "cannot be used");
    assert!(!world.errors().iter().any(|line| line.contains("K8sSecret")));
}

#[test]
fn k15_what_worked_before_serves_on_when_it_is_withheld() {
    let rest = context("ctx", "secret: s") + &mapping("m", USER);
    let good = world(&(tls_secret("s", "default", &pair()) + &rest)).fine();
    let options = Options {
        force_secret_validation: true,
        ..options()
    };
    let bad = tls_secret(
        "s",
        "default",
        &Pair {
            key: pair().key,
            ..pair()
        },
    );
    let later = World::new(&(bad + &rest), &options, &good.output.last_good);
    assert_eq!(later.tls("m").client, good.tls("m").client);
    later.tells(Severity::Error, "Secret s", "does not belong");
    later.tells(Severity::Error, "TLSContext ctx spec.secret", "withholds");
    later.tells(Severity::Error, "TLSContext ctx :", "serves on");
}

#[test]
fn k15_an_expired_certificate_is_a_warning_told_once() {
    let late = Options {
        now: options().now + Duration::from_secs(86400 * 400),
        force_secret_validation: true,
        ..options()
    };
    let used = tls_secret("s", "default", &pair()) + &context("ctx", "secret: s") + &mapping("m", USER);
    let unused = ca_secret("t", "ca.crt", &authority("old").pem);
    let world = World::new(&(used + &unused), &late, &LastGood::default());
    assert_eq!(world.errors(), Vec::<String>::new());
    let told: Vec<String> = [Severity::Warning, Severity::Notice]
        .into_iter()
        .flat_map(|severity| world.told(severity))
        .filter(|line| line.contains("expired"))
        .collect();
    for secret in ["Secret s ", "Secret t "] {
        let count = told.iter().filter(|line| line.starts_with(secret)).count();
        assert_eq!(count, 1, "{told:#?}");
    }
}
