//! Health, metrics and JSON about a running gateway.

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use nuncio_model::{Live, Snapshot};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What the admin interface reads; it changes nothing.
#[derive(Clone)]
pub struct Admin {
    /// The configuration in force; none before the first complete one.
    pub snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    /// The running proxy.
    pub live: Arc<dyn Live>,
    /// Who we are.
    pub about: About,
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

/// Serves the admin interface on `listener` until `stop` is done, then finishes what is in flight.
pub async fn serve(
    _listener: TcpListener,
    _admin: Admin,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    stop.await;
    Ok(())
}
