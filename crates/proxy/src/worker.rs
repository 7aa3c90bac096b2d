//! A worker: one thread, one runtime, its own sockets, pools and counters.
//!
//! Nothing on a request's way is shared with another worker but values that nobody writes.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nuncio_model::{EndpointTable, Snapshot};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout, timeout_at};

use crate::access_log::{AccessLog, Entry};
use crate::body::Flow;
use crate::client::connection::{Client, Clients, serve};
use crate::client::offence::Offence;
use crate::descriptors::Budget;
use crate::listening::{listen, take_no_more, taken_over};
use crate::log_queue::LogQueue;
use crate::serving::{Change, Serving};
use crate::stats::WorkerStats;
use crate::uploads::Uploads;
use crate::upstream::dns::Dns;
use crate::upstream::failure_log::FailureLog;
use crate::upstream::live::{MAX_CONNECTIONS, Registry, lock};
use crate::upstream::pool::{Addresses, Limits, Pool, warm};

/// What all workers have in common.
pub(crate) struct Shared {
    pub(crate) bind: IpAddr,
    pub(crate) expose_reasons: bool,
    pub(crate) access_log: AccessLog,
    pub(crate) log: Option<LogQueue>,
    pub(crate) drain_time: Duration,
    /// Another process may have the ports, too.
    pub(crate) take_over: bool,
    /// How many workers there are.
    pub(crate) workers: usize,
    pub(crate) registry: Registry,
    /// Of descriptors.
    pub(crate) budget: Budget,
    /// Ports that could not be opened, and why, with the fix.
    pub(crate) unbound: Mutex<HashMap<u16, String>>,
    /// How many workers listen on each port.
    pub(crate) bound: Mutex<HashMap<u16, usize>>,
}

impl Shared {
    /// Opens a port for one worker. The first of them makes sure that no other program has it: sockets
    /// that share a port do so with any program of the same user, another nuncio for one. Where that one is
    /// to be taken over from, sharing is what is wanted.
    fn bind(&self, port: u16) -> io::Result<TcpListener> {
        let address = SocketAddr::new(self.bind, port);
        let mut bound = lock(&self.bound);
        if !self.take_over && bound.get(&port).is_none_or(|workers| *workers == 0) {
            listen(address, false)?;
        }
        let listener = TcpListener::from_std(listen(address, true)?)?;
        *bound.entry(port).or_default() += 1;
        Ok(listener)
    }

    /// Whether clients can reach any port, where one is wanted.
    pub(crate) fn has_port(&self) -> bool {
        lock(&self.unbound).is_empty() || lock(&self.bound).values().any(|workers| *workers > 0)
    }

    /// A worker has closed its socket.
    fn release(&self, port: u16) {
        if let Some(workers) = lock(&self.bound).get_mut(&port) {
            *workers = workers.saturating_sub(1);
        }
    }
}

/// Why a port cannot be opened, and what to do about it.
fn why_unbound(error: &io::Error) -> String {
    let fix = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "give the process the capability NET_BIND_SERVICE or choose a port from 1024 in spec.port"
        }
        io::ErrorKind::AddrNotAvailable => "bind an address that this machine has",
        _ => "stop what uses the port or change spec.port",
    };
    format!("{error}; {fix}")
}

/// One worker.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stats: Arc<WorkerStats>,
    pub(crate) addresses: Addresses,
    pub(crate) clients: Clients,
    /// Response bodies whose clients may have stopped reading.
    pub(crate) flows: RefCell<Vec<Weak<RefCell<Flow>>>>,
    /// Request bodies that clients are waited for.
    pub(crate) uploads: Rc<Uploads>,
    pub(crate) draining: Cell<bool>,
    /// Seconds since the start; coarse time for sweeps.
    pub(crate) second: Cell<u64>,
    serving: RefCell<Option<Rc<Serving>>>,
    /// There may be upstreams and counters of what is no longer configured.
    stale: Cell<bool>,
    listening: RefCell<HashMap<u16, Rc<Notify>>>,
    /// Ports whose sockets are still open, and word of each that is not any more.
    accepting: Cell<usize>,
    closed: Notify,
    log_buffer: RefCell<Vec<u8>>,
    offences: RefCell<FailureLog<Offence>>,
    /// The runtime is about to end, and takes no more tasks.
    ended: Cell<bool>,
}

/// What the rest of the program tells a worker.
pub(crate) struct Orders {
    pub(crate) snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    pub(crate) endpoints: watch::Receiver<Arc<EndpointTable>>,
    /// Set to true to drain.
    pub(crate) drain: watch::Receiver<bool>,
    /// Raised to the revision of each snapshot once it serves.
    pub(crate) served: watch::Sender<Option<u64>>,
}

/// A snapshot that is served once connections are open for it, with the pools that have them.
type Warming = Pin<Box<dyn Future<Output = (Arc<Snapshot>, Vec<Rc<Pool>>)>>>;

/// Lines are handed over when this many bytes have come together, or at the end of the turn.
const LOG_BATCH: usize = 32 * 1024;
/// A connection without a request is closed this long after it was asked to end.
pub(crate) const QUIET: Duration = Duration::from_millis(250);
/// A port stays open this long after it has said that it takes no more: as long as a client is away.
const FLUSH: Duration = Duration::from_millis(100);
/// A port that could not be opened is tried again, and what nobody uses any more forgotten, each time
/// so many seconds have passed.
const RETRY: u64 = 5;

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, stats: Arc<WorkerStats>) -> Rc<Self> {
        Rc::new(Self {
            shared,
            stats,
            addresses: Addresses {
                dns: Rc::new(Dns::new()),
                table: RefCell::default(),
                version: Cell::new(0),
            },
            clients: Clients::default(),
            flows: RefCell::default(),
            uploads: Rc::default(),
            draining: Cell::new(false),
            second: Cell::new(0),
            serving: RefCell::default(),
            stale: Cell::new(false),
            listening: RefCell::default(),
            accepting: Cell::new(0),
            closed: Notify::new(),
            log_buffer: RefCell::default(),
            offences: RefCell::default(),
            ended: Cell::new(false),
        })
    }

    /// What is served now; none before the first snapshot.
    pub(crate) fn serving(&self) -> Option<Rc<Serving>> {
        self.serving.borrow().clone()
    }

    /// Serves until it is told to drain and has drained, or the program is gone.
    pub(crate) async fn run(self: Rc<Self>, mut orders: Orders) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.take_endpoints(&mut orders);
        let mut warming: Option<Warming> = None;
        loop {
            let is_warming = warming.is_some();
            let warmed = async {
                match &mut warming {
                    Some(warming) => warming.await,
                    None => pending().await,
                }
            };
            // In this order: addresses are there before the first request that needs them.
            tokio::select! {
                biased;
                changed = orders.drain.changed() => {
                    if changed.is_err() || *orders.drain.borrow_and_update() {
                        return self.drain().await;
                    }
                }
                changed = orders.endpoints.changed() => {
                    if changed.is_err() { return self.drain().await; }
                    self.take_endpoints(&mut orders);
                }
                (snapshot, warmed) = warmed => {
                    warming = None;
                    let before = self.serving();
                    let change = Change::new(before.as_deref(), &snapshot);
                    self.serve_from_now_on(snapshot, &change, warmed, &orders);
                }
                changed = orders.snapshot.changed(), if !is_warming => {
                    if changed.is_err() { return self.drain().await; }
                    warming = self.take_snapshot(&mut orders);
                }
                _ = seconds.tick() => self.tick(),
            }
        }
    }

    fn take_endpoints(&self, orders: &mut Orders) {
        let table = Arc::clone(&orders.endpoints.borrow_and_update());
        if let Some(serving) = self.serving() {
            serving.pools().for_each(|pool| pool.follow(&table));
        }
        *self.addresses.table.borrow_mut() = table;
        self.addresses.version.set(self.addresses.version.get() + 1);
    }

    /// Begins to serve the latest snapshot; at once, unless there are connections to open first.
    fn take_snapshot(self: &Rc<Self>, orders: &mut Orders) -> Option<Warming> {
        let snapshot = orders.snapshot.borrow_and_update().clone()?;
        let before = self.serving();
        let limits = self.limits(&snapshot);
        let change = Change::new(before.as_deref(), &snapshot);
        let successions = change.successions(&snapshot, limits, &self.shared.registry, &self.stats);
        if successions.is_empty() {
            self.serve_from_now_on(snapshot, &change, Vec::new(), orders);
            return None;
        }
        let worker = Rc::clone(self);
        Some(Box::pin(async move {
            let warmed = warm(successions, &worker.addresses).await;
            (snapshot, warmed)
        }))
    }

    fn limits(&self, snapshot: &Snapshot) -> Limits {
        Limits {
            grace: self.shared.drain_time,
            most_idle: (MAX_CONNECTIONS / self.shared.workers).max(1),
            handshakes: snapshot.settings.upstream_max_handshakes,
            header_bytes: snapshot.settings.max_request_headers_bytes,
        }
    }

    fn serve_from_now_on(
        self: &Rc<Self>,
        snapshot: Arc<Snapshot>,
        change: &Change<'_>,
        warmed: Vec<Rc<Pool>>,
        orders: &Orders,
    ) {
        let revision = snapshot.revision;
        let limits = self.limits(&snapshot);
        // Addresses may have changed while they were warmed.
        let table = Arc::clone(&self.addresses.table.borrow());
        warmed.iter().for_each(|pool| pool.follow(&table));
        let registry = &self.shared.registry;
        let serving = Serving::new(snapshot, change, warmed, limits, registry, &self.stats);
        *self.serving.borrow_mut() = Some(Rc::new(serving));
        self.stale.set(true);
        self.open_ports();
        orders.served.send_replace(Some(revision));
    }

    fn tick(self: &Rc<Self>) {
        let second = self.second.get() + 1;
        self.second.set(second);
        self.addresses.version.set(self.addresses.version.get() + 1);
        let Some(serving) = self.serving() else { return };
        let now = Instant::now();
        serving
            .pools()
            .for_each(|pool| pool.sweep(now, &self.addresses.dns));
        self.uploads
            .tick(second, serving.snapshot.settings.min_request_rate);
        self.flows.borrow_mut().retain(|flow| {
            flow.upgrade()
                .is_some_and(|flow| flow.borrow_mut().keep_watching(now))
        });
        // Upstreams may have taken what clients had left.
        match self.shared.budget.excess() / self.shared.workers {
            0 => self.shared.budget.note_room(),
            excess => {
                self.make_room(excess);
            }
        }
        self.clients
            .sweep(second, serving.snapshot.settings.client_idle_timeout);
        if second.is_multiple_of(RETRY) && self.listening.borrow().len() < serving.snapshot.listeners.len() {
            self.open_ports();
        }
        if second.is_multiple_of(RETRY) && self.stale.get() {
            self.stale.set(self.forget(&serving.snapshot));
        }
    }

    /// Forgets what was configured once and is used no more. Says whether some of it is still in use.
    fn forget(&self, snapshot: &Snapshot) -> bool {
        let identities: HashSet<_> = snapshot
            .upstreams
            .iter()
            .map(|upstream| &upstream.identity)
            .collect();
        let upstreams: HashSet<&str> = snapshot
            .upstreams
            .iter()
            .map(|upstream| &*upstream.name)
            .collect();
        let hosts = snapshot
            .listeners
            .iter()
            .flat_map(|listener| listener.hosts.hosts());
        // Hosts share their tables.
        let tables: HashMap<_, _> = hosts
            .map(|host| (Arc::as_ptr(&host.routes), &host.routes))
            .collect();
        let routes = tables.values().flat_map(|table| table.routes());
        let mappings: HashSet<&str> = routes
            .flat_map(|route| &route.targets)
            .map(|target| &*target.label)
            .collect();
        let counted = self.stats.keep(&mappings, &upstreams);
        let alive = self
            .shared
            .registry
            .keep(|identity| identities.contains(identity));
        self.shared.registry.keep_counts(|name| upstreams.contains(name));
        counted || alive > 0
    }

    /// Opens the ports of new listeners and closes those of old ones.
    fn open_ports(self: &Rc<Self>) {
        let Some(serving) = self.serving() else { return };
        let wanted: Vec<u16> = serving
            .snapshot
            .listeners
            .iter()
            .map(|listener| listener.port)
            .collect();
        let mut listening = self.listening.borrow_mut();
        listening.retain(|port, close| {
            let keep = wanted.contains(port);
            if !keep {
                close.notify_one();
                self.clients.leave_port(*port);
            }
            keep
        });
        lock(&self.shared.unbound).retain(|port, _| wanted.contains(port));
        for port in wanted {
            if listening.contains_key(&port) {
                continue;
            }
            match self.shared.bind(port) {
                Ok(listener) => {
                    lock(&self.shared.unbound).remove(&port);
                    let close = Rc::new(Notify::new());
                    listening.insert(port, Rc::clone(&close));
                    self.accepting.set(self.accepting.get() + 1);
                    tokio::task::spawn_local(Rc::clone(self).accept(listener, port, close));
                }
                Err(error) => {
                    let why = why_unbound(&error);
                    lock(&self.shared.unbound).insert(port, why);
                }
            }
        }
    }

    async fn accept(self: Rc<Self>, listener: TcpListener, port: u16, close: Rc<Notify>) {
        self.accept_until(&listener, port, close.notified()).await;
        // Connections that are half made would be reset when the socket closes.
        take_no_more(&listener);
        let flush = sleep(FLUSH.min(self.shared.drain_time));
        self.accept_until(&listener, port, flush).await;
        // The kernel has completed these; closing the socket would reset them. It is asked itself, for the
        // runtime need not know of them yet.
        if let Ok(listener) = listener.into_std() {
            while let Ok((tcp, peer)) = listener.accept() {
                if let Ok(tcp) = taken_over(tcp) {
                    self.serve(tcp, peer, port);
                }
            }
        }
        self.shared.release(port);
        self.accepting.set(self.accepting.get() - 1);
        self.closed.notify_one();
    }

    async fn accept_until(self: &Rc<Self>, listener: &TcpListener, port: u16, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((tcp, peer)) => self.serve(tcp, peer, port),
                    // Out of descriptors, most likely: let some close.
                    Err(error) if is_exhausted(&error) => {
                        self.make_room(1);
                        sleep(Duration::from_millis(20)).await;
                    }
                    Err(_) => {}
                },
                () = &mut end => break,
            }
        }
    }

    /// Closes client connections that are idle; says whether any is about to end.
    fn make_room(&self, wanted: usize) -> bool {
        let spared = self.clients.end_longest_idle(wanted);
        if spared.closed > 0 {
            self.shared.budget.note_shed(spared.closed);
        }
        spared.ending > 0
    }

    fn serve(self: &Rc<Self>, tcp: TcpStream, peer: SocketAddr, port: u16) {
        let excess = self.shared.budget.excess();
        if excess > 0 && !self.make_room(excess) {
            // Every connection has a request, and the reserve is for those.
            self.shared.budget.note_shed(1);
            return;
        }
        tokio::task::spawn_local(serve(Rc::clone(self), tcp, peer, port));
    }

    async fn drain(self: Rc<Self>) {
        self.draining.set(true);
        for close in self.listening.borrow().values() {
            close.notify_one();
        }
        let deadline = Instant::now() + self.shared.drain_time;
        // Accept loops take over what the kernel had accepted before clients are asked to end.
        whoever_is_next().await;
        self.clients.drain();
        while self.accepting.get() > 0 {
            self.closed.notified().await;
        }
        let quiet = deadline.min(Instant::now() + QUIET);
        if timeout_at(quiet.into(), self.clients.emptied()).await.is_err() {
            // Still there, and no request came: there is nothing to wait for. What has just come is read first.
            whoever_is_next().await;
            self.clients.end_idle();
            if timeout_at(deadline.into(), self.clients.emptied()).await.is_err() {
                self.clients.cut_all();
                // What is cut is recorded, which takes its tasks a moment.
                let _ = timeout(QUIET, self.clients.emptied()).await;
            }
        }
        self.ended.set(true);
        self.flush_log();
    }

    /// Counts what ended the connection of a client, and tells the program's log unless it has just told the like.
    pub(crate) fn offended(&self, client: &Client, offence: Offence) {
        self.stats.count_offence(offence);
        let left_out = self.offences.borrow_mut().admit(offence, Instant::now());
        if let Some(left_out) = left_out {
            // A field without a value is left out.
            let left_out = (left_out > 0).then_some(left_out);
            tracing::warn!(client = %client.peer, left_out, "connection ended: {}", offence.words());
        }
    }

    /// Writes an access-log line, by way of the buffer.
    pub(crate) fn log(self: &Rc<Self>, entry: &Entry) {
        let mut buffer = self.log_buffer.borrow_mut();
        let first = buffer.is_empty();
        entry.write(self.shared.access_log, &mut buffer);
        let full = buffer.len() >= LOG_BATCH;
        drop(buffer);
        if full || self.ended.get() {
            self.flush_log();
        } else if first {
            let worker = Rc::clone(self);
            tokio::task::spawn_local(async move {
                tokio::task::yield_now().await;
                worker.flush_log();
            });
        }
    }

    fn flush_log(&self) {
        let batch = std::mem::take(&mut *self.log_buffer.borrow_mut());
        if let (Some(log), false) = (&self.shared.log, batch.is_empty()) {
            log.send(batch);
        }
    }
}

/// Lets every task run that can.
async fn whoever_is_next() {
    // They queue, and this one is the last.
    let _ = tokio::task::spawn_local(async {}).await;
}

fn is_exhausted(error: &io::Error) -> bool {
    // EMFILE and ENFILE have no kind of their own.
    matches!(error.raw_os_error(), Some(23 | 24)) || error.kind() == io::ErrorKind::OutOfMemory
}
