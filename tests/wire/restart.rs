//! One process after the other: leaving while others still send here, and handing ports over.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::socket::{OK, Script, next_message};
use crate::support::client::Client;
use crate::support::program::{Gateway, Running, nuncio};
use crate::support::waiting::eventually;

async fn is_ready(gateway: &Gateway) -> bool {
    gateway.admin("/ambassador/v0/check_ready").await.status == 200
}

#[tokio::test]
async fn it_says_first_that_it_leaves_and_goes_on_meanwhile() {
    let script = Script::answering(OK).await;
    let plan = Gateway::with(script.mapping(&[])).args(&["--shutdown-delay", "600"]);
    let mut gateway = plan.start().await;
    let mut kept = Client::http1(gateway.address).await;
    let mut kept_h2 = Client::http2(gateway.address).await;
    kept.get("a", "/").await.assert_ok();
    kept_h2.get("a", "/").await.assert_ok();
    assert!(is_ready(&gateway).await);

    gateway.program.signal("TERM");
    eventually("readiness fails", async || {
        (!is_ready(&gateway).await).then_some(())
    })
    .await;
    for _ in 0..20 {
        gateway.get("/").await.assert_ok();
        let answer = kept.get("a", "/").await;
        answer.assert_ok();
        assert_eq!(answer.header("connection"), "", "nobody is sent away yet");
        kept_h2.get("a", "/").await.assert_ok();
    }
    let alive = gateway.admin("/ambassador/v0/check_alive").await;
    assert_eq!(alive.status, 200, "a restart would not help");

    // Whoever cannot wait says so again; what follows at once counts as the same signal.
    tokio::time::sleep(Duration::from_millis(300)).await;
    gateway.program.signal("TERM");
    gateway.program.logged("drains now").await;
    assert_eq!(gateway.program.end().await, 0);
}

/// Clients that send one request after the other, until they are told to stop.
struct Crowd {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Crowd {
    fn start(address: SocketAddr) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let clients = (0..8)
            .map(|number| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                tokio::spawn(async move {
                    let mut lost = Vec::new();
                    let mut connection = None;
                    while !stop.load(Ordering::Relaxed) {
                        let kept = connection.take();
                        match ask(address, kept, number % 2 == 0).await {
                            Ok(next) => connection = next,
                            Err(error) => lost.push(error),
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    lost
                })
            })
            .collect();
        Self {
            stop,
            answered,
            clients,
        }
    }

    /// Waits for so many more requests.
    async fn goes_on(&self, more: usize) {
        let begun = self.answered.load(Ordering::Relaxed);
        eventually("requests go on", async || {
            (self.answered.load(Ordering::Relaxed) >= begun + more).then_some(())
        })
        .await;
    }

    /// What was lost.
    async fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut lost = Vec::new();
        for client in self.clients {
            lost.extend(client.await.unwrap());
        }
        (self.answered.load(Ordering::Relaxed), lost)
    }
}

/// Sends a request, on the connection of the one before where there is one. What is left is the connection,
/// where it stays open.
async fn ask(address: SocketAddr, kept: Option<TcpStream>, keep: bool) -> Result<Option<TcpStream>, String> {
    let in_words = |what: &str, error: std::io::Error| format!("{what}: {error}");
    let mut stream = match kept {
        Some(stream) => stream,
        None => TcpStream::connect(address)
            .await
            .map_err(|error| in_words("connect", error))?,
    };
    let close = if keep { "" } else { "connection: close\r\n" };
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{close}\r\n");
    let written = stream.write_all(request.as_bytes()).await;
    written.map_err(|error| in_words("write", error))?;
    let answer = next_message(&mut stream).await.ok_or("no answer")?;
    if answer.first_line() != "HTTP/1.1 200 OK" {
        return Err(answer.head);
    }
    let stays = keep && answer.values("connection").is_empty();
    Ok(stays.then_some(stream))
}

/// A second program with the manifests, ports and admin port of a first.
fn second(gateway: &Gateway, more: &[&str]) -> Running {
    let admin = gateway.admin.to_string();
    let mut command: Command = nuncio(["run", "--bind", "127.0.0.1", "--workers", "2", "--admin", &admin]);
    command.args(more).arg("--config").arg(gateway.folder());
    Running::start(command)
}

#[tokio::test]
async fn a_new_process_takes_over_and_no_request_is_lost() {
    let script = Script::answering(OK).await;
    let plan = Gateway::with(script.mapping(&[])).args(&["--workers", "2"]);
    let mut gateway = plan.start().await;
    let mut refused = second(&gateway, &[]);
    assert_eq!(refused.end().await, 3, "not by accident");

    let crowd = Crowd::start(gateway.address);
    crowd.goes_on(100).await;
    let mut next = second(&gateway, &["--take-over"]);
    next.logged(" ready").await;
    crowd.goes_on(200).await;
    gateway.program.signal("TERM");
    assert_eq!(gateway.program.end().await, 0);
    crowd.goes_on(200).await;
    // The admin port is the new one's alone.
    assert!(is_ready(&gateway).await);
    let mut third = second(&gateway, &[]);
    assert_eq!(third.end().await, 3, "its ports are guarded as well");

    let mut last = second(&gateway, &["--take-over"]);
    last.logged(" ready").await;
    next.signal("TERM");
    assert_eq!(next.end().await, 0);
    crowd.goes_on(200).await;
    let (answered, lost) = crowd.end().await;
    assert!(lost.is_empty(), "{} of {answered}: {lost:?}", lost.len());
    last.signal("TERM");
    assert_eq!(last.end().await, 0);
}
