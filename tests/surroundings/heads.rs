//! Clients that begin a head and do not end it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::support::peer::Upstream;
use crate::support::program::{Gateway, mapping};
use crate::support::waiting::PATIENCE;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// HEADERS of stream 1 with 16 bytes, of which a byte comes.
const HALF_HEADERS: &[u8] = &[0, 0, 16, 1, 5, 0, 0, 0, 1, 0x82];
/// HEADERS of stream 1 without END_HEADERS: `:method: GET`.
const OPEN_BLOCK: &[u8] = &[0, 0, 1, 1, 1, 0, 0, 0, 1, 0x82];

/// Begins with `first`, goes on with `more` again and again, and waits for the gateway to close.
async fn is_closed(gateway: &Gateway, name: &str, first: &[u8], more: &[u8]) {
    let (mut reading, mut writing) = TcpStream::connect(gateway.address).await.unwrap().into_split();
    writing.write_all(first).await.unwrap();
    let go_on = async {
        // A closed connection fails sooner or later, which is for the reader to tell.
        while writing.write_all(more).await.is_ok() {
            sleep(Duration::from_millis(500)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let closed = async {
        tokio::select! {
            () = go_on => {}
            _ = reading.read_to_end(&mut answer) => {}
        }
    };
    assert!(timeout(PATIENCE, closed).await.is_ok(), "{name}: still open");
}

#[tokio::test]
async fn a_head_that_is_not_ended_ends_its_connection() {
    let upstream = Upstream::cleartext().await;
    let service = format!("http://{}", upstream.address);
    let gateway = Gateway::start(mapping("m", "/", &service, &[])).await;
    let http2 = |more: &[u8]| [PREFACE, SETTINGS, more].concat();
    let (half, open) = (http2(HALF_HEADERS), http2(OPEN_BLOCK));
    tokio::join!(
        is_closed(&gateway, "nothing", b"", b""),
        is_closed(&gateway, "empty lines", b"\r\n", b"\r\n"),
        is_closed(&gateway, "a slow head", b"GET / HTTP/1.1\r\n", b"x-a: b\r\n"),
        is_closed(&gateway, "a slow line", b"GET /", b"x"),
        is_closed(&gateway, "a part of the preface", &PREFACE[..20], b""),
        is_closed(&gateway, "no SETTINGS", PREFACE, b""),
        is_closed(&gateway, "half a frame", &half, b""),
        is_closed(&gateway, "an open header block", &open, b""),
    );
    assert_eq!(upstream.requests().len(), 0);
}
