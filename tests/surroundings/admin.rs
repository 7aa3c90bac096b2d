//! The admin interface and those whom it is not for.

use crate::support::client::raw;
use crate::support::program::{Gateway, mapping};

#[tokio::test]
async fn the_admin_interface_answers_to_its_own_names() {
    let mapping = mapping(
        "m",
        "/",
        "http://127.0.0.1:1",
        &["headers: {authorization: Bearer hidden}"],
    );
    let gateway = Gateway::with(mapping)
        .args(&["--admin-host", "Admin.ops"])
        .start()
        .await;
    let ask = async |host: &str| {
        let request = format!("GET /api/v1/routes HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        raw(gateway.admin, request).await
    };
    for host in [
        "127.0.0.1",
        "localhost:8877",
        "[::1]",
        "admin.ops",
        "admin.OPS:80",
    ] {
        let answer = ask(host).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
        assert!(answer.contains("\"authorization\":\"…\"") && !answer.contains("hidden"));
    }
    for host in ["evil.example", "ops", "admin.ops.evil.example"] {
        assert!(ask(host).await.starts_with("HTTP/1.1 403 "), "{host}");
    }
}
