//! The gateway as it starts, serves and follows its manifests; the rows of the case table build on this.

use http::{Method, StatusCode};
use tokio::io::AsyncWriteExt;

use crate::support::certificates::{Certificates, Identity};
use crate::support::client::{Client, raw, request};
use crate::support::peer::{Tls, Upstream};
use crate::support::program::{Gateway, mapping};

#[tokio::test]
async fn a_request_reaches_its_tls_upstream() {
    let ca = Certificates::new();
    let server = ca.intermediate("between").server(&["a.test"]);
    let upstream = Tls::with(&server).answer(|seen| {
        let echoed = format!("{} {} {}", seen.method, seen.uri, seen.body.len());
        http::Response::builder()
            .header("x-upstream", "yes")
            .body(echoed.into())
            .unwrap()
    });
    let upstream = upstream.start().await;
    let plan = Gateway::with(mapping("m", "/api/", "https://a.test", &[]));
    let gateway = plan.resolve("a.test:443", upstream.address).start().await;

    let answer = gateway
        .send(request(Method::POST, "gateway.test", "/api/x?y=z", "12345"))
        .await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "POST /x?y=z 5"));
    assert_eq!(answer.header("x-upstream"), "yes");
    assert_eq!(upstream.request().authority(), "gateway.test");
    let connection = upstream.last();
    assert_eq!(
        connection.bytes[0], 0x16,
        "the first byte is that of a TLS handshake record"
    );
    let (hello, session) = (upstream.hello(), connection.session.unwrap());
    assert_eq!(
        (hello.sni.as_deref(), hello.alpn),
        (Some("a.test"), vec!["http/1.1".to_owned()])
    );
    assert_eq!(
        (session.version.as_str(), session.alpn.as_deref()),
        ("TLSv1_3", Some("http/1.1"))
    );
    assert_eq!((session.client, session.resumed), (None, false));

    let log = gateway.access_log("/api/x?y=z").await;
    assert_eq!(
        (&log["status"], &log["mapping"]),
        (&200.into(), &"m.default".into()),
        "{log:#}"
    );
    assert_eq!(log["upstream_tls"]["sni"], "a.test", "{log:#}");
}

#[tokio::test]
async fn http2_clients_are_served() {
    let upstream = Upstream::cleartext().await;
    let gateway = Gateway::start(mapping("m", "/", &format!("http://{}", upstream.address), &[])).await;
    let mut client = Client::http2(gateway.address).await;
    for path in ["/1", "/2"] {
        assert_eq!(client.get("gateway.test", path).await.text(), "ok");
    }
    assert_eq!(upstream.requests().len(), 2);
    assert!(upstream.last().bytes.starts_with(b"GET /1 HTTP/1.1\r\n"));
    assert_eq!(upstream.request().version, http::Version::HTTP_11);
}

#[tokio::test]
async fn raw_bytes_get_raw_bytes() {
    let gateway = Gateway::start(mapping("m", "/", "https://127.0.0.1:1", &[])).await;
    let answer = raw(
        gateway.address,
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.contains("x-nuncio-reason: connect_refused\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn the_offer_is_the_built_in_one_and_a_retry_of_the_hello_is_no_failure() {
    let upstream = Tls::with(&Certificates::new().server(&["a.test"]))
        .groups(&[rustls::NamedGroup::secp256r1])
        .cipher_suites(&[rustls::CipherSuite::TLS13_AES_128_GCM_SHA256])
        .versions(&[&rustls::version::TLS13])
        .start()
        .await;
    let gateway = Gateway::start(mapping("m", "/", &format!("https://{}", upstream.address), &[])).await;
    assert_eq!(gateway.get("/").await.text(), "ok");
    let seen = upstream
        .saw("a session", |connection| connection.session.is_some())
        .await;
    let hello = seen.hello.unwrap();
    assert_eq!(
        hello.groups,
        ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"]
    );
    assert!(
        hello
            .cipher_suites
            .contains(&"TLS13_AES_128_GCM_SHA256".to_owned()),
        "{hello:?}"
    );
    assert_eq!(hello.sni, None, "an address is no server name");
    assert!(gateway.manifests().contains("kind: Listener"));
}

/// An upstream that is no TLS server: the reason reaches the client's header and the admin interface.
#[tokio::test]
async fn a_failure_is_told_everywhere() {
    let upstream = Upstream::raw(async |mut stream| {
        // The gateway may be gone before this is written.
        let _ = stream.write_all(b"220 mail.test ESMTP\r\n").await;
    });
    let upstream = upstream.await;
    let gateway = Gateway::start(mapping("m", "/", &format!("https://{}", upstream.address), &[])).await;
    let answer = gateway.get("/x").await;
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::SERVICE_UNAVAILABLE, "not_tls")
    );
    let entry = gateway.access_log("/x").await;
    assert_eq!(
        (&entry["reason"], &entry["flags"]),
        (&"not_tls".into(), &"UF".into()),
        "{entry:#}"
    );
    let handshake = &gateway.upstream_of("m").await["endpoints"][0]["last_handshake"];
    assert_eq!(handshake["outcome"], "not_tls", "{handshake:#}");
    assert!(
        handshake["message"].as_str().unwrap().contains("220 mail.test"),
        "{handshake:#}"
    );
}

#[tokio::test]
async fn an_edit_is_followed_and_a_broken_file_removes_nothing() {
    let identity = Identity::self_signed(&["a.test"], true);
    let (one, other) = (Upstream::tls(&identity).await, Upstream::tls(&identity).await);
    let service = |upstream: &Upstream| mapping("m", "/", &format!("https://{}", upstream.address), &[]);
    let plan = Gateway::with("").file("m.yaml", &service(&one));
    let gateway = plan.env("AMBASSADOR_ID", "default").start().await;
    assert_eq!(gateway.get("/").await.text(), "ok");
    assert_eq!((one.requests().len(), other.requests().len()), (1, 0));

    gateway.write("m.yaml", &service(&other));
    gateway.get_until("/", |_| !other.requests().is_empty()).await;

    gateway.write("m.yaml", "kind: [");
    let problems = async || gateway.admin_json("/api/v1/problems").await.to_string();
    crate::support::waiting::eventually("the problem", async || {
        problems().await.contains("m.yaml").then_some(())
    })
    .await;
    let before = other.requests().len();
    assert_eq!(gateway.get("/").await.status, StatusCode::OK);
    assert_eq!(other.requests().len(), before + 1);

    gateway.remove("m.yaml");
    gateway
        .get_until("/", |answer| answer.status == StatusCode::NOT_FOUND)
        .await;
}
