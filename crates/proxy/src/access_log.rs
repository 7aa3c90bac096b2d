//! The access log: one line a request, written by a thread of its own.
//!
//! Workers format into a buffer and hand it over in batches; a reader that is too slow loses lines,
//! which are counted, and never holds up a request.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method};
use nuncio_model::{HandshakeReport, Reason};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::log_queue::LogQueue;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// One JSON object a line, absent values left out.
    Json,
    /// One line of words, for people.
    Text,
    /// Not at all.
    Off,
}

impl AccessLog {
    /// The queue to standard output; none where nothing is logged.
    pub(crate) fn open(self) -> io::Result<Option<LogQueue>> {
        if self == Self::Off {
            return Ok(None);
        }
        // Not by way of `Stdout`: what it buffers and fails to write would be written twice.
        let out = io::stdout().as_fd().try_clone_to_owned()?;
        LogQueue::start("access log", File::from(out)).map(Some)
    }
}

/// What the log says of a request.
pub(crate) struct Entry {
    pub(crate) request_id: HeaderValue,
    pub(crate) client: SocketAddr,
    pub(crate) listener: Arc<str>,
    pub(crate) protocol: &'static str,
    pub(crate) method: Method,
    pub(crate) scheme: &'static str,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) mapping: Option<Arc<str>>,
    pub(crate) upstream: Option<Arc<str>>,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) attempts: u32,
    pub(crate) upstream_tls: Option<Arc<HandshakeReport>>,
    pub(crate) status: u16,
    pub(crate) flags: &'static str,
    pub(crate) reason: Option<Reason>,
    pub(crate) message: String,
    pub(crate) duration: Duration,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    ts: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_id: &'a str,
    client: SocketAddr,
    #[serde(skip_serializing_if = "str::is_empty")]
    listener: &'a str,
    protocol: &'a str,
    method: &'a str,
    scheme: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    authority: &'a str,
    path: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    flags: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    duration_ms: f64,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mapping: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<SocketAddr>,
    #[serde(skip_serializing_if = "is_zero")]
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_tls: Option<UpstreamTls<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
}

#[derive(Serialize)]
struct UpstreamTls<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<nuncio_model::TlsVersion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cipher: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    resumed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Entry {
    /// Appends the entry as one line. What came from the client is escaped.
    pub(crate) fn write(&self, how: AccessLog, out: &mut Vec<u8>) {
        let line = self.line();
        let start = out.len();
        let written = match how {
            AccessLog::Off => return,
            AccessLog::Json => serde_json::to_writer(&mut *out, &line).map_err(io::Error::from),
            AccessLog::Text => line.write_text(out),
        };
        match written {
            Ok(()) => out.push(b'\n'),
            Err(_) => out.truncate(start),
        }
    }

    fn line(&self) -> Line<'_> {
        let upstream_tls = self.upstream_tls.as_deref().map(|report| UpstreamTls {
            version: report.version,
            cipher: report.cipher.as_deref(),
            sni: report.sni.as_deref(),
            resumed: report.resumed,
        });
        Line {
            ts: OffsetDateTime::from(SystemTime::now())
                .format(&Rfc3339)
                .unwrap_or_default(),
            request_id: self.request_id.to_str().unwrap_or_default(),
            client: self.client,
            listener: &self.listener,
            protocol: self.protocol,
            method: self.method.as_str(),
            scheme: self.scheme,
            authority: &self.authority,
            path: &self.path,
            status: self.status,
            flags: self.flags,
            reason: self.reason,
            message: &self.message,
            duration_ms: (self.duration.as_secs_f64() * 1e6).round() / 1e3,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            mapping: self.mapping.as_deref(),
            upstream: self.upstream.as_deref(),
            endpoint: self.endpoint,
            attempts: self.attempts,
            upstream_tls,
            user_agent: self.user_agent.as_ref().and_then(|value| value.to_str().ok()),
        }
    }
}

impl Line<'_> {
    fn write_text(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let Self {
            ts,
            client,
            status,
            duration_ms,
            bytes_in,
            bytes_out,
            ..
        } = self;
        let request = format!(
            "{} {}{} {}",
            self.method, self.authority, self.path, self.protocol
        );
        write!(
            out,
            "{ts} {client} {request:?} {status} {duration_ms}ms {bytes_in} {bytes_out}"
        )?;
        if let Some(mapping) = self.mapping {
            write!(out, " mapping={mapping}")?;
        }
        if let Some(endpoint) = self.endpoint {
            write!(out, " endpoint={endpoint}")?;
        }
        if !self.flags.is_empty() {
            write!(out, " flags={}", self.flags)?;
        }
        if let Some(reason) = self.reason {
            write!(out, " reason={reason}")?;
        }
        if !self.message.is_empty() {
            write!(out, " message={:?}", self.message)?;
        }
        Ok(())
    }
}
