//! The file descriptors of the process, and what connections may have of them.
//!
//! Each connection with a client or an upstream is counted. Clients may have connections as long as a reserve is
//! left: for upstreams, without whom no request of an open connection is answered, for the admin interface, and
//! for files. Beyond that, a new connection takes the place of the one that has been idle longest.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Connections of the process with clients and upstreams.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// What the program itself has open: files, signals, DNS, the API server.
const OWN: usize = 64;
/// What each worker has open: its runtime and its Listeners.
const OF_WORKER: usize = 16;

/// The descriptor of one connection, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Descriptor(());

impl Descriptor {
    pub(crate) fn take() -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many connections there may be, and what was done to keep to that.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    /// So many connections may be open when a client's is accepted.
    most: usize,
    /// Client connections that were closed to make room.
    shed: AtomicU64,
    /// The log says already that descriptors are scarce.
    told: AtomicBool,
}

impl Budget {
    /// For a process that may have `limit` descriptors, of which `admin` are for the admin interface.
    pub(crate) fn new(limit: usize, workers: usize, admin: usize) -> Self {
        let for_upstreams = limit / 8;
        let reserve = OWN + OF_WORKER * workers + admin + for_upstreams;
        Self {
            limit,
            most: limit.saturating_sub(reserve).max(limit / 4),
            shed: AtomicU64::new(0),
            told: AtomicBool::new(false),
        }
    }

    /// How many connections there are more than may be before another client's is accepted.
    pub(crate) fn excess(&self) -> usize {
        (OPEN.load(Ordering::Relaxed) + 1).saturating_sub(self.most)
    }

    /// Client connections were closed to make room.
    pub(crate) fn note_shed(&self, connections: usize) {
        self.shed.fetch_add(connections as u64, Ordering::Relaxed);
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "connections take nearly all of the {} files that the process may have open, so the client \
                 connections that have been idle longest are closed; raise the limit (ulimit -Hn, LimitNOFILE)",
                self.limit
            );
        }
    }

    /// There is room again; the next shortage is news.
    pub(crate) fn note_room(&self) {
        if OPEN.load(Ordering::Relaxed) < self.most / 8 * 7 {
            self.told.store(false, Ordering::Relaxed);
        }
    }

    /// Client connections that were closed to make room so far.
    pub(crate) fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_left_under_any_limit() {
        for (limit, most) in [(256, 112), (1024, 736), (20_000, 16_892), (64, 16), (0, 0)] {
            let admin = (limit / 16).clamp(16, 512);
            assert_eq!(Budget::new(limit, 2, admin).most, most, "{limit}");
        }
    }
}
