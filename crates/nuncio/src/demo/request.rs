//! One request to a gateway of the demonstration, and its answer.

use std::fmt::Display;
use std::net::Ipv4Addr;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::failure::Failure;

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    /// `x-nuncio-reason`
    pub(super) reason: Option<String>,
    pub(super) body: String,
}

/// What the upstream told of its TLS session.
pub(super) struct SeenTls {
    pub(super) version: String,
    pub(super) cipher: String,
    pub(super) sni: Option<String>,
    /// Subject of the client's certificate.
    pub(super) client: Option<String>,
}

impl Answer {
    /// The `tls` part of an echo, where the answer is one.
    pub(super) fn tls(&self) -> Option<SeenTls> {
        let echo: Value = serde_json::from_str(&self.body).ok()?;
        let tls = echo.get("tls").filter(|tls| tls.is_object())?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(SeenTls {
            version: text(&tls["version"])?,
            cipher: text(&tls["cipher"])?,
            sni: text(&tls["sni"]),
            client: text(&tls["client_certificate"]["subject"]),
        })
    }
}

/// GETs `path` from a gateway on this port of 127.0.0.1.
pub(super) async fn get(port: u16, path: &str) -> Result<Answer, Failure> {
    let failed = |error: &dyn Display| Failure::wrong(format!("the request to port {port} failed: {error}"));
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| failed(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(HOST, format!("127.0.0.1:{port}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| failed(&error))?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
    connection.abort();
    Ok(Answer {
        status: head.status.as_u16(),
        reason: text(&head.headers, "x-nuncio-reason"),
        body: String::from_utf8_lossy(&body).trim().to_owned(),
    })
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
