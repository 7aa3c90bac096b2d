//! Row V17: the folder into which an Istio agent writes a certificate, its key and the CA.

use std::path::Path;

use tempfile::TempDir;

use super::assert_nothing_asked;
use crate::rows::origination;
use crate::support::certificates::{Certificates, Identity};
use crate::support::peer::{Tls, Upstream};
use crate::support::program::{Gateway, finish_beside, nuncio};
use crate::support::waiting::eventually;

/// Writes a file as agents do: a new one takes the old one's place.
fn write(folder: &Path, name: &str, text: &str) {
    let new = folder.join(".new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, folder.join(name)).unwrap();
}

fn write_pair(folder: &Path, Identity { chain, key }: &Identity) {
    write(folder, "key.pem", key);
    write(folder, "cert-chain.pem", chain);
}

/// A gateway in namespace `mesh` with this folder, whose requests all go on connections of their own.
async fn gateway(upstream: &Upstream, folder: &TempDir) -> Gateway {
    let context = ["secret: istio-certs.mesh", "ca_secret: istio-certs.mesh"];
    let plan = origination(upstream, &[], &context).env("AMBASSADOR_NAMESPACE", "mesh");
    let path = folder.path().to_str().unwrap();
    plan.env("AMBASSADOR_ISTIO_SECRET_DIR", path).start().await
}

/// An upstream for clients of this authority that keeps no connection.
async fn demanding(ca: &Certificates) -> Upstream {
    let upstream = Tls::with(&ca.server(&["a.test"])).client_ca(&ca.pem(), true);
    let upstream = upstream.answer(|_| {
        let close = http::Response::builder().header("connection", "close");
        close.body("ok".into()).unwrap()
    });
    upstream.start().await
}

/// The certificate that came with the latest request.
fn last_shown(upstream: &Upstream) -> Vec<u8> {
    let connections = upstream.connections();
    let asked = connections.into_iter().rfind(|seen| !seen.requests.is_empty());
    asked.unwrap().session.unwrap().client.unwrap()
}

/// Asks, without one failure, until the upstream is shown this certificate.
async fn becomes_shown(gateway: &Gateway, upstream: &Upstream, client: &Identity) {
    eventually("the certificate of the folder", async || {
        gateway.get("/").await.assert_ok();
        (last_shown(upstream) == client.chain_der()[0].as_ref()).then_some(())
    })
    .await;
}

async fn becomes_stale(gateway: &Gateway, stale: bool) {
    eventually("whether it is stale", async || {
        gateway.get("/").await.assert_ok();
        (gateway.upstream_of("m").await["stale"] == stale).then_some(())
    })
    .await;
}

#[tokio::test]
async fn v17_directory_is_a_secret_whose_rotation_reaches_the_wire() {
    let ca = Certificates::new();
    let (old, new) = (ca.client("old"), ca.client("new"));
    let upstream = demanding(&ca).await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "root-cert.pem", &ca.pem());
    let gateway = gateway(&upstream, &folder).await;

    // The agent may come later than the gateway.
    gateway.get("/").await.assert_refused("tls_config_unresolved");
    let problem = gateway.problem("", "no_istio_secret").await;
    assert!(
        problem["message"].as_str().unwrap().contains("cert-chain.pem"),
        "{problem:#}"
    );
    write_pair(folder.path(), &old);
    gateway.get_until("/", |answer| answer.status == 200).await;
    becomes_shown(&gateway, &upstream, &old).await;
    let handshake = gateway.last_handshake("m").await;
    assert_eq!(handshake["verify"]["result"], "ok", "{handshake:#}");
    assert_eq!(handshake["verify"]["mode"], "chain", "{handshake:#}");

    // A new key without its certificate, for however long, costs nothing.
    write(folder.path(), "key.pem", &new.key);
    becomes_stale(&gateway, true).await;
    becomes_shown(&gateway, &upstream, &old).await;
    write(folder.path(), "cert-chain.pem", &new.chain);
    becomes_shown(&gateway, &upstream, &new).await;
    becomes_stale(&gateway, false).await;

    // Without one of the files there is no Secret, and what it held last serves on.
    std::fs::remove_file(folder.path().join("key.pem")).unwrap();
    becomes_stale(&gateway, true).await;
    becomes_shown(&gateway, &upstream, &new).await;
    gateway.problem("TLSContext ctx.default", "missing_secret").await;
    write(folder.path(), "key.pem", &new.key);
    becomes_stale(&gateway, false).await;
}

#[tokio::test]
async fn v17_directorys_root_is_the_ca_and_follows_its_file() {
    let (ca, other) = (Certificates::new(), Certificates::new());
    let upstream = demanding(&ca).await;
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), &ca.client("web"));
    write(folder.path(), "root-cert.pem", &other.pem());
    let gateway = gateway(&upstream, &folder).await;
    gateway.get("/").await.assert_refused("unknown_issuer");
    assert_nothing_asked(&upstream).await;
    write(folder.path(), "root-cert.pem", &ca.pem());
    gateway.get_until("/", |answer| answer.status == 200).await;
}

#[tokio::test]
async fn v17_directory_counts_for_the_commands_too() {
    let ca = Certificates::new();
    let upstream = demanding(&ca).await;
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), &ca.client("web"));
    write(folder.path(), "root-cert.pem", &ca.pem());
    let gateway = gateway(&upstream, &folder).await;
    let manifests = gateway.folder();
    let resolve = format!("a.test:443:127.0.0.1:{}", upstream.address.port());
    let arguments = [
        "probe",
        "m",
        "--resolve",
        &resolve,
        "--config",
        manifests.to_str().unwrap(),
    ];
    for (known, status) in [(true, 0), (false, 1)] {
        let mut command = nuncio(arguments);
        command.env("AMBASSADOR_NAMESPACE", "mesh");
        if known {
            command.env("AMBASSADOR_ISTIO_SECRET_DIR", folder.path());
        }
        let finished = finish_beside(command).await;
        assert_eq!(finished.status, status, "{finished:#?}");
    }
}
