//! Interim answers, and clients that wait for one before they send content.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::socket::{OK, Script, message, raw};
use crate::support::client::Client;
use crate::support::peer::{Upstream, read_head};
use crate::support::program::{Gateway, mapping};

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nconnection: x-hop\r\n\
                     x-hop: 1\r\n\r\n";
/// The same as a client sees it.
const PASSED_ON: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";

async fn gateway_to(upstream: &Upstream) -> Gateway {
    Gateway::start(mapping(
        "m",
        "/",
        &format!("http://{}", upstream.address),
        &["rewrite: \"\""],
    ))
    .await
}

#[tokio::test]
async fn interim_answers_reach_an_http1_client_when_they_come() {
    let (go_on, told) = watch::channel(false);
    let upstream = Upstream::raw(move |mut stream: TcpStream| {
        let mut told = told.clone();
        async move {
            while !read_head(&mut stream).await.is_empty() {
                stream.write_all(HINTS.as_bytes()).await.unwrap();
                told.wait_for(|told| *told).await.unwrap();
                let rest = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 \r\nx-a: b\r\n\r\n";
                stream.write_all(format!("{rest}{OK}").as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let gateway = gateway_to(&upstream).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    // The second is there before the first is answered.
    let asked = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2);
    client.write_all(asked.as_bytes()).await.unwrap();
    assert_eq!(
        read_head(&mut client).await,
        PASSED_ON,
        "before there is an answer"
    );
    go_on.send(true).unwrap();
    for round in [1, 2] {
        if round == 2 {
            assert_eq!(read_head(&mut client).await, PASSED_ON);
        }
        assert_eq!(
            read_head(&mut client).await,
            "HTTP/1.1 102 Processing\r\n\r\n",
            "{round}"
        );
        assert_eq!(
            read_head(&mut client).await,
            "HTTP/1.1 199 \r\nx-a: b\r\n\r\n",
            "{round}"
        );
        let answer = message(&mut client).await.unwrap();
        assert_eq!(
            (answer.first_line(), &*answer.body),
            ("HTTP/1.1 200 OK", "ok"),
            "{round}"
        );
    }
}

#[tokio::test]
async fn clients_that_take_no_interim_answer_get_the_final_one() {
    let script = Script::answering(format!("{HINTS}{OK}")).await;
    let module = "---\napiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata:\n  name: ambassador\nspec:\n  \
                  config:\n    enable_http10: true\n";
    let gateway = Gateway::start(script.mapping(&[]) + module).await;
    let answer = raw(gateway.address, "GET / HTTP/1.0\r\nhost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1").count(), 1, "{answer}");
    let mut client = Client::http2(gateway.address).await;
    client.get("a.test", "/").await.assert_ok();
}

#[tokio::test]
async fn interim_answers_without_end_harm_nobody() {
    let many = HINTS.repeat(500);
    let script = Script::answering(format!("{many}{OK}")).await;
    let gateway = script.gateway(&[]).await;
    let asked = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = raw(gateway.address, asked).await;
    assert_eq!(answer.matches("103 Early Hints").count(), 64, "{answer}");
    assert!(answer.ends_with("ok"), "{answer}");
}

const EXPECTS: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-Continue\r\n\r\n";

/// Reads a head that expects 100, sends early hints, and when told `answer`; then reads four bytes of content, if
/// any come.
async fn expecting(answer: &'static str) -> (Upstream, watch::Sender<bool>, watch::Receiver<String>) {
    let (go_on, told) = watch::channel(false);
    let (content, seen) = watch::channel(String::new());
    let upstream = Upstream::raw(move |mut stream: TcpStream| {
        let (mut told, content) = (told.clone(), content.clone());
        async move {
            let head = read_head(&mut stream).await;
            assert!(head.contains("\r\nexpect: 100-Continue\r\n"), "{head}");
            stream.write_all(HINTS.as_bytes()).await.unwrap();
            told.wait_for(|told| *told).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            let mut bytes = [0; 4];
            if stream.read_exact(&mut bytes).await.is_ok() {
                content.send_replace(String::from_utf8_lossy(&bytes).into_owned());
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (upstream, go_on, seen)
}

#[tokio::test]
async fn the_upstream_decides_when_a_client_may_continue() {
    let (upstream, go_on, seen) = expecting("HTTP/1.1 100 Continue\r\n\r\n").await;
    let gateway = gateway_to(&upstream).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(EXPECTS.as_bytes()).await.unwrap();
    assert_eq!(read_head(&mut client).await, PASSED_ON, "nothing came before");
    go_on.send(true).unwrap();
    assert_eq!(read_head(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").await.unwrap();
    assert_eq!(message(&mut client).await.unwrap().body, "ok");
    assert_eq!(*seen.borrow(), "body");
}

#[tokio::test]
async fn an_upstream_that_wants_no_content_is_sent_none() {
    let refusal = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\n\r\nno!!";
    let (upstream, go_on, seen) = expecting(refusal).await;
    let gateway = gateway_to(&upstream).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(EXPECTS.as_bytes()).await.unwrap();
    assert_eq!(read_head(&mut client).await, PASSED_ON, "nothing came before");
    go_on.send(true).unwrap();
    let answer = message(&mut client).await.unwrap();
    assert_eq!(
        (answer.first_line(), &*answer.body),
        ("HTTP/1.1 401 Unauthorized", "no!!")
    );
    // Where the content would be, no other request can begin.
    assert!(message(&mut client).await.is_none());
    upstream.saw("the gateway has closed", |seen| seen.closed).await;
    assert_eq!(*seen.borrow(), "");
}
