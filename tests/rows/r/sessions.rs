//! Row R12: session tickets that the upstream does not take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use rustls::CipherSuite;
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::originating;
use crate::support::certificates::{Certificates, Identity};
use crate::support::peer::{Tls, Upstream, read_head};
use crate::support::program::Gateway;
use crate::support::tls_bytes::{RECORD_HEADER, alert, read_record, swallow};

/// An upstream in one version that keeps no connection, so that each request begins with a handshake.
fn closing(identity: &Identity, version: &'static rustls::SupportedProtocolVersion) -> Tls {
    Tls::with(identity).versions(&[version]).answer(|_| {
        let close = Response::builder().header("connection", "close");
        close.body("ok".into()).unwrap()
    })
}

/// Asks for `/`, which works, and says whether a session was resumed for it.
async fn resumes(gateway: &Gateway) -> bool {
    gateway.get("/").await.assert_ok();
    gateway.last_handshake("m").await["resumed"] == true
}

/// As after a restart: the peer knows no ticket of before.
#[tokio::test]
async fn r12_a_ticket_that_the_upstream_forgot_costs_a_full_handshake_and_no_more() {
    for version in [&TLS12, &TLS13] {
        let ca = Certificates::new();
        let tls = || closing(&ca.server(&["a.test"]), version);
        let (upstream, server) = tls().changing().await;
        let gateway = originating(&upstream, &[], &["ca_secret: ca"])
            .file("ca.yaml", &ca.secret("ca"))
            .start()
            .await;
        assert!(!resumes(&gateway).await);
        for _ in 0..2 {
            assert!(resumes(&gateway).await, "{version:?}");
        }
        server.to(&tls());
        assert!(!resumes(&gateway).await, "{version:?}");
        assert!(
            resumes(&gateway).await,
            "{version:?}: the new ticket has taken the place of the old"
        );
        let connections = upstream.connections();
        assert_eq!(connections.len(), 5, "one a request");
        assert!(
            connections
                .iter()
                .all(|connection| connection.handshake_error.is_none())
        );
    }
}

/// An upstream that serves one request a connection, but for the second connection, with which it does as
/// `refuse` says.
async fn refusing<F>(tls: Tls, refuse: impl Fn(TcpStream) -> F + Clone + Send + 'static) -> Upstream
where
    F: Future<Output = ()> + Send,
{
    let (acceptor, met) = (TlsAcceptor::from(tls.config()), Arc::new(AtomicUsize::new(0)));
    Upstream::raw(move |stream| {
        let (acceptor, met, refuse) = (acceptor.clone(), Arc::clone(&met), refuse.clone());
        async move {
            if met.fetch_add(1, Ordering::SeqCst) == 1 {
                return refuse(stream).await;
            }
            let mut stream = acceptor.accept(stream).await.unwrap();
            read_head(&mut stream).await;
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
            swallow(stream.into_inner().0).await;
        }
    })
    .await
}

/// The handshake that offers the ticket fails; one without it does not.
async fn assert_tried_once_more<F>(
    identity: &Identity,
    ca: &Certificates,
    version: &'static rustls::SupportedProtocolVersion,
    refuse: impl Fn(TcpStream) -> F + Clone + Send + 'static,
) where
    F: Future<Output = ()> + Send,
{
    let suites = [
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_128_GCM_SHA256,
    ];
    let tls = Tls::with(identity).versions(&[version]).cipher_suites(&suites);
    let upstream = refusing(tls, refuse).await;
    let gateway = originating(&upstream, &[], &["ca_secret: ca"])
        .file("ca.yaml", &ca.secret("ca"))
        .start()
        .await;
    assert!(!resumes(&gateway).await);
    assert!(!resumes(&gateway).await, "{version:?}: a full handshake follows");
    assert_eq!(upstream.connections().len(), 3, "{version:?}");
    assert!(
        resumes(&gateway).await,
        "{version:?}: by a ticket of the last handshake"
    );
    assert_eq!(upstream.connections().len(), 4, "{version:?}");
}

#[tokio::test]
async fn r12_a_handshake_that_fails_with_a_ticket_is_tried_once_without() {
    const HANDSHAKE_FAILURE: u8 = 40;
    let ca = Certificates::new();
    for version in [&TLS12, &TLS13] {
        let refuse = async |mut stream: TcpStream| {
            read_record(&mut stream).await;
            stream.write_all(&alert(HANDSHAKE_FAILURE, 3)).await.unwrap();
            swallow(stream).await;
        };
        assert_tried_once_more(&ca.server(&["a.test"]), &ca, version, refuse).await;
    }
}

/// RFC 7627, section 5.3: a session with the extended master secret that is resumed without it is refused.
#[tokio::test]
async fn r12_a_session_that_is_resumed_without_its_extended_master_secret_is_given_up() {
    let ca = Certificates::new();
    let refuse = async |mut stream: TcpStream| {
        let hello = read_record(&mut stream).await;
        // After the headers of record and message: version, random, and the length of the session id.
        let id = RECORD_HEADER + 4 + 2 + 32;
        let id = &hello[id..=id + usize::from(hello[id])];
        assert!(id.len() > 1, "no session is offered");
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend(id);
        body.extend([0xc0, 0x2b, 0]);
        // An empty renegotiation_info, and nothing else.
        body.extend([0, 5, 0xff, 1, 0, 1, 0]);
        let length = u8::try_from(body.len()).unwrap();
        let mut record = vec![22, 3, 3, 0, length + 4, 2, 0, 0, length];
        record.extend(body);
        stream.write_all(&record).await.unwrap();
        swallow(stream).await;
    };
    assert_tried_once_more(&ca.server(&["a.test"]), &ca, &TLS12, refuse).await;
}
