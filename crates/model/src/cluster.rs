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

/// How often something was written to the cluster since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteCount {
    /// `status` or `event`.
    pub what: &'static str,
    /// `written`, `refused` or `failed`.
    pub outcome: &'static str,
    /// How often.
    pub count: u64,
}

/// What this gateway writes to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterWrites {
    /// Whether it is the one of its replicas that writes.
    pub leads: bool,
    /// In a fixed order.
    pub counts: Vec<WriteCount>,
}

/// The cluster that configuration comes from.
pub trait ClusterState: Send + Sync {
    /// What was written to it.
    fn writes(&self) -> ClusterWrites;
    /// Every watch that has begun, in a fixed order.
    fn watches(&self) -> Vec<WatchState>;

    /// Kinds that were never listed to the end, each with the cause in brackets.
    fn unlisted(&self) -> Vec<String>;
}
