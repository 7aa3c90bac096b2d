//! How requests are taken: methods, paths, limits, the end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Reply, Served};
use crate::server::HEADER_TIMEOUT;

#[tokio::test]
async fn nothing_can_be_changed() {
    let served = Served::usual().await;
    for path in [
        "/ambassador/v0/check_alive",
        "/metrics",
        "/ambassador/v0/diag/",
        "/api/v1/routes",
    ] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"] {
            let reply = served.request(method, path).await;
            assert_eq!(
                (reply.status, reply.header("allow")),
                (405, Some("GET, HEAD")),
                "{method} {path}"
            );
        }
    }
    let reply = served.request("POST", "/api/v1/routes").await;
    assert_eq!(
        reply.body,
        "{\"error\":\"this can only be read; use GET or HEAD\"}\n"
    );
}

#[tokio::test]
async fn head_says_what_get_would_without_the_body() {
    let served = Served::usual().await;
    for path in [
        "/ambassador/v0/check_ready",
        "/metrics",
        "/api/v1/upstreams",
        "/nosuch",
    ] {
        let mut get = served.get(path).await;
        let mut head = served.request("HEAD", path).await;
        assert_eq!(head.body, "", "{path}");
        assert_eq!(
            get.header("content-length"),
            Some(&*get.body.len().to_string()),
            "{path}"
        );
        for reply in [&mut get, &mut head] {
            reply.headers.retain(|(name, _)| name != "date");
        }
        assert_eq!((head.status, head.headers), (get.status, get.headers), "{path}");
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_in_the_form_of_its_neighbours() {
    let served = Served::usual().await;
    for path in [
        "/",
        "/nosuch",
        "/ambassador/v0/",
        "/metrics/x",
        "//metrics",
        "/METRICS",
    ] {
        let reply = served.get(path).await;
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (404, Some("text/plain; charset=utf-8")),
            "{path}"
        );
    }
    for path in ["/api/v1/nosuch", "/api/v1/", "/api/v1/routes//"] {
        let reply = served.get(path).await;
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (404, Some("application/json")),
            "{path}"
        );
    }
    assert_eq!(served.request("POST", "/nosuch").await.status, 404);
}

#[tokio::test]
async fn a_slash_at_the_end_does_not_matter() {
    let served = Served::usual().await;
    for path in [
        "/ambassador/v0/diag",
        "/ambassador/v0/diag/",
        "/api/v1/routes/",
        "/metrics/",
        "/metrics?x=/",
    ] {
        assert_eq!(served.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn answers_are_of_this_moment() {
    let reply = Served::usual().await.get("/api/v1/routes").await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn a_body_is_ignored() {
    let served = Served::usual().await;
    let head = "GET /ambassador/v0/check_alive HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(served.send(&format!("{head}hello")).await.status, 200);
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let served = Served::usual().await;
    assert_eq!(served.send("nonsense\r\n\r\n").await.status, 400);
    let long = format!(
        "GET /metrics HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n",
        "x".repeat(64 * 1024)
    );
    assert_eq!(served.send(&long).await.status, 431);
}

/// Reads one answer whose length is known, and leaves the connection open.
async fn exchange(stream: &mut TcpStream, path: &str) -> Reply {
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        assert_ne!(
            stream.read_buf(&mut bytes).await.unwrap(),
            0,
            "the connection was closed"
        );
        if !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
            continue;
        }
        let reply = Reply::parse(&bytes);
        if reply.header("content-length") == Some(&*reply.body.len().to_string()) {
            return reply;
        }
    }
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let served = Served::usual().await;
    let mut stream = served.connect().await;
    for path in ["/metrics", "/nosuch", "/api/v1/upstreams", "/metrics"] {
        let expected = if path == "/nosuch" { 404 } else { 200 };
        assert_eq!(exchange(&mut stream, path).await.status, expected);
    }
}

/// Time passes by itself here whenever all wait, so that only the silent clients' time limit can let the
/// last one in.
#[tokio::test(start_paused = true)]
async fn silent_clients_do_not_keep_others_out() {
    let served = Served::usual().await;
    let mut silent = Vec::new();
    for n in 0..64 {
        let mut stream = served.connect().await;
        if n % 2 == 0 {
            stream.write_all(b"GET /metr").await.unwrap();
        }
        silent.push(stream);
    }
    let started = Instant::now();
    assert_eq!(served.get("/metrics").await.status, 200);
    // Not sooner: then there would have been a place for one more. Nor by some longer limit.
    assert!((HEADER_TIMEOUT..2 * HEADER_TIMEOUT).contains(&started.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_told_to_and_lets_go_of_idle_connections() {
    let served = Served::usual().await;
    let mut idle = served.connect().await;
    assert_eq!(exchange(&mut idle, "/metrics").await.status, 200);
    let told = Instant::now();
    served.stop.send(()).unwrap();
    served.task.await.unwrap().unwrap();
    assert!(
        told.elapsed() < HEADER_TIMEOUT,
        "it waited for an idle connection"
    );
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap(), 0);
    assert!(TcpStream::connect(served.address).await.is_err());
}
