//! The gateway between curl and a foreign server.

use std::net::SocketAddr;

use serde_json::Value;

use super::Result;
use super::files::NAME;
use super::foreign::{Answer, curl};
use crate::support::program::Gateway;
use crate::support::program::{mapping, tls_context};

/// A gateway that sends everything to the server at `upstream`, which it knows as [`NAME`]; lines of the
/// TLSContext's spec, and further lines of the Mapping's.
pub(super) async fn in_front_of(upstream: SocketAddr, tls: &[&str], more: &[&str]) -> Gateway {
    let service = format!("https://{NAME}:{}", upstream.port());
    let more = [
        &["tls: peers", "timeout_ms: 20000", "connect_timeout_ms: 10000"],
        more,
    ]
    .concat();
    let manifests = tls_context("peers", tls) + &mapping("peers", "/", &service, &more);
    Gateway::with(manifests)
        .resolve(&format!("{NAME}:{}", upstream.port()), upstream)
        .start()
        .await
}

/// A path on the gateway.
pub(super) fn url(gateway: &Gateway, path: &str) -> String {
    format!("http://{}{path}", gateway.address)
}

/// One request by curl.
pub(super) fn get(gateway: &Gateway, path: &str) -> Result<Answer> {
    curl(&["--http1.1", &url(gateway, path)])
}

/// The report of the last handshake with the upstream, from the admin interface.
pub(super) async fn last_handshake(gateway: &Gateway) -> Result<Value> {
    let upstream = gateway.upstream_of("peers").await;
    let report = upstream
        .pointer("/endpoints/0/last_handshake")
        .filter(|report| report.is_object());
    report
        .cloned()
        .ok_or_else(|| format!("no last handshake: {upstream:#}").into())
}

/// The sum of the handshake counters whose labels hold `label`.
pub(super) async fn handshakes(gateway: &Gateway, label: &str) -> Result<f64> {
    counter(gateway, "nuncio_upstream_handshakes_total{", label).await
}

/// How many handshakes took two hellos.
pub(super) async fn hello_retries(gateway: &Gateway) -> Result<f64> {
    counter(gateway, "nuncio_upstream_hello_retries_total{", "").await
}

/// The sum of the counters that begin with `name` and hold `label`.
async fn counter(gateway: &Gateway, name: &str, label: &str) -> Result<f64> {
    let metrics = gateway.admin("/metrics").await;
    let mut sum = 0.0;
    for line in metrics.text().lines() {
        if line.starts_with(name) && line.contains(label) {
            sum += line.rsplit(' ').next().unwrap_or_default().parse::<f64>()?;
        }
    }
    Ok(sum)
}
