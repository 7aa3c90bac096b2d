//! `nuncio echo`, as a stranger's client meets it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Version};
use http_body_util::Full;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::certificates::{Certificates, Identity};
use crate::support::client::{Client, request};
use crate::support::program::{Running, finish, nuncio};

struct Echo {
    address: SocketAddr,
    line: String,
    program: Running,
    _folder: TempDir,
}

async fn echo(files: &[(&str, &str)], arguments: &[&str]) -> Echo {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mut command = nuncio(["echo", "--listen", "127.0.0.1:0"]);
    command.args(arguments).current_dir(folder.path());
    let mut program = Running::start(command);
    let line = program.printed("the address", |line| Some(line.to_owned())).await;
    let address = line.rsplit('/').next().unwrap().parse().unwrap();
    Echo {
        address,
        line,
        program,
        _folder: folder,
    }
}

/// An echo that speaks TLS with a certificate of `ca`.
async fn tls_echo(ca: &Certificates, arguments: &[&str]) -> Echo {
    let server = ca.server(&["a.test"]);
    let files = [
        ("s.crt", server.chain.as_str()),
        ("s.key", &server.key),
        ("ca.crt", &ca.pem()),
    ];
    let mut all = vec!["--tls-cert", "s.crt", "--tls-key", "s.key"];
    all.extend(arguments);
    echo(&files, &all).await
}

async fn connect(
    address: SocketAddr,
    ca: &Certificates,
    alpn: &[&str],
    client: Option<&Identity>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
        .unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(identity.chain_der(), identity.key_der())
            .unwrap(),
    };
    config.alpn_protocols = alpn.iter().map(|id| id.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("a.test").unwrap(), stream)
        .await
}

#[tokio::test]
async fn cleartext_http1_is_told_in_the_shape_of_the_contract() {
    let echo = echo(&[], &[]).await;
    assert_eq!(echo.line, format!("listening on http://{}", echo.address));
    let mut sent = request(Method::POST, "a.test", "/x?y=z", "12345");
    sent.headers_mut().append("x-twice", "1".parse().unwrap());
    sent.headers_mut().append("x-twice", "2".parse().unwrap());
    let answer = Client::http1(echo.address).await.send(sent).await.unwrap();
    let expected = serde_json::json!({
        "method": "POST",
        "path": "/x?y=z",
        "http_version": "HTTP/1.1",
        "headers": { "host": ["a.test"], "content-length": ["5"], "x-twice": ["1", "2"] },
        "body_bytes": 5,
        "tls": null,
    });
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.header("content-type"), "application/json");
}

#[tokio::test]
async fn http2_by_prior_knowledge_names_its_authority() {
    let echo = echo(&[], &[]).await;
    let answer = Client::http2(echo.address).await.get("a.test", "/").await;
    assert_eq!(answer.json()["http_version"], "HTTP/2");
    assert_eq!(answer.json()["headers"]["host"][0], "a.test");
}

#[tokio::test]
async fn a_tls_session_with_a_client_certificate_is_told() {
    let ca = Certificates::new();
    let arguments = [
        "--client-ca",
        "ca.crt",
        "--require-client-cert",
        "--min-tls",
        "v1.3",
    ];
    let echo = tls_echo(&ca, &arguments).await;
    assert!(echo.line.starts_with("listening on https://"));
    let client = ca.client("it's me");
    let stream = connect(echo.address, &ca, &["h2"], Some(&client)).await.unwrap();
    let answer = Client::http2_over(stream).await.get("a.test", "/").await.json();
    let tls = &answer["tls"];
    assert_eq!(
        (&tls["version"], &tls["sni"]),
        (&"TLSv1.3".into(), &"a.test".into())
    );
    assert_eq!((&tls["alpn"], &tls["resumed"]), (&"h2".into(), &false.into()));
    assert_eq!(tls["cipher"], "TLS_AES_256_GCM_SHA384");
    assert_eq!(tls["client_certificate"]["subject"], "CN=it's me");
    assert_eq!(tls["client_certificate"]["verified"], true);
    assert_eq!(tls["client_certificate"]["sha256"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn a_missing_client_certificate_is_refused_only_where_required() {
    let ca = Certificates::new();
    let lenient = tls_echo(&ca, &["--client-ca", "ca.crt"]).await;
    let stream = connect(lenient.address, &ca, &[], None).await.unwrap();
    let answer = Client::http1_over(stream).await.get("a.test", "/").await.json();
    assert!(answer["tls"].is_object() && answer["tls"]["client_certificate"].is_null());

    let strict = tls_echo(
        &ca,
        &[
            "--client-ca",
            "ca.crt",
            "--require-client-cert",
            "--max-tls",
            "v1.2",
        ],
    )
    .await;
    assert!(connect(strict.address, &ca, &[], None).await.is_err());
}

#[tokio::test]
async fn alpn_and_versions_are_those_asked_for() {
    let ca = Certificates::new();
    let echo = tls_echo(&ca, &["--alpn", "http/1.1", "--max-tls", "v1.2"]).await;
    let stream = connect(echo.address, &ca, &["h2", "http/1.1"], None)
        .await
        .unwrap();
    let answer = Client::http1_over(stream).await.get("a.test", "/").await.json();
    assert_eq!(
        (&answer["tls"]["version"], &answer["tls"]["alpn"]),
        (&"TLSv1.2".into(), &"http/1.1".into())
    );
    // Without ALPN, HTTP/2 works by prior knowledge.
    let stream = connect(echo.address, &ca, &[], None).await.unwrap();
    let answer = Client::http2_over(stream).await.get("a.test", "/").await.json();
    assert_eq!(
        (&answer["http_version"], &answer["tls"]["alpn"]),
        (&"HTTP/2".into(), &serde_json::Value::Null)
    );
}

#[tokio::test]
async fn special_paths_do_what_they_say() {
    let echo = echo(&[], &[]).await;
    let mut client = Client::http1(echo.address).await;
    assert_eq!(
        client.get("a", "/status/418").await.status,
        StatusCode::IM_A_TEAPOT
    );
    let empty = client.get("a", "/status/204").await;
    assert_eq!((empty.status, empty.body.len()), (StatusCode::NO_CONTENT, 0));
    assert_eq!(
        client.get("a", "/status/99").await.status,
        StatusCode::BAD_REQUEST
    );
    let bytes = client.get("a", "/bytes/100000").await;
    assert_eq!(
        (bytes.body.len(), bytes.header("content-length")),
        (100_000, "100000")
    );
    assert_eq!(client.get("a", "/bytes/0").await.body.len(), 0);
    let stream = client.get("a", "/stream/3").await;
    assert_eq!(stream.text(), "chunk 1 of 3\nchunk 2 of 3\nchunk 3 of 3\n");
    assert_eq!(stream.header("transfer-encoding"), "chunked");
    assert_eq!(client.get("a", "/delay/1").await.json()["path"], "/delay/1");
    let trailed = Client::http2(echo.address).await.get("a", "/trailers").await;
    assert_eq!(trailed.trailers.get("x-echo").unwrap(), "end");
}

#[tokio::test]
async fn large_bodies_are_counted() {
    let echo = echo(&[], &[]).await;
    let body = Bytes::from(vec![7; 20_000_000]);
    for mut client in [
        Client::http1(echo.address).await,
        Client::http2(echo.address).await,
    ] {
        let request = Request::post("http://a.test/").header("host", "a.test");
        let answer = client
            .send(request.body(Full::new(body.clone())).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.json()["body_bytes"], 20_000_000);
        assert!(answer.version == Version::HTTP_11 || answer.version == Version::HTTP_2);
    }
}

/// The handshake of RFC 6455 section 1.3 and the frames of section 5.7.
#[tokio::test]
async fn websockets_are_echoed_on_any_path() {
    let echo = echo(&[], &[]).await;
    let mut stream = TcpStream::connect(echo.address).await.unwrap();
    let request = "GET /any HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(
        head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{head}"
    );
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    stream.write_all(&hello).await.unwrap();
    stream.write_all(b"\x88\x80\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"\x81\x05Hello\x88\x00");
}

#[tokio::test]
async fn it_ends_cleanly_on_sigterm() {
    let mut echo = echo(&[], &[]).await;
    echo.program.signal("TERM");
    assert_eq!(echo.program.end().await, 0);
}

#[test]
fn what_cannot_be_served_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let ca = Certificates::new();
    let (one, other) = (ca.server(&["a.test"]), ca.server(&["a.test"]));
    std::fs::write(path("a.crt"), &one.chain).unwrap();
    std::fs::write(path("a.key"), &one.key).unwrap();
    std::fs::write(path("b.key"), &other.key).unwrap();
    let certificate = path("a.crt");
    let listen = [
        "echo",
        "--listen",
        "127.0.0.1:0",
        "--tls-cert",
        &certificate,
        "--tls-key",
    ];
    let with = |more: &[&str]| finish(&[&listen[..], more].concat());
    for (outcome, hint) in [
        (finish(&["echo", "--listen", "nowhere"]), "--listen nowhere"),
        (with(&[&path("none.key")]), "none.key"),
        (with(&[&path("b.key")]), "b.key"),
        (with(&[&path("a.key"), "--min-tls", "1.3"]), "--min-tls 1.3"),
        (with(&[&path("a.key"), "--max-tls", "v1.1"]), "--max-tls v1.1"),
        (with(&[&path("a.key"), "--alpn", "spdy/3"]), "spdy/3"),
    ] {
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert!(
            outcome.stderr.contains(hint) && outcome.stderr.lines().count() == 1,
            "{outcome:?}"
        );
    }
}
