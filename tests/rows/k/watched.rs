//! What is written while the gateway runs is picked up by itself: Secrets (row K6), and files that a
//! TLSContext names.

use std::path::Path;

use super::super::c;
use super::{World, becomes_stale, closing, originating};
use crate::support::certificates::Certificates;
use crate::support::peer::Tls;
use crate::support::program::{Gateway, mapping, tls_context};

#[tokio::test]
async fn k6_secrets_that_come_after_their_context_are_picked_up() {
    let world = World::new().await;
    let client = world.ca.client("late");
    let context = ["secret: me", "ca_secret: ca", "verify: {mode: full}"];
    let gateway = world.plan(originating("m", &context)).start().await;
    gateway.get("/m/").await.assert_refused("tls_config_unresolved");
    gateway.write("secret.yaml", &client.secret("me"));
    gateway.get("/m/").await.assert_refused("tls_config_unresolved");
    // No other event: only the Secrets are written.
    gateway.write("ca.yaml", &world.ca.secret("ca"));
    gateway.get_until("/m/", |answer| answer.status == 200).await;
    world.assert_shown(&gateway, "/m/", &client).await;
    let problems = gateway.problems().await;
    assert!(
        problems.iter().all(|problem| problem["severity"] != "error"),
        "{problems:#?}"
    );
}

/// Writes a file the way careful programs do.
fn write(folder: &Path, name: &str, text: &str) {
    let new = folder.join(".new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, folder.join(name)).unwrap();
}

#[tokio::test]
async fn files_that_a_context_names_are_watched_like_secrets() {
    let (ca, other) = (Certificates::new(), Certificates::new());
    let (old, new) = (ca.client("old"), ca.client("new"));
    let upstream = Tls::with(&ca.issue(&c::server(c::BAD))).client_ca(&ca.pem(), true);
    let upstream = upstream.answer(|_| closing()).start().await;
    let world = World { ca, upstream };
    let ca = &world.ca;
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| write(folder.path(), name, text);
    put("key.pem", &old.key);
    put("chain.pem", &old.chain);
    put("ca.pem", &ca.pem());
    put("crl.pem", &c::crl(ca, &[]));
    let line = |field: &str, name: &str| format!("{field}: {}", folder.path().join(name).display());
    let context = [
        line("cert_chain_file", "chain.pem"),
        line("private_key_file", "key.pem"),
        line("cacert_chain_file", "ca.pem"),
        line("crl_file", "crl.pem"),
    ];
    let context: Vec<&str> = context.iter().map(String::as_str).collect();
    let manifests = mapping("m", "/m/", "https://a.test", &["tls: ctx"]) + &tls_context("ctx", &context);
    let plan = Gateway::with(manifests).resolve("a.test:443", world.upstream.address);
    let gateway = plan.start().await;
    world.assert_shown(&gateway, "/m/", &old).await;

    // Half of a rotation, then all of it.
    put("key.pem", &new.key);
    becomes_stale(&gateway).await;
    world.assert_shown(&gateway, "/m/", &old).await;
    put("chain.pem", &new.chain);
    world.becomes_shown(&gateway, "/m/", &new).await;

    put("crl.pem", &c::crl(ca, &[c::BAD]));
    becomes_refused(&gateway, "revoked").await;
    put("crl.pem", &c::crl(ca, &[]));
    gateway.get_until("/m/", |answer| answer.status == 200).await;

    put("crl.pem", &c::crl(&other, &[]));
    put("ca.pem", &other.pem());
    becomes_refused(&gateway, "unknown_issuer").await;
}

/// Asks until the answer carries this reason.
async fn becomes_refused(gateway: &Gateway, reason: &str) {
    gateway.get_until("/m/", |answer| answer.reason() == reason).await;
}
