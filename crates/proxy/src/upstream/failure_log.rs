//! When the program's own log tells of an upstream that cannot be connected to: at once for each reason, then
//! once in a while with the number of those left out. Ten thousand failures are a few lines. Time is given
//! from outside; the reasons are a closed set, which bounds what is kept.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nuncio_model::Reason;

/// Between two lines about the same.
const PAUSE: Duration = Duration::from_secs(30);

/// What was told of one upstream, by reason; or of clients, by what they did.
#[derive(Debug)]
pub(crate) struct FailureLog<K = Reason> {
    told: BTreeMap<K, Told>,
}

impl<K> Default for FailureLog<K> {
    fn default() -> Self {
        Self {
            told: BTreeMap::new(),
        }
    }
}

#[derive(Debug)]
struct Told {
    at: Instant,
    left_out: u64,
}

impl<K: Ord> FailureLog<K> {
    /// Whether a failure at `now` is told; then, how many were not since the last that was.
    pub(crate) fn admit(&mut self, reason: K, now: Instant) -> Option<u64> {
        let Some(told) = self.told.get_mut(&reason) else {
            self.told.insert(reason, Told { at: now, left_out: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(told.at) < PAUSE {
            told.left_out += 1;
            return None;
        }
        told.at = now;
        Some(std::mem::take(&mut told.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_failures_are_a_few_lines_that_count_them_all() {
        let (start, mut log) = (Instant::now(), FailureLog::default());
        let mut lines = Vec::new();
        for n in 0..10_000_u32 {
            // One each 10 ms: 100 seconds.
            let now = start + Duration::from_millis(10) * n;
            lines.extend(log.admit(Reason::Expired, now));
        }
        assert_eq!(lines, [0, 2999, 2999, 2999]);
        let later = start + PAUSE * 10;
        assert_eq!(log.admit(Reason::Expired, later), Some(999));
    }

    #[test]
    fn each_reason_is_told_by_itself() {
        let (now, mut log) = (Instant::now(), FailureLog::default());
        assert_eq!(log.admit(Reason::Expired, now), Some(0));
        assert_eq!(log.admit(Reason::NameMismatch, now), Some(0));
        assert_eq!(log.admit(Reason::Expired, now), None);
    }
}
