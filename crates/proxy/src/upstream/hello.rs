//! Which TLS hello an endpoint is sent (decision 19).
//!
//! The hello that offers post-quantum key exchange is larger than one packet, and there are servers and
//! boxes on the way that lose such a one or hang up on it. An endpoint that leaves it unanswered is sent a
//! small one beside it, on a second connection, and what it answers is remembered for a time. The large one
//! is not given up meanwhile: a server that is merely slow is still heard. Time is given from outside.

use std::time::{Duration, Instant};

/// An unknown endpoint is sent the second hello after this, or after half of the time that is left.
const HEAD_START: Duration = Duration::from_secs(1);
/// One that is known to leave large ones unanswered, when it is asked again whether it still does.
const SHORT_HEAD_START: Duration = Duration::from_millis(250);
/// How long such an endpoint is sent small hellos only.
const STALL_MEMORY: Duration = Duration::from_secs(600);
/// How long an endpoint that answers neither is sent one hello only.
const SILENCE_MEMORY: Duration = Duration::from_secs(60);
/// While one handshake asks again, the others stay with what is known for so long.
const TRIAL: Duration = Duration::from_secs(30);

/// What is known of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Hellos {
    known: Known,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Known {
    #[default]
    Nothing,
    /// It answers large ones.
    Answers,
    /// It answers small ones only.
    Stalls { until: Instant },
    /// It answers neither, so the size is not what is wrong.
    IsSilent { until: Instant },
}

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// A large hello.
    Large,
    /// A large one, and after the head start a small one beside it.
    Both { head_start: Duration },
    /// A small one.
    Small,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    Large,
    /// And not the large one.
    Small,
    Neither,
}

impl Hellos {
    /// What to send at `now` where `left` is the time for the handshake.
    pub(crate) fn plan(&mut self, now: Instant, left: Duration) -> Plan {
        match self.known {
            Known::Answers => Plan::Large,
            Known::IsSilent { until } if now < until => Plan::Large,
            Known::Nothing | Known::IsSilent { .. } => Plan::Both {
                head_start: HEAD_START.min(left / 2),
            },
            Known::Stalls { until } if now < until => Plan::Small,
            Known::Stalls { .. } => {
                self.known = Known::Stalls { until: now + TRIAL };
                Plan::Both {
                    head_start: SHORT_HEAD_START.min(left / 2),
                }
            }
        }
    }

    /// What came of a plan. Returns whether it is news that the endpoint answers small hellos only.
    pub(crate) fn learn(&mut self, plan: Plan, answered: Answered, now: Instant) -> bool {
        let before = self.known;
        self.known = match (plan, answered, before) {
            (_, Answered::Large, _) => Known::Answers,
            (Plan::Both { .. }, Answered::Small, _) => Known::Stalls {
                until: now + STALL_MEMORY,
            },
            // It may be down; what was known of it before still tells more.
            (_, Answered::Neither, Known::Stalls { .. }) => before,
            (Plan::Both { .. }, Answered::Neither, _) => Known::IsSilent {
                until: now + SILENCE_MEMORY,
            },
            // It answered once. What stands before it may have changed.
            (Plan::Large, Answered::Neither, Known::Answers) => Known::Nothing,
            (Plan::Large | Plan::Small, ..) => before,
        };
        matches!(self.known, Known::Stalls { .. }) && !matches!(before, Known::Stalls { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Duration = Duration::from_secs(3);
    const BOTH: Plan = Plan::Both {
        head_start: HEAD_START,
    };

    #[test]
    fn one_that_answers_is_sent_large_hellos() {
        let (now, mut hellos) = (Instant::now(), Hellos::default());
        assert_eq!(hellos.plan(now, LEFT), BOTH);
        assert!(!hellos.learn(BOTH, Answered::Large, now));
        assert_eq!(hellos.plan(now, LEFT), Plan::Large);
        // It falls silent: the next finds out what that is about.
        hellos.learn(Plan::Large, Answered::Neither, now);
        assert_eq!(hellos.plan(now, LEFT), BOTH);
    }

    #[test]
    fn one_that_stalls_is_sent_small_hellos_and_asked_again_later() {
        let (now, mut hellos) = (Instant::now(), Hellos::default());
        assert!(hellos.learn(BOTH, Answered::Small, now), "that is news");
        assert_eq!(hellos.plan(now, LEFT), Plan::Small);
        assert!(!hellos.learn(Plan::Small, Answered::Neither, now));
        assert_eq!(hellos.plan(now + STALL_MEMORY - TRIAL, LEFT), Plan::Small);

        let later = now + STALL_MEMORY;
        let again = hellos.plan(later, LEFT);
        assert_eq!(
            again,
            Plan::Both {
                head_start: SHORT_HEAD_START
            }
        );
        assert_eq!(hellos.plan(later, LEFT), Plan::Small, "one asks at a time");
        assert!(!hellos.learn(again, Answered::Small, later), "that was known");
        assert_eq!(hellos.plan(later + STALL_MEMORY - TRIAL, LEFT), Plan::Small);
        hellos.learn(again, Answered::Large, later);
        assert_eq!(hellos.plan(later, LEFT), Plan::Large);
    }

    #[test]
    fn one_that_answers_neither_is_not_sent_two_each_time() {
        let (now, mut hellos) = (Instant::now(), Hellos::default());
        hellos.learn(BOTH, Answered::Neither, now);
        assert_eq!(hellos.plan(now, LEFT), Plan::Large);
        hellos.learn(Plan::Large, Answered::Neither, now);
        assert_eq!(hellos.plan(now, LEFT), Plan::Large);
        assert_eq!(hellos.plan(now + SILENCE_MEMORY, LEFT), BOTH);
    }

    #[test]
    fn half_of_a_short_time_is_left_for_the_second() {
        let mut hellos = Hellos::default();
        let plan = hellos.plan(Instant::now(), Duration::from_millis(300));
        let head_start = Duration::from_millis(150);
        assert_eq!(plan, Plan::Both { head_start });
    }
}
