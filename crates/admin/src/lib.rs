//! Health, metrics and JSON about a running gateway.
//!
//! ```text
//! /ambassador/v0/check_alive, check_ready   one line of text, 200 or 503
//! /ambassador/v0/diag/[?json=true]          what the reference's users ask for, in its keys
//! /api/v1/{problems,routes,upstreams,certificates}
//! /metrics
//! ```
//!
//! Everything is read from two handles, the published configuration and the running proxy, and nothing
//! can be changed. Of a private key this crate sees no more than that there is one.

mod answer;
mod body;
mod certificates;
mod cluster;
mod diagnostics;
mod health;
mod names;
mod pages;
mod places;
mod problems;
mod process;
mod query;
mod routes;
mod server;
#[cfg(test)]
mod tests;
mod upstreams;

use std::sync::Arc;
use std::time::SystemTime;

use nuncio_model::{ClusterState, Live, Snapshot};
use tokio::sync::watch;

pub use self::server::serve;

/// What the admin interface reads; it changes nothing.
#[derive(Clone)]
pub struct Admin {
    /// The configuration in force; none before the first complete one.
    pub snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    /// The running proxy.
    pub live: Arc<dyn Live>,
    /// Who we are.
    pub about: About,
    /// The cluster that is watched; none in file mode.
    pub cluster: Option<Arc<dyn ClusterState>>,
    /// Whether this process is about to end, and should get no more traffic.
    pub leaving: watch::Receiver<bool>,
    /// Lines of the program's own log that were lost so far.
    pub lost_log_lines: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Names that it answers to besides its addresses and `localhost`, in lower case.
    pub names: Vec<String>,
    /// Connections that may be open at once, each with a descriptor.
    pub max_connections: usize,
}

impl Admin {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.borrow().clone()
    }
}

/// Facts about this process, shown under `system` on the diagnostics page.
#[derive(Clone, Debug)]
pub struct About {
    /// Of the program.
    pub version: String,
    /// Of the machine.
    pub hostname: String,
    /// `AMBASSADOR_ID`.
    pub ambassador_id: String,
    /// The gateway's own namespace.
    pub namespace: String,
    /// Whether only that namespace is read.
    pub single_namespace: bool,
    /// `file` or `kubernetes`.
    pub mode: &'static str,
    /// When the process started.
    pub started: SystemTime,
}
