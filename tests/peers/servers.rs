//! TLS servers that nobody here wrote, set up alike: each tells in a header what TLS session it saw.

mod caddy;
mod envoy;
mod haproxy;
mod nginx;
mod openssl;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::Result;
use super::files::Files;
use super::foreign::Answer;
use crate::support::program::Running;

pub(super) use envoy::{Proxy, start_proxy as envoy_proxy};
pub(super) use openssl::start_with as openssl_with;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// nginx
    Nginx,
    /// HAProxy
    Haproxy,
    /// Envoy
    Envoy,
    /// Caddy
    Caddy,
    /// `openssl s_server -www`; speaks HTTP/1.0 only
    Openssl,
}

/// What it shall do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// The only version it speaks; `None` speaks both.
    pub(super) version: Option<Version>,
    /// Requires a client certificate by `ca.pem`.
    pub(super) client_certificate: bool,
    /// Prefers h2 where the client offers it.
    pub(super) h2: bool,
    /// Closes after each answer.
    pub(super) close: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            version: None,
            client_certificate: false,
            h2: false,
            close: true,
        }
    }
}

/// A TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

impl Version {
    /// As our reports and most servers write it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

impl Setup {
    fn lowest(self) -> Version {
        self.version.unwrap_or(Version::Tls12)
    }

    fn highest(self) -> Version {
        self.version.unwrap_or(Version::Tls13)
    }
}

/// A running TLS server.
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Which it is.
    pub(super) kind: Kind,
    program: Running,
}

/// Starts a server.
pub(super) async fn start(kind: Kind, setup: Setup, files: &Files) -> Result<Server> {
    let (address, program) = match kind {
        Kind::Nginx => nginx::start(setup, files).await,
        Kind::Haproxy => haproxy::start(setup, files).await,
        Kind::Envoy => envoy::start(setup, files).await,
        Kind::Caddy => caddy::start(setup, files).await,
        Kind::Openssl => openssl::start(setup, files).await,
    }?;
    Ok(Server {
        address,
        kind,
        program,
    })
}

impl Server {
    /// What the server says about the session that `answer` came over: `version`, `sni`, `http`, and `resumed`
    /// where it can tell.
    pub(super) async fn saw(&self, answer: &Answer) -> Result<BTreeMap<String, String>> {
        if self.kind == Kind::Openssl {
            return openssl::saw(&self.program, answer).await;
        }
        let header = answer
            .header("x-peer")
            .ok_or_else(|| format!("no x-peer header: {answer:?}"))?;
        Ok(header
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }
}
