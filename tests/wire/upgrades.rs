//! Connections that change their protocol.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::socket::{OK, Script, raw, rest};
use crate::support::certificates::Certificates;
use crate::support::peer::{Tls, Upstream, read_head};
use crate::support::program::{Gateway, mapping};
use crate::support::waiting::eventually;

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Agrees to the upgrade and sends back whatever comes.
async fn echo() -> Upstream {
    let server = Certificates::new().server(&["a.test"]);
    let upstream = Tls::with(&server)
        .alpn(&["http/1.1"])
        .start_with(async |mut stream, _| {
            let head = read_head(&mut stream).await;
            assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
            let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                      sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let (mut reading, mut writing) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut reading, &mut writing).await;
            let _ = writing.shutdown().await;
        });
    upstream.await
}

fn manifest(upstream: &Upstream) -> String {
    mapping(
        "m",
        "/",
        &format!("https://{}", upstream.address),
        &["rewrite: \"\"", "allow_upgrade: [websocket]"],
    )
}

async fn connect(gateway: &Gateway) -> TcpStream {
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(ASK.as_bytes()).await.unwrap();
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(
        head.contains("\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{head}"
    );
    client
}

async fn echoes(client: &mut TcpStream) {
    client.write_all(b"\x81\x05hello\n").await.unwrap();
    let mut back = [0; 8];
    client.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"\x81\x05hello\n");
}

#[tokio::test]
async fn bytes_go_both_ways_until_one_side_ends() {
    let upstream = echo().await;
    let gateway = Gateway::start(manifest(&upstream)).await;
    let mut client = connect(&gateway).await;
    echoes(&mut client).await;
    let busy = async || gateway.upstream_of("m").await["endpoints"][0]["active"].as_u64();
    assert_eq!(busy().await, Some(1), "the connection is in use");
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "");
    let entry = gateway.access_log("/chat").await;
    assert_eq!(
        (&entry["status"], &entry["bytes_in"], &entry["bytes_out"]),
        (&101.into(), &8.into(), &8.into()),
        "{entry:#}"
    );
    eventually("the connection is counted off", async || {
        (busy().await == Some(0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_side_may_end_and_still_be_told() {
    let (heard, mut words) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::raw(move |mut stream: TcpStream| {
        let heard = heard.clone();
        async move {
            read_head(&mut stream).await;
            let answer =
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nbye";
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            heard.send(rest(&mut stream).await).await.unwrap();
        }
    });
    let upstream = upstream.await;
    let service = format!("http://{}", upstream.address);
    let gateway = Gateway::start(mapping("m", "/", &service, &["allow_upgrade: [websocket]"])).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    // Sent without waiting for the answer; to a parser of HTTP it would be the beginning of a head.
    let asked = format!("{ASK}GET / HTTP/1.1\r\n");
    client.write_all(asked.as_bytes()).await.unwrap();
    read_head(&mut client).await;
    assert_eq!(rest(&mut client).await, "bye");
    client.write_all(b"\nlast words").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(words.recv().await.unwrap(), "GET / HTTP/1.1\r\n\nlast words");
}

#[tokio::test]
async fn an_upgrade_that_no_mapping_allows_is_refused() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    let asked = ASK.replace("keep-alive, ", "close, ");
    let answer = raw(gateway.address, &asked).await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert_eq!(script.upstream.connections().len(), 0);
    // Without `connection: upgrade` it is a header of a connection, and dropped as such.
    let answer = raw(gateway.address, asked.replace("close, Upgrade", "close")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(script.request().values("upgrade"), [""; 0]);
}

#[tokio::test]
async fn an_upstream_may_decline_and_may_not_volunteer() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&["allow_upgrade: [websocket]"]).await;
    let answer = raw(gateway.address, ASK.replace("keep-alive, ", "close, ")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(script.request().values("upgrade"), ["WebSocket"]);

    let script =
        Script::answering("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
            .await;
    let gateway = script.gateway(&[]).await;
    let answer = raw(
        gateway.address,
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
    assert!(
        answer.contains("x-nuncio-reason: upstream_protocol_error\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn draining_lets_upgraded_connections_go_on_to_its_end() {
    let upstream = echo().await;
    let plan = Gateway::with(manifest(&upstream)).args(&["--drain-time", "30"]);
    let mut gateway = plan.start().await;
    let mut client = connect(&gateway).await;
    gateway.program.signal("TERM");
    gateway.program.logged("finishes what is in flight").await;
    eventually("the port is closed", async || {
        TcpStream::connect(gateway.address).await.err()
    })
    .await;
    echoes(&mut client).await;
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(gateway.program.end().await, 0);
    // It is recorded although it was the last thing that the gateway did.
    let lines = gateway.program.stdout().concat();
    assert!(lines.contains("\"path\":\"/chat\""), "{lines}");
}

/// Decision 20: what is busy may finish, but not beyond the drain time.
#[tokio::test]
async fn an_upgraded_connection_of_an_old_identity_ends_with_the_drain_time() {
    let upstream = echo().await;
    let plan = Gateway::with("")
        .file("m.yaml", &manifest(&upstream))
        .args(&["--drain-time", "1"]);
    let gateway = plan.start().await;
    let mut client = connect(&gateway).await;
    echoes(&mut client).await;
    let other = echo().await;
    gateway.write("m.yaml", &manifest(&other));
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(other.connections().len(), 0);
    let mut client = connect(&gateway).await;
    echoes(&mut client).await;
}
