//! Metrics about the watches of a cluster.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use nuncio_model::ClusterState;

/// In Prometheus' text format.
pub(crate) fn metrics(cluster: &dyn ClusterState) -> String {
    let watches = cluster.watches();
    let mut text = String::new();
    text.push_str(
        "# HELP nuncio_kubernetes_watch_up Whether the watch of a kind stands.\n\
         # TYPE nuncio_kubernetes_watch_up gauge\n",
    );
    for watch in &watches {
        let up = u8::from(watch.up);
        // Writing to a String does not fail.
        let _ = writeln!(text, "nuncio_kubernetes_watch_up{{kind=\"{}\"}} {up}", watch.kind);
    }
    text.push_str(
        "# HELP nuncio_kubernetes_last_heard_seconds When the API server last told anything of a kind, \
         in seconds since 1970.\n# TYPE nuncio_kubernetes_last_heard_seconds gauge\n",
    );
    for watch in &watches {
        let Some(heard) = watch.heard else { continue };
        let seconds = seconds(heard);
        let _ = writeln!(
            text,
            "nuncio_kubernetes_last_heard_seconds{{kind=\"{}\"}} {seconds}",
            watch.kind
        );
    }
    text
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
