//! What was written to the cluster, for metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nuncio_model::{ClusterWrites, WriteCount};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The status of an object.
    Status,
    /// A Kubernetes Event.
    Event,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It was taken.
    Written,
    /// It was not, and is not sent again as it is.
    Refused,
    /// It is tried again.
    Failed,
}

const WHATS: [(What, &str); 2] = [(What::Status, "status"), (What::Event, "event")];
const EFFECTS: [(Effect, &str); 3] = [
    (Effect::Written, "written"),
    (Effect::Refused, "refused"),
    (Effect::Failed, "failed"),
];

/// Counted since the start.
#[derive(Debug, Default)]
pub(super) struct Writes {
    leads: AtomicBool,
    counts: [[AtomicU64; EFFECTS.len()]; WHATS.len()],
}

impl Writes {
    /// Whether this gateway is the one that writes.
    pub(super) fn note_leads(&self, leads: bool) {
        self.leads.store(leads, Ordering::Relaxed);
    }

    pub(super) fn count(&self, what: What, effect: Effect) {
        self.counts[what as usize][effect as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn all(&self) -> ClusterWrites {
        let counts = WHATS.iter().flat_map(|(what, what_name)| {
            EFFECTS.iter().map(|(effect, outcome)| WriteCount {
                what: what_name,
                outcome,
                count: self.counts[*what as usize][*effect as usize].load(Ordering::Relaxed),
            })
        });
        ClusterWrites {
            leads: self.leads.load(Ordering::Relaxed),
            counts: counts.collect(),
        }
    }
}
