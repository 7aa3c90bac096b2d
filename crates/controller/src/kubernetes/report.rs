//! Tells the cluster's objects what became of them: status by server-side apply, problems as Events too.
//!
//! Only the gateway that holds the Lease writes. What there is to write follows from what was compiled and
//! what the API server has, so nothing queues: a status that is overtaken is never sent, and what could
//! not be written is found again.

mod bucket;
mod ledger;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use nuncio_model::{Live, Problem, Snapshot};
use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, timeout};

use self::bucket::Bucket;
use self::ledger::{Draft, Ledger, Look, Sight};
use super::backoff::Backoff;
use super::events::{self, Matter};
use super::follow::unreached;
use super::health::ClusterHealth;
use super::kinds::{KINDS, number_of};
use super::lease::{Claim, Keeper, Leadership};
use super::status::{self, Handshakes, Upstreams};
use super::writes::{Effect, What};
use super::{Desk, Mode};

/// Who owns the fields that are applied.
const MANAGER: &str = "nuncio";
/// How often it is looked whether there is anything to write.
const TICK: Duration = Duration::from_secs(1);
/// How often upstreams are asked for their last handshakes.
const LIVE_PAUSE: Duration = Duration::from_secs(5);
/// A write has this long.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a kind is left alone whose status must not or cannot be written, and Events alike.
const CLOSED: Duration = Duration::from_mins(1);
/// Writes in a row that fail before the API server is left alone: one may fail for what it is about.
const FAILURES: u32 = 3;
/// Status that is written at once, and then each second.
const STATUS: (u32, u32) = (100, 50);
/// The same of Events.
const EVENTS: (u32, u32) = (25, 5);
const EVENT: &str = "Event";

/// The tasks that write.
pub(super) struct Reporting {
    reporter: JoinHandle<()>,
    keeper: JoinHandle<()>,
    leave: oneshot::Sender<()>,
}

impl Reporting {
    /// Begins to strive for the Lease, and to write once it is had.
    pub(super) fn start(
        mode: &Mode,
        (snapshots, live): (watch::Receiver<Option<Arc<Snapshot>>>, Arc<dyn Live>),
    ) -> Self {
        let client = mode.followers.client.clone();
        let (claim, compiled) = {
            let desk = mode.desk.lock().unwrap_or_else(PoisonError::into_inner);
            let claim = Claim::new(&desk.options.namespace, &desk.options.ambassador_id);
            (claim, Arc::clone(&desk.compiled))
        };
        let identity = Arc::clone(&claim.identity);
        let (keeper, leadership) = Keeper::new(client.clone(), claim, Arc::clone(&mode.health));
        let reporter = Reporter {
            client,
            leadership,
            identity,
            desk: Arc::clone(&mode.desk),
            compiled,
            snapshots,
            live,
            health: Arc::clone(&mode.health),
            mappings: mode.followers.cluster.mapping_status,
            work: Work::default(),
        };
        let (leave, left) = oneshot::channel();
        Self {
            reporter: tokio::spawn(reporter.report()),
            // A sender that is gone means leave as well.
            keeper: tokio::spawn(keeper.keep(async { drop(left.await) })),
            leave,
        }
    }

    /// Writes no more and lets go of the Lease, so that another gateway may write.
    pub(super) async fn end(self) {
        self.reporter.abort();
        // Nobody listens only where the task has ended already.
        let _ = self.leave.send(());
        let _ = self.keeper.await;
    }
}

/// Writes while the Lease is held.
struct Reporter {
    client: Client,
    leadership: Leadership,
    identity: Arc<str>,
    desk: Arc<Mutex<Desk>>,
    /// How many compiles there were.
    compiled: Arc<AtomicU64>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    live: Arc<dyn Live>,
    health: Arc<ClusterHealth>,
    /// Whether Mappings are told too.
    mappings: bool,
    work: Work,
}

/// What is known while the Lease is held, and forgotten with it.
struct Work {
    ledger: Ledger,
    drafts: std::vec::IntoIter<Draft>,
    matters: std::vec::IntoIter<Matter>,
    /// Something may have changed since the last look.
    unsure: bool,
    compiled: u64,
    upstreams: Option<(Arc<Snapshot>, Upstreams)>,
    /// What is answered 503 because of a guard, of the same snapshot.
    guarded: Vec<Problem>,
    handshakes: Handshakes,
    problems: Vec<Problem>,
    asked: Option<Instant>,
    doors: HashMap<&'static str, Door>,
    status_pace: Bucket,
    event_pace: Bucket,
    backoff: Backoff,
    not_before: Option<Instant>,
}

/// Whether a kind can be written to.
#[derive(Debug, Default)]
struct Door {
    closed_until: Option<Instant>,
    /// That it is closed is in the log.
    told: bool,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            ledger: Ledger::default(),
            drafts: Vec::new().into_iter(),
            matters: Vec::new().into_iter(),
            unsure: true,
            compiled: 0,
            upstreams: None,
            guarded: Vec::new(),
            handshakes: Handshakes::default(),
            problems: Vec::new(),
            asked: None,
            doors: HashMap::new(),
            status_pace: Bucket::new(STATUS.0, STATUS.1),
            event_pace: Bucket::new(EVENTS.0, EVENTS.1),
            backoff: Backoff::default(),
            not_before: None,
        }
    }
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Done,
    /// There is one by that name.
    Exists,
    /// The object is gone, or is another by now.
    Moved,
    /// Nothing of this kind can be written; why.
    Closed(String),
    /// This will never be taken; why.
    Rejected(String),
    /// It may go well next time, and others may now; why not this one.
    Failed(String),
    /// The API server takes nothing at the moment; why.
    Away(String),
}

impl Reporter {
    /// Writes what is due, for ever, and only while the Lease is held.
    async fn report(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if !self.leadership.holds() {
                self.forget();
                continue;
            }
            let mut leadership = self.leadership.clone();
            tokio::select! {
                biased;
                () = leadership.lost() => {}
                () = self.work() => {}
            }
        }
    }

    /// Another gateway may write meanwhile. What is forbidden stays told.
    fn forget(&mut self) {
        let mut doors = std::mem::take(&mut self.work.doors);
        for door in doors.values_mut() {
            door.closed_until = None;
        }
        self.work = Work {
            doors,
            ..Work::default()
        };
    }

    async fn work(&mut self) {
        let now = Instant::now();
        if self.work.not_before.is_some_and(|until| now < until) {
            return;
        }
        self.look(now).await;
        if self.write_statuses().await {
            self.write_events().await;
        }
    }

    /// Finds what there is to write, where something may have changed.
    async fn look(&mut self, now: Instant) {
        let Some(snapshot) = self.snapshots.borrow().clone() else {
            return;
        };
        let asked = self.work.asked;
        if asked.is_none_or(|asked| now.duration_since(asked) >= LIVE_PAUSE) {
            self.work.asked = Some(now);
            self.look_at_live(&snapshot);
            self.open_doors(now);
            // An Event may have become due.
            self.work.unsure = true;
        }
        let compiled = self.compiled.load(Ordering::Acquire);
        if !self.work.unsure && compiled == self.work.compiled {
            return;
        }
        self.work.compiled = compiled;
        let look = self.look_at_objects(now).await;
        self.work.unsure = look.more;
        self.work.drafts = look.drafts.into_iter();
        self.work.matters = look.matters.into_iter();
    }

    fn look_at_live(&mut self, snapshot: &Arc<Snapshot>) {
        let upstreams = match self.work.upstreams.take() {
            Some((of, upstreams)) if Arc::ptr_eq(&of, snapshot) => upstreams,
            _ => {
                self.work.guarded = status::guarded(snapshot);
                Upstreams::of(snapshot)
            }
        };
        self.work.handshakes = Handshakes::look(&upstreams, snapshot, &*self.live);
        self.work.upstreams = Some((Arc::clone(snapshot), upstreams));
        self.work.problems = self.live.problems(snapshot);
        self.work.problems.extend(self.work.handshakes.problems());
    }

    async fn look_at_objects(&mut self, now: Instant) -> Look {
        let closed: Vec<_> = self
            .work
            .doors
            .iter()
            .filter(|(_, door)| door.closed_until.is_some())
            .map(|(kind, _)| *kind)
            .collect();
        let mut ledger = std::mem::take(&mut self.work.ledger);
        let handshakes = std::mem::take(&mut self.work.handshakes);
        let live = std::mem::take(&mut self.work.problems);
        let guarded = std::mem::take(&mut self.work.guarded);
        let (desk, mappings) = (Arc::clone(&self.desk), self.mappings);
        // Ten thousand objects take some milliseconds, and a compile may hold them.
        let looked = spawn_blocking(move || {
            let desk = &mut *desk.lock().unwrap_or_else(PoisonError::into_inner);
            let sight = Sight {
                options: &desk.options,
                problems: &desk.problems,
                live: &live,
                guarded: &guarded,
                handshakes: &handshakes,
                mappings,
                closed: &closed,
                now,
                stamp: &format!("{:.0}", Timestamp::now()),
            };
            let look = ledger.look(&mut desk.store, &sight);
            (look, ledger, handshakes, live, guarded)
        });
        let Ok((look, ledger, handshakes, live, guarded)) = looked.await else {
            return Look::default();
        };
        self.work.ledger = ledger;
        self.work.handshakes = handshakes;
        self.work.problems = live;
        self.work.guarded = guarded;
        look
    }

    /// Writes as much as its pace allows; says whether the API server takes it.
    async fn write_statuses(&mut self) -> bool {
        let mut failures = 0;
        while !self.work.drafts.as_slice().is_empty() {
            let now = Instant::now();
            if !self.work.status_pace.take(now) {
                return true;
            }
            let Some(draft) = self.work.drafts.next() else {
                return true;
            };
            let Some(kind) = KINDS.get(number_of(&draft.object.kind)).map(|kind| kind.kind) else {
                continue;
            };
            if self.is_closed(kind) {
                continue;
            }
            let answer = self.apply(&draft).await;
            let mut is_away = false;
            let effect = match answer {
                Answer::Done => {
                    self.work.ledger.note(&draft, now);
                    Effect::Written
                }
                Answer::Moved | Answer::Exists => {
                    self.work.unsure = true;
                    Effect::Refused
                }
                Answer::Rejected(words) => {
                    self.work.ledger.note(&draft, now);
                    tracing::warn!("the status of {} is not taken: {words}", draft.object);
                    Effect::Refused
                }
                Answer::Closed(words) => {
                    self.close(kind, &words, now);
                    Effect::Refused
                }
                Answer::Failed(words) => {
                    failures += 1;
                    is_away = failures == FAILURES;
                    self.postpone(&draft, &words, now);
                    Effect::Failed
                }
                Answer::Away(words) => {
                    is_away = true;
                    self.work.unsure = true;
                    tracing::debug!("the status of {} is written later: {words}", draft.object);
                    Effect::Failed
                }
            };
            self.health.writes.count(What::Status, effect);
            if is_away {
                self.pause(now);
                return false;
            }
            if effect != Effect::Failed {
                failures = 0;
                self.work.backoff.reset();
            }
        }
        true
    }

    async fn apply(&self, draft: &Draft) -> Answer {
        let Some(kind) = KINDS.get(number_of(&draft.object.kind)) else {
            return Answer::Moved;
        };
        let resource = kind.resource();
        let object = &draft.object;
        let document = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": object.name, "namespace": object.namespace},
            "status": draft.status,
        });
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &object.namespace, &resource);
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&document);
        let write = api.patch_status(&object.name, &params, &patch);
        answer(timeout(LIMIT, write).await)
    }

    async fn write_events(&mut self) {
        while !self.work.matters.as_slice().is_empty() {
            let now = Instant::now();
            if self.is_closed(EVENT) || !self.work.event_pace.take(now) {
                return;
            }
            let Some(matter) = self.work.matters.next() else {
                return;
            };
            let mut answer = self.tell(&matter).await;
            if answer == Answer::Exists {
                answer = self.tell_once_more(&matter).await;
            }
            let effect = match answer {
                Answer::Done => Effect::Written,
                // It was forgotten meanwhile; there is a next time.
                Answer::Moved | Answer::Exists => Effect::Refused,
                Answer::Rejected(words) => {
                    tracing::warn!("an Event about {} is not taken: {words}", matter.object);
                    Effect::Refused
                }
                Answer::Closed(words) => {
                    self.close(EVENT, &words, now);
                    Effect::Refused
                }
                Answer::Failed(words) | Answer::Away(words) => {
                    tracing::debug!("an Event about {} is written later: {words}", matter.object);
                    self.pause(now);
                    Effect::Failed
                }
            };
            self.health.writes.count(What::Event, effect);
            if effect == Effect::Failed || self.is_closed(EVENT) {
                return;
            }
            self.work.ledger.told.note(&matter, now);
            self.work.backoff.reset();
        }
    }

    fn events(&self, namespace: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("events.k8s.io", "v1", EVENT);
        let resource = ApiResource::from_gvk_with_plural(&kind, "events");
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    async fn tell(&self, matter: &Matter) -> Answer {
        let document = events::document(matter, &self.identity, &now());
        let Ok(event) = serde_json::from_value::<DynamicObject>(document) else {
            return Answer::Moved;
        };
        let api = self.events(&matter.object.namespace);
        answer(timeout(LIMIT, api.create(&PostParams::default(), &event)).await)
    }

    /// It was told before, by this gateway or another.
    async fn tell_once_more(&self, matter: &Matter) -> Answer {
        let count = self.work.ledger.told.count(matter).saturating_add(1);
        let series = Patch::Merge(events::once_more(count, &now()));
        let api = self.events(&matter.object.namespace);
        let (name, params) = (events::name(matter), PatchParams::default());
        let write = api.patch(&name, &params, &series);
        answer(timeout(LIMIT, write).await)
    }

    fn is_closed(&self, kind: &str) -> bool {
        let door = self.work.doors.get(kind);
        door.is_some_and(|door| door.closed_until.is_some())
    }

    fn close(&mut self, kind: &'static str, words: &str, now: Instant) {
        let door = self.work.doors.entry(kind).or_default();
        door.closed_until = Some(now + CLOSED);
        if std::mem::replace(&mut door.told, true) {
            return;
        }
        match kind {
            EVENT => tracing::warn!(
                "no Events are written: {words}; let the ClusterRole create and patch events.events.k8s.io"
            ),
            kind => tracing::warn!(
                "no status of {kind} objects is written: {words}; install the definitions of `nuncio crds`, and \
                 let the ClusterRole patch their `status`"
            ),
        }
    }

    fn open_doors(&mut self, now: Instant) {
        for door in self.work.doors.values_mut() {
            if door.closed_until.is_some_and(|until| until <= now) {
                door.closed_until = None;
            }
        }
    }

    /// Leaves the status of one object alone for a while.
    fn postpone(&mut self, draft: &Draft, words: &str, now: Instant) {
        let first = self.work.ledger.postpone(draft, now);
        if first {
            tracing::warn!(
                "the status of {} cannot be written and is tried again: {words}",
                draft.object
            );
        }
        self.work.unsure = true;
    }

    /// Leaves the API server alone for a while; what was not written is found again.
    fn pause(&mut self, now: Instant) {
        self.work.not_before = Some(now + self.work.backoff.next(fastrand::f64()));
        self.work.unsure = true;
    }
}

fn answer<T, E>(result: Result<Result<T, kube::Error>, E>) -> Answer {
    let status = match result {
        Ok(Ok(_)) => return Answer::Done,
        Ok(Err(kube::Error::Api(status))) => status,
        // It was taken; how it was told of matters to nobody.
        Ok(Err(kube::Error::SerdeError(_))) => return Answer::Done,
        Ok(Err(error)) => return Answer::Away(unreached(&error)),
        Err(_) => return Answer::Away("it got no answer in time".to_owned()),
    };
    let words = || format!("status {}: {}", status.code, status.message);
    let message = &status.message;
    match status.code {
        // Definitions without the fields are refused like this, some versions say 500 and some 400.
        400 | 500 if message.contains("field not declared in schema") => {
            Answer::Closed("their definition has no such field".to_owned())
        }
        // What is stored does not fit its definition, such as a document of an older version.
        400 | 500 if message.contains("failed to create typed") => Answer::Rejected(words()),
        403 if message.contains("being terminated") => Answer::Moved,
        403 => Answer::Closed(format!("it is forbidden ({message})")),
        404 if message.contains("\" not found") => Answer::Moved,
        404 => Answer::Closed("their definition has no status that can be written".to_owned()),
        409 if status.reason == "AlreadyExists" => Answer::Exists,
        409 => Answer::Moved,
        401 | 408 | 429 | 502..=504 => Answer::Away(words()),
        500.. => Answer::Failed(words()),
        _ => Answer::Rejected(words()),
    }
}

/// With microseconds, as an Event has it.
fn now() -> String {
    format!("{:.6}", Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16, reason: &str, message: &str) -> Answer {
        let status = kube::core::Status::failure(message, reason).with_code(code);
        answer(Ok::<Result<(), _>, ()>(Err(kube::Error::Api(Box::new(status)))))
    }

    #[test]
    fn every_refusal_is_told_from_one_that_may_pass() {
        let gone = answered(404, "NotFound", "mappings.getambassador.io \"m\" not found");
        assert_eq!(gone, Answer::Moved);
        let absent = answered(
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
        assert!(matches!(absent, Answer::Closed(_)));
        let message =
            "failed to create typed patch object (…): .status.conditions: field not declared in schema";
        assert!(matches!(answered(500, "", message), Answer::Closed(_)));
        assert!(matches!(answered(500, "", "etcd is not well"), Answer::Failed(_)));
        assert!(matches!(
            answered(403, "Forbidden", "User cannot"),
            Answer::Closed(_)
        ));
        assert_eq!(
            answered(409, "Conflict", "the object has been modified"),
            Answer::Moved
        );
        assert_eq!(answered(409, "AlreadyExists", ""), Answer::Exists);
        assert!(matches!(answered(429, "", ""), Answer::Away(_)));
        assert!(matches!(answered(422, "Invalid", ""), Answer::Rejected(_)));
        let message = "failed to create typed live object: .spec.tls: expected string, got true";
        assert!(matches!(answered(500, "", message), Answer::Rejected(_)));
        assert!(matches!(answered(503, "", ""), Answer::Away(_)));
        let late = answer(Err::<Result<(), kube::Error>, _>(()));
        assert!(matches!(late, Answer::Away(_)));
    }
}
