//! SIGTERM: no new connections, what is in flight finishes, and the program ends in time.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::socket::{OK, Script, message, next_message, rest};
use crate::support::client::Client;
use crate::support::peer::Upstream;
use crate::support::program::{Gateway, mapping};
use crate::support::waiting::eventually;

/// An upstream that answers when it is told to; the number is that of the requests so far.
async fn waiting_upstream() -> (Upstream, watch::Sender<bool>, watch::Receiver<usize>) {
    let (go, wait) = watch::channel(false);
    let (asked, seen) = watch::channel(0);
    let upstream = Upstream::raw(move |mut stream: TcpStream| {
        let (mut wait, asked) = (wait.clone(), asked.clone());
        async move {
            while next_message(&mut stream).await.is_some() {
                asked.send_modify(|asked| *asked += 1);
                wait.wait_for(|go| *go).await.unwrap();
                let _ = stream.write_all(OK.as_bytes()).await;
            }
        }
    });
    (upstream.await, go, seen)
}

async fn terminate(gateway: &mut Gateway) {
    gateway.program.signal("TERM");
    gateway.program.logged("finishes what is in flight").await;
    eventually("new connections are refused", async || {
        TcpStream::connect(gateway.address).await.err()
    })
    .await;
}

#[tokio::test]
async fn what_is_in_flight_finishes_and_the_rest_does_not_hold_up() {
    let (upstream, go, mut seen) = waiting_upstream().await;
    let service = format!("http://{}", upstream.address);
    let manifest = mapping("m", "/", &service, &["timeout_ms: 0"]);
    let mut gateway = Gateway::with(manifest)
        .args(&["--drain-time", "600"])
        .start()
        .await;

    let unused = TcpStream::connect(gateway.address).await.unwrap();
    go.send(true).unwrap();
    let mut idle = TcpStream::connect(gateway.address).await.unwrap();
    idle.write_all(b"GET /idle HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(message(&mut idle).await.unwrap().body, "ok");
    let mut idle_h2 = Client::http2(gateway.address).await;
    assert_eq!(idle_h2.get("a", "/idle-h2").await.text(), "ok");
    // Prometheus keeps its connection, too.
    let mut scraper = TcpStream::connect(gateway.admin).await.unwrap();
    scraper
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    message(&mut scraper).await.unwrap();

    go.send(false).unwrap();
    let mut busy = TcpStream::connect(gateway.address).await.unwrap();
    busy.write_all(b"GET /busy HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut busy_h2 = Client::http2(gateway.address).await;
    let busy_h2 = tokio::spawn(async move { busy_h2.get("a", "/busy-h2").await });
    let before = *seen.borrow();
    seen.wait_for(|asked| *asked >= before.max(4)).await.unwrap();

    terminate(&mut gateway).await;
    assert_eq!(rest(&mut idle).await, "", "an idle connection closes");
    let mut unused = unused;
    assert_eq!(
        rest(&mut unused).await,
        "",
        "a connection that was never used closes"
    );
    assert_eq!(gateway.program.ended(), None, "it waits for what is in flight");

    let begun = Instant::now();
    go.send(true).unwrap();
    let answer = message(&mut busy).await.unwrap();
    assert_eq!(
        (&*answer.body, answer.values("connection")),
        ("ok", vec!["close"])
    );
    assert_eq!(rest(&mut busy).await, "");
    assert_eq!(busy_h2.await.unwrap().text(), "ok");
    assert_eq!(gateway.program.end().await, 0);
    assert!(
        begun.elapsed() < Duration::from_secs(300),
        "it ends when all is done, not when the time is over"
    );
    let lines = gateway.program.stdout();
    for path in ["/idle", "/idle-h2", "/busy", "/busy-h2"] {
        let found = lines
            .iter()
            .filter(|line| line.contains(&format!("\"path\":\"{path}\"")))
            .count();
        assert_eq!(found, 1, "{path}: {lines:?}");
    }
}

#[tokio::test]
async fn what_does_not_finish_is_cut_when_the_time_is_over() {
    let (upstream, _go, mut seen) = waiting_upstream().await;
    let service = format!("http://{}", upstream.address);
    let manifest = mapping("m", "/", &service, &["timeout_ms: 0"]);
    let mut gateway = Gateway::with(manifest).args(&["--drain-time", "1"]).start().await;
    let mut busy = TcpStream::connect(gateway.address).await.unwrap();
    busy.write_all(b"GET /stuck HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut h2 = Client::http2(gateway.address).await;
    let h2 = tokio::spawn(async move {
        let request = http::Request::get("http://a/stuck-h2")
            .body(bytes::Bytes::new().into())
            .unwrap();
        h2.send(request).await.is_err()
    });
    seen.wait_for(|asked| *asked == 2).await.unwrap();
    terminate(&mut gateway).await;
    assert_eq!(gateway.program.end().await, 0, "{:?}", gateway.program.stderr());
    assert_eq!(rest(&mut busy).await, "");
    assert!(h2.await.unwrap());
    let lines = gateway.program.stdout().concat();
    assert!(
        lines.contains("\"path\":\"/stuck\"") && lines.contains("\"path\":\"/stuck-h2\""),
        "{lines}"
    );
}

/// Connections that the kernel accepted before the port closed are served.
#[tokio::test]
async fn no_accepted_connection_is_lost() {
    let script = Script::answering(OK).await;
    let plan = Gateway::with(script.mapping(&[])).args(&["--workers", "2"]);
    let mut gateway = plan.start().await;
    // While it cannot run, the kernel accepts for it.
    gateway.program.signal("STOP");
    let mut clients = Vec::new();
    for _ in 0..1000 {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        clients.push(client);
    }
    gateway.program.signal("TERM");
    gateway.program.signal("CONT");
    for client in &mut clients {
        assert_eq!(message(client).await.unwrap().body, "ok");
    }
    assert_eq!(gateway.program.end().await, 0);
}

/// Standard output that nobody reads must not keep the program.
#[tokio::test]
async fn a_log_that_nobody_reads_does_not_hold_up() {
    let script = Script::answering(OK).await;
    let mut gateway = Gateway::with(script.mapping(&[])).unread_log().start().await;
    let long = "x".repeat(8000);
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    for _ in 0..50 {
        let asked = format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n");
        client.write_all(asked.as_bytes()).await.unwrap();
        assert_eq!(message(&mut client).await.unwrap().body, "ok");
    }
    gateway.program.signal("TERM");
    let ended = eventually("the program ends", async || gateway.program.ended()).await;
    assert_eq!(ended, 0);
    let mut left = Vec::new();
    // Whatever became of the connection.
    let _ = client.read_to_end(&mut left).await;
}
