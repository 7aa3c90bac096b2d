//! How well a cluster is heard; written by whoever watches it, read by the metrics.

use std::time::SystemTime;

/// What is known of one watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchState {
    /// What it watches, as the API calls it: `mappings`, `secrets`, ...
    pub kind: &'static str,
    /// Whether it stands.
    pub up: bool,
    /// When anything was last heard; none before the first time.
    pub heard: Option<SystemTime>,
}

/// The cluster that configuration comes from.
pub trait ClusterState: Send + Sync {
    /// Every watch that has begun, in a fixed order.
    fn watches(&self) -> Vec<WatchState>;
}
