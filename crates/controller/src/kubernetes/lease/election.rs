//! Who holds a Lease and what to do about it: a pure core, moments come from outside.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::DynamicObject;
use serde_json::Value;

/// How long a Lease lasts that is not renewed.
pub(super) const DURATION: Duration = Duration::from_secs(15);
/// How long its holder relies on it; shorter, so that there are never two.
const RELY: Duration = Duration::from_secs(10);
/// What a Lease says of how long it lasts is believed up to here.
const LONGEST: Duration = Duration::from_secs(300);

/// A Lease as the API server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) holder: String,
    duration: Duration,
    /// Changes whenever anybody writes it.
    version: String,
}

impl Record {
    pub(super) fn of(lease: &DynamicObject) -> Self {
        let spec = lease.data.get("spec").unwrap_or(&Value::Null);
        let seconds = spec["leaseDurationSeconds"].as_u64();
        Self {
            holder: spec["holderIdentity"].as_str().unwrap_or_default().to_owned(),
            duration: seconds.map_or(DURATION, Duration::from_secs).min(LONGEST),
            version: lease.metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// There is none: make it.
    Create,
    /// It is nobody's any more: make it ours.
    Take,
    /// It is ours: say that we live.
    Renew,
    /// It is another's.
    Wait,
}

/// What one contender knows.
#[derive(Debug)]
pub(super) struct Election {
    identity: Arc<str>,
    /// Another's Lease, and since when it is like this.
    seen: Option<(Record, Instant)>,
    until: Option<Instant>,
}

impl Election {
    pub(super) fn new(identity: Arc<str>) -> Self {
        Self {
            identity,
            seen: None,
            until: None,
        }
    }

    /// What to do about the Lease as it is now.
    pub(super) fn decide(&mut self, record: Option<&Record>, now: Instant) -> Move {
        let Some(record) = record else {
            self.until = None;
            return Move::Create;
        };
        if *record.holder == *self.identity {
            return Move::Renew;
        }
        self.until = None;
        if record.holder.is_empty() {
            return Move::Take;
        }
        match &self.seen {
            Some((seen, since)) if seen == record => {
                let silent = now.saturating_duration_since(*since);
                if silent >= record.duration {
                    Move::Take
                } else {
                    Move::Wait
                }
            }
            _ => {
                self.seen = Some((record.clone(), now));
                Move::Wait
            }
        }
    }

    /// It was created, taken or renewed by what was asked at this moment.
    pub(super) fn won(&mut self, asked: Instant) {
        self.seen = None;
        self.until = Some(asked + RELY);
    }

    /// Until when it may be relied on; none where it is not held.
    pub(super) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(holder: &str, version: &str) -> Record {
        Record {
            holder: holder.to_owned(),
            duration: DURATION,
            version: version.to_owned(),
        }
    }

    #[test]
    fn a_lease_that_is_renewed_stays_where_it_is() {
        let mut election = Election::new("us".into());
        let start = Instant::now();
        for second in 0..100 {
            let held = record("other", &second.to_string());
            let now = start + Duration::from_secs(10 * second);
            assert_eq!(election.decide(Some(&held), now), Move::Wait);
        }
        assert_eq!(election.held_until(start), None);
    }

    #[test]
    fn one_that_is_silent_for_its_whole_time_is_taken_and_not_sooner() {
        let mut election = Election::new("us".into());
        let start = Instant::now();
        let held = record("other", "1");
        assert_eq!(election.decide(Some(&held), start), Move::Wait);
        let early = start + DURATION - Duration::from_millis(1);
        assert_eq!(election.decide(Some(&held), early), Move::Wait);
        assert_eq!(election.decide(Some(&held), start + DURATION), Move::Take);
    }

    #[test]
    fn one_that_was_let_go_or_is_not_there_is_taken_at_once() {
        let mut election = Election::new("us".into());
        let now = Instant::now();
        assert_eq!(election.decide(Some(&record("", "1")), now), Move::Take);
        assert_eq!(election.decide(None, now), Move::Create);
    }

    #[test]
    fn who_holds_it_stops_before_another_can_take_it() {
        let (mut us, mut other) = (Election::new("us".into()), Election::new("other".into()));
        let start = Instant::now();
        us.won(start);
        let held = record("us", "1");
        assert_eq!(other.decide(Some(&held), start), Move::Wait);
        let mut now = start;
        while other.decide(Some(&held), now) == Move::Wait {
            now += Duration::from_millis(100);
        }
        assert_eq!(us.held_until(now), None);
        assert!(us.held_until(start + RELY / 2).is_some());
    }

    #[test]
    fn who_sees_another_in_its_place_has_lost_it() {
        let mut election = Election::new("us".into());
        let now = Instant::now();
        election.won(now);
        assert_eq!(election.decide(Some(&record("us", "1")), now), Move::Renew);
        assert!(election.held_until(now).is_some());
        assert_eq!(election.decide(Some(&record("other", "2")), now), Move::Wait);
        assert_eq!(election.held_until(now), None);
    }

    #[test]
    fn a_lease_that_claims_to_last_for_ever_is_not_believed() {
        let lease: DynamicObject = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "l", "resourceVersion": "1"},
            "spec": {"holderIdentity": "other", "leaseDurationSeconds": u64::MAX},
        }))
        .unwrap();
        assert_eq!(Record::of(&lease).duration, LONGEST);
    }
}
