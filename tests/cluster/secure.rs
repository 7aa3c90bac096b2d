//! An API server as clusters have it: TLS of a CA that nobody else knows, and clients that show a certificate.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::Cluster;
use super::objects::mapping;
use crate::support::certificates::{Certificates, Identity};
use crate::support::peer::{Tls, Upstream};
use crate::support::program::{Running, nuncio};

/// Ends TLS before a server that speaks none.
async fn in_front_of(server: SocketAddr, tls: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(Arc::clone(&tls));
            tokio::spawn(async move {
                // Who is refused is gone.
                if let Ok(mut client) = acceptor.accept(stream).await {
                    let mut plain = TcpStream::connect(server).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut plain).await;
                }
            });
        }
    });
    address
}

/// Writes a kubeconfig for it into the folder of a cluster.
fn kubeconfig(cluster: &Cluster, name: &str, server: SocketAddr, ca: &str, client: &Identity) -> PathBuf {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://localhost:{}", server.port()), "certificate-authority-data": STANDARD.encode(ca),
        }}],
        "users": [{"name": "test", "user": {
            "client-certificate-data": STANDARD.encode(&client.chain), "client-key-data": STANDARD.encode(&client.key),
        }}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    let path = cluster.kubeconfig.with_file_name(name);
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[tokio::test]
async fn an_api_server_of_a_private_ca_that_asks_for_a_certificate_is_followed() {
    let mut cluster = Cluster::guarded().await;
    let ca = Certificates::new();
    let tls = Tls::with(&ca.server(&["localhost"])).client_ca(&ca.pem(), true);
    let server = in_front_of(cluster.gate().address, tls.config()).await;
    let upstream = Upstream::cleartext().await;
    let to = |path: &str| mapping("m", path, &format!("http://{}", upstream.address), &json!({}));
    cluster.apply(to("/first/")).await;
    let client = ca.client("gateway");
    cluster.kubeconfig = kubeconfig(&cluster, "private", server, &ca.pem(), &client);
    let gateway = cluster.plan().start().await;
    gateway.get("/first/").await.assert_ok();
    cluster.apply(to("/second/")).await;
    gateway.get_until("/second/", |answer| answer.status == 200).await;
}

#[tokio::test]
async fn an_api_server_that_is_not_who_it_should_be_is_told_nothing() {
    let cluster = Cluster::guarded().await;
    let (ca, other) = (Certificates::new(), Certificates::new());
    let tls = Tls::with(&ca.server(&["localhost"])).client_ca(&other.pem(), true);
    let server = in_front_of(cluster.gate().address, tls.config()).await;
    let path = kubeconfig(&cluster, "other", server, &other.pem(), &other.client("gateway"));
    let path = path.display().to_string();
    let mut command = nuncio(["run", "--kubernetes", "--kubeconfig", &path]);
    command.args(["--admin", "127.0.0.1:0", "--workers", "1"]);
    let mut program = Running::start(command);
    program
        .logged("check the certificate authority in the kubeconfig")
        .await;
    assert!(cluster.gate().asked().is_empty());
    program.signal("TERM");
    program.end().await;
}
