//! Chains that are too much: row F14.

use crate::support::certificates::{Certificates, Identity};
use crate::support::peer::Upstream;
use crate::support::scene::Scene;

/// A certificate for `a.test` and so many other names of 32 bytes that it is about this long.
fn heavy(ca: &Certificates, kib: usize) -> Identity {
    let mut names = vec!["a.test".to_owned()];
    names.extend((0..kib * 30).map(|n| format!("{n:0>25}.a.test")));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    ca.server(&names)
}

async fn scene(ca: &Certificates, identity: &Identity) -> (Upstream, Scene) {
    let upstream = Upstream::tls(identity).await;
    let scene = Scene::over_tls(&upstream, ca, &[]).await;
    (upstream, scene)
}

#[tokio::test]
async fn f14_a_chain_of_64_kib_is_refused_with_a_reason() {
    let ca = Certificates::new();
    for heavy_ones in [2, 8] {
        let mut identity = heavy(&ca, 40);
        for _ in 1..heavy_ones {
            identity.chain += &heavy(&ca, 40).chain;
        }
        let (_upstream, scene) = scene(&ca, &identity).await;
        scene
            .assert_fails("1", "bad_certificate", "chain of about 64 KiB or more")
            .await;
        scene.assert_unharmed().await;
    }
}

#[tokio::test]
async fn f14_a_chain_below_64_kib_is_verified() {
    let ca = Certificates::new();
    let (_upstream, scene) = scene(&ca, &heavy(&ca, 60)).await;
    let (answer, entry) = scene.ask("1").await;
    assert_eq!(answer.status, 200, "{entry:#}");
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn f14_a_hundred_intermediates_end_soon() {
    let ca = Certificates::new();
    // Each below the one before, down to the leaf.
    let mut lowest = ca.intermediate("0");
    for n in 1..100 {
        lowest = lowest.intermediate(&n.to_string());
    }
    let (_upstream, deep) = scene(&ca, &lowest.server(&["a.test"])).await;
    deep.assert_fails("1", "bad_certificate", "too long or too tangled")
        .await;
    deep.assert_unharmed().await;

    // All of one name, and none the issuer of another: each may have to be tried for each.
    let mut tangled = Certificates::named("test CA").server(&["a.test"]);
    for _ in 0..100 {
        tangled.chain += &Certificates::named("test CA").pem();
    }
    let (_upstream, wide) = scene(&ca, &tangled).await;
    wide.assert_fails("1", "bad_certificate", "too long or too tangled")
        .await;
    wide.assert_unharmed().await;
}
