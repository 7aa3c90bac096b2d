//! Clients: HTTP/1.1, HTTP/2 by prior knowledge, and raw bytes.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// A whole response.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Response {
    /// The first value of a header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The failure reason that `--expose-reasons` shows; empty where there is none.
    pub fn reason(&self) -> &str {
        self.header("x-nuncio-reason")
    }

    /// An answer of the gateway's own, 503 for this reason, with the body that tells the client nothing.
    #[track_caller]
    pub fn assert_refused(&self, reason: &str) {
        assert_eq!(
            (self.status, self.reason(), self.text()),
            (
                StatusCode::SERVICE_UNAVAILABLE,
                reason,
                "upstream connect error or disconnect/reset before headers"
            ),
        );
    }

    /// 200 `ok`, as upstreams here answer unless told otherwise.
    #[track_caller]
    pub fn assert_ok(&self) {
        assert_eq!(
            (self.status, self.reason(), self.text()),
            (StatusCode::OK, "", "ok")
        );
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let parsed = serde_json::from_slice(&self.body);
        parsed.unwrap_or_else(|error| panic!("no JSON: {error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// One connection to a server.
pub enum Client {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    pub async fn http1(address: SocketAddr) -> Self {
        Self::http1_over(TcpStream::connect(address).await.unwrap()).await
    }

    pub async fn http2(address: SocketAddr) -> Self {
        Self::http2_over(TcpStream::connect(address).await.unwrap()).await
    }

    /// HTTP/1.1 over any stream, TLS for example.
    pub async fn http1_over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Self::Http1(sender)
    }

    /// HTTP/2 over any stream.
    pub async fn http2_over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self::Http2(sender)
    }

    /// Sends a request and reads the whole response.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response> {
        let response = self.start(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Response {
            status: head.status,
            version: head.version,
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
        })
    }

    /// Sends a request and leaves the response's body to the caller.
    pub async fn start(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<http::Response<hyper::body::Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// GETs a path with this authority.
    pub async fn get(&mut self, authority: &str, path: &str) -> Response {
        let request = match self {
            Self::Http1(_) => request(Method::GET, authority, path, ""),
            Self::Http2(_) => Request::get(format!("http://{authority}{path}"))
                .body(Full::default())
                .unwrap(),
        };
        self.send(request).await.unwrap()
    }
}

/// An HTTP/1.1 request.
pub fn request(method: Method, authority: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let builder = Request::builder()
        .method(method)
        .uri(path)
        .header("host", authority);
    builder.body(Full::new(body.into())).unwrap()
}

/// Sends bytes as they are and reads until the server closes.
pub async fn raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end as well.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
