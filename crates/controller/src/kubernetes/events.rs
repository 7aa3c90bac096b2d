//! Kubernetes Events about problems: which are due, and what they say. A pure core.
//!
//! A problem is told when it appears, and each hour while it lasts, which is how long the API server keeps
//! an Event. What comes and goes is told each ten minutes at most.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nuncio_model::{ObjectRef, Problem};
use serde_json::{Value, json};

use super::status::shortened;

/// Between two Events about the same of an object.
const REST: Duration = Duration::from_mins(10);
/// Between two while nothing changes.
const REPEAT: Duration = Duration::from_hours(1);
/// Most that is remembered; where all of it is fresh, what comes next waits.
const MOST: usize = 2_000;
/// What the API allows of a note and of a reason, in bytes,
const NOTE: usize = 1_024;
const REASON: usize = 128;
/// and what is used of an object's name in that of its Event.
const NAME: usize = 200;

/// Something to tell of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Matter {
    pub(super) object: ObjectRef,
    pub(super) api_version: String,
    pub(super) uid: Arc<str>,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Matter {
    /// What a problem says; none where it is about no object.
    pub(super) fn of(problem: &Problem, api_version: &str, uid: &Arc<str>) -> Option<Self> {
        Some(Self {
            object: problem.object.clone()?,
            api_version: api_version.to_owned(),
            uid: Arc::clone(uid),
            reason: problem.reason.to_string(),
            message: problem.message.clone(),
        })
    }

    fn key(&self) -> (Arc<str>, String) {
        (Arc::clone(&self.uid), self.reason.clone())
    }
}

/// What was told, by uid and reason.
#[derive(Debug, Default)]
pub(super) struct Told {
    entries: HashMap<(Arc<str>, String), Entry>,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    message: String,
    /// Times it was told.
    count: u32,
    /// It was over, or in other words, since it was told.
    changed: bool,
}

impl Told {
    /// Which of the present matters are to be told now. Of several with one object and reason the first.
    pub(super) fn due(&mut self, present: Vec<Matter>, now: Instant) -> Vec<Matter> {
        let mut first = HashMap::with_capacity(present.len());
        for matter in &present {
            first.entry(matter.key()).or_insert(&*matter.message);
        }
        for (key, entry) in &mut self.entries {
            entry.changed |= first.get(key) != Some(&&*entry.message);
        }
        let mut room = self.room(now);
        let mut chosen: HashMap<_, bool> = first.into_keys().map(|key| (key, false)).collect();
        let mut due = present;
        due.retain(|matter| {
            let key = matter.key();
            let is_due = match self.entries.get(&key) {
                Some(entry) => now.saturating_duration_since(entry.at) >= entry.rest(),
                None if room > 0 => {
                    room -= 1;
                    true
                }
                None => false,
            };
            is_due && chosen.insert(key, true) == Some(false)
        });
        due
    }

    /// How many more can be remembered; forgets those whose rest is over for it.
    fn room(&mut self, now: Instant) -> usize {
        let over = |entry: &Entry| now.saturating_duration_since(entry.at) >= REST;
        self.entries.retain(|_, entry| !(entry.changed && over(entry)));
        if self.entries.len() >= MOST {
            self.entries.retain(|_, entry| !over(entry));
        }
        MOST.saturating_sub(self.entries.len())
    }

    /// It was told; how often so far.
    pub(super) fn note(&mut self, matter: &Matter, now: Instant) -> u32 {
        let count = self.entries.get(&matter.key()).map_or(0, |entry| entry.count);
        let entry = Entry {
            at: now,
            message: matter.message.clone(),
            count: count.saturating_add(1),
            changed: false,
        };
        self.entries.insert(matter.key(), entry);
        count.saturating_add(1)
    }

    /// How often it was told.
    pub(super) fn count(&self, matter: &Matter) -> u32 {
        self.entries.get(&matter.key()).map_or(0, |entry| entry.count)
    }
}

impl Entry {
    fn rest(&self) -> Duration {
        if self.changed { REST } else { REPEAT }
    }
}

/// The same for the same matter, whichever gateway tells of it, so that it is told once.
pub(super) fn name(matter: &Matter) -> String {
    let mut hasher = DefaultHasher::new();
    (&matter.uid, &matter.reason, &matter.message).hash(&mut hasher);
    let object = shortened(&matter.object.name, NAME).trim_end_matches(['.', '-']);
    format!("{object}.{:016x}", hasher.finish())
}

/// The Event as it is made. `now` has microseconds.
pub(super) fn document(matter: &Matter, instance: &str, now: &str) -> Value {
    let ObjectRef {
        kind,
        namespace,
        name: object,
    } = &matter.object;
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": name(matter), "namespace": namespace},
        "eventTime": now, "type": "Warning", "reason": shortened(&matter.reason, REASON),
        "note": shortened(&matter.message, NOTE), "action": "Compile",
        "reportingController": "nuncio", "reportingInstance": shortened(instance, REASON),
        "regarding": {
            "apiVersion": matter.api_version, "kind": kind, "namespace": namespace, "name": object,
            "uid": matter.uid,
        },
    })
}

/// What makes an Event that is there already one of a series, told once more.
pub(super) fn once_more(count: u32, now: &str) -> Value {
    json!({"series": {"count": count.max(2), "lastObservedTime": now}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matter(object: &str, reason: &str, message: &str) -> Matter {
        Matter {
            object: ObjectRef::new("Mapping", "default", object),
            api_version: "getambassador.io/v3alpha1".into(),
            uid: object.into(),
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// Tells all that is due; how much that was.
    fn tell(told: &mut Told, present: &[Matter], now: Instant) -> usize {
        let due = told.due(present.to_vec(), now);
        for matter in &due {
            told.note(matter, now);
        }
        due.len()
    }

    #[test]
    fn a_problem_that_lasts_is_told_once_an_hour() {
        let (mut told, start) = (Told::default(), Instant::now());
        let present = [matter("m", "bad_value", "it is bad")];
        let minutes = (0..120).map(|minute| start + Duration::from_secs(60 * minute));
        let counts: usize = minutes.map(|now| tell(&mut told, &present, now)).sum();
        assert_eq!(counts, 2);
        assert_eq!(told.count(&present[0]), 2);
    }

    #[test]
    fn one_that_comes_and_goes_or_changes_its_words_is_told_each_ten_minutes() {
        for other in [vec![], vec![matter("m", "bad_value", "it is worse")]] {
            let (mut told, start) = (Told::default(), Instant::now());
            let mut count = 0;
            for second in 0..3600 {
                let now = start + Duration::from_secs(second);
                let there = [matter("m", "bad_value", "it is bad")];
                let present = if second % 2 == 0 { &there[..] } else { &other };
                count += tell(&mut told, present, now);
            }
            assert_eq!(count, 6);
        }
    }

    #[test]
    fn what_waits_for_its_turn_stays_due() {
        let (mut told, start) = (Told::default(), Instant::now());
        let present = vec![matter("m", "bad_value", "it is bad")];
        assert_eq!(tell(&mut told, &present, start), 1);
        assert!(told.due(Vec::new(), start).is_empty());
        let later = start + REST;
        assert_eq!(told.due(present.clone(), later).len(), 1);
        assert_eq!(told.due(present, later).len(), 1, "nobody has told it yet");
    }

    #[test]
    fn of_one_object_and_reason_only_the_first_is_told() {
        let mut told = Told::default();
        let present = [matter("m", "bad_value", "a"), matter("m", "bad_value", "b")];
        assert_eq!(tell(&mut told, &present, Instant::now()), 1);
        assert_eq!(tell(&mut told, &present, Instant::now()), 0);
        assert_eq!(told.due(vec![matter("m", "other", "a")], Instant::now()).len(), 1);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let (mut told, start) = (Told::default(), Instant::now());
        let many: Vec<_> = (0..3 * MOST)
            .map(|number| matter(&number.to_string(), "bad_value", ""))
            .collect();
        assert_eq!(tell(&mut told, &many, start), MOST);
        assert_eq!(tell(&mut told, &many, start), 0);
        assert!(tell(&mut told, &many, start + REST) > 0);
        assert!(told.entries.len() <= MOST);
    }

    #[test]
    fn an_event_keeps_to_what_the_api_takes() {
        let long = "\u{e9}".repeat(5_000);
        let event = document(
            &matter("a.b-", &long, &long),
            &long,
            "2026-01-01T00:00:00.000000Z",
        );
        assert!(event["note"].as_str().unwrap().len() <= NOTE);
        assert!(event["reason"].as_str().unwrap().len() <= REASON);
        assert!(event["reportingInstance"].as_str().unwrap().len() <= REASON);
        let name = event["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with("a.b.") && name.len() < 253, "{name}");
        assert_eq!(event["regarding"]["uid"], "a.b-");
        assert_eq!(once_more(1, "")["series"]["count"], 2);
    }
}
