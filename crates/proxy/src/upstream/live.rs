//! What lives as long as an upstream's identity does and is shared by all workers: its TLS, its
//! endpoints with their session tickets and last handshakes, and its failure counts.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use nuncio_model::{
    Alpn, EndpointStatus, Failure, HandshakeReport, Identity, Outcome, Reason, TlsSettings, Upstream,
    UpstreamHttp, UpstreamStatus, VerifyMode,
};
use nuncio_tls::{ClientTls, EndpointTls};

use super::connector::SMALL_HELLO_REMEDY;
use super::failure_log::FailureLog;
use super::hello::Hellos;
use super::memory::Memory;
use super::trial::Remembered;
use crate::counter::{BUCKETS_US, Counter};
use crate::descriptors::Descriptor;

/// Most connections that are open to one upstream at a time, all workers together.
pub(crate) const MAX_CONNECTIONS: usize = 1024;

/// Locks a mutex whose holder cannot leave it inconsistent, so a panic elsewhere does not matter.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An upstream while the process runs.
pub(crate) struct LiveUpstream {
    pub(crate) identity: Arc<Identity>,
    /// As the log calls it and those of its names; empty for one that serves no requests.
    name: Arc<Mutex<Arc<str>>>,
    /// Built when first used: 10,000 upstreams that nobody asks for cost nothing.
    tls: OnceLock<Result<Tls, Failure>>,
    endpoints: Mutex<BTreeMap<SocketAddr, Arc<LiveEndpoint>>>,
    /// Open to it, and to those of its names.
    connections: Arc<AtomicUsize>,
    /// It answered that it serves something over HTTP/1.1 only.
    requires_http1: Http1Memory,
    pub(crate) counts: SharedCounts,
    /// Those of one server name each, where requests decide it.
    pub(super) of_names: Mutex<HashMap<Arc<str>, Weak<Self>>>,
    /// The configured one, of one that is of a name; kept for as long as this is.
    _configured: Option<Arc<Self>>,
}

/// Counts of whatever bears one name in metrics: an upstream keeps them when a certificate of its is rotated, and
/// with it its identity.
pub(crate) type SharedCounts = Arc<Mutex<Counts>>;

/// TLS of an upstream, and the same for requests that only HTTP/1.1 can carry.
struct Tls {
    settings: Arc<TlsSettings>,
    client: Arc<ClientTls>,
    http1: OnceLock<Option<(Arc<TlsSettings>, Arc<ClientTls>)>>,
}

/// Failures and handshakes; they are rare enough for a lock.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) failures: BTreeMap<Reason, u64>,
    pub(crate) would_fail: BTreeMap<Reason, u64>,
    /// Handshakes in which the peer asked for another hello.
    pub(crate) hello_retries: u64,
    pub(crate) handshakes: HashMap<HandshakeKey, u64>,
    /// Handshakes that were done with a small hello, since the peer does not answer large ones.
    pub(crate) small_hellos: u64,
    pub(crate) log: FailureLog,
    /// Handshakes that were not begun, since it was remembered how they would end.
    pub(crate) avoided: BTreeMap<Reason, u64>,
    pub(crate) handshake_seconds: ([u64; BUCKETS_US.len() + 1], f64),
}

/// Labels of `nuncio_upstream_handshakes_total`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HandshakeKey {
    pub(crate) outcome: &'static str,
    pub(crate) version: &'static str,
    pub(crate) resumed: bool,
}

/// One address of an upstream.
pub(crate) struct LiveEndpoint {
    pub(crate) address: SocketAddr,
    tls: OnceLock<EndpointTls>,
    http1: OnceLock<EndpointTls>,
    /// Which hello it is sent.
    pub(super) hellos: Mutex<Hellos>,
    /// Handshakes that fail for a reason that repeats, by [`Wanted`]: what ALPN is offered may be why.
    pub(super) remembered: [Mutex<Memory<Remembered>>; 2],
    last_handshake: ArcSwapOption<HandshakeReport>,
    shards: Mutex<Vec<Arc<ConnectionCounts>>>,
}

/// Connections that one worker has to one endpoint.
#[derive(Default)]
pub(crate) struct ConnectionCounts {
    pub(crate) active: Counter,
    pub(crate) idle: Counter,
}

/// Which TLS configuration a connection needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// What the Mapping says.
    Configured,
    /// HTTP/1.1 whatever is configured, for an upgrade.
    Http1,
}

/// So long requests go over HTTP/1.1 to an upstream that required it.
const HTTP1_MEMORY: Duration = Duration::from_secs(600);

/// Whether an upstream that speaks HTTP/2 required HTTP/1.1 a short time ago. Read by each request, so without
/// a lock: seconds since `EPOCH` at which it is over, zero where it never did.
#[derive(Default)]
struct Http1Memory(AtomicU64);

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Http1Memory {
    fn is_fresh(&self, now: Instant) -> bool {
        let until = self.0.load(Ordering::Relaxed);
        until > 0 && now.saturating_duration_since(*EPOCH).as_secs() < until
    }

    /// Says whether that is news.
    fn renew(&self, now: Instant) -> bool {
        let until = now.saturating_duration_since(*EPOCH) + HTTP1_MEMORY;
        let was_fresh = self.is_fresh(now);
        self.0.store(until.as_secs(), Ordering::Relaxed);
        !was_fresh
    }
}

impl LiveUpstream {
    pub(crate) fn new(identity: Arc<Identity>) -> Self {
        Self::counting(identity, Arc::new(Mutex::new("".into())), SharedCounts::default())
    }

    fn counting(identity: Arc<Identity>, name: Arc<Mutex<Arc<str>>>, counts: SharedCounts) -> Self {
        Self {
            identity,
            name,
            tls: OnceLock::new(),
            endpoints: Mutex::default(),
            connections: Arc::default(),
            requires_http1: Http1Memory::default(),
            counts,
            of_names: Mutex::default(),
            _configured: None,
        }
    }

    /// Those of server names that are in use.
    fn named(&self) -> Vec<Arc<Self>> {
        lock(&self.of_names).values().filter_map(Weak::upgrade).collect()
    }

    /// The one of a server name: its own connections, sessions and memory, for whatever is known of one name is
    /// nothing to another; but counts and limits are those of the configured one.
    pub(super) fn of_name(configured: &Arc<Self>, identity: Arc<Identity>) -> Self {
        Self {
            connections: Arc::clone(&configured.connections),
            _configured: Some(Arc::clone(configured)),
            ..Self::counting(
                identity,
                Arc::clone(&configured.name),
                Arc::clone(&configured.counts),
            )
        }
    }

    /// Whether most of the connections that may be are open.
    pub(super) fn is_crowded(&self) -> bool {
        self.connections.load(Ordering::Relaxed) >= MAX_CONNECTIONS / 4 * 3
    }

    /// Whether no more connections may be opened.
    pub(crate) fn is_full(&self) -> bool {
        self.connections.load(Ordering::Relaxed) >= MAX_CONNECTIONS
    }

    /// Identifies the upstream among whose connections those of this one count.
    pub(crate) fn slots(&self) -> usize {
        Arc::as_ptr(&self.connections).addr()
    }

    fn tls(&self) -> Result<Option<&Tls>, Failure> {
        let Some(settings) = &self.identity.tls else {
            return Ok(None);
        };
        let tls = self.tls.get_or_init(|| Tls::new(settings));
        tls.as_ref().map(Some).map_err(Clone::clone)
    }

    /// The endpoint at `address`, made when it is new.
    pub(crate) fn endpoint(&self, address: SocketAddr) -> Arc<LiveEndpoint> {
        let mut endpoints = lock(&self.endpoints);
        Arc::clone(
            endpoints
                .entry(address)
                .or_insert_with(|| Arc::new(LiveEndpoint::new(address))),
        )
    }

    /// Forgets endpoints that are not among `addresses` and that no worker's pool knows any more; DNS may
    /// have told another worker otherwise. Says whether one of them is still known.
    pub(crate) fn keep_endpoints(&self, addresses: &[SocketAddr]) -> bool {
        let mut left = false;
        lock(&self.endpoints).retain(|address, endpoint| {
            let current = addresses.contains(address);
            let known = Arc::strong_count(endpoint) > 1;
            left |= known && !current;
            current || known
        });
        left
    }

    /// TLS towards `endpoint`; none for cleartext.
    pub(super) fn endpoint_tls<'a>(
        &'a self,
        endpoint: &'a LiveEndpoint,
        wanted: Wanted,
    ) -> Result<Option<(&'a EndpointTls, &'a Arc<TlsSettings>)>, Failure> {
        let Some(tls) = self.tls()? else { return Ok(None) };
        if wanted == Wanted::Http1 && tls.settings.offers_http2() {
            let http1 = tls.http1.get_or_init(|| tls.without_h2());
            if let Some((settings, client)) = http1 {
                return Ok(Some((endpoint.http1.get_or_init(|| client.endpoint()), settings)));
            }
        }
        Ok(Some((
            endpoint.tls.get_or_init(|| tls.client.endpoint()),
            &tls.settings,
        )))
    }

    /// Takes the place of one more connection, if there is one.
    pub(crate) fn connection_permit(self: &Arc<Self>) -> Option<ConnectionPermit> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let permit = ConnectionPermit(Arc::clone(self), Descriptor::take());
        (before < MAX_CONNECTIONS).then_some(permit)
    }

    pub(crate) fn count_failure(&self, reason: Reason) {
        *lock(&self.counts).failures.entry(reason).or_default() += 1;
    }

    pub(crate) fn count_avoided(&self, reason: Reason) {
        *lock(&self.counts).avoided.entry(reason).or_default() += 1;
    }

    /// Whether HTTP/1.1 can be offered where HTTP/2 is.
    pub(crate) fn offers_both(&self) -> bool {
        let tls = self.identity.tls.as_ref();
        self.identity.http == UpstreamHttp::Negotiated
            && tls.is_some_and(|tls| tls.alpn.contains(&Alpn::Http1))
    }

    /// Whether requests go over HTTP/1.1 although HTTP/2 is offered as well.
    pub(crate) fn requires_http1(&self) -> bool {
        self.requires_http1.is_fresh(Instant::now())
    }

    /// It reset a stream with HTTP_1_1_REQUIRED.
    pub(crate) fn note_http1_required(&self, address: SocketAddr) {
        if self.requires_http1.renew(Instant::now()) {
            tracing::info!(
                upstream = %lock(&self.name),
                endpoint = %address,
                "the upstream requires HTTP/1.1 (HTTP_1_1_REQUIRED), so requests go over HTTP/1.1 for {} s",
                HTTP1_MEMORY.as_secs()
            );
        }
    }

    /// Tells the program's log that no connection came about, unless it has just told the like.
    pub(crate) fn log_failure(&self, address: SocketAddr, failure: &Failure) {
        let left_out = lock(&self.counts).log.admit(failure.reason, Instant::now());
        if let Some(left_out) = left_out {
            // A field without a value is left out.
            let left_out = (left_out > 0).then_some(left_out);
            tracing::warn!(
                upstream = %lock(&self.name),
                endpoint = %address,
                reason = failure.reason.code(),
                remedy = failure.remedy,
                left_out,
                "no connection: {}",
                failure.message
            );
        }
    }

    /// Counts a handshake with a small hello. It is told where it is news of the endpoint.
    pub(crate) fn note_small_hello(&self, address: SocketAddr, is_news: bool) {
        lock(&self.counts).small_hellos += 1;
        if is_news {
            tracing::warn!(
                upstream = %lock(&self.name),
                endpoint = %address,
                remedy = SMALL_HELLO_REMEDY,
                "the upstream does not answer the TLS hello that offers post-quantum key exchange, so it is sent \
                 smaller ones for some time"
            );
        }
    }

    /// Remembers the outcome of a handshake with `endpoint`.
    pub(crate) fn record_handshake(&self, endpoint: &LiveEndpoint, report: &Arc<HandshakeReport>) {
        self.count_handshake(report);
        endpoint.tell_handshake(Arc::clone(report));
    }

    /// Counts a handshake; see [`LiveEndpoint::tell_handshake`] for what else there is to it.
    pub(crate) fn count_handshake(&self, report: &HandshakeReport) {
        let key = HandshakeKey {
            outcome: report.outcome.as_str(),
            version: report.version.map_or("", nuncio_model::TlsVersion::as_str),
            resumed: report.resumed,
        };
        let duration = Duration::from_secs_f64((report.duration_ms / 1e3).max(0.0));
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        {
            let mut counts = lock(&self.counts);
            *counts.handshakes.entry(key).or_default() += 1;
            counts.hello_retries += u64::from(report.hello_retried);
            let bucket = BUCKETS_US.partition_point(|bound| *bound < us);
            counts.handshake_seconds.0[bucket] += 1;
            counts.handshake_seconds.1 += duration.as_secs_f64();
            if let Outcome::Failed(reason) = report.verify.result
                && report.outcome == Outcome::Ok
                && report.verify.mode != VerifyMode::None
            {
                *counts.would_fail.entry(reason).or_default() += 1;
            }
        }
    }

    pub(crate) fn status(&self) -> UpstreamStatus {
        let mut endpoints: BTreeMap<SocketAddr, EndpointStatus> = lock(&self.endpoints)
            .iter()
            .map(|(address, endpoint)| (*address, endpoint.status()))
            .collect();
        for named in self.named() {
            for (address, endpoint) in lock(&named.endpoints).iter() {
                let status = endpoint.status();
                match endpoints.get_mut(address) {
                    Some(known) => join(known, status),
                    None => drop(endpoints.insert(*address, status)),
                }
            }
        }
        let endpoints = endpoints.into_values().collect();
        let mut failures: Vec<_> = lock(&self.counts)
            .failures
            .iter()
            .map(|(reason, n)| (reason.code().to_owned(), *n))
            .collect();
        failures.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        UpstreamStatus { endpoints, failures }
    }

    /// When the first of the certificates that its endpoints showed last expires, seconds since 1970.
    pub(crate) fn peer_not_after(&self) -> Option<i64> {
        let first = |endpoint: &Arc<LiveEndpoint>| {
            let handshake = endpoint.last_handshake.load();
            let peer = handshake.as_ref().map_or(&[][..], |report| &report.peer);
            peer.iter().map(|info| info.not_after_seconds).min()
        };
        let own = lock(&self.endpoints).values().filter_map(first).min();
        let named = self.named();
        own.into_iter()
            .chain(named.iter().filter_map(|named| named.peer_not_after()))
            .min()
    }

    /// Connections that carry a request and that wait for one.
    pub(crate) fn connections(&self) -> (u64, u64) {
        let own = lock(&self.endpoints)
            .values()
            .fold((0, 0), |(active, idle), endpoint| {
                let (a, i) = endpoint.connections();
                (active + a, idle + i)
            });
        self.named().iter().fold(own, |(active, idle), named| {
            let (a, i) = named.connections();
            (active + a, idle + i)
        })
    }
}

/// Adds what is known of the same address under another server name.
fn join(known: &mut EndpointStatus, other: EndpointStatus) {
    known.active += other.active;
    known.idle += other.idle;
    known.remembered = known.remembered.take().or(other.remembered.clone());
    let at = |status: &EndpointStatus| {
        let handshake = status.last_handshake.as_ref();
        handshake.map(|handshake| handshake.at.clone())
    };
    if at(&other) > at(known) {
        known.last_handshake = other.last_handshake;
    }
}

impl Tls {
    fn new(settings: &Arc<TlsSettings>) -> Result<Self, Failure> {
        let client = ClientTls::new(settings).map_err(|error| Failure {
            reason: Reason::TlsConfigUnresolved,
            message: error.message,
            remedy: "correct the TLSContext or its Secret; `nuncio check` names the field".to_owned(),
        })?;
        Ok(Self {
            settings: Arc::clone(settings),
            client,
            http1: OnceLock::new(),
        })
    }

    fn without_h2(&self) -> Option<(Arc<TlsSettings>, Arc<ClientTls>)> {
        let settings = Arc::new(self.settings.without_http2());
        let client = ClientTls::new(&settings).ok()?;
        Some((settings, client))
    }
}

impl LiveEndpoint {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tls: OnceLock::new(),
            http1: OnceLock::new(),
            hellos: Mutex::default(),
            remembered: Default::default(),
            last_handshake: ArcSwapOption::empty(),
            shards: Mutex::default(),
        }
    }

    /// Whether the next handshake resumes a session.
    pub(super) fn has_ticket(&self) -> bool {
        self.tls.get().is_some_and(EndpointTls::has_ticket)
    }

    /// Forgets session tickets: the next handshake is a full one.
    pub(crate) fn forget_sessions(&self) {
        for tls in [&self.tls, &self.http1] {
            tls.get().into_iter().for_each(EndpointTls::forget_sessions);
        }
    }

    /// Replaces what is told of the last handshake.
    pub(crate) fn tell_handshake(&self, report: Arc<HandshakeReport>) {
        self.last_handshake.store(Some(report));
    }

    /// Counters for one worker's pool.
    pub(crate) fn shard(&self) -> Arc<ConnectionCounts> {
        let shard = Arc::new(ConnectionCounts::default());
        let mut shards = lock(&self.shards);
        shards.retain(|other| Arc::strong_count(other) > 1);
        shards.push(Arc::clone(&shard));
        shard
    }

    fn connections(&self) -> (u64, u64) {
        let shards = lock(&self.shards);
        shards.iter().fold((0, 0), |(active, idle), shard| {
            (active + shard.active.get(), idle + shard.idle.get())
        })
    }

    fn status(&self) -> EndpointStatus {
        let (active, idle) = self.connections();
        EndpointStatus {
            address: self.address.to_string(),
            active,
            idle,
            last_handshake: self.last_handshake.load_full(),
            remembered: self.remembered_failure(),
        }
    }
}

/// The right to hold one connection open.
pub(crate) struct ConnectionPermit(Arc<LiveUpstream>, Descriptor);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Every live upstream by identity.
#[derive(Default)]
pub(crate) struct Registry {
    upstreams: Mutex<HashMap<Arc<Identity>, Arc<LiveUpstream>>>,
    /// By the name of the upstream.
    counts: Mutex<HashMap<Arc<str>, SharedCounts>>,
}

impl Registry {
    /// The live upstream of an identity, made when it is new; it goes on counting where the one before of this
    /// name left off.
    pub(crate) fn upstream(&self, upstream: &Upstream) -> Arc<LiveUpstream> {
        let Upstream { identity, name, .. } = upstream;
        let mut upstreams = lock(&self.upstreams);
        let live = upstreams.entry(Arc::clone(identity)).or_insert_with(|| {
            let counts = Arc::clone(lock(&self.counts).entry(Arc::clone(name)).or_default());
            let name = Arc::new(Mutex::new(Arc::clone(name)));
            Arc::new(LiveUpstream::counting(Arc::clone(identity), name, counts))
        });
        Arc::clone(live)
    }

    /// An upstream is called otherwise from now on; what was counted goes with it.
    pub(crate) fn rename(&self, live: &LiveUpstream, name: &Arc<str>) {
        let old = std::mem::replace(&mut *lock(&live.name), Arc::clone(name));
        let mut counts = lock(&self.counts);
        if counts
            .get(&old)
            .is_some_and(|of_old| Arc::ptr_eq(of_old, &live.counts))
        {
            counts.remove(&old);
        }
        counts
            .entry(Arc::clone(name))
            .or_insert_with(|| Arc::clone(&live.counts));
    }

    /// What was counted under the name of an upstream, if anything was.
    pub(crate) fn counts(&self, upstream: &Upstream) -> Option<SharedCounts> {
        match self.get(&upstream.identity) {
            Some(live) => Some(Arc::clone(&live.counts)),
            None => lock(&self.counts).get(&upstream.name).cloned(),
        }
    }

    /// Forgets what was counted under names that are not `current`, unless somebody still counts.
    pub(crate) fn keep_counts(&self, is_current: impl Fn(&str) -> bool) {
        lock(&self.counts).retain(|name, counts| is_current(name) || Arc::strong_count(counts) > 1);
    }

    /// The live upstream of `identity`, if anybody has used it.
    pub(crate) fn get(&self, identity: &Arc<Identity>) -> Option<Arc<LiveUpstream>> {
        lock(&self.upstreams).get(identity).cloned()
    }

    /// Forgets upstreams that only the registry still knows and `is_current` does not name. Says how many
    /// it does not name are left.
    pub(crate) fn keep(&self, is_current: impl Fn(&Arc<Identity>) -> bool) -> usize {
        let mut left = 0;
        lock(&self.upstreams).retain(|identity, upstream| {
            if is_current(identity) {
                return true;
            }
            let used = Arc::strong_count(upstream) > 1;
            left += usize::from(used);
            used
        });
        left
    }
}
