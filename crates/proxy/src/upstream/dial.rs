//! The one way to an upstream's bytes.
//!
//! Whoever speaks to an upstream gets its connection here: the pools of HTTP, `probe`, and what is to
//! come, such as active health checks and TCPMapping (rows D18, F11). None of them can leave out its TLS
//! or make up another one, because what opens sockets and begins handshakes is not to be had outside of
//! `upstream`, and clippy refuses both anywhere else in this crate. What comes back is bytes to read and
//! write; nothing of it is about HTTP.

use std::time::{Duration, Instant};

use super::connector::{ConnectError, Connected, TlsTarget, connect};
use super::live::{LiveEndpoint, LiveUpstream, Wanted};

impl LiveUpstream {
    /// Connects to `endpoint` until `deadline`, with TLS where this upstream has it. `limit` is the time
    /// that was given in all, for messages.
    pub(crate) async fn dial(
        &self,
        endpoint: &LiveEndpoint,
        wanted: Wanted,
        deadline: Instant,
        limit: Duration,
    ) -> Result<Connected, ConnectError> {
        let tls = self.endpoint_tls(endpoint, wanted)?;
        let target = tls.map(|(tls, settings)| TlsTarget {
            endpoint: tls,
            settings,
            hellos: &endpoint.hellos,
        });
        connect(endpoint.address, target, deadline, limit).await
    }
}

#[cfg(test)]
mod tests;
