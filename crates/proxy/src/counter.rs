//! Counters that one worker writes and anyone reads.
//!
//! Each worker has its own, so a request never contends with another core for a cache line; a
//! scrape adds them up.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

/// A counter with a single writer. Two writers would lose counts, never corrupt them.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, n: u64) {
        self.0.store(self.get().saturating_sub(n), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Distinct status codes that are told apart; what comes after counts as `other`.
const CODES: usize = 16;

/// Responses by status code.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    slots: [(AtomicU16, Counter); CODES],
    other: Counter,
}

impl Codes {
    /// Code 0 is for requests whose client went away before there was an answer.
    pub(crate) fn add(&self, code: u16) {
        if code == 0 {
            return self.other.add(1);
        }
        for (slot, count) in &self.slots {
            match slot.load(Ordering::Relaxed) {
                0 => slot.store(code, Ordering::Relaxed),
                taken if taken != code => continue,
                _ => {}
            }
            return count.add(1);
        }
        self.other.add(1);
    }

    /// Code and count of each slot in use; code 0 stands for all others.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (u16, u64)> {
        let slots = self
            .slots
            .iter()
            .map(|(code, count)| (code.load(Ordering::Relaxed), count.get()));
        slots
            .chain([(0, self.other.get())])
            .filter(|(_, count)| *count > 0)
    }
}

/// Upper bounds of the duration buckets, in microseconds.
pub(crate) const BUCKETS_US: [u64; 16] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 60_000_000,
];

/// A histogram of durations.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    buckets: [Counter; BUCKETS_US.len()],
    over: Counter,
    sum_us: Counter,
}

impl Durations {
    pub(crate) fn add(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.add(us);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < us);
        self.buckets.get(bucket).unwrap_or(&self.over).add(1);
    }

    /// Adds this histogram to `total`: per-bucket counts (the last is over all bounds) and seconds.
    pub(crate) fn add_to(&self, total: &mut ([u64; BUCKETS_US.len() + 1], f64)) {
        for (sum, bucket) in total.0.iter_mut().zip(self.buckets.iter().chain([&self.over])) {
            *sum += bucket.get();
        }
        #[expect(clippy::cast_precision_loss, reason = "285 years of microseconds fit")]
        let seconds = self.sum_us.get() as f64 / 1e6;
        total.1 += seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_beyond_the_slots_count_as_other() {
        let codes = Codes::default();
        for code in 200..220 {
            codes.add(code);
            codes.add(code);
        }
        let counts: Vec<_> = codes.counts().collect();
        assert_eq!(counts.len(), CODES + 1);
        assert_eq!(counts[0], (200, 2));
        assert_eq!(counts[CODES], (0, 8));
    }

    #[test]
    fn no_answer_takes_no_slot() {
        let codes = Codes::default();
        codes.add(0);
        codes.add(200);
        assert_eq!(codes.counts().collect::<Vec<_>>(), [(200, 1), (0, 1)]);
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let durations = Durations::default();
        durations.add(Duration::from_micros(250));
        durations.add(Duration::from_micros(251));
        durations.add(Duration::from_secs(3600));
        let mut total = Default::default();
        durations.add_to(&mut total);
        assert_eq!(total.0[0], 1);
        assert_eq!(total.0[1], 1);
        assert_eq!(total.0[BUCKETS_US.len()], 1);
        assert!((total.1 - 3_600.000_501).abs() < 1e-9);
    }
}
