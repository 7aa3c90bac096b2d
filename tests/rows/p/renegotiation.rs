//! Peers that want a second handshake on one connection: row P17.

use rustls::version::TLS12;
use tokio::io::{AsyncWriteExt, copy, sink};

use super::origination;
use crate::support::certificates::Certificates;
use crate::support::scene::sealing;
use crate::support::sealed::{DATA, HANDSHAKE};

/// A request for a new handshake (RFC 5246, section 7.4.1.1).
const HELLO_REQUEST: [u8; 4] = [0; 4];

/// As IIS asks for a client certificate once it has seen for which path.
#[tokio::test]
async fn p17_a_request_to_renegotiate_is_told_and_does_not_hang() {
    let ca = Certificates::new();
    let upstream = sealing(&ca, &TLS12, async |mut stream, mut sealer| {
        let _ = stream.write_all(&sealer.record(HANDSHAKE, &HELLO_REQUEST)).await;
        // Whatever the gateway says to that is not looked at; it is for the gateway to end this.
        let _ = copy(&mut stream, &mut sink()).await;
    });
    let upstream = upstream.await;
    let gateway = origination(&upstream, &["timeout_ms: 60000"], &[]).start().await;
    gateway
        .get("/x")
        .await
        .assert_refused("renegotiation_unsupported");
    let entry = gateway.access_log("/x").await;
    assert_eq!(entry["flags"], "UF", "{entry:#}");
    assert_eq!(entry["attempts"], 1, "{entry:#}");
    let message = entry["message"].as_str().unwrap();
    assert!(message.contains("asked to renegotiate"), "{message}");
    let labels = [("reason", "renegotiation_unsupported")];
    assert_eq!(
        gateway.count("nuncio_upstream_failures_total", &labels).await,
        1.0
    );
    upstream.saw("the gateway has closed", |seen| seen.closed).await;
}

/// The connection is of no use any more, and the next request does not suffer for it.
#[tokio::test]
async fn p17_a_request_to_renegotiate_between_requests_costs_none() {
    let ca = Certificates::new();
    let upstream = sealing(&ca, &TLS12, async |mut stream, mut sealer| {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let both = [
            sealer.record(DATA, answer),
            sealer.record(HANDSHAKE, &HELLO_REQUEST),
        ];
        let _ = stream.write_all(&both.concat()).await;
        let _ = copy(&mut stream, &mut sink()).await;
    });
    let upstream = upstream.await;
    let gateway = origination(&upstream, &["timeout_ms: 60000"], &[]).start().await;
    for path in ["/1", "/2", "/3"] {
        gateway.get(path).await.assert_ok();
    }
    assert_eq!(upstream.connections().len(), 3);
}
