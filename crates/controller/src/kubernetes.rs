//! The life in a cluster: follow every kind, hold off, compile, publish.
//!
//! ```text
//! follow (one task a kind) ──▶ Store ──▶ hold off ──▶ compile ──▶ Publisher
//!          └─ Services, EndpointSlices ──▶ Addresses ─────────────────▲
//! ```
//!
//! Nothing is published before every kind has answered. What was published is served on whatever happens
//! to the API server; what changed meanwhile is caught up with when it is back.

mod addresses;
mod backoff;
mod connect;
mod doubt;
mod events;
mod follow;
mod found;
mod health;
mod kinds;
mod lease;
mod report;
mod status;
mod store;
mod writes;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::stream;
use kube::Client;
use kube::api::{Api, DynamicObject};
use nuncio_compile::{LastGood, Options};
use nuncio_model::{ClusterState, Compiled, Live, Problem, Snapshot};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, sleep_until, timeout};

use self::follow::{Follower, Heard, Reach};
use self::found::{Found, Key};
use self::kinds::{After, KINDS, SECRET, number_of};
use self::report::Reporting;
use self::store::Store;
use crate::agenda::Agenda;
use crate::compiler::Compiler;
use crate::error::ControllerError;
use crate::hold_off::{HoldOff, Sign};
use crate::material::Material;
use crate::publish::{Extent, Publisher, Publishing};

pub use connect::Cluster;
pub use health::ClusterHealth;

/// Events that may wait for the store; who tells more waits.
const QUEUE: usize = 1024;
/// Most events that are taken in at a time.
const BATCH: usize = 512;
/// Secrets that are read at once, when they are named for the first time,
const READS: usize = 16;
/// and how long one may take.
const READ_LIMIT: Duration = Duration::from_secs(5);
/// Namespaces in which Secrets are followed one by one, at most.
const MOST_NAMESPACES: usize = 500;
/// How often it is told what is waited for before anything can be served.
const TELL: Duration = Duration::from_secs(30);
/// How often the clock is looked at: certificates end, and warnings of it are due before.
const LOOK: Duration = Duration::from_secs(2);

/// Serves what a cluster holds, and its changes, until `stop` is ready.
///
/// # Errors
/// No API server is known. One that does not answer is waited for.
pub async fn run_kubernetes(
    cluster: Cluster,
    options: Options,
    publisher: Publisher,
    health: Arc<ClusterHealth>,
    live: Arc<dyn Live>,
    stop: impl Future<Output = ()>,
) -> Result<(), ControllerError> {
    let client = cluster.client().await?;
    let (sender, mut ear) = mpsc::channel(QUEUE);
    let (address_sender, address_ear) = mpsc::channel(QUEUE);
    let (complete_sender, addresses_complete) = watch::channel(false);
    let (table, snapshots) = (publisher.endpoints.clone(), publisher.snapshot.subscribe());
    let mut tasks = JoinSet::new();
    tasks.spawn(addresses::publish(
        address_ear,
        options.clone(),
        table,
        complete_sender,
    ));
    let mut mode = Mode {
        desk: Arc::new(Mutex::new(Desk {
            store: Store::of(&options.ambassador_id),
            material: Material::of(&options),
            options,
            last_good: LastGood::default(),
            problems: Arc::default(),
            compiled: Arc::default(),
        })),
        compiler: Compiler::new()?,
        publishing: Publishing::new(publisher),
        followers: Followers {
            cluster,
            client,
            reach: Arc::default(),
            sender,
            address_sender,
            started: HashSet::new(),
            stand_ins: Vec::new(),
            namespaces: BTreeMap::new(),
            tasks,
        },
        addresses_complete,
        agenda: None,
        health,
        waits_since: Instant::now(),
    };
    mode.followers.start(After::Start);
    let reporting = Reporting::start(&mode, (snapshots, live));
    let result = tokio::select! {
        result = mode.live(&mut ear) => result,
        () = stop => Ok(()),
    };
    reporting.end().await;
    result
}

struct Mode {
    /// Worked on by one blocking thread at a time.
    desk: Arc<Mutex<Desk>>,
    compiler: Compiler,
    publishing: Publishing,
    followers: Followers,
    addresses_complete: watch::Receiver<bool>,
    /// Of the latest compile.
    agenda: Option<Agenda>,
    health: Arc<ClusterHealth>,
    /// When it was told last what is waited for.
    waits_since: Instant,
}

/// Everything that compiling needs.
struct Desk {
    store: Store,
    material: Material,
    options: Options,
    last_good: LastGood,
    /// Of the latest compile,
    problems: Arc<[Problem]>,
    /// and how many there were; read without the desk.
    compiled: Arc<AtomicU64>,
}

/// The tasks that follow kinds.
struct Followers {
    cluster: Cluster,
    client: Client,
    reach: Arc<Reach>,
    sender: Sender<(usize, Heard)>,
    address_sender: Sender<(usize, Heard)>,
    started: HashSet<usize>,
    /// Ends those of kinds that stand in for EndpointSlices.
    stand_ins: Vec<oneshot::Sender<()>>,
    /// Those of Secrets in one namespace, where they must not be read in all at once.
    namespaces: BTreeMap<Arc<str>, AbortHandle>,
    /// Ended with the mode.
    tasks: JoinSet<()>,
}

impl Mode {
    async fn live(&mut self, ear: &mut Receiver<(usize, Heard)>) -> Result<(), ControllerError> {
        let most = self.followers.cluster.most_delay;
        let mut hold_off = most.map_or_else(HoldOff::default, HoldOff::capped);
        let mut batch = Vec::with_capacity(BATCH);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = hold_off.due();
            let wait = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            let unpublished = !self.is_published();
            let compile = tokio::select! {
                biased;
                () = wait => hold_off.fire(Instant::now()).is_some(),
                // The addresses have a task of their own, which may be the last to have heard everything.
                Ok(()) = self.addresses_complete.changed(), if unpublished => true,
                _ = look.tick() => {
                    self.tell_what_lacks();
                    self.look().await?
                }
                heard = ear.recv_many(&mut batch, BATCH) => {
                    if heard == 0 {
                        return Ok(());
                    }
                    if self.hear(&mut batch) {
                        hold_off.note(Sign::Touched(None), Instant::now());
                    }
                    false
                }
            };
            if compile && (self.is_published() || self.is_complete()) {
                self.compile().await?;
            }
        }
    }

    fn is_published(&self) -> bool {
        self.publishing.revision() > 0
    }

    /// Says every so often what stands between us and the first configuration.
    fn tell_what_lacks(&mut self) {
        if self.is_published() || self.waits_since.elapsed() < TELL {
            return;
        }
        self.waits_since = Instant::now();
        let lacks = self.health.unlisted().join(", ");
        tracing::warn!("nothing is served yet: waits for a complete list of {lacks}");
    }

    /// Looks at the clock and at the files that objects name; says whether there is something to compile.
    async fn look(&self) -> Result<bool, ControllerError> {
        let now = SystemTime::now();
        let desk = Arc::clone(&self.desk);
        let changed = self.compiler.run(move || {
            let desk = &mut *desk.lock().unwrap_or_else(PoisonError::into_inner);
            desk.material
                .refresh(&mut desk.store.objects, false, now, &|_| false)
        });
        Ok(changed.await? || self.agenda.is_some_and(|agenda| agenda.is_due(now)))
    }

    /// Takes in what was heard; says whether there is something to compile.
    fn hear(&mut self, batch: &mut Vec<(usize, Heard)>) -> bool {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let mut any = false;
        for (kind, heard) in batch.drain(..) {
            self.health.note(kind, &heard);
            any |= desk.store.hear(kind, heard).any;
        }
        let knows_referrers = desk.store.is_complete(|kind| KINDS[kind].is_referrer());
        if knows_referrers && self.followers.lacks(After::Referrers) {
            let named = named_secrets(&desk.store.objects.objects, &desk.options);
            desk.store.name_secrets(named);
            self.followers.start(After::Referrers);
        }
        let slices = number_of(kinds::SLICE);
        if desk.store.is_absent(slices) {
            self.followers.start(After::NoSlices);
        } else if desk.store.is_watched(slices) {
            self.followers.end_stand_ins();
        }
        self.followers.follow_named(&mut desk.store);
        any
    }

    /// Whether everything that is followed has answered.
    fn is_complete(&self) -> bool {
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let needed = |kind: usize| KINDS[kind].after != After::NoSlices || self.followers.follows(kind);
        desk.store.is_complete(needed) && !desk.store.is_blind() && *self.addresses_complete.borrow()
    }

    async fn compile(&mut self) -> Result<(), ControllerError> {
        let begun = Instant::now();
        let names_changed = self.read_named_secrets().await;
        let revision = self.publishing.revision() + 1;
        let desk = Arc::clone(&self.desk);
        let now = SystemTime::now();
        let compiled = self.compiler.run(move || {
            let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
            let (snapshot, next) = desk.compile(revision, now, names_changed);
            (snapshot, next, desk.store.objects.objects.len())
        });
        let (snapshot, next, objects) = compiled.await?;
        self.agenda = Some(Agenda::new(now, next));
        self.publishing
            .snapshot(snapshot, Extent::Objects(objects), begun);
        Ok(())
    }

    /// Reads Secrets that are named now and were not before; says whether others may be.
    async fn read_named_secrets(&mut self) -> bool {
        let missing = {
            let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
            if !desk.store.take_names_changed() {
                return false;
            }
            let named = named_secrets(&desk.store.objects.objects, &desk.options);
            let missing = desk.store.name_secrets(named);
            self.followers.follow_named(&mut desk.store);
            missing
        };
        let number = number_of(SECRET);
        let mut reads = stream::iter(missing)
            .map(|key| self.followers.read(number, key))
            .buffer_unordered(READS);
        while let Some(heard) = reads.next().await {
            let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
            match heard {
                Some(heard) => drop(desk.store.hear(number, heard)),
                None => desk.store.note_names(),
            }
        }
        true
    }
}

impl Desk {
    /// The snapshot, and when time alone gives the same objects another meaning.
    fn compile(
        &mut self,
        revision: u64,
        now: SystemTime,
        names_changed: bool,
    ) -> (Snapshot, Option<SystemTime>) {
        self.options.revision = revision;
        self.options.now = now;
        self.material
            .refresh(&mut self.store.objects, names_changed, now, &|_| false);
        let begun = Instant::now();
        let output = nuncio_compile::compile(&self.store.objects, &self.options, &self.last_good);
        self.last_good = output.last_good;
        self.problems = Arc::clone(&output.snapshot.problems);
        self.compiled.fetch_add(1, Ordering::Release);
        self.store.note_compiled();
        let mut snapshot = output.snapshot;
        snapshot.compiled = Some(Compiled {
            at: SystemTime::now(),
            took: begun.elapsed(),
        });
        (snapshot, output.next_event)
    }
}

fn named_secrets(objects: &[nuncio_compile::Object], options: &Options) -> HashSet<Key> {
    let named = nuncio_compile::referenced_secrets(objects, options);
    named
        .into_iter()
        .map(|(namespace, name)| Key { namespace, name })
        .collect()
}

impl Followers {
    fn lacks(&self, after: After) -> bool {
        KINDS
            .iter()
            .enumerate()
            .any(|(number, kind)| kind.after == after && !self.started.contains(&number))
    }

    fn follows(&self, number: usize) -> bool {
        self.started.contains(&number)
    }

    /// Follows the kinds whose time it is, once.
    fn start(&mut self, after: After) {
        for (number, kind) in KINDS.iter().enumerate() {
            if kind.after != after || !self.started.insert(number) {
                continue;
            }
            let follower = self.follower(number, None);
            if after == After::NoSlices {
                let (end, enough) = oneshot::channel();
                self.stand_ins.push(end);
                self.tasks.spawn(follower.follow_until(enough));
            } else {
                self.tasks.spawn(async move { follower.follow().await });
            }
        }
    }

    /// What was forbidden or missing is there, so nothing needs to stand in for it.
    fn end_stand_ins(&mut self) {
        if self.stand_ins.is_empty() {
            return;
        }
        for end in self.stand_ins.drain(..) {
            // It fails where the follower has ended with its listeners.
            let _ = end.send(());
        }
        self.started
            .retain(|number| KINDS[*number].after != After::NoSlices);
        // Those that have ended are let go, too.
        while self.tasks.try_join_next().is_some() {}
    }

    /// Who follows a kind, in one namespace alone where one is given.
    fn follower(&self, number: usize, namespace: Option<Arc<str>>) -> Follower {
        let kind = &KINDS[number];
        // Balancers are told first: they wait for no compile.
        let address_ear = kind.is_address().then(|| self.address_sender.clone());
        Follower {
            api: self.api(number, namespace.as_deref()),
            kind,
            number,
            namespace,
            labels: self.cluster.labels.clone(),
            fields: self.cluster.fields.clone(),
            reach: Arc::clone(&self.reach),
            client: self.client.clone(),
            ears: address_ear.into_iter().chain([self.sender.clone()]).collect(),
        }
    }

    fn api(&self, number: usize, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = KINDS[number].resource();
        match namespace.or_else(|| self.only_namespace(number)) {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// The only namespace in which a kind counts.
    fn only_namespace(&self, number: usize) -> Option<&str> {
        let of_secrets = self.cluster.secrets_namespace.as_deref();
        let of_secrets = of_secrets.filter(|_| number == number_of(SECRET));
        of_secrets.or(self.cluster.namespace.as_deref())
    }

    /// Where Secrets must not be read in all namespaces at once, follows them in each in which somebody
    /// names one: whether that is allowed is known for each by itself.
    fn follow_named(&mut self, store: &mut Store) {
        let number = number_of(SECRET);
        let is_needed = store.must_ask_namespaces() && self.only_namespace(number).is_none();
        if !is_needed && self.namespaces.is_empty() {
            return;
        }
        let mut wanted = store.named_namespaces();
        if !is_needed {
            wanted.clear();
        }
        let kept = wanted.iter().take(MOST_NAMESPACES).cloned().collect();
        if self.namespaces.keys().eq(&kept) {
            return;
        }
        if wanted.len() > MOST_NAMESPACES {
            tracing::warn!(
                "Secrets are named in {} namespaces, and followed in {MOST_NAMESPACES} of them; let the \
                 ClusterRole get, list and watch secrets",
                wanted.len()
            );
        }
        store.ask_namespaces(&kept);
        self.namespaces.retain(|namespace, task| {
            let keep = kept.contains(namespace);
            if !keep {
                task.abort();
            }
            keep
        });
        for namespace in kept {
            if !self.namespaces.contains_key(&namespace) {
                let follower = self.follower(number, Some(Arc::clone(&namespace)));
                let task = self.tasks.spawn(async move { follower.follow().await });
                self.namespaces.insert(namespace, task);
            }
        }
    }

    /// Reads one object; none where that fails, for its watch tells when it is there.
    async fn read(&self, number: usize, key: Key) -> Option<Heard> {
        let kind = &KINDS[number];
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.namespace, &kind.resource());
        match timeout(READ_LIMIT, api.get_opt(&key.name)).await {
            Ok(Ok(found)) => found.map(|object| Found::heard(object, kind)),
            Ok(Err(error)) => {
                tracing::warn!(
                    "Secret {}.{} cannot be read: {}",
                    key.name,
                    key.namespace,
                    follow::in_words(&error)
                );
                None
            }
            Err(_) => {
                tracing::warn!(
                    "Secret {}.{} cannot be read: no answer in time",
                    key.name,
                    key.namespace
                );
                None
            }
        }
    }
}
