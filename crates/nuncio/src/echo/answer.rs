//! What the echo upstream answers.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, TRAILER};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};
use serde::Serialize;

use super::websocket;

/// Size of the pieces that `/bytes/N` is sent in.
const PIECE: usize = 16 * 1024;

/// The JSON answer.
#[derive(Serialize)]
struct Echo<'a> {
    method: &'a str,
    /// With query, as it was sent.
    path: &'a str,
    http_version: &'static str,
    headers: BTreeMap<String, Vec<String>>,
    body_bytes: u64,
    tls: Option<&'a Session>,
}

/// The TLS session as the server saw it.
#[derive(Serialize)]
pub(super) struct Session {
    version: &'static str,
    cipher: String,
    sni: Option<String>,
    pub(super) alpn: Option<String>,
    resumed: bool,
    client_certificate: Option<ClientCertificate>,
}

#[derive(Serialize)]
struct ClientCertificate {
    subject: String,
    sha256: String,
    verified: bool,
}

impl Session {
    /// Reads a connection whose handshake is done.
    pub(super) fn of(connection: &ServerConnection, verified: bool) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "unknown",
        };
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        Self {
            version,
            cipher: connection
                .negotiated_cipher_suite()
                .map(|suite| cipher(suite.suite()))
                .unwrap_or_default(),
            sni: connection.server_name().map(str::to_owned),
            alpn: connection
                .alpn_protocol()
                .map(|id| String::from_utf8_lossy(id).into_owned()),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            client_certificate: leaf.map(|der| ClientCertificate::of(der, verified)),
        }
    }
}

/// The RFC's name; rustls marks those of TLS 1.3 with `TLS13_`.
fn cipher(suite: rustls::CipherSuite) -> String {
    suite
        .as_str()
        .map_or_else(|| format!("{suite:?}"), |name| name.replacen("TLS13_", "TLS_", 1))
}

impl ClientCertificate {
    fn of(der: &[u8], verified: bool) -> Self {
        match nuncio_tls::describe(der) {
            Ok(info) => Self {
                subject: info.subject,
                sha256: info.sha256,
                verified,
            },
            Err(error) => Self {
                subject: format!("unreadable: {}", error.message),
                sha256: String::new(),
                verified,
            },
        }
    }
}

/// Answers one request, after reading all of its body.
pub(super) async fn answer(
    mut request: Request<Incoming>,
    session: Option<Arc<Session>>,
) -> Response<Content> {
    if let Some(response) = websocket::accept(&mut request) {
        return response;
    }
    let (head, body) = request.into_parts();
    let Ok((body_bytes, trailers)) = drain(body).await else {
        return plain(StatusCode::BAD_REQUEST, "the request's body broke off\n");
    };
    let echo = || json(&head, body_bytes, session.as_deref());
    let mut segments = head.uri.path().splitn(3, '/').skip(1);
    let (kind, argument) = (
        segments.next().unwrap_or_default(),
        segments.next().unwrap_or_default(),
    );
    match (kind, argument.parse::<u64>()) {
        ("status", Ok(code)) => match u16::try_from(code).ok().filter(|code| (200..1000).contains(code)) {
            Some(code) => with_status(echo(), code),
            None => plain(StatusCode::BAD_REQUEST, "a status is a number from 200 to 999\n"),
        },
        ("delay", Ok(milliseconds)) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            echo()
        }
        ("bytes", Ok(count)) => Response::new(Content::Bytes { left: count }),
        ("stream", Ok(count)) => Response::new(Content::Chunks { sent: 0, of: count }),
        ("trailers", _) => with_trailers(echo(), trailers),
        _ => echo(),
    }
}

/// Counts the body and drops it; gives its trailers.
async fn drain(mut body: Incoming) -> Result<(u64, HeaderMap), hyper::Error> {
    let (mut count, mut trailers) = (0, HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => count += data.len() as u64,
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok((count, trailers))
}

fn json(head: &http::request::Parts, body_bytes: u64, tls: Option<&Session>) -> Response<Content> {
    let mut headers = BTreeMap::<String, Vec<String>>::new();
    // HTTP/2 says `:authority` where HTTP/1.1 says `host`; a reader wants one place to look.
    if let Some(authority) = head.uri.authority().filter(|_| !head.headers.contains_key(HOST)) {
        headers
            .entry("host".to_owned())
            .or_default()
            .push(authority.to_string());
    }
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.to_string()).or_default().push(value);
    }
    let echo = Echo {
        method: head.method.as_str(),
        path: head.uri.path_and_query().map_or("", |path| path.as_str()),
        http_version: version(head.version),
        headers,
        body_bytes,
        tls,
    };
    match serde_json::to_vec(&echo) {
        Ok(mut text) => {
            text.push(b'\n');
            let mut response = Response::new(Content::Whole(Some(text.into())));
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response
        }
        Err(_) => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the request cannot be told in JSON\n",
        ),
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "unknown",
    }
}

pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<Content> {
    let mut response = Response::new(Content::Whole(Some(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response
}

fn with_status(mut response: Response<Content>, code: u16) -> Response<Content> {
    let Ok(status) = StatusCode::from_u16(code) else {
        return response;
    };
    *response.status_mut() = status;
    if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        *response.body_mut() = Content::Whole(None);
        response.headers_mut().remove(CONTENT_TYPE);
    }
    response
}

/// Sends the request's trailers back behind the answer, and one of its own.
fn with_trailers(mut response: Response<Content>, mut trailers: HeaderMap) -> Response<Content> {
    trailers.insert(HeaderName::from_static("x-echo"), HeaderValue::from_static("end"));
    for name in trailers.keys() {
        response
            .headers_mut()
            .append(TRAILER, HeaderValue::from(name.clone()));
    }
    if let Content::Whole(text) = response.body_mut() {
        let text = text.take();
        *response.body_mut() = Content::Trailed {
            text,
            trailers: Some(trailers),
        };
    }
    response
}

/// The body of an answer; made as it is sent, so that its size costs nothing.
pub(super) enum Content {
    /// All there is.
    Whole(Option<Bytes>),
    /// So many bytes, announced by `content-length`.
    Bytes { left: u64 },
    /// So many chunks, each a line, of a length that is not announced.
    Chunks { sent: u64, of: u64 },
    /// Text and trailers.
    Trailed {
        text: Option<Bytes>,
        trailers: Option<HeaderMap>,
    },
}

impl Content {
    fn next(&mut self) -> Option<Frame<Bytes>> {
        match self {
            Self::Whole(text) => text.take().map(Frame::data),
            Self::Bytes { left: 0 } => None,
            Self::Bytes { left } => {
                let size = usize::try_from(*left).unwrap_or(PIECE).min(PIECE);
                *left -= size as u64;
                Some(Frame::data(Bytes::from_static(&[b'x'; PIECE]).slice(..size)))
            }
            Self::Chunks { sent, of } if sent == of => None,
            Self::Chunks { sent, of } => {
                *sent += 1;
                Some(Frame::data(format!("chunk {sent} of {of}\n").into()))
            }
            Self::Trailed { text, trailers } => text
                .take()
                .map(Frame::data)
                .or_else(|| trailers.take().map(Frame::trailers)),
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.get_mut().next().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(text) => text.is_none(),
            Self::Bytes { left } => *left == 0,
            Self::Chunks { .. } | Self::Trailed { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Bytes { left } => SizeHint::with_exact(*left),
            Self::Chunks { .. } | Self::Trailed { .. } => SizeHint::default(),
        }
    }
}
