//! How requests are taken: methods, paths, limits, the end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{CONNECTIONS, Reply, Served};
use crate::server::{ANSWER_TIMEOUT, HEADER_TIMEOUT};

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
    let head = "GET /ambassador/v0/check_alive HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(served.send(&format!("{head}hello")).await.status, 200);
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let served = Served::usual().await;
    assert_eq!(served.send("nonsense\r\n\r\n").await.status, 400);
    let long = format!(
        "GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n",
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

/// Sends nothing, or the beginning of a head, until all places are taken.
async fn silent_clients(served: &Served) -> Vec<TcpStream> {
    let mut silent = Vec::new();
    for n in 0..CONNECTIONS {
        let mut stream = served.connect().await;
        if n % 2 == 0 {
            stream.write_all(b"GET /metr").await.unwrap();
        }
        silent.push(stream);
    }
    silent
}

#[tokio::test]
async fn the_longest_silent_client_makes_room_for_the_next() {
    let served = Served::usual().await;
    let mut silent = silent_clients(&served).await;
    assert_eq!(served.get("/ambassador/v0/check_alive").await.status, 200);
    // Time cannot pass in a test this short: it was the next who ended it.
    let mut closed = Vec::new();
    assert_eq!(silent[0].read_to_end(&mut closed).await.unwrap(), 0);
}

/// Time passes by itself here whenever all wait.
#[tokio::test(start_paused = true)]
async fn silent_clients_are_closed_after_their_time() {
    let served = Served::usual().await;
    let mut silent = silent_clients(&served).await;
    let started = Instant::now();
    for stream in &mut silent {
        // A client that began a head may get an answer that it came too late.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert!((HEADER_TIMEOUT..2 * HEADER_TIMEOUT).contains(&started.elapsed()));
}

#[tokio::test]
async fn a_client_that_is_being_answered_stays_when_silent_ones_can_go() {
    let served = Served::usual().await;
    served.proxy.metrics_of(64 << 20);
    let mut reading = served.connect().await;
    reading
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    reading.read_exact(&mut first).await.unwrap();
    let _silent = silent_clients(&served).await;
    let _more = silent_clients(&served).await;
    assert_eq!(served.get("/ambassador/v0/check_alive").await.status, 200);
    let mut rest = Vec::new();
    reading.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() > 64 << 20, "the answer was cut: {}", rest.len());
}

#[tokio::test]
async fn answers_that_nobody_takes_keep_no_health_out() {
    let served = Served::usual().await;
    served.proxy.metrics_of(64 << 20);
    let mut slow = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = served.connect().await;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .unwrap();
        slow.push(stream);
    }
    assert_eq!(served.get("/ambassador/v0/check_alive").await.status, 200);
    assert_eq!(served.get("/api/v1/problems").await.status, 200);
}

/// Time passes by itself here whenever all wait.
#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_makes_room_in_time() {
    let served = Served::usual().await;
    served.proxy.metrics_of(64 << 20);
    let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = served.connect().await;
        stream.write_all(request).await.unwrap();
        // It has its turn.
        stream.read_exact(&mut [0; 12]).await.unwrap();
        slow.push(stream);
    }
    let busy = served.get("/metrics").await;
    assert_eq!((busy.status, busy.header("retry-after")), (503, Some("5")));
    served.proxy.metrics_of(1);
    tokio::time::sleep(ANSWER_TIMEOUT).await;
    assert_eq!(served.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn other_hosts_and_origins_are_refused() {
    let served = Served::usual().await;
    let ask = async |path: &str, headers: &str| {
        let request = format!("GET {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
        served.send(&request).await
    };
    for path in ["/metrics", "/api/v1/routes", "/ambassador/v0/diag/", "/nosuch"] {
        for foreign in [
            "host: evil.example\r\n",
            "host: localhost\r\norigin: http://evil.example\r\n",
        ] {
            assert_eq!(ask(path, foreign).await.status, 403, "{path} {foreign}");
        }
        let own = ask(path, "host: localhost\r\norigin: http://localhost\r\n").await;
        assert!(matches!(own.status, 200 | 404), "{path} {}", own.status);
    }
    let told = ask("/api/v1/routes", "host: evil.example\r\n").await;
    assert_eq!(told.header("content-type"), Some("application/json"));
    assert!(told.body.contains("--admin-host"), "{}", told.body);
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
