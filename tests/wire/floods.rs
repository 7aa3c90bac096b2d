//! Upstreams that speak HTTP without end. What they send is bounded, and so is the time they have; the request that
//! went there is told why it failed, and others are served meanwhile.

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, sink};
use tokio::net::TcpStream;

use crate::support::peer::{Upstream, read_head};
use crate::support::scene::Scene;

/// Enough for a busy host, and little to wait for.
const TIMEOUT: &str = "timeout_ms: 1000";

/// Says `first` when it is asked for something, and then `again` for as long as anybody listens.
async fn endless(first: &'static str, again: &'static str) -> (Upstream, Scene) {
    let upstream = Upstream::raw(async move |mut stream: TcpStream| {
        read_head(&mut stream).await;
        let _ = stream.write_all(first.as_bytes()).await;
        let many = again.repeat(1 + 60_000 / again.len());
        while stream.write_all(many.as_bytes()).await.is_ok() {}
    });
    let upstream = upstream.await;
    let scene = Scene::new(&format!("http://{}", upstream.address), &[TIMEOUT]).await;
    (upstream, scene)
}

#[tokio::test]
async fn a_head_without_end_is_a_protocol_error() {
    let heads = [
        ("HTTP/1.1 200 OK\r\n", "x-more: and more\r\n"),
        ("HTTP/1.1 200 OK\r\nx-long: ", "x"),
        ("HTTP/1.1 200 ", "OK"),
        ("HTTP/1.1 103 Early Hints\r\n", "link: </x>\r\n"),
        ("", "\r\n"),
    ];
    for (first, again) in heads {
        let (_upstream, scene) = endless(first, again).await;
        scene
            .assert_fails("1", "upstream_protocol_error", "is not HTTP/1.1")
            .await;
        scene.assert_unharmed().await;
    }
}

#[tokio::test]
async fn interim_answers_without_end_are_ended_by_the_timeout() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    let (upstream, scene) = endless(interim, interim).await;
    scene.assert_fails("1", "response_timeout", "1000 ms").await;
    upstream.saw("the gateway has closed", |seen| seen.closed).await;
    scene.assert_unharmed().await;
}

/// The answer has begun, so that is how it ends.
#[tokio::test]
async fn chunks_that_hold_nothing_but_words_are_cut() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1";
    for (first, again) in [
        (chunked, ";extension"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
            "x-more: and more\r\n",
        ),
    ] {
        let (upstream, scene) = endless(first, again).await;
        let answer = crate::support::client::raw(
            scene.gateway.address,
            "GET /bad/1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        );
        let answer = answer.await;
        assert!(!answer.contains("\r\n0\r\n\r\n"), "it ended well: {answer}");
        let entry = scene.gateway.access_log("/bad/1").await;
        assert!(entry["flags"].is_string(), "{entry:#}");
        upstream.saw("the gateway has closed", |seen| seen.closed).await;
        scene.assert_unharmed().await;
    }
}

/// Frames of HTTP/2 (RFC 9113).
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_HEADERS: u8 = 4;

/// Greets as an HTTP/2 server, reads a request's beginning, and then says `first` once and `again` for as long as
/// anybody listens; reads nothing more where it is `deaf`.
async fn flood(first: Vec<u8>, again: Vec<u8>, deaf: bool) -> (Upstream, Scene) {
    let upstream = Upstream::raw(move |mut stream: TcpStream| {
        let (first, again) = (first.clone(), again.clone());
        async move {
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
            // The preface, the client's own SETTINGS and the start of what follows.
            let mut greeting = [0; 24 + 9 + 9];
            if stream.read_exact(&mut greeting).await.is_err() {
                return;
            }
            let (mut heard, mut said) = stream.into_split();
            let speak = async {
                let _ = said.write_all(&first).await;
                let many = again.repeat(1 + 60_000 / again.len());
                while said.write_all(&many).await.is_ok() {}
            };
            if deaf {
                speak.await;
            } else {
                let mut nobody = sink();
                let _ = tokio::join!(speak, copy(&mut heard, &mut nobody));
            }
        }
    });
    let upstream = upstream.await;
    let lines = [TIMEOUT, "grpc: true"];
    let scene = Scene::new(&format!("http://{}", upstream.address), &lines).await;
    (upstream, scene)
}

/// `:status: 200` of the static table (RFC 7541, appendix A).
const STATUS_200: [u8; 1] = [0x88];
/// `:status: 103`, its name of the same table.
const STATUS_103: [u8; 5] = *b"\x08\x03103";

#[tokio::test]
async fn floods_of_http2_frames_end_with_a_reason() {
    let literal = |length: usize| [&[0, 1, b'x', 100][..], &vec![b'y'; length]].concat();
    let (unanswered, broken) = ("response_timeout", "upstream_protocol_error");
    let floods: [(&str, Vec<u8>, Vec<u8>, &str); 12] = [
        ("pings", vec![], frame(PING, 0, 0, &[7; 8]), unanswered),
        (
            "settings",
            vec![],
            frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]),
            unanswered,
        ),
        ("empty settings", vec![], frame(SETTINGS, 0, 0, &[]), unanswered),
        (
            "priorities",
            vec![],
            frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 9]),
            unanswered,
        ),
        ("unknown frames", vec![], frame(0xee, 0, 0, &[9; 99]), unanswered),
        (
            "interim answers",
            vec![],
            frame(HEADERS, END_HEADERS, 1, &STATUS_103),
            unanswered,
        ),
        (
            "resets of nothing",
            vec![],
            frame(RST_STREAM, 0, 101, &[0, 0, 0, 8]),
            broken,
        ),
        (
            "continuations",
            frame(HEADERS, 0, 1, &STATUS_200),
            frame(CONTINUATION, 0, 1, &literal(100)),
            broken,
        ),
        (
            "empty continuations",
            frame(HEADERS, 0, 1, &STATUS_200),
            frame(CONTINUATION, 0, 1, &[]),
            broken,
        ),
        ("data without a head", vec![], frame(DATA, 0, 1, &[7; 99]), broken),
        (
            "windows",
            vec![],
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            broken,
        ),
        (
            "promises",
            vec![],
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]),
            broken,
        ),
    ];
    for (name, first, again, reason) in floods {
        let (_upstream, scene) = flood(first.clone(), again.clone(), false).await;
        scene.assert_fails(&name.replace(' ', "-"), reason, "").await;
        scene.assert_unharmed().await;
    }
}

/// Each of these wants an answer that is not read.
#[tokio::test]
async fn questions_of_http2_to_which_no_answer_is_read_are_not_kept() {
    for again in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let (_upstream, scene) = flood(Vec::new(), again, true).await;
        scene.assert_fails("1", "response_timeout", "1000 ms").await;
        scene.assert_unharmed().await;
    }
}
