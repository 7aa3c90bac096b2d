//! Upstreams behind something that cannot take a TLS hello of more than one packet: row P14, decision 19.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::server;
use crate::rows::origination;
use crate::support::client::Client;
use crate::support::peer::{Tls, Upstream, read_head};
use crate::support::program::Gateway;
use crate::support::refusal::{Refusal, assert_holds};
use crate::support::tls_bytes::{RECORD_HEADER, read_record, reset, swallow};

/// What a large hello is met with.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Lost,
    Reset,
}

/// An upstream behind something that does this with a ClientHello of more than one segment. Counts those.
async fn behind(fate: Fate) -> (Upstream, Arc<AtomicUsize>) {
    const SEGMENT: usize = 1400;
    let acceptor = TlsAcceptor::from(Tls::with(&server()).alpn(&[]).config());
    let large = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&large);
    let upstream = Upstream::raw(move |mut stream: TcpStream| {
        let (acceptor, large) = (acceptor.clone(), Arc::clone(&large));
        async move {
            let mut header = [0; RECORD_HEADER];
            // The first bytes of a connection arrive together.
            let peeked = stream.peek(&mut header).await;
            assert_eq!(peeked.ok(), Some(RECORD_HEADER));
            if usize::from(u16::from_be_bytes([header[3], header[4]])) > SEGMENT - RECORD_HEADER {
                large.fetch_add(1, Ordering::SeqCst);
                return match fate {
                    Fate::Lost => swallow(stream).await,
                    Fate::Reset => {
                        read_record(&mut stream).await;
                        reset(stream);
                    }
                };
            }
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            read_head(&mut stream).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    });
    (upstream.await, seen)
}

async fn small_hellos(gateway: &Gateway) -> f64 {
    gateway.count("nuncio_upstream_small_hellos_total", &[]).await
}

#[tokio::test]
async fn p14_a_large_hello_that_gets_no_answer_is_followed_by_a_small_one() {
    for fate in [Fate::Lost, Fate::Reset] {
        let (upstream, large) = behind(fate).await;
        let timeout = ["connect_timeout_ms: 30000", "timeout_ms: 60000"];
        let gateway = origination(&upstream, &timeout, &[]).start().await;
        gateway.get("/0").await.assert_ok();
        assert_eq!(large.load(Ordering::SeqCst), 1, "{fate:?}");
        assert_eq!(upstream.connections().len(), 2, "{fate:?}");
        let handshake = gateway.last_handshake("m").await;
        assert_eq!(
            (&handshake["outcome"], &handshake["group"]),
            (&"ok".into(), &"X25519".into()),
            "{handshake:#}"
        );
        assert_holds(
            &handshake["message"],
            &["connected without post-quantum key exchange"],
        );
        assert_eq!(gateway.count("nuncio_upstream_failures_total", &[]).await, 0.0);

        // It is remembered: who comes next need not wait for that again.
        for path in ["/1", "/2"] {
            gateway.get(path).await.assert_ok();
            assert_eq!(gateway.access_log(path).await["attempts"], 1);
        }
        assert_eq!(large.load(Ordering::SeqCst), 1, "{fate:?}");
        assert_eq!(upstream.connections().len(), 4, "{fate:?}");
        assert_eq!(small_hellos(&gateway).await, 3.0);
        let log = gateway.program.stderr();
        let told = log
            .iter()
            .filter(|line| line.contains("offers post-quantum key exchange"));
        let told: Vec<_> = told.collect();
        assert_eq!(told.len(), 1, "{log:#?}");
        assert!(told[0].contains("https://a.test:443"), "{told:?}");
        assert!(
            told[0].contains("spec.ecdh_curves to [X25519, P-256]"),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn p14_a_burst_on_a_cold_upstream_that_loses_large_hellos_is_answered() {
    let (upstream, _) = behind(Fate::Lost).await;
    let timeout = ["connect_timeout_ms: 30000", "timeout_ms: 60000"];
    let gateway = origination(&upstream, &timeout, &[]).start().await;
    let mut asking = JoinSet::new();
    for _ in 0..50 {
        let address = gateway.address;
        asking.spawn(async move { Client::http1(address).await.get("gateway.test", "/").await });
    }
    asking
        .join_all()
        .await
        .iter()
        .for_each(|answer| answer.assert_ok());
    assert_eq!(small_hellos(&gateway).await, 50.0);
}

#[tokio::test]
async fn p14_a_large_hello_that_was_asked_for_is_the_only_one() {
    let (upstream, large) = behind(Fate::Lost).await;
    let gateway = origination(&upstream, &[], &["ecdh_curves: [X25519, P-256]"]);
    let gateway = gateway.start().await;
    gateway.get("/").await.assert_ok();
    assert_eq!(gateway.last_handshake("m").await["group"], "X25519");
    assert_eq!(large.load(Ordering::SeqCst), 0);

    let timeout = ["connect_timeout_ms: 1000"];
    let gateway = origination(&upstream, &timeout, &["ecdh_curves: [X25519MLKEM768, X25519]"]);
    let gateway = gateway.start().await;
    let refusal = Refusal {
        reason: "handshake_timeout",
        message: &["did not answer the ClientHello in time"],
        remedy: &[
            "stalls on a large TLS hello",
            "set spec.ecdh_curves to [X25519, P-256]",
        ],
    };
    refusal.assert_told(&gateway, "m", "/x").await;
    assert_eq!(
        (large.load(Ordering::SeqCst), upstream.connections().len()),
        (1, 2)
    );
}
