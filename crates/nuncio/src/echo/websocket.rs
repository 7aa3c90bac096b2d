//! The WebSocket side of the echo upstream (RFC 6455): every message comes back as it was sent.

use std::io;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::answer::{Content, plain};

/// RFC 6455 section 1.3: what is appended to the key before it is hashed.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Largest payload of a control frame, section 5.5.
const CONTROL_LIMIT: u64 = 125;
/// Size of the pieces that payloads are copied in.
const PIECE: u64 = 16 * 1024;

const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const MASKED: u8 = 0x80;

/// The answer to a WebSocket handshake, or nothing when the request is none.
pub(super) fn accept(request: &mut Request<Incoming>) -> Option<Response<Content>> {
    if !lists(request.headers(), &UPGRADE, "websocket") || !lists(request.headers(), &CONNECTION, "upgrade") {
        return None;
    }
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return Some(plain(
            StatusCode::BAD_REQUEST,
            "the WebSocket handshake has no sec-websocket-key\n",
        ));
    };
    if request
        .headers()
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Some(plain(
            StatusCode::UPGRADE_REQUIRED,
            "only WebSocket version 13 is spoken\n",
        ));
    }
    let accept = HeaderValue::from_str(&accept_key(key.as_bytes())).ok()?;
    tokio::spawn(talk(hyper::upgrade::on(request)));
    let mut response = Response::new(Content::Whole(None));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Some(response)
}

/// Whether a header holding a list has this token, in any letter case.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

fn accept_key(key: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    STANDARD.encode(hash.finish())
}

async fn talk(upgrade: OnUpgrade) {
    let outcome = match upgrade.await {
        Ok(stream) => echo_frames(TokioIo::new(stream)).await,
        Err(error) => Err(io::Error::other(error)),
    };
    if let Err(error) = outcome {
        tracing::debug!("a WebSocket connection ended: {error}");
    }
}

/// The start of a frame, section 5.2.
struct FrameHead {
    first: u8,
    length: u64,
    mask: [u8; 4],
}

/// Sends every frame back, without the mask that only clients use, until a close frame or the end.
async fn echo_frames<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    while let Some(mut head) = read_head(&mut stream).await? {
        let opcode = head.first & OPCODE;
        if opcode >= CLOSE && head.length > CONTROL_LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "control frame too long",
            ));
        }
        match opcode {
            PING => head.first = head.first & !OPCODE | PONG,
            PONG => {
                copy(&mut stream, &head, false).await?;
                continue;
            }
            _ => {}
        }
        stream.write_all(&written_head(&head)).await?;
        copy(&mut stream, &head, true).await?;
        stream.flush().await?;
        if opcode == CLOSE {
            break;
        }
    }
    stream.shutdown().await
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<FrameHead>> {
    let mut start = [0; 2];
    if stream.read(&mut start[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut start[1..]).await?;
    let length = match start[1] & !MASKED {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short => u64::from(short),
    };
    let mut mask = [0; 4];
    if start[1] & MASKED != 0 {
        stream.read_exact(&mut mask).await?;
    }
    Ok(Some(FrameHead {
        first: start[0],
        length,
        mask,
    }))
}

fn written_head(head: &FrameHead) -> Vec<u8> {
    let mut bytes = vec![head.first];
    match (u8::try_from(head.length), u16::try_from(head.length)) {
        (Ok(length @ 0..=125), _) => bytes.push(length),
        (_, Ok(length)) => {
            bytes.push(126);
            bytes.extend(length.to_be_bytes());
        }
        _ => {
            bytes.push(127);
            bytes.extend(head.length.to_be_bytes());
        }
    }
    bytes
}

/// Reads a payload piece by piece, takes its mask off, and sends it back if told to.
async fn copy<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    head: &FrameHead,
    back: bool,
) -> io::Result<()> {
    // A multiple of the mask's four bytes, so that each piece begins with the mask's first.
    let mut piece = vec![0; usize::try_from(head.length.min(PIECE)).unwrap_or_default()];
    let mut left = head.length;
    while left > 0 {
        let size = usize::try_from(left.min(PIECE)).unwrap_or_default();
        let part = &mut piece[..size];
        stream.read_exact(part).await?;
        for (byte, mask) in part.iter_mut().zip(head.mask.iter().cycle()) {
            *byte ^= mask;
        }
        if back {
            stream.write_all(part).await?;
        }
        left -= size as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 section 1.3.
    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(
            accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    async fn exchange(sent: &[u8], expected: usize) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(256 * 1024);
        let echo = tokio::spawn(echo_frames(server));
        client.write_all(sent).await.unwrap();
        let mut got = vec![0; expected];
        client.read_exact(&mut got).await.unwrap();
        drop(client);
        echo.await.unwrap().unwrap();
        got
    }

    /// The masked "Hello" of section 5.7 comes back as its unmasked one.
    #[tokio::test]
    async fn a_text_frame_comes_back_unmasked() {
        let sent = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(exchange(&sent, 7).await, b"\x81\x05Hello");
    }

    #[tokio::test]
    async fn a_ping_becomes_a_pong() {
        assert_eq!(exchange(b"\x89\x82\0\0\0\0hi", 4).await, b"\x8a\x02hi");
    }

    #[tokio::test]
    async fn a_payload_of_several_pieces_comes_back_whole() {
        let payload: Vec<u8> = (0..70_000_u32).map(|n| (n % 251) as u8).collect();
        let mask = [1, 2, 3, 4];
        let mut sent = vec![0x82, 0xff];
        sent.extend(70_000_u64.to_be_bytes());
        sent.extend(mask);
        sent.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        let got = exchange(&sent, 10 + payload.len()).await;
        assert_eq!(&got[..10], &[0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
        assert_eq!(&got[10..], payload);
    }
}
