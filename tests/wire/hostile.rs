//! Upstreams that begin well and then misbehave behind their TLS, and others that never spoke it. Each costs the
//! gateway no more than the request that went there, and that is told why it failed.

use rustls::ServerConnection;
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::support::certificates::Certificates;
use crate::support::peer::{Tapped, Tls, Upstream, read_head};
use crate::support::scene::{Scene, sealing};
use crate::support::sealed::{ALERT, DATA, HANDSHAKE, Sealer, ticket};
use crate::support::tls_bytes::{alert, answer_hello, read_record, swallow};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Enough for a busy host, and little to wait for.
const TIMEOUT: &str = "timeout_ms: 1000";

/// The same bytes in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn noise_is_not_tls_unless_it_begins_as_tls() {
    let ca = Certificates::new();
    for seed in 0..8 {
        let mut bytes = noise(seed, 100_000);
        // Half of it in what looks like a record.
        if seed % 2 == 1 {
            bytes[..5].copy_from_slice(&[HANDSHAKE, 3, 3, 0x3f, 0xff]);
        }
        let upstream = Upstream::raw(move |stream| {
            let bytes = bytes.clone();
            async move { answer_hello(stream, &bytes).await }
        });
        let upstream = upstream.await;
        let scene = Scene::over_tls(&upstream, &ca, &[]).await;
        let (reason, words) = match seed % 2 {
            0 => ("not_tls", "does not speak TLS on this port"),
            _ => ("tls_protocol_error", "broke the rules of TLS"),
        };
        scene.assert_fails("1", reason, words).await;
        scene.assert_unharmed().await;
    }
}

/// What a real server would answer to the ClientHello that comes, up to `end`.
async fn cut_short(mut stream: TcpStream, tls: &Tls, end: f64) {
    let hello = read_record(&mut stream).await;
    let mut server = ServerConnection::new(tls.config()).unwrap();
    server.read_tls(&mut hello.as_slice()).unwrap();
    server.process_new_packets().unwrap();
    let mut flight = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut flight).unwrap();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a few thousand bytes"
    )]
    let end = (flight.len() as f64 * end) as usize;
    stream
        .write_all(&flight[..end.min(flight.len() - 1)])
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    swallow(stream).await;
}

#[tokio::test]
async fn a_flight_that_is_cut_short_is_a_reset_during_the_handshake() {
    let ca = Certificates::new();
    for version in [&TLS12, &TLS13] {
        for end in [0.0, 0.002, 0.01, 0.05, 0.2, 0.5, 0.8, 1.0] {
            let identity = ca.server(&["a.test"]);
            let upstream = Upstream::raw(move |stream| {
                let tls = Tls::with(&identity).versions(&[version]);
                async move { cut_short(stream, &tls, end).await }
            });
            let upstream = upstream.await;
            let scene = Scene::over_tls(&upstream, &ca, &[]).await;
            scene
                .assert_fails("1", "reset_during_handshake", "closed the connection")
                .await;
        }
    }
}

/// Sends until the gateway has had enough.
async fn flood(stream: &mut Tapped, mut next: impl FnMut() -> Vec<u8>) {
    while stream.write_all(&next()).await.is_ok() {}
}

/// A record full of tickets.
fn tickets(sealer: &mut Sealer, first: u32) -> Vec<u8> {
    let all: Vec<u8> = (first..first + 15)
        .flat_map(|number| ticket(number, 1000))
        .collect();
    sealer.record(HANDSHAKE, &all)
}

#[tokio::test]
async fn a_hundred_thousand_tickets_before_the_answer_are_not_kept() {
    let ca = Certificates::new();
    let upstream = sealing(&ca, &TLS13, async |mut stream, mut sealer| {
        for number in (0..100_000).step_by(15) {
            stream.write_all(&tickets(&mut sealer, number)).await.unwrap();
        }
        let _ = stream.write_all(&sealer.record(DATA, OK)).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    });
    let upstream = upstream.await;
    let scene = Scene::over_tls(&upstream, &ca, &["timeout_ms: 60000"]).await;
    let (answer, _) = scene.ask("1").await;
    answer.assert_ok();
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn tickets_that_never_end_are_ended_by_the_timeout() {
    let ca = Certificates::new();
    let upstream = sealing(&ca, &TLS13, async |mut stream, mut sealer| {
        flood(&mut stream, || tickets(&mut sealer, 0)).await;
    });
    let upstream = upstream.await;
    let scene = Scene::over_tls(&upstream, &ca, &[TIMEOUT]).await;
    scene.assert_fails("1", "response_timeout", "1000 ms").await;
    upstream
        .saw("the gateway has closed", |connection| connection.closed)
        .await;
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn records_without_content_that_never_end_are_a_protocol_error() {
    let ca = Certificates::new();
    for version in [&TLS12, &TLS13] {
        let upstream = sealing(&ca, version, async |mut stream, mut sealer| {
            flood(&mut stream, || sealer.record(DATA, b"")).await;
        });
        let upstream = upstream.await;
        let scene = Scene::over_tls(&upstream, &ca, &[TIMEOUT]).await;
        scene
            .assert_fails("1", "tls_protocol_error", "too many empty records in a row")
            .await;
        scene.assert_unharmed().await;
    }
}

#[tokio::test]
async fn warnings_that_never_end_are_a_protocol_error() {
    const WARNING: u8 = 1;
    const USER_CANCELED: u8 = 90;
    let ca = Certificates::new();
    for version in [&TLS12, &TLS13] {
        let upstream = sealing(&ca, version, async |mut stream, mut sealer| {
            flood(&mut stream, || sealer.record(ALERT, &[WARNING, USER_CANCELED])).await;
        });
        let upstream = upstream.await;
        let scene = Scene::over_tls(&upstream, &ca, &[TIMEOUT]).await;
        scene
            .assert_fails("1", "tls_protocol_error", "too many warning alerts")
            .await;
        scene.assert_unharmed().await;
    }
}

#[tokio::test]
async fn key_updates_that_never_end_are_a_protocol_error() {
    let ca = Certificates::new();
    let upstream = Tls::with(&ca.server(&["a.test"])).versions(&[&TLS13]);
    let upstream = upstream.start_with(async |mut stream, _| {
        read_head(&mut stream).await;
        let TlsStream::Server(server) = &mut stream else {
            unreachable!("it is a server")
        };
        while server.get_mut().1.refresh_traffic_keys().is_ok() && server.flush().await.is_ok() {}
    });
    let upstream = upstream.await;
    let scene = Scene::over_tls(&upstream, &ca, &[TIMEOUT]).await;
    scene
        .assert_fails("1", "tls_protocol_error", "too many KeyUpdate messages")
        .await;
    scene.assert_unharmed().await;
}

/// A TLS 1.2 ServerHello to this ClientHello, from a server that has marked it as one that speaks TLS 1.3.
fn downgrading_hello(client: &[u8]) -> Vec<u8> {
    const RANDOM: usize = 43;
    let session = &client[RANDOM..=RANDOM + usize::from(client[RANDOM])];
    let hello = [
        &[3, 3][..],
        &[7; 24],
        b"DOWNGRD\x01",
        session,
        &[0xc0, 0x2f, 0, 0, 0],
    ]
    .concat();
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
    let message = [&[2, 0][..], &length(&hello), &hello].concat();
    [&[HANDSHAKE, 3, 3][..], &length(&message), &message].concat()
}

/// Only what speaks no TLS at all is `not_tls`, and only what speaks HTTP is advised to be spoken to without TLS.
#[tokio::test]
async fn each_way_to_fail_before_a_handshake_has_its_reason() {
    type Answer = fn(&[u8]) -> Vec<u8>;
    let cases: [(Answer, &str, &str); 9] = [
        (
            |hello| downgrading_hello(hello),
            "tls_protocol_error",
            "forced the lower version",
        ),
        (
            |_| [&[HANDSHAKE, 3, 3, 0x48, 1][..], &[9; 0x4801]].concat(),
            "tls_protocol_error",
            "a record longer than TLS allows",
        ),
        (
            |_| alert(121, 3).to_vec(),
            "alert_received:unknown",
            "(alert 121)",
        ),
        (|_| alert(40, 0).to_vec(), "protocol_version", "SSL 3.0"),
        (|_| vec![0x80, 3, 0, 0, 1], "protocol_version", "SSL 2.0"),
        (|_| b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), "not_tls", "but SSH"),
        (|_| b"220 mail.a.test ESMTP\r\n".to_vec(), "not_tls", "but SMTP"),
        (
            |_| b"E\0\0\0\x20SFATAL\0C08P01\0".to_vec(),
            "not_tls",
            "but PostgreSQL",
        ),
        (
            |_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            "not_tls",
            "`HTTP/1.1 400 Bad Request",
        ),
    ];
    let ca = Certificates::new();
    for (answer, reason, words) in cases {
        let upstream = Upstream::raw(move |mut stream| async move {
            let bytes = answer(&read_record(&mut stream).await);
            stream.write_all(&bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            swallow(stream).await;
        });
        let upstream = upstream.await;
        let scene = Scene::over_tls(&upstream, &ca, &[]).await;
        scene.assert_fails("1", reason, words).await;
        let remedy = scene.gateway.last_handshake("bad").await["remedy"].to_string();
        assert_eq!(
            remedy.contains("http://"),
            words.contains("HTTP"),
            "{reason}: {remedy}"
        );
    }
}
