//! When to compile although no file changed: certificates end, and warnings of it are due before. A pure core, the
//! clock comes from outside.

use std::time::SystemTime;

/// Tells the time.
pub(crate) type Clock = dyn Fn() -> SystemTime + Send + Sync;

/// What the latest compile left to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agenda {
    compiled: SystemTime,
    next: Option<SystemTime>,
}

impl Agenda {
    /// After a compile that took it to be `compiled` and holds until `next`.
    pub(crate) fn new(compiled: SystemTime, next: Option<SystemTime>) -> Self {
        Self { compiled, next }
    }

    /// Whether it is time. A clock that was put back counts too: what was told of a later time does not hold.
    pub(crate) fn is_due(&self, now: SystemTime) -> bool {
        now < self.compiled || self.next.is_some_and(|next| next <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn second(n: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(n)
    }

    #[test]
    fn it_is_due_from_the_moment_on() {
        let agenda = Agenda::new(second(10), Some(second(20)));
        let due: Vec<bool> = [10, 19, 20, 1000].map(|n| agenda.is_due(second(n))).into();
        assert_eq!(due, [false, false, true, true]);
    }

    #[test]
    fn nothing_to_come_is_never_due() {
        assert!(!Agenda::new(second(10), None).is_due(second(u32::MAX.into())));
    }

    #[test]
    fn a_clock_that_was_put_back_makes_it_due() {
        assert!(Agenda::new(second(10), None).is_due(second(9)));
    }
}
