//! Bodies pass as they come: streamed, never held, ended as they ended.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use super::socket::{OK, Script, line, message, raw, rest};
use crate::support::certificates::Certificates;
use crate::support::client::Client;
use crate::support::peer::{Tls, Upstream, read_head};
use crate::support::program::{Gateway, mapping};
use crate::support::waiting::eventually;

/// Far more than all buffers between two processes hold.
const LARGE: usize = 64 << 20;

/// What the gateway has resident, in bytes.
fn resident(gateway: &Gateway) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.program.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn a_large_answer_waits_for_a_reader_that_stalls() {
    let (sent, mut progress) = watch::channel(0);
    let server = Certificates::new().server(&["a.test"]);
    let upstream = Tls::with(&server)
        .alpn(&["http/1.1"])
        .start_with(move |mut stream, _| {
            let sent = sent.clone();
            async move {
                read_head(&mut stream).await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                let piece = [b'x'; 64 * 1024];
                for _ in 0..LARGE / piece.len() {
                    stream.write_all(&piece).await.unwrap();
                    sent.send_modify(|sent| *sent += piece.len());
                }
                stream.flush().await.unwrap();
            }
        });
    let upstream = upstream.await;
    let service = format!("https://{}", upstream.address);
    let gateway = Gateway::start(mapping("m", "/", &service, &["timeout_ms: 0"])).await;
    let before = resident(&gateway);
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    // The upstream is stopped when a second passes without progress; a gateway that buffers takes all.
    let quiet = Duration::from_secs(1);
    while tokio::time::timeout(quiet, progress.changed())
        .await
        .is_ok_and(|changed| changed.is_ok())
    {}
    let taken = *progress.borrow();
    assert!(
        taken < LARGE / 2,
        "{taken} bytes were taken of an answer that nobody reads"
    );
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more are held");

    let mut got = 0;
    let mut piece = vec![0; 64 * 1024];
    loop {
        match client.read(&mut piece).await.unwrap() {
            0 => break,
            n => got += n,
        }
    }
    assert_eq!(got, LARGE);
}

#[tokio::test]
async fn a_large_request_waits_for_an_upstream_that_stalls() {
    let (go, wait) = watch::channel(false);
    let (done, mut total) = mpsc::channel(1);
    let upstream = Upstream::raw(move |mut stream| {
        let (mut wait, done) = (wait.clone(), done.clone());
        async move {
            read_head(&mut stream).await;
            wait.wait_for(|go| *go).await.unwrap();
            let mut got = 0;
            let mut piece = vec![0; 64 * 1024];
            while got < LARGE {
                got += stream.read(&mut piece).await.unwrap();
            }
            stream.write_all(OK.as_bytes()).await.unwrap();
            done.send(got).await.unwrap();
        }
    });
    let upstream = upstream.await;
    let service = format!("http://{}", upstream.address);
    let gateway = Gateway::start(mapping("m", "/", &service, &["timeout_ms: 0"])).await;
    let before = resident(&gateway);
    let client = TcpStream::connect(gateway.address).await.unwrap();
    let (mut reading, mut writing) = client.into_split();
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n");
    writing.write_all(head.as_bytes()).await.unwrap();
    let (sent, mut progress) = watch::channel(0);
    let writer = tokio::spawn(async move {
        let piece = [b'x'; 64 * 1024];
        for _ in 0..LARGE / piece.len() {
            writing.write_all(&piece).await.unwrap();
            sent.send_modify(|sent| *sent += piece.len());
        }
        writing
    });
    let quiet = Duration::from_secs(1);
    while tokio::time::timeout(quiet, progress.changed())
        .await
        .is_ok_and(|changed| changed.is_ok())
    {}
    let taken = *progress.borrow();
    assert!(
        taken < LARGE / 2,
        "{taken} bytes were taken for an upstream that reads nothing"
    );
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more are held");
    go.send(true).unwrap();
    let _writing = writer.await.unwrap();
    assert_eq!(total.recv().await, Some(LARGE));
    assert_eq!(message(&mut reading).await.unwrap().body, "ok");
}

/// Envoy counts `timeout_ms` from the end of the request; a slow upload is no slow answer.
#[tokio::test]
async fn the_time_limit_begins_when_the_request_is_complete() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&["timeout_ms: 2000"]).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\nconnection: close\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..10 {
        // Slower than the limit in all: this is about time that passes, not about something that happens.
        tokio::time::sleep(Duration::from_millis(220)).await;
        client.write_all(b"x").await.unwrap();
    }
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(script.request().body, "xxxxxxxxxx");
}

#[tokio::test]
async fn a_client_may_close_its_side_first() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    for asked in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi",
    ] {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        client.write_all(asked.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("ok"), "{answer}");
    }
}

#[tokio::test]
async fn a_request_that_breaks_off_is_no_failure_of_the_upstream() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client
        .write_all(b"POST /broken HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\npart")
        .await
        .unwrap();
    eventually("the upload begins", async || {
        (!script.upstream.connections().is_empty()).then_some(())
    })
    .await;
    client.shutdown().await.unwrap();
    let answer = rest(&mut client).await;
    assert!(!answer.contains("HTTP/1.1 5"), "{answer}");
    let entry = gateway.access_log("/broken").await;
    assert_eq!(entry["flags"], "DC", "{entry:#}");
    assert_eq!(entry["reason"], serde_json::Value::Null, "{entry:#}");
    let metrics = gateway.admin("/metrics").await;
    assert!(
        !metrics.text().contains("nuncio_upstream_failures_total{"),
        "{}",
        metrics.text()
    );
}

#[tokio::test]
async fn a_client_may_continue_where_the_upstream_knows_nothing_of_it() {
    let script = Script::answering(OK).await;
    let dead = "---\n".to_owned() + &mapping("dead", "/dead", "http://127.0.0.1:1", &[]);
    let gateway = Gateway::start(script.mapping(&[]) + &dead).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let told = read_head(&mut client).await;
    assert_eq!(told, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").await.unwrap();
    assert_eq!(message(&mut client).await.unwrap().body, "ok");
    let request = script.request();
    assert_eq!(
        (request.values("expect"), &*request.body),
        (vec!["100-continue"], "body")
    );

    let head = head.replace("POST / ", "POST /dead ");
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = read_head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let script = Script::each(|request| {
        let path = request.first_line().split(' ').nth(1).unwrap();
        let answer = match path {
            "/204" => "HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\ncontent-length: 100\r\n\r\n",
            "/head" => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n",
            "/head-chunked" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            _ => OK,
        };
        (answer.to_owned(), true)
    });
    let script = script.await;
    let gateway = script.gateway(&[]).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let mut ask = async |method: &str, path: &str| {
        let asked = format!("{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        client.write_all(asked.as_bytes()).await.unwrap();
        read_head(&mut client).await
    };
    let head = ask("GET", "/204").await;
    assert!(head.starts_with("HTTP/1.1 204 No Content\r\n"), "{head}");
    assert!(
        !head.contains("content-length") && !head.contains("transfer-encoding"),
        "{head}"
    );
    let head = ask("GET", "/304").await;
    assert!(head.starts_with("HTTP/1.1 304 Not Modified\r\n"), "{head}");
    assert!(head.contains("\r\netag: \"1\"\r\n"), "{head}");
    let head = ask("HEAD", "/head").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-length: 100\r\n"), "{head}");
    let head = ask("HEAD", "/head-chunked").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        !head.contains("content-length"),
        "nobody said how long it is: {head}"
    );
    let head = ask("GET", "/end").await;
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n"),
        "the connection is in step: {head}"
    );
    assert_eq!(script.upstream.connections().len(), 1);
}

#[tokio::test]
async fn an_answer_with_two_lengths_is_told_with_one() {
    let script = Script::answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    let script = script.await;
    let gateway = script.gateway(&[]).await;
    let answer = raw(
        gateway.address,
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(!answer.contains("content-length: 100"), "{answer}");

    let script =
        Script::answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello").await;
    let gateway = script.gateway(&[]).await;
    let answer = raw(
        gateway.address,
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[tokio::test]
async fn bytes_are_passed_on_as_they_come() {
    let (more, pieces) = mpsc::unbounded_channel::<&'static str>();
    let pieces = std::sync::Arc::new(tokio::sync::Mutex::new(pieces));
    let upstream = Upstream::raw(move |mut stream| {
        let pieces = std::sync::Arc::clone(&pieces);
        async move {
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await
                .unwrap();
            while let Some(piece) = pieces.lock().await.recv().await {
                stream.write_all(piece.as_bytes()).await.unwrap();
            }
        }
    });
    let upstream = upstream.await;
    let service = format!("http://{}", upstream.address);
    let gateway = Gateway::start(mapping("m", "/", &service, &[])).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let head = read_head(&mut client).await;
    assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
    for (piece, seen) in [("1\r\na\r\n", "a"), ("2\r\nbb\r\n", "bb")] {
        more.send(piece).unwrap();
        assert_eq!(line(&mut client).await, format!("{}\r\n", seen.len()));
        assert_eq!(line(&mut client).await, format!("{seen}\r\n"));
    }
    more.send("0\r\n\r\n").unwrap();
    assert_eq!(line(&mut client).await, "0\r\n");
}

#[tokio::test]
async fn the_answer_to_a_refused_upload_arrives() {
    let gateway = Gateway::start(mapping("m", "/", "http://127.0.0.1:1", &[])).await;
    for length in [1 << 10, 4 << 20] {
        let body = "x".repeat(length);
        let asked = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}");
        for _ in 0..5 {
            // As simple clients do: all of the request first, then the answer.
            let mut client = TcpStream::connect(gateway.address).await.unwrap();
            client.write_all(asked.as_bytes()).await.unwrap();
            let head = read_head(&mut client).await;
            assert!(head.starts_with("HTTP/1.1 503 "), "{length}: {head}");
            assert!(head.contains("x-nuncio-reason: connect_refused\r\n"), "{head}");
        }
    }
}

#[tokio::test]
async fn an_early_answer_reaches_the_client() {
    let upstream = Upstream::raw(async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig";
        stream.write_all(answer.as_bytes()).await.unwrap();
        // Reads on, as a careful server does.
        let mut sink = vec![0; 64 * 1024];
        while stream.read(&mut sink).await.is_ok_and(|n| n > 0) {}
    });
    let upstream = upstream.await;
    let service = format!("http://{}", upstream.address);
    let gateway = Gateway::start(mapping("m", "/", &service, &[])).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\npart")
        .await
        .unwrap();
    let answer = message(&mut client).await.unwrap();
    assert_eq!(answer.first_line(), "HTTP/1.1 413 Payload Too Large");
    assert_eq!(answer.body, "big");
}

#[tokio::test]
async fn http2_clients_stream_to_http1_upstreams() {
    let script =
        Script::answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .await;
    let gateway = script.gateway(&[]).await;
    let mut client = Client::http2(gateway.address).await;
    let request = http::Request::post("http://a/up")
        .body(bytes::Bytes::from("body").into())
        .unwrap();
    let answer = client.send(request).await.unwrap();
    assert_eq!(answer.text(), "hello");
    assert_eq!(script.request().body, "body");
    // Frames that hyper gives without a length are chunks in HTTP/1.1.
    let head = http::Request::head("http://a/head")
        .body(bytes::Bytes::new().into())
        .unwrap();
    assert_eq!(client.send(head).await.unwrap().text(), "");
}
