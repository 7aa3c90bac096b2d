//! What the running proxy tells about itself; the admin interface is given these and nothing more.

use std::sync::Arc;

use serde::Serialize;

use crate::{HandshakeReport, UpstreamIndex};

/// An endpoint as it is now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndpointStatus {
    /// `ip:port`
    pub address: String,
    /// Connections that carry a request.
    pub active: u64,
    /// Connections that wait for one.
    pub idle: u64,
    /// The latest handshake with it.
    pub last_handshake: Option<Arc<HandshakeReport>>,
    /// The failure that requests are answered with instead of another handshake; none where one may begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remembered: Option<RememberedFailure>,
}

/// A handshake failed for a reason that repeats, so for a while none is begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RememberedFailure {
    /// Its code.
    pub reason: &'static str,
    /// RFC 3339: when the next handshake may begin; in the past where the one that tries is under way.
    pub until: String,
}

/// An upstream as it is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UpstreamStatus {
    /// Those that were used or resolved.
    pub endpoints: Vec<EndpointStatus>,
    /// Failures since the start by reason code, most first.
    pub failures: Vec<(String, u64)>,
}

/// Reads the running proxy. Implemented by `nuncio-proxy`, read by `nuncio-admin`.
pub trait Live: Send + Sync {
    /// The snapshot that is served and the status of each of its upstreams.
    fn upstream(&self, snapshot: &crate::Snapshot, index: UpstreamIndex) -> UpstreamStatus;
    /// Metrics in Prometheus' text format.
    fn metrics(&self, snapshot: &crate::Snapshot) -> String;
    /// Problems that only running shows: a port that another program holds, or a certificate that an upstream of
    /// this snapshot showed and that ends soon.
    fn problems(&self, snapshot: &crate::Snapshot) -> Vec<crate::Problem>;
    /// Whether every worker still runs; a gateway that lost one should be restarted.
    fn alive(&self) -> bool {
        true
    }
    /// Whether every worker serves a configuration and at least one of its ports is open.
    fn ready(&self) -> bool;
}
