//! Metrics about the watches of a cluster.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use nuncio_model::{ClusterState, ClusterWrites, WriteCount};

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
    write_counts(&mut text, &cluster.writes());
    text
}

fn write_counts(text: &mut String, writes: &ClusterWrites) {
    let leads = u8::from(writes.leads);
    let _ = write!(
        text,
        "# HELP nuncio_kubernetes_leader Whether this replica is the one that writes status and Events.\n\
         # TYPE nuncio_kubernetes_leader gauge\nnuncio_kubernetes_leader {leads}\n\
         # HELP nuncio_kubernetes_writes_total Writes to the API server.\n\
         # TYPE nuncio_kubernetes_writes_total counter\n"
    );
    for WriteCount { what, outcome, count } in &writes.counts {
        let _ = writeln!(
            text,
            "nuncio_kubernetes_writes_total{{what=\"{what}\",outcome=\"{outcome}\"}} {count}"
        );
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
