//! What Secrets and files hold, and which of them a name means (rows K1 to K9, V8, V17, V18).

use std::path::PathBuf;

use nuncio_compile::{LastGood, Options, referenced_files};
use nuncio_model::{CertificateRole, Reason, Severity, VerifyMode};

use crate::material::{Pair, authority, ca_secret, secret, tls_secret};
use crate::world::{World, context, mapping, object, objects, options, world};

const MAPPING: &str = "service: https://svc; tls: ctx";

fn with(manifests: &str, spec: &str) -> World {
    world(&(manifests.to_owned() + &context("ctx", spec) + &mapping("m", MAPPING)))
}

fn pair() -> Pair {
    authority("ca").leaf("client")
}

/// DER of the certificate that would be shown.
fn shown(world: &World, mapping: &str) -> Vec<u8> {
    world
        .tls(mapping)
        .client
        .as_ref()
        .expect("a certificate is shown")
        .chain[0]
        .clone()
}

fn der(pair: &Pair) -> Vec<u8> {
    nuncio_tls::certificates(pair.chain.as_bytes()).0[0].clone()
}

#[test]
fn k1_k2_a_name_with_a_dot_is_in_another_namespace() {
    let (one, two) = (pair(), pair());
    let manifests = tls_secret("a", "b", &one) + &tls_secret("a.b", "c", &two);
    assert_eq!(shown(&with(&manifests, "secret: a.b").fine(), "m"), der(&one));
    assert_eq!(shown(&with(&manifests, "secret: a.b.c").fine(), "m"), der(&two));
}

#[test]
fn k3_without_namespacing_a_dot_is_part_of_the_name() {
    let (own, other) = (pair(), pair());
    let manifests = tls_secret("a.b", "default", &own) + &tls_secret("a", "b", &other);
    assert_eq!(
        shown(
            &with(&manifests, "secret: a.b; secret_namespacing: false").fine(),
            "m"
        ),
        der(&own)
    );
}

#[test]
fn k4_the_context_wins_over_the_modules_default() {
    let (own, other) = (pair(), pair());
    let module = object(
        "Module",
        "ambassador",
        "default",
        "config: {defaults: {tls_secret_namespacing: false}}",
    );
    let manifests = module + &tls_secret("a.b", "default", &own) + &tls_secret("a", "b", &other);
    assert_eq!(shown(&with(&manifests, "secret: a.b").fine(), "m"), der(&own));
    assert_eq!(
        shown(
            &with(&manifests, "secret: a.b; secret_namespacing: true").fine(),
            "m"
        ),
        der(&other)
    );
}

#[test]
fn k5_names_that_look_alike_are_never_mixed_up() {
    let (literal, namespaced) = (pair(), pair());
    let manifests = tls_secret("foo.bar", "default", &literal)
        + &tls_secret("foo", "bar", &namespaced)
        + &context("one", "secret: foo.bar; secret_namespacing: false")
        + &context("two", "secret: foo.bar; secret_namespacing: true")
        + &mapping("m", "service: https://svc; tls: one")
        + &mapping("n", "service: https://svc; tls: two");
    let world = world(&manifests).fine();
    assert_eq!(
        (shown(&world, "m"), shown(&world, "n")),
        (der(&literal), der(&namespaced))
    );
}

#[test]
fn k7_a_deleted_secret_serves_on_until_it_is_back() {
    let (old, new) = (pair(), pair());
    let before = with(&tls_secret("s", "default", &old), "secret: s").fine();
    let rest = context("ctx", "secret: s") + &mapping("m", MAPPING);
    let gone = before.then(&rest);
    assert_eq!(shown(&gone, "m"), der(&old));
    assert!(gone.upstream("m").origins.as_ref().unwrap().stale);
    gone.tells(Severity::Error, "TLSContext ctx spec.secret", "does not exist");
    assert_eq!(gone.output.snapshot.certificates.len(), 1, "it is still in use");
    let back = gone.then(&(tls_secret("s", "default", &new) + &rest)).fine();
    assert_eq!(shown(&back, "m"), der(&new));
}

#[test]
fn k8_half_of_a_rotation_is_ignored() {
    let (old, new) = (pair(), pair());
    let half = Pair {
        chain: new.chain.clone(),
        key: old.key.clone(),
    };
    let before = with(&tls_secret("s", "default", &old), "secret: s").fine();
    let rest = context("ctx", "secret: s") + &mapping("m", MAPPING);
    let between = before.then(&(tls_secret("s", "default", &half) + &rest));
    assert_eq!(shown(&between, "m"), der(&old));
    between.tells(Severity::Error, "TLSContext ctx spec.secret", "cannot be used");
    let after = between.then(&(tls_secret("s", "default", &new) + &rest)).fine();
    assert_eq!(shown(&after, "m"), der(&new));
}

#[test]
fn a_secret_that_cannot_be_used_is_told_exactly() {
    let pair = pair();
    let other = self::pair();
    for (manifests, reason, text) in [
        (String::new(), "missing_secret", "does not exist"),
        (
            secret("s", "default", "Opaque", &[("tls.crt", &pair.chain)]),
            "incomplete_secret",
            "no private key",
        ),
        (
            secret("s", "default", "Opaque", &[("tls.key", &pair.key)]),
            "incomplete_secret",
            "no certificate",
        ),
        (
            secret("s", "default", "helm.sh/release", &[("tls.crt", &pair.chain)]),
            "bad_secret",
            "helm.sh/release",
        ),
        (
            tls_secret(
                "s",
                "default",
                &Pair {
                    chain: pair.chain.clone(),
                    key: other.key,
                },
            ),
            "key_mismatch",
            "cannot be used",
        ),
        (
            tls_secret(
                "s",
                "default",
                &Pair {
                    chain: pair.key.clone(),
                    key: pair.key.clone(),
                },
            ),
            "no_certificate",
            "cannot be used",
        ),
        (
            "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {tls.crt: \"%%\"}\n".into(),
            "bad_secret",
            "base64",
        ),
    ] {
        let world = with(&manifests, "secret: s");
        world.refuses("m", Reason::TlsConfigUnresolved);
        world.tells(Severity::Error, "TLSContext ctx spec.secret", text);
        let found = world.problems().iter().any(|problem| problem.reason == reason);
        assert!(found, "{reason}: {:?}", world.problems());
    }
}

#[test]
fn k16_no_message_holds_a_byte_of_a_key() {
    let pair = pair();
    let bare = pair.key.lines().nth(1).unwrap();
    let manifests = format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ndata: {bare}\n");
    let world = with(&manifests, "secret: s");
    world.refuses("m", Reason::TlsConfigUnresolved);
    let said = format!("{:?} {:?}", world.problems(), objects(&manifests));
    assert!(!said.contains(&bare[..12]), "{said}");
}

#[test]
fn base64_data_is_read_and_string_data_wins() {
    let (one, two) = (pair(), pair());
    let encode = |text: &str| data_encoding::BASE64.encode(text.as_bytes());
    let manifests = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ndata: {{tls.crt: {}, tls.key: {}}}\n",
        encode(&one.chain),
        encode(&one.key)
    );
    assert_eq!(shown(&with(&manifests, "secret: s").fine(), "m"), der(&one));
    let both = tls_secret("s", "default", &two) + &format!("data: {{tls.crt: {}}}\n", encode(&one.chain));
    assert_eq!(shown(&with(&both, "secret: s").fine(), "m"), der(&two));
}

#[test]
fn v8_a_ca_secret_without_a_ca_is_unresolved() {
    for manifests in [
        String::new(),
        ca_secret("ca", "tls.crt", ""),
        ca_secret("ca", "other", "x"),
        ca_secret("ca", "ca.crt", "not PEM"),
    ] {
        let world = with(&manifests, "ca_secret: ca");
        world.refuses("m", Reason::TlsConfigUnresolved);
        assert_eq!(
            world
                .errors()
                .iter()
                .filter(|line| line.starts_with("TLSContext ctx spec.ca_secret"))
                .count(),
            1
        );
    }
}

#[test]
fn decision_11_a_ca_under_each_key() {
    let ca = authority("ca");
    for key in ["tls.crt", "ca.crt", "root-cert.pem", "cert-chain.pem", "cacert"] {
        let world = with(&ca_secret("ca", key, &ca.pem), "ca_secret: ca").fine();
        assert_eq!(
            world.tls("m").verify.roots.bundle.as_ref().unwrap().anchors.len(),
            1,
            "{key}"
        );
    }
}

#[test]
fn v18_of_leaf_and_ca_the_ca_is_taken() {
    let (ca, other) = (authority("ca"), authority("other"));
    let anchor = |world: &World| world.tls("m").verify.roots.bundle.as_ref().unwrap().anchors[0].clone();
    let der_of = |pem: &str| nuncio_tls::certificates(pem.as_bytes()).0[0].clone();

    let leaf = ca.leaf("a.test");
    let manifests = secret(
        "ca",
        "default",
        "Opaque",
        &[("tls.crt", &leaf.chain), ("ca.crt", &ca.pem)],
    );
    let world = with(&manifests, "ca_secret: ca").fine();
    assert_eq!(anchor(&world), der_of(&ca.pem));
    world.tells(Severity::Notice, "Secret ca", "`ca.crt` is the CA");

    let manifests = secret(
        "ca",
        "default",
        "Opaque",
        &[("tls.crt", &ca.pem), ("ca.crt", &other.pem)],
    );
    let world = with(&manifests, "ca_secret: ca").fine();
    assert_eq!(anchor(&world), der_of(&ca.pem));
    world.tells(Severity::Notice, "Secret ca", "`tls.crt` is the CA");
}

#[test]
fn v17_istios_secret_brings_its_root() {
    let ca = authority("ca");
    let leaf = ca.leaf("client");
    let values = [
        ("cert-chain.pem", &*leaf.chain),
        ("key.pem", &leaf.key),
        ("root-cert.pem", &ca.pem),
    ];
    let manifests = secret("s", "default", "istio.io/key-and-cert", &values);
    let world = with(&manifests, "secret: s").fine();
    assert_eq!(shown(&world, "m"), der(&leaf));
    let tls = world.tls("m");
    assert_eq!(
        (tls.verify.mode, tls.verify.roots.bundle.is_some()),
        (VerifyMode::Chain, true)
    );
    let roles: Vec<CertificateRole> = world
        .output
        .snapshot
        .certificates
        .iter()
        .map(|c| c.role)
        .collect();
    assert!(roles.contains(&CertificateRole::Client) && roles.contains(&CertificateRole::Ca));

    let other = ca_secret("other", "ca.crt", &authority("other").pem);
    let world = with(&(manifests + &other), "secret: s; ca_secret: other").fine();
    let origin = world.upstream("m").origins.as_ref().unwrap().roots.to_string();
    assert_eq!(origin, "TLSContext ctx.default, spec.ca_secret");
}

#[test]
fn what_certificates_say_is_told_once_and_on_the_secret() {
    let expired = Options {
        now: options().now + std::time::Duration::from_secs(86400 * 400),
        ..options()
    };
    let manifests = tls_secret("s", "default", &pair())
        + &context("one", "secret: s")
        + &context("two", "secret: s")
        + &mapping("m", "service: https://svc; tls: one")
        + &mapping("n", "service: https://svc; tls: two");
    let world = World::new(&manifests, &expired, &LastGood::default());
    assert_eq!(world.errors(), Vec::<String>::new());
    world.tells(Severity::Warning, "Secret s stringData.tls.crt", "expired");
    assert_eq!(world.forward("m").upstream, world.forward("n").upstream);
}

#[test]
fn files_serve_like_secrets() {
    let ca = authority("ca");
    let leaf = ca.leaf("client");
    let spec = "cert_chain_file: /c.pem; private_key_file: /k.pem; cacert_chain_file: /ca.pem";
    let mut objects = objects(&(context("ctx", spec) + &mapping("m", MAPPING)));
    let named = referenced_files(&objects.objects);
    assert_eq!(named, ["/c.pem", "/ca.pem", "/k.pem"].map(PathBuf::from));
    for (path, text) in [
        ("/c.pem", &leaf.chain),
        ("/k.pem", &leaf.key),
        ("/ca.pem", &ca.pem),
    ] {
        objects.files.insert(path.into(), Ok(text.clone().into_bytes()));
    }
    let good = World::of(&objects, &options(), &LastGood::default()).fine();
    assert_eq!(shown(&good, "m"), der(&leaf));
    assert_eq!(good.tls("m").verify.mode, VerifyMode::Chain);

    objects
        .files
        .insert("/k.pem".into(), Err("permission denied".into()));
    let bad = World::of(&objects, &options(), &LastGood::default());
    bad.tells(
        Severity::Error,
        "TLSContext ctx spec.private_key_file",
        "permission denied",
    );
    bad.refuses("m", Reason::TlsConfigUnresolved);
    let later = World::of(&objects, &options(), &good.output.last_good);
    assert_eq!(shown(&later, "m"), der(&leaf));
}
