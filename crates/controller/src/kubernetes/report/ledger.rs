//! What is to be written next, and what was: a pure core.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nuncio_compile::Options;
use nuncio_model::{ObjectRef, Problem, Severity};
use serde_json::Value;

use crate::kubernetes::events::{Matter, Told};
use crate::kubernetes::kinds::{KINDS, number_of};
use crate::kubernetes::status::{self, Handshakes, Subject};
use crate::kubernetes::store::Store;

/// Most drafts at a time; the rest is looked for again once these are written.
const DRAFTS: usize = 1024;
/// The status of one object is written this often at most, however fast it changes.
const REST: Duration = Duration::from_secs(5);
/// The status of one object that could not be written is tried again after this,
const RETRY: Duration = Duration::from_secs(1);
/// and each time after twice as long, up to this.
const RETRY_MOST: Duration = Duration::from_mins(5);

/// A status to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    pub(super) object: ObjectRef,
    pub(super) uid: Arc<str>,
    pub(super) status: Value,
}

/// What one look gave.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) drafts: Vec<Draft>,
    /// There is more, now or a little later.
    pub(super) more: bool,
    pub(super) matters: Vec<Matter>,
}

/// What this gateway has written since it may.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    written: HashMap<ObjectRef, Written>,
    postponed: HashMap<ObjectRef, Postponed>,
    pub(super) told: Told,
}

/// A status that could not be written.
#[derive(Debug)]
struct Postponed {
    uid: Arc<str>,
    fingerprint: u64,
    until: Instant,
    pause: Duration,
}

#[derive(Debug)]
struct Written {
    uid: Arc<str>,
    fingerprint: u64,
    at: Instant,
}

/// What is looked at, besides the objects.
#[derive(Debug)]
pub(super) struct Sight<'a> {
    pub(super) options: &'a Options,
    /// Of the latest compile.
    pub(super) problems: &'a [Problem],
    /// What only running shows.
    pub(super) live: &'a [Problem],
    /// Mappings that a guard keeps from being served; of these no Event is written, since the guard has one.
    pub(super) guarded: &'a [Problem],
    pub(super) handshakes: &'a Handshakes,
    /// Whether Mappings are told too.
    pub(super) mappings: bool,
    /// Kinds whose status cannot be written.
    pub(super) closed: &'a [&'static str],
    pub(super) now: Instant,
    /// The same moment, as a condition has it.
    pub(super) stamp: &'a str,
}

impl Ledger {
    /// What has to be written so that every object of this gateway tells the truth about itself.
    pub(super) fn look(&mut self, store: &mut Store, sight: &Sight<'_>) -> Look {
        let mut look = Look::default();
        let mut errors = HashMap::<&ObjectRef, Vec<&Problem>>::new();
        let problems = sight.problems.iter().chain(sight.live).chain(sight.guarded);
        for problem in problems.filter(|problem| status::is_error(problem)) {
            if let Some(object) = &problem.object {
                errors.entry(object).or_default().push(problem);
            }
        }
        self.written.retain(|object, written| {
            store
                .version(object)
                .is_some_and(|version| version.uid == written.uid)
        });
        self.postponed.retain(|object, _| store.version(object).is_some());
        for (object, version) in store.versions_mut() {
            let kind = object.kind.as_str();
            if !status::has_status(kind, sight.mappings) || sight.closed.contains(&kind) {
                continue;
            }
            // Another Module is read by nobody.
            if kind == "Module" && &*object.reference.name != "ambassador" {
                continue;
            }
            let id = &sight.options.ambassador_id;
            let ours = version
                .ours
                .get_or_insert_with(|| nuncio_compile::is_for_gateway(object, id));
            // Neither is anybody told of an object that no compile has seen yet.
            let (true, Some(generation)) = (*ours, version.compiled) else {
                continue;
            };
            let subject = Subject {
                kind,
                generation,
                errors: errors.get(&object.reference).map_or(&[], Vec::as_slice),
                has: version.status.as_deref(),
            };
            let handshakes = sight.handshakes.condition(&object.reference);
            let Some(status) = status::wanted(&subject, handshakes, sight.stamp) else {
                continue;
            };
            // Another status, or one of another object, may be taken.
            let postponed = self.postponed.get(&object.reference).filter(|postponed| {
                postponed.uid == version.uid && postponed.fingerprint == status::fingerprint(&status)
            });
            if postponed.is_some_and(|postponed| sight.now < postponed.until) {
                look.more = true;
                continue;
            }
            match self.written.get(&object.reference) {
                Some(written) if written.fingerprint == status::fingerprint(&status) => {}
                Some(written) if sight.now.saturating_duration_since(written.at) < REST => look.more = true,
                _ if look.drafts.len() == DRAFTS => look.more = true,
                _ => look.drafts.push(Draft {
                    object: object.reference.clone(),
                    uid: Arc::clone(&version.uid),
                    status,
                }),
            }
        }
        look.matters = self.matters(store, sight);
        look
    }

    fn matters(&mut self, store: &Store, sight: &Sight<'_>) -> Vec<Matter> {
        let problems = sight.problems.iter().chain(sight.live);
        let serious = problems.filter(|problem| problem.severity > Severity::Notice);
        let matters = serious.filter_map(|problem| {
            let object = problem.object.as_ref()?;
            Matter::of(problem, &api_version(&object.kind)?, &store.version(object)?.uid)
        });
        self.told.due(matters.collect(), sight.now)
    }

    /// A status was written, or will never be taken.
    pub(super) fn note(&mut self, draft: &Draft, now: Instant) {
        self.postponed.remove(&draft.object);
        let written = Written {
            uid: Arc::clone(&draft.uid),
            fingerprint: status::fingerprint(&draft.status),
            at: now,
        };
        self.written.insert(draft.object.clone(), written);
    }

    /// A status could not be written, for the first time in a row or once more. The others need not wait for it.
    pub(super) fn postpone(&mut self, draft: &Draft, now: Instant) -> bool {
        let fingerprint = status::fingerprint(&draft.status);
        let before = self.postponed.get(&draft.object);
        let before = before.filter(|before| before.uid == draft.uid && before.fingerprint == fingerprint);
        let first = before.is_none();
        let pause = before.map_or(RETRY, |before| (before.pause * 2).min(RETRY_MOST));
        let postponed = Postponed {
            uid: Arc::clone(&draft.uid),
            fingerprint,
            until: now + pause,
            pause,
        };
        self.postponed.insert(draft.object.clone(), postponed);
        first
    }
}

/// Of a watched kind.
fn api_version(kind: &str) -> Option<String> {
    let known = KINDS.get(number_of(kind))?;
    Some(match known.group {
        "" => known.version.to_owned(),
        group => format!("{group}/{}", known.version),
    })
}

#[cfg(test)]
mod tests;
