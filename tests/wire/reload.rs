//! Edits while requests run, and ports that come and go.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::{Method, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::socket::{OK, Script, message, rest};
use crate::support::certificates::Certificates;
use crate::support::client::{Client, request};
use crate::support::peer::Tls;
use crate::support::program::{Gateway, Running, free_port, listener, mapping, nuncio, tls_context};
use crate::support::waiting::eventually;

/// Waits until the configuration with this header in its Mapping serves.
async fn serves(gateway: &Gateway, mark: &str) {
    gateway
        .get_until("/", |answer| answer.header("x-mark") == mark)
        .await;
}

fn marked(service: &str, mark: &str, context: &str) -> String {
    let mark = format!("  x-mark: \"{mark}\"");
    mapping("m", "/", service, &["add_response_headers:", &mark, context])
}

#[tokio::test]
async fn fifty_edits_under_load_cost_no_request() {
    let ca = Certificates::new();
    let upstream = Tls::with(&ca.server(&["a.test"]))
        .client_ca(&ca.pem(), true)
        .start()
        .await;
    let contexts = ["one", "two"]
        .map(|name| ca.client(name).secret(name) + &tls_context(name, &[&format!("secret: {name}")]));
    let plan = Gateway::with(contexts.concat())
        .file("m.yaml", &marked("https://a.test", "0", "tls: one"))
        .args(&["--workers", "2"])
        .resolve("a.test:443", upstream.address);
    let gateway = plan.start().await;
    let (stop, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut loops = Vec::new();
    for number in 0..4 {
        let (stop, asked, address) = (Arc::clone(&stop), Arc::clone(&asked), gateway.address);
        loops.push(tokio::spawn(async move {
            let mut client = Client::http1(address).await;
            let method = if number % 2 == 0 {
                Method::GET
            } else {
                Method::POST
            };
            while !stop.load(Ordering::Relaxed) {
                let answer = client
                    .send(request(method.clone(), "a", "/", "body"))
                    .await
                    .unwrap();
                assert_eq!(
                    (answer.status, answer.text()),
                    (StatusCode::OK, "ok"),
                    "{answer:?}"
                );
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let extra = free_port();
    for edit in 1..=50 {
        // Every edit changes the identity of the upstream, every fifth the Listeners.
        let context = if edit % 2 == 0 { "tls: one" } else { "tls: two" };
        gateway.write("m.yaml", &marked("https://a.test", &edit.to_string(), context));
        match edit % 10 {
            0 => gateway.write("extra.yaml", &listener(extra)),
            5 if edit > 5 => gateway.remove("extra.yaml"),
            _ => {}
        }
        serves(&gateway, &edit.to_string()).await;
    }
    stop.store(true, Ordering::Relaxed);
    for asking in loops {
        asking.await.unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 50);
    let metrics = gateway.admin("/metrics").await;
    assert!(
        !metrics.text().contains("nuncio_upstream_failures_total{"),
        "{}",
        metrics.text()
    );
}

#[tokio::test]
async fn listeners_come_and_go() {
    let script = Script::answering(OK).await;
    let gateway = Gateway::start(script.mapping(&[])).await;
    let other = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    gateway.write("other.yaml", &listener(other.port()));
    let mut kept = eventually("the new port opens", async || {
        TcpStream::connect(other).await.ok()
    })
    .await;
    kept.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(message(&mut kept).await.unwrap().body, "ok");
    gateway.remove("other.yaml");
    eventually("the port closes", async || TcpStream::connect(other).await.err()).await;
    assert_eq!(rest(&mut kept).await, "", "what was idle on it is closed");
    assert_eq!(gateway.get("/").await.text(), "ok");
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_problem_until_it_is_free() {
    let script = Script::answering(OK).await;
    let gateway = Gateway::start(script.mapping(&[])).await;
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    gateway.write("other.yaml", &listener(address.port()));
    let problem = eventually("the problem is told", async || {
        let problems = gateway.admin_json("/api/v1/problems").await;
        let mut problems = problems["problems"].as_array().unwrap().clone().into_iter();
        problems.find(|problem| problem["reason"] == "port_unavailable")
    });
    let problem = problem.await;
    assert_eq!(problem["severity"], "error", "{problem:#}");
    assert_eq!(problem["field"], "spec.port", "{problem:#}");
    assert_eq!(problem["object"]["kind"], "Listener", "{problem:#}");
    let message = problem["message"].as_str().unwrap();
    assert!(message.contains(&address.port().to_string()), "{message}");
    assert_eq!(gateway.get("/").await.text(), "ok", "the rest goes on");

    gateway.remove("other.yaml");
    eventually("a port that nobody wants is no problem", async || {
        let problems = gateway.admin_json("/api/v1/problems").await.to_string();
        (!problems.contains("port_unavailable")).then_some(())
    })
    .await;
    gateway.write("other.yaml", &listener(address.port()));
    eventually("the problem is back", async || {
        let problems = gateway.admin_json("/api/v1/problems").await.to_string();
        problems.contains("port_unavailable").then_some(())
    })
    .await;

    drop(taken);
    let mut client = eventually("it opens", async || TcpStream::connect(address).await.ok()).await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(self::message(&mut client).await.unwrap().body, "ok");
    let problems = gateway.admin_json("/api/v1/problems").await;
    assert!(!problems.to_string().contains("port_unavailable"), "{problems:#}");
}

/// Another nuncio is another program: the two must not share a port by accident.
#[tokio::test]
async fn a_port_that_is_taken_at_the_start_is_the_end() {
    let script = Script::answering(OK).await;
    let gateway = Gateway::with(script.mapping(&[]))
        .args(&["--workers", "2"])
        .start()
        .await;
    let folder = gateway.folder();
    let arguments = [
        "run",
        "--admin",
        "127.0.0.1:0",
        "--bind",
        "127.0.0.1",
        "--workers",
        "2",
        "--config",
    ];
    let mut command = nuncio(arguments);
    command.arg(&folder);
    let mut second = Running::start(command);
    assert_eq!(second.end().await, 3);
    let said = second
        .stderr()
        .into_iter()
        .filter(|line| !line.contains("INFO") && !line.contains("WARN"));
    let said: Vec<String> = said.collect();
    assert_eq!(said.len(), 1, "one sentence: {said:?}");
    assert!(
        said[0].contains(&format!("cannot listen on port {}", gateway.address.port())),
        "{said:?}"
    );
    assert_eq!(gateway.get("/").await.text(), "ok");
}
