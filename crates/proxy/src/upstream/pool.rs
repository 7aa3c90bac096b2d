//! A worker's connections to one upstream, one pool an identity.
//!
//! HTTP/1.1 connections wait here for the next request, the latest used first. An HTTP/2
//! connection is shared; a second one is opened when the first has no stream left. Each connection
//! is driven by a task of its own, so one that the peer closes is seen at once, not at its next use.

mod answer_line;
mod bound;
mod http2;
mod lease;
mod named;
mod opening;
mod tasks;
mod verdict;
mod warming;

use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nuncio_model::{Alpn, EndpointTable, Failure, HandshakeReport, Reason, Resolve};
use tokio::sync::{Notify, Semaphore};

use self::answer_line::{AnswerLine, Http1Io};
pub(crate) use self::bound::Owner;
use self::bound::{Binding, BoundConnections};
use self::http2::{Http2Lease, Shared};
use self::lease::Http1Lease;
pub(crate) use self::lease::{Lease, LeaseError, SendError};
use self::named::Named;
pub(crate) use self::opening::{Need, Tried, refused, speaks_http2};
use self::tasks::Tasks;
use self::verdict::Verdict;
pub(crate) use self::warming::warm;
use super::dns::Dns;
use super::gate::Gate;
use super::live::{ConnectionCounts, ConnectionPermit, LiveEndpoint, LiveUpstream};
use super::stream::{FirstCause, UpstreamIo};
use crate::answer::Stay;
use crate::body::RequestBody;
use crate::counter::Codes;
use crate::headers::http2_list_limit;

/// An idle connection is closed after this, as Envoy does unless told otherwise.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// What a pool needs from its worker.
pub(crate) struct Addresses {
    pub(crate) dns: Rc<Dns>,
    pub(crate) table: RefCell<Arc<EndpointTable>>,
    /// Rises whenever addresses may have changed: each second, and with each new table.
    pub(crate) version: Cell<u64>,
}

/// One worker's connections to one upstream.
pub(crate) struct Pool {
    pub(crate) live: Arc<LiveUpstream>,
    /// Responses by status code, for the metric.
    codes: RefCell<Arc<Codes>>,
    limits: Cell<Limits>,
    /// TLS handshakes under way.
    handshakes: Rc<Gate>,
    /// Where each server name has a pool of its own.
    named: Option<Named>,
    endpoints: RefCell<Rc<[Rc<EndpointPool>]>>,
    /// What belongs to clients.
    bound: BoundConnections,
    seen_version: Cell<u64>,
    next: Cell<usize>,
    /// Endpoints that are gone were in use when that was looked at last.
    leftover: Cell<bool>,
    /// Set when its upstream is no longer configured: what it still opens, for requests that began before,
    /// is not kept and is cut with the rest, which is then.
    retired: Cell<Option<Instant>>,
}

/// One worker's connections to one endpoint.
pub(crate) struct EndpointPool {
    pub(crate) live: Arc<LiveEndpoint>,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Rc<Shared>>>,
    /// Held while a connection is opened that others may be able to share, or that may do for them, too.
    opening: Arc<Semaphore>,
    /// It lets HTTP/1.1 connections live on after an answer, as far as is known.
    keeps: Cell<bool>,
    /// How often a connection could not be opened that others might have waited for, and why the last time.
    failures: RefCell<(u64, Option<LeaseError>)>,
    /// A connection came free, or a stream of a shared one.
    room: Notify,
    /// What ALPN gave last time.
    protocol: Cell<Option<Alpn>>,
    counts: Arc<ConnectionCounts>,
    /// What drives its connections.
    tasks: Tasks,
    /// Set when the endpoint or the whole identity is gone: nothing is kept any more.
    retired: Cell<bool>,
    limits: Limits,
}

/// What a worker's pools keep to.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// How long a connection to an endpoint that is gone may finish its requests.
    pub(crate) grace: Duration,
    /// HTTP/1.1 connections to one endpoint that may wait for a request: this worker's share of all that
    /// may be open, so that what is idle here never keeps another worker from connecting.
    pub(crate) most_idle: usize,
    /// TLS handshakes with one upstream that may be under way at once; others wait their turn.
    pub(crate) handshakes: usize,
    /// Bytes that the header section of a response may have.
    pub(crate) header_bytes: usize,
}

struct Idle {
    sender: http1::SendRequest<RequestBody>,
    facts: Rc<Facts>,
    since: Instant,
    /// How long it may wait.
    limit: Duration,
}

impl Idle {
    fn is_usable(&self, now: Instant) -> bool {
        self.sender.is_ready() && now - self.since < self.limit
    }
}

/// What is known of a connection besides its bytes.
pub(crate) struct Facts {
    /// What its bytes said about its end, if that was the cause.
    cause: FirstCause,
    /// How TLS began; none for cleartext.
    tls: Option<Arc<HandshakeReport>>,
    /// Counts the handshake once its outcome is certain.
    verdict: Verdict,
    /// The answer that comes now, where HTTP/1.1 is spoken.
    line: Arc<AnswerLine>,
    /// The client that it belongs to; none for most.
    binding: OnceCell<Binding>,
    /// Held as long as the connection is, upgraded or not.
    _permit: Rc<ConnectionPermit>,
}

impl Pool {
    pub(crate) fn new(live: Arc<LiveUpstream>, codes: Arc<Codes>, limits: Limits) -> Self {
        Self {
            live,
            codes: RefCell::new(codes),
            limits: Cell::new(limits),
            handshakes: Rc::default(),
            named: None,
            endpoints: RefCell::default(),
            bound: BoundConnections::default(),
            seen_version: Cell::new(u64::MAX),
            next: Cell::new(0),
            leftover: Cell::new(false),
            retired: Cell::new(None),
        }
    }

    /// Keeps to other limits from now on.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.limits.set(limits);
        self.each_named(|pool| pool.set_limits(limits));
    }

    /// Counts a response.
    pub(crate) fn count(&self, status: u16) {
        self.codes.borrow().add(status);
    }

    /// Its upstream is called otherwise from now on, and its responses are counted there.
    pub(crate) fn rename(&self, codes: &Arc<Codes>) {
        self.codes.replace(Arc::clone(codes));
        self.each_named(|pool| pool.rename(codes));
    }

    async fn update_endpoints(&self, addresses: &Addresses, deadline: Instant) -> Result<(), Failure> {
        let version = addresses.version.get();
        let port = self.live.identity.port;
        match &self.live.identity.resolve {
            Resolve::Fixed(fixed) => self.set_endpoints(fixed),
            Resolve::Service(key) => {
                let table = Arc::clone(&addresses.table.borrow());
                self.set_endpoints(table.addresses(key));
            }
            Resolve::Dns(name) => {
                let found = addresses.dns.resolve(name, deadline).await?;
                self.set_endpoints(&sockets(&found, port));
            }
        }
        self.seen_version.set(version);
        Ok(())
    }

    /// Takes the addresses of a new table at once, so that what is idle at an endpoint that is gone closes
    /// although no request comes (row R11).
    pub(crate) fn follow(&self, table: &EndpointTable) {
        if let Resolve::Service(key) = &self.live.identity.resolve {
            self.set_endpoints(table.addresses(key));
            self.each_named(|pool| pool.follow(table));
        }
    }

    fn set_endpoints(&self, addresses: &[SocketAddr]) {
        let old = Rc::clone(&self.endpoints.borrow());
        if old
            .iter()
            .map(|endpoint| endpoint.live.address)
            .eq(addresses.iter().copied())
        {
            return;
        }
        let made = addresses.iter().map(|address| {
            let known = old.iter().find(|endpoint| endpoint.live.address == *address);
            let new = || {
                let endpoint = EndpointPool::new(self.live.endpoint(*address), self.limits.get());
                if let Some(until) = self.retired.get() {
                    endpoint.retire(until);
                }
                endpoint
            };
            known.map_or_else(new, Rc::clone)
        });
        let made = made.collect();
        self.endpoints.replace(made);
        for gone in old
            .iter()
            .filter(|endpoint| !addresses.contains(&endpoint.live.address))
        {
            gone.retire(self.grace_ends());
        }
        drop(old);
        self.bound.sweep(Instant::now());
        self.leftover.set(self.live.keep_endpoints(addresses));
    }

    /// Takes what DNS says by now, although no request asks: what is idle at an address that it no longer
    /// gives closes (row R11). Names without connections are left alone.
    fn follow_dns(&self, dns: &Rc<Dns>) {
        if let Resolve::Dns(name) = &self.live.identity.resolve
            && self.is_connected()
            && let Some(Ok(found)) = dns.known(name)
        {
            self.set_endpoints(&sockets(&found, self.live.identity.port));
        }
    }

    /// Whether a connection is open.
    pub(crate) fn is_connected(&self) -> bool {
        let endpoints = self.endpoints.borrow();
        endpoints.iter().any(|endpoint| endpoint.is_connected())
    }

    /// Endpoints that were gone may have been in use until now.
    fn forget_endpoints(&self) {
        if self.leftover.get() {
            let endpoints = self.endpoints.borrow();
            let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.live.address).collect();
            self.leftover.set(self.live.keep_endpoints(&addresses));
        }
    }

    /// Closes what waits and lets what works finish, for the grace at most; nothing is kept from now on.
    pub(crate) fn retire(&self) {
        let until = self.grace_ends();
        self.retired.set(Some(until));
        for endpoint in self.endpoints.borrow().iter() {
            endpoint.retire(until);
        }
        self.bound.sweep(Instant::now());
        self.each_named(Self::retire);
    }

    /// When requests on connections that retire now must be over.
    fn grace_ends(&self) -> Instant {
        Instant::now() + self.limits.get().grace
    }

    /// Closes connections that waited too long, died while they waited, or are to where DNS leads no more.
    pub(crate) fn sweep(&self, now: Instant, dns: &Rc<Dns>) {
        for endpoint in self.endpoints.borrow().iter() {
            endpoint.sweep(now);
        }
        self.bound.sweep(now);
        self.follow_dns(dns);
        self.forget_endpoints();
        self.each_named(|pool| pool.sweep(now, dns));
    }
}

impl EndpointPool {
    fn new(live: Arc<LiveEndpoint>, limits: Limits) -> Rc<Self> {
        let counts = live.shard();
        Rc::new(Self {
            live,
            idle: RefCell::default(),
            shared: RefCell::default(),
            opening: Arc::new(Semaphore::new(1)),
            keeps: Cell::new(true),
            failures: RefCell::default(),
            room: Notify::new(),
            protocol: Cell::new(None),
            counts,
            tasks: Tasks::default(),
            retired: Cell::new(false),
            limits,
        })
    }

    fn failed(&self, failure: Failure, tls: Option<Arc<HandshakeReport>>) -> LeaseError {
        LeaseError {
            failure,
            endpoint: Some(self.live.address),
            tls,
            remembered: false,
        }
    }

    /// Runs what drives a connection; it is cut when the endpoint has been retired for long enough.
    pub(crate) fn drive(&self, connection: impl Future<Output = ()> + 'static) {
        self.tasks.run(connection);
    }

    /// Speaks HTTP on a connection that is ready for it.
    async fn begin_http(
        self: Rc<Self>,
        io: UpstreamIo,
        http2: bool,
        facts: Rc<Facts>,
        permit: Rc<ConnectionPermit>,
    ) -> Result<Lease, Failure> {
        if http2 {
            let most = http2_list_limit(self.limits.header_bytes);
            let begun = http2::handshake(io, most).await;
            let (sender, connection) = begun.map_err(|error| not_http(&error))?;
            let shared = Shared::new(sender, connection.vitals(), facts, !self.retired.get());
            self.drive(async move {
                connection.await;
                drop(permit);
            });
            return Ok(self.share(shared));
        }
        let io = TokioIo::new(Http1Io::new(io, Arc::clone(&facts.line)));
        let mut builder = http1::Builder::new();
        // What RFC 9112 lets a gateway take of an answer, as long as it sends on what it understood: white
        // space before a colon (section 5.1) and folded lines (section 5.2).
        builder
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true);
        let (sender, connection) = builder.handshake(io).await.map_err(|error| not_http(&error))?;
        self.drive(async move {
            let _ = connection.with_upgrades().await;
            drop(permit);
        });
        self.counts.active.add(1);
        Ok(Lease::Http1(Http1Lease {
            sender: Some(sender),
            facts,
            endpoint: self,
            reused: false,
            stay: Stay::Open,
            unwanted: None,
        }))
    }

    fn idle_http1(self: &Rc<Self>) -> Option<Lease> {
        loop {
            let idle = self.idle.borrow_mut().pop()?;
            self.counts.idle.subtract(1);
            let fresh = idle.limit == IDLE_TIMEOUT || idle.since.elapsed() < idle.limit;
            let Idle { sender, facts, .. } = idle;
            if sender.is_ready() && fresh {
                self.counts.active.add(1);
                let endpoint = Rc::clone(self);
                return Some(Lease::Http1(Http1Lease {
                    sender: Some(sender),
                    facts,
                    endpoint,
                    reused: true,
                    stay: Stay::Open,
                    unwanted: None,
                }));
            }
        }
    }

    fn stream_unless(self: &Rc<Self>, not: bool) -> Option<Lease> {
        if not {
            return None;
        }
        let mut shared = self.shared.borrow_mut();
        if shared.is_empty() {
            return None;
        }
        shared.retain(|connection| self.is_usable(connection, None));
        let free = shared.iter().find(|connection| connection.has_room())?;
        Some(self.stream(free, true))
    }

    fn stream(self: &Rc<Self>, shared: &Rc<Shared>, reused: bool) -> Lease {
        let streams = &shared.vitals.streams;
        let before = streams.replace(streams.get() + 1);
        if before == 0 {
            self.counts.active.add(1);
            if shared.pooled.get() && reused {
                self.counts.idle.subtract(1);
            }
        }
        Lease::Http2(Http2Lease::new(Rc::clone(shared), Rc::clone(self), reused))
    }

    fn share(self: &Rc<Self>, shared: Shared) -> Lease {
        let shared = Rc::new(shared);
        if shared.pooled.get() {
            self.shared.borrow_mut().push(Rc::clone(&shared));
        }
        self.stream(&shared, false)
    }

    /// Whether an HTTP/2 connection takes requests and, at `now`, has not waited for too long. One that is not
    /// is counted off.
    fn is_usable(&self, connection: &Shared, now: Option<Instant>) -> bool {
        let idle = connection.vitals.streams.get() == 0;
        let waited = |now| now - connection.idle_since.get() >= IDLE_TIMEOUT;
        let over = idle && now.is_some_and(waited);
        if connection.is_open() && !over {
            return true;
        }
        self.unpool(connection);
        false
    }

    fn unpool(&self, connection: &Shared) {
        if connection.pooled.replace(false) && connection.vitals.streams.get() == 0 {
            self.counts.idle.subtract(1);
        }
    }

    fn is_connected(&self) -> bool {
        self.counts.active.get() > 0 || self.counts.idle.get() > 0
    }

    fn keep(&self, sender: http1::SendRequest<RequestBody>, facts: Rc<Facts>, limit: Duration) {
        self.keeps.set(true);
        if !self.retired.get() && self.idle.borrow().len() < self.limits.most_idle {
            self.counts.idle.add(1);
            self.idle.borrow_mut().push(Idle {
                sender,
                facts,
                since: Instant::now(),
                limit,
            });
            self.room.notify_one();
        }
    }

    /// A connection closed after its answer: nobody need wait for one that comes free.
    fn closed(&self) {
        if self.keeps.replace(false) {
            self.room.notify_waiters();
        }
    }

    /// Closes what waits; what works is cut at `until`.
    fn retire(&self, until: Instant) {
        self.retired.set(true);
        for connection in self.shared.borrow_mut().drain(..) {
            self.unpool(&connection);
        }
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        self.counts.idle.subtract(idle.len() as u64);
        self.tasks.end(until);
    }

    fn sweep(&self, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain(|connection| connection.is_usable(now));
        self.counts.idle.subtract((before - idle.len()) as u64);
        self.shared
            .borrow_mut()
            .retain(|connection| self.is_usable(connection, Some(now)));
    }
}

/// The addresses with the upstream's port.
pub(crate) fn sockets(addresses: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
}

fn not_http(error: &dyn std::error::Error) -> Failure {
    Failure {
        reason: Reason::UpstreamProtocolError,
        message: format!("the upstream does not speak the HTTP that was agreed on: {error}"),
        remedy: "check spec.grpc and spec.alpn_protocols against what the upstream speaks".to_owned(),
    }
}

#[cfg(test)]
mod tests;
