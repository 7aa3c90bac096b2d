//! How fast the API server is written to: a pure core, moments come from outside.

use std::time::Instant;

/// Permits that come back with time.
#[derive(Debug)]
pub(super) struct Bucket {
    most: f64,
    per_second: f64,
    left: f64,
    since: Option<Instant>,
}

impl Bucket {
    /// Full, with so many permits.
    pub(super) fn new(most: u32, per_second: u32) -> Self {
        Self {
            most: most.into(),
            per_second: per_second.into(),
            left: most.into(),
            since: None,
        }
    }

    /// Takes a permit where there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let since = self.since.replace(now).unwrap_or(now);
        let passed = now.saturating_duration_since(since).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.most);
        let has = self.left >= 1.0;
        if has {
            self.left -= 1.0;
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_so_many_a_second() {
        let (mut bucket, start) = (Bucket::new(10, 5), Instant::now());
        let mut taken = |seconds: u64| {
            let now = start + Duration::from_secs(seconds);
            (0..100).filter(|_| bucket.take(now)).count()
        };
        assert_eq!(taken(0), 10);
        assert_eq!(taken(0), 0);
        assert_eq!(taken(1), 5);
        assert_eq!(taken(1000), 10);
    }
}
