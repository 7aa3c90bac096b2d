//! How long to wait before the API server is asked again: a pure core, chance comes from outside.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
/// Short enough that a gateway has caught up a few seconds after the API server is back.
const MOST: Duration = Duration::from_secs(3);

/// Grows with each failure in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure. `chance` is between 0 and 1 and spreads replicas: the pause is
    /// between half and the whole of its step.
    pub(crate) fn next(&mut self, chance: f64) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failures.min(10)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_start_anew() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..40).map(|_| backoff.next(1.0)).collect();
        assert_eq!(pauses[..3], [FIRST, FIRST * 2, FIRST * 4]);
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(pauses.last(), Some(&MOST));
        assert_eq!(backoff.next(0.0), MOST / 2);
        backoff.reset();
        assert_eq!(backoff.next(1.0), FIRST);
    }
}
