//! Chains in any order (row K10), large Secrets (row K11), and Secrets that are wrong (row K15).

use super::{World, count, originating};
use crate::support::certificates::{Certificates, Identity, secret};
use crate::support::peer::Upstream;
use crate::support::program::{finish_beside, mapping, nuncio, tls_context};

#[tokio::test]
async fn k10_chain_is_shown_leaf_first_and_without_what_does_not_belong() {
    let world = World::new().await;
    let (upper, stranger) = (world.ca.intermediate("upper"), Certificates::named("stranger"));
    let lower = upper.intermediate("lower");
    let client = lower.client("web");
    let leaf = Certificates::first_of(&client.chain);
    let [lower, upper, root] = [lower.pem(), upper.pem(), world.ca.pem()];
    let orders = [
        ("asis", client.chain.clone()),
        ("leaflast", [&*upper, &lower, &leaf].concat()),
        ("withroot", [&*leaf, &lower, &upper, &root].concat()),
        ("rootfirst", [&*root, &upper, &lower, &leaf].concat()),
        (
            "stranger",
            [&*stranger.pem(), &leaf, &stranger.pem(), &lower, &upper].concat(),
        ),
        ("twice", [&*leaf, &lower, &leaf, &lower, &upper].concat()),
    ];
    let mut manifests = String::new();
    for (name, chain) in &orders {
        let key = client.key.clone();
        manifests += &originating(name, &[&format!("secret: {name}")]);
        manifests += &Identity {
            chain: chain.clone(),
            key,
        }
        .secret(name);
    }
    let gateway = world.plan(manifests).start().await;
    for (name, _) in &orders {
        gateway.get(&format!("/{name}/")).await.assert_ok();
        let connections = world.upstream.connections();
        let asked = connections.into_iter().rfind(|seen| !seen.requests.is_empty());
        let shown = asked.unwrap().session.unwrap().client_chain;
        let expected: Vec<Vec<u8>> = client.chain_der().iter().map(|der| der.to_vec()).collect();
        assert!(shown == expected, "{name}: {} certificates", shown.len());
    }
    for (name, reason) in [
        ("withroot", "root_in_chain"),
        ("stranger", "unrelated_certificate"),
        ("twice", "duplicate_certificate"),
    ] {
        let told = count(&gateway, &format!("Secret {name}.default"), reason).await;
        assert!(told > 0, "{name}");
    }
}

/// A bundle of this many authorities with this one as the last.
fn bundle(others: usize, last: &Certificates) -> String {
    let mut text: String = (0..others)
        .map(|number| Certificates::named(&format!("CA {number}")).pem())
        .collect();
    text.push_str(&last.pem());
    text
}

#[tokio::test]
async fn k11_large_secrets_load_and_larger_ones_are_told_the_limit() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["svc"])).await;
    let certificates = bundle(299, &ca);
    // Text between the blocks, as bundles often have it, up to the mebibyte that a cluster takes.
    let comments = "# some words about what follows\n".repeat((1024 * 1024 - certificates.len()) / 32);
    let megabyte = comments.clone() + &certificates;
    assert!((1_000_000..=1024 * 1024).contains(&megabyte.len()));
    let monster = comments.repeat(5) + &certificates;
    let mut manifests = String::new();
    for name in ["hundreds", "megabyte", "monster"] {
        let context = [&*format!("ca_secret: {name}"), "verify: {mode: full}"];
        manifests += &mapping(
            name,
            &format!("/{name}/"),
            "https://svc",
            &[&format!("tls: {name}")],
        );
        manifests += &tls_context(name, &context);
    }
    manifests += &secret("hundreds", &[("ca.crt", &certificates)]);
    manifests += &secret("megabyte", &[("ca.crt", &megabyte)]);
    manifests += &secret("monster", &[("ca.crt", &monster)]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("monster.pem");
    std::fs::write(&file, &monster).unwrap();
    manifests += &mapping("file", "/file/", "https://svc", &["tls: file"]);
    manifests += &tls_context("file", &[&format!("cacert_chain_file: {}", file.display())]);
    let plan = crate::support::program::Gateway::with(manifests);
    let gateway = plan.resolve("svc:443", upstream.address).start().await;

    for name in ["hundreds", "megabyte"] {
        gateway.get(&format!("/{name}/")).await.assert_ok();
    }
    for (name, reason) in [("monster", "bad_secret"), ("file", "file_unreadable")] {
        let answer = gateway.get(&format!("/{name}/")).await;
        answer.assert_refused("tls_config_unresolved");
        let problem = gateway
            .problem(&format!("TLSContext {name}.default"), reason)
            .await;
        let message = problem["message"].as_str().unwrap();
        assert!(message.contains("larger than 4 MiB"), "{message}");
    }
    // Loaded once and shown; those that were not are not there.
    let shown = gateway.admin_json("/api/v1/certificates").await;
    let from = |name: &str| {
        let all = shown["certificates"].as_array().unwrap();
        all.iter()
            .filter(|it| it["role"] == "ca" && it["from"].as_str().unwrap().contains(name))
            .count()
    };
    assert_eq!(
        [from("hundreds"), from("megabyte"), from("monster")],
        [300, 300, 0]
    );
}

#[tokio::test]
async fn k15_unused_secret_that_is_wrong_is_told_only_where_it_is_asked_for() {
    let world = World::new().await;
    let good = world.ca.client("good");
    let half = Identity {
        key: world.ca.client("other").key,
        ..world.ca.client("half")
    };
    let manifests = originating("m", &["secret: good"])
        + &good.secret("good")
        + &half.secret("unused")
        + &secret("unread", &[("tls.key", "no key")]);
    let forced = |value: &str| {
        world
            .plan(manifests.clone())
            .env("AMBASSADOR_FORCE_SECRET_VALIDATION", value)
    };
    for value in ["", "false", "0", "yes"] {
        let gateway = forced(value).start().await;
        world.assert_shown(&gateway, "/m/", &good).await;
        for problem in gateway.problems().await {
            assert_ne!(problem["severity"], "error", "{value}: {problem:#}");
        }
    }
    for value in ["true", "T", "1"] {
        let gateway = forced(value).start().await;
        world.assert_shown(&gateway, "/m/", &good).await;
        let mismatch = gateway.problem("Secret unused.default", "key_mismatch").await;
        let text = mismatch["message"].as_str().unwrap();
        assert!(
            text.starts_with("K8sSecret secret unused.default tls.crt "),
            "{text}"
        );
        let unread = gateway.problem("Secret unread.default", "no_private_key").await;
        let text = unread["message"].as_str().unwrap();
        assert!(
            text.starts_with("K8sSecret secret unread.default tls.key is not a PEM-encoded key"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn k15_secret_that_is_wrong_in_one_part_is_withheld_where_it_is_asked_for() {
    let world = World::new().await;
    let client = world.ca.client("web");
    let manifests = originating("m", &["secret: me", "ca_secret: ca"])
        + &client.secret("me")
        + &secret("ca", &[("tls.crt", &world.ca.pem()), ("tls.key", "no key")]);
    let gateway = world.plan(manifests.clone()).start().await;
    world.assert_shown(&gateway, "/m/", &client).await;

    let plan = world
        .plan(manifests)
        .env("AMBASSADOR_FORCE_SECRET_VALIDATION", "true");
    let gateway = plan.start().await;
    gateway.get("/m/").await.assert_refused("tls_config_unresolved");
    let problem = gateway.problem("TLSContext m.default", "no_private_key").await;
    assert_eq!(problem["field"], "spec.ca_secret", "{problem:#}");

    // `check` says the same.
    for (value, status) in [("true", 1), ("false", 0)] {
        let mut command = nuncio(["check".as_ref(), gateway.folder().as_os_str()]);
        command.env("AMBASSADOR_FORCE_SECRET_VALIDATION", value);
        let finished = finish_beside(command).await;
        assert_eq!(finished.status, status, "{finished:#?}");
        assert_eq!(
            finished.stdout.contains("K8sSecret secret ca.default"),
            status == 1
        );
    }
}
