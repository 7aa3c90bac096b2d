//! Folders of manifests that are empty, or vanish.

use crate::support::client::raw;
use crate::support::peer::Upstream;
use crate::support::program::Running;
use crate::support::program::{Gateway, free_port, listener, mapping, nuncio};
use crate::support::waiting::eventually;

async fn gateway(upstream: &Upstream) -> Gateway {
    let service = format!("http://{}", upstream.address);
    Gateway::start(mapping("m", "/", &service, &[])).await
}

async fn has_problem(gateway: &Gateway, reason: &str) {
    let shown = async || {
        let problems = gateway.problems().await;
        problems
            .iter()
            .any(|problem| problem["reason"] == reason)
            .then_some(())
    };
    eventually(reason, shown).await;
}

#[tokio::test]
async fn an_emptied_folder_serves_what_it_held() {
    let upstream = Upstream::cleartext().await;
    let gateway = gateway(&upstream).await;
    gateway.remove("manifests.yaml");
    has_problem(&gateway, "emptied_folder").await;
    gateway.get("/").await.assert_ok();
    assert_eq!(gateway.admin("/ambassador/v0/check_ready").await.status, 200);
    // What is put there counts from then on.
    let other = mapping("other", "/other/", "https://127.0.0.1:1", &["tls: missing"]);
    gateway.write("other.yaml", &(listener(gateway.address.port()) + &other));
    gateway.get_until("/", |answer| answer.status == 404).await;
    gateway
        .get("/other/")
        .await
        .assert_refused("tls_config_unresolved");
}

#[tokio::test]
async fn a_folder_that_vanishes_serves_what_it_held() {
    let upstream = Upstream::cleartext().await;
    let gateway = gateway(&upstream).await;
    std::fs::remove_dir_all(gateway.folder()).unwrap();
    has_problem(&gateway, "unreadable_path").await;
    gateway.get("/").await.assert_ok();
    assert_eq!(gateway.admin("/ambassador/v0/check_ready").await.status, 200);
}

#[tokio::test]
async fn a_gateway_is_not_ready_before_its_first_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = nuncio(["run", "--admin", "127.0.0.1:0", "--bind", "127.0.0.1", "--config"]);
    command.arg(folder.path());
    let mut program = Running::start(command);
    program.logged("nothing is served until there is one").await;
    let admin = program.admin().await;
    let ask = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        raw(admin, request).await
    };
    assert!(ask("/ambassador/v0/check_ready").await.contains(" 503 "));
    assert!(ask("/ambassador/v0/check_alive").await.contains(" 200 "));
    std::fs::write(folder.path().join("l.yaml"), listener(free_port())).unwrap();
    program.logged(" ready").await;
    assert!(ask("/ambassador/v0/check_ready").await.contains(" 200 "));
}
