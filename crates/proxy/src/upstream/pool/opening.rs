//! How a request gets a connection: from what waits, else by opening one, at the next endpoint in turn.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nuncio_model::{Alpn, Failure, HandshakeReport, Identity, Outcome, Reason, UpstreamHttp};
use nuncio_tls::{Selected, alpn_mismatch};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{sleep, sleep_until, timeout_at};

use super::super::connector::{ConnectError, Connected, SmallHello};
use super::super::gate::Pass;
use super::super::live::{ConnectionPermit, MAX_CONNECTIONS, Wanted};
use super::super::trial::Remembered;
use super::verdict::Verdict;
use super::{Addresses, EndpointPool, Facts, Lease, LeaseError, Pool};

/// So long a request waits for a stream of a full HTTP/2 connection before it opens another.
const ROOM_PATIENCE: Duration = Duration::from_millis(50);
/// So long a request waits for an HTTP/1.1 connection to come free while another is being opened. Longer than
/// a handshake within a network takes, for then connections of a new upstream are few and their requests
/// quick; short beside one across the world, which more than one request may be in need of.
const FREE_PATIENCE: Duration = Duration::from_millis(10);
/// So long a connection goes on being opened that nobody waits for any more: it is of use to the next request, but a
/// handshake that stalls would keep others from theirs.
const UNWANTED: Duration = Duration::from_secs(1);
/// Handshakes that may fail for one request.
const MOST_FAILURES: usize = 3;

/// The connection that a request needs.
#[derive(Clone, Copy)]
pub(crate) struct Need {
    pub(crate) wanted: Wanted,
    /// One that carried no request before.
    pub(crate) fresh: bool,
    pub(crate) deadline: Instant,
    /// The time that was given in all, for messages.
    pub(crate) limit: Duration,
    /// That is the time of one try, not `connect_timeout_ms`.
    pub(crate) limited_by_try: bool,
}

impl Need {
    /// A remedy names the field that gives the time.
    fn name_the_limit(&self, remedy: &mut String) {
        if self.limited_by_try {
            *remedy = remedy.replace("connect_timeout_ms", "retry_policy.per_try_timeout");
        }
    }
}

/// The right to open one more connection.
struct Admitted<'a> {
    permit: ConnectionPermit,
    /// Through the gate of TLS handshakes; none for cleartext.
    pass: Option<Pass<'a>>,
}

/// Endpoints that a request has been to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tried(Vec<SocketAddr>);

impl Tried {
    pub(crate) fn note(&mut self, endpoint: SocketAddr) {
        self.0.push(endpoint);
    }

    fn has(&self, endpoint: &EndpointPool) -> bool {
        self.0.contains(&endpoint.live.address)
    }
}

impl Pool {
    /// A connection for one request. Where an endpoint's handshake fails for a reason that repeats, or is
    /// remembered to fail, nothing of the request was sent, so another endpoint is asked (row F8); the first
    /// failure is the one told (row F9). Endpoints that were `tried` are asked again only where there is no
    /// other.
    pub(crate) async fn lease(
        self: &Rc<Self>,
        addresses: &Addresses,
        need: &Need,
        tried: &Tried,
    ) -> Result<Lease, LeaseError> {
        if self.seen_version.get() != addresses.version.get() {
            Box::pin(self.update_endpoints(addresses, need.deadline)).await?;
        }
        let endpoints = Rc::clone(&self.endpoints.borrow());
        let mut first = None;
        let mut handshakes = 0;
        for endpoint in in_turn(&endpoints, self.next.get(), tried) {
            self.next.set(self.next.get().wrapping_add(1));
            let error = match self.lease_from(Rc::clone(endpoint), need).await {
                Ok(lease) => {
                    first.iter().for_each(|untold| self.count_untold(untold));
                    return Ok(lease);
                }
                Err(error) => error,
            };
            let ask_another = error.remembered || error.failure.reason.repeats();
            handshakes += usize::from(!error.remembered);
            match &first {
                None => first = Some(error),
                Some(_) => self.count_untold(&error),
            }
            if !ask_another || handshakes == MOST_FAILURES {
                break;
            }
        }
        Err(first.unwrap_or_else(|| no_endpoints().into()))
    }

    /// A failure that is told is counted by whoever asked.
    pub(super) fn count_untold(&self, error: &LeaseError) {
        if !error.remembered {
            self.live.count_failure(error.failure.reason);
        }
    }

    async fn lease_from(
        self: &Rc<Self>,
        endpoint: Rc<EndpointPool>,
        need: &Need,
    ) -> Result<Lease, LeaseError> {
        let needs_http1 = need.wanted == Wanted::Http1;
        let pooled = || {
            endpoint
                .idle_http1()
                .or_else(|| endpoint.stream_unless(needs_http1))
        };
        if let Some(lease) = (!need.fresh).then(pooled).flatten() {
            return Ok(lease);
        }
        if let Some(known) = endpoint.live.recall(need.wanted) {
            return Err(self.remembered(&endpoint, &known));
        }
        // What follows is large, and of no matter to a request that finds a connection.
        let http1 = needs_http1 || self.live.identity.http == UpstreamHttp::Http1;
        if http1 || endpoint.protocol.get() == Some(Alpn::Http1) {
            return Box::pin(self.free_or_open(endpoint, need)).await;
        }
        Box::pin(self.share_or_open(endpoint, need)).await
    }

    /// An HTTP/1.1 connection: the first that comes free or is opened for this request. While one is being
    /// opened, others may do with those that come free in quick succession; so on a new upstream, and after
    /// each rotation, requests do not outdo each other with handshakes that few of them need.
    async fn free_or_open(
        self: &Rc<Self>,
        endpoint: Rc<EndpointPool>,
        need: &Need,
    ) -> Result<Lease, LeaseError> {
        let free = || (!need.fresh).then(|| endpoint.idle_http1()).flatten();
        let shares = self.shares_openings(need);
        let place = shares.then(|| Arc::clone(&endpoint.opening).try_acquire_owned().ok());
        let place = place.flatten();
        // In cleartext there is no handshake to save.
        let may_wait = shares && !need.fresh && self.live.identity.tls.is_some();
        if place.is_none() && may_wait {
            let failures = endpoint.failures.borrow().0;
            let mut patience = pin!(sleep_until(
                need.deadline.min(Instant::now() + FREE_PATIENCE).into()
            ));
            let may_come_free = || endpoint.keeps.get() && !endpoint.retired.get();
            while may_come_free() && endpoint.failures.borrow().0 == failures {
                tokio::select! {
                    biased;
                    () = endpoint.room.notified() => if let Some(lease) = free() {
                        return Ok(lease);
                    },
                    () = &mut patience => break,
                }
            }
        }
        let mut opened = self.open_beside(&endpoint, need, place);
        loop {
            tokio::select! {
                biased;
                opened = &mut opened => return opened.unwrap_or_else(|_| Err(self.not_in_time(&endpoint, need))),
                () = endpoint.room.notified(), if !need.fresh => if let Some(lease) = free() {
                    return Ok(lease);
                }
            }
        }
    }

    /// Whether what is opened for a request, or cannot be, is of any matter to the others: an upgrade beside HTTP/2 needs
    /// a connection that nobody else has a use for.
    fn shares_openings(&self, need: &Need) -> bool {
        need.wanted == Wanted::Configured || self.live.identity.http == UpstreamHttp::Http1
    }

    /// Opens a connection in a task of its own, which ends by the deadline; whom it was for may find another
    /// meanwhile, and then it is kept for the next. `place` is free again when it is open.
    pub(super) fn open_beside(
        self: &Rc<Self>,
        endpoint: &Rc<EndpointPool>,
        need: &Need,
        place: Option<OwnedSemaphorePermit>,
    ) -> oneshot::Receiver<Result<Lease, LeaseError>> {
        let (mut wanted, opened) = oneshot::channel();
        let (pool, endpoint, need) = (Rc::clone(self), Rc::clone(endpoint), *need);
        tokio::task::spawn_local(async move {
            let admitted = tokio::select! {
                biased;
                () = wanted.closed() => return,
                admitted = pool.admit(&endpoint, &need) => admitted,
            };
            let kept = Rc::clone(&endpoint);
            let made = match admitted {
                Ok(admitted) => {
                    let begun = pool.begin(endpoint, &need, admitted);
                    match unless_unwanted(begun, wanted.closed()).await {
                        Some(made) => made,
                        None => return,
                    }
                }
                Err(error) => Err(error),
            };
            drop(place);
            if let Err(error) = &made
                && pool.shares_openings(&need)
            {
                kept.note_failure(error);
                kept.room.notify_waiters();
            }
            match wanted.send(made) {
                Ok(()) => {}
                Err(Ok(lease)) => lease.give_back(),
                Err(Err(error)) => pool.count_untold(&error),
            }
        });
        opened
    }

    /// A stream of an HTTP/2 connection. Only one connection is opened at a time, since all who wait can
    /// share it; and none while streams of an open one come free in quick succession.
    async fn share_or_open(
        self: &Rc<Self>,
        endpoint: Rc<EndpointPool>,
        need: &Need,
    ) -> Result<Lease, LeaseError> {
        let opening = Rc::clone(&endpoint);
        let failures = endpoint.failures.borrow().0;
        let patience = Instant::now() + ROOM_PATIENCE;
        loop {
            if let Some(lease) = endpoint.stream_unless(need.fresh) {
                return Ok(lease);
            }
            if let Some(error) = endpoint.failed_since(failures, need) {
                return Err(error);
            }
            let full = !need.fresh && !endpoint.shared.borrow().is_empty();
            let patient = full && Instant::now() < patience;
            tokio::select! {
                biased;
                () = opening.room.notified(), if full => {}
                permit = opening.opening.acquire(), if !patient => {
                    // Whoever had it before may have opened what can be shared, or failed.
                    let shared = endpoint.stream_unless(need.fresh).map(Ok);
                    if let Some(settled) = shared.or_else(|| endpoint.failed_since(failures, need).map(Err)) {
                        return settled;
                    }
                    if endpoint.protocol.get() == Some(Alpn::Http1) {
                        // There is nothing to share after all.
                        drop(permit);
                        return self.free_or_open(endpoint, need).await;
                    }
                    let opened = self.open(Rc::clone(&endpoint), need).await;
                    if let Err(error) = &opened {
                        endpoint.note_failure(error);
                    }
                    drop(permit);
                    return opened;
                }
                () = sleep_until(patience.into()), if patient => {}
                () = sleep_until(need.deadline.into()) => {
                    return Err(self.waited_too_long(&endpoint, failures, need));
                }
            }
        }
    }

    /// The time is over while another request opens the connection.
    fn waited_too_long(&self, endpoint: &EndpointPool, failures: u64, need: &Need) -> LeaseError {
        let failed = endpoint.failed_since(failures, need);
        failed.unwrap_or_else(|| self.not_in_time(endpoint, need))
    }

    fn not_in_time(&self, endpoint: &EndpointPool, need: &Need) -> LeaseError {
        let tls = self.live.identity.tls.is_some();
        let mut failure = still_opening(endpoint.live.address, tls, need.limit);
        need.name_the_limit(&mut failure.remedy);
        endpoint.failed(failure, None)
    }

    fn remembered(&self, endpoint: &EndpointPool, known: &Remembered) -> LeaseError {
        self.live.count_avoided(known.failure.reason);
        LeaseError {
            remembered: true,
            ..endpoint.failed(Failure::clone(&known.failure), known.report.clone())
        }
    }

    /// Waits until one more TLS handshake may begin.
    async fn turn(&self, endpoint: &EndpointPool, need: &Need) -> Result<Pass<'_>, LeaseError> {
        let most = self.limits.get().handshakes;
        let turn = timeout_at(need.deadline.into(), self.handshakes.enter(most)).await;
        turn.map_err(|_| endpoint.failed(too_many_handshakes(most, need.limit), None))
    }

    async fn open(&self, endpoint: Rc<EndpointPool>, need: &Need) -> Result<Lease, LeaseError> {
        let admitted = self.admit(&endpoint, need).await?;
        self.begin(endpoint, need, admitted).await
    }

    /// Waits until one more connection may be opened.
    async fn admit(&self, endpoint: &EndpointPool, need: &Need) -> Result<Admitted<'_>, LeaseError> {
        let permit = self.live.connection_permit().or_else(|| {
            // What waits for one client must not keep others from connecting.
            self.bound.make_room().then(|| self.live.connection_permit())?
        });
        let permit = permit.ok_or_else(too_many_connections)?;
        let pass = match &self.live.identity.tls {
            Some(_) => Some(self.turn(endpoint, need).await?),
            None => None,
        };
        Ok(Admitted { permit, pass })
    }

    async fn begin(
        &self,
        endpoint: Rc<EndpointPool>,
        need: &Need,
        admitted: Admitted<'_>,
    ) -> Result<Lease, LeaseError> {
        let Admitted { permit, pass } = admitted;
        let permit = Rc::new(permit);
        // While this one waited for its turn, another may have finished with a connection,
        let idle = || endpoint.idle_http1();
        if let Some(lease) = (!need.fresh && pass.is_some()).then(idle).flatten() {
            return Ok(lease);
        }
        // or found out that there is no use in asking.
        let live = Arc::clone(&endpoint.live);
        let trial = live
            .begin(need.wanted)
            .map_err(|known| self.remembered(&endpoint, &known))?;
        let (connected, http2) = match self.connect(&endpoint, need).await {
            Ok(connected) => connected,
            Err(ConnectError {
                mut failure,
                mut report,
                ..
            }) => {
                need.name_the_limit(&mut failure.remedy);
                if let Some(report) = &mut report {
                    need.name_the_limit(&mut report.remedy);
                }
                let report = report.map(Arc::new);
                if let Some(report) = &report {
                    self.live.record_handshake(&endpoint.live, report);
                }
                self.live.log_failure(endpoint.live.address, &failure);
                trial.failed(&failure, report.as_ref());
                return Err(endpoint.failed(failure, report));
            }
        };
        trial.succeeded();
        drop(pass);
        if let Some(small) = connected.small_hello {
            let is_news = small == SmallHello::News;
            self.live.note_small_hello(endpoint.live.address, is_news);
        }
        let report = connected.report.map(Arc::new);
        if let Some(report) = &report {
            endpoint.live.tell_handshake(Arc::clone(report));
        }
        let facts = Rc::new(Facts {
            cause: connected.cause,
            tls: report.clone(),
            verdict: Verdict::new(&self.live, report),
            line: Arc::default(),
            binding: OnceCell::new(),
            _permit: Rc::clone(&permit),
        });
        let io = connected.io;
        endpoint
            .protocol
            .set(Some(if http2 { Alpn::H2 } else { Alpn::Http1 }));
        Ok(endpoint.begin_http(io, http2, facts, permit).await?)
    }

    /// A connection, and whether HTTP/2 is spoken on it.
    async fn connect(&self, endpoint: &EndpointPool, need: &Need) -> Result<(Connected, bool), ConnectError> {
        let dialled = self
            .live
            .dial(&endpoint.live, need.wanted, need.deadline, need.limit);
        let mut connected = dialled.await?;
        match speaks_http2(&self.live.identity, need.wanted, &connected.alpn) {
            Ok(http2) => Ok((connected, http2)),
            Err(failure) => {
                let report = connected.report.take().map(|report| refused(report, &failure));
                Err(ConnectError {
                    report,
                    ..failure.into()
                })
            }
        }
    }
}

/// What is opened; none where that takes long after nobody wants it any more.
async fn unless_unwanted<T>(
    opening: impl Future<Output = T>,
    unwanted: impl Future<Output = ()>,
) -> Option<T> {
    let too_late = async {
        unwanted.await;
        sleep(UNWANTED).await;
    };
    tokio::select! {
        biased;
        opened = opening => Some(opened),
        () = too_late => None,
    }
}

/// The endpoints from the `next` on, without those that were tried; where all were, the next alone.
pub(super) fn in_turn<'e>(
    endpoints: &'e [Rc<EndpointPool>],
    next: usize,
    tried: &'e Tried,
) -> impl Iterator<Item = &'e Rc<EndpointPool>> {
    let at = next.checked_rem(endpoints.len()).unwrap_or_default();
    let (before, after) = endpoints.split_at(at);
    let untried = after.iter().chain(before).filter(|endpoint| !tried.has(endpoint));
    let all_tried = endpoints.iter().all(|endpoint| tried.has(endpoint));
    untried.chain(after.first().filter(|_| all_tried))
}

/// Decision 9: what ALPN negotiated is what is spoken.
pub(crate) fn speaks_http2(identity: &Identity, wanted: Wanted, alpn: &Selected) -> Result<bool, Failure> {
    let http = if wanted == Wanted::Http1 {
        UpstreamHttp::Http1
    } else {
        identity.http
    };
    let needed = match (http, alpn) {
        (UpstreamHttp::Http1, Selected::Http(Alpn::H2)) => Alpn::Http1,
        (UpstreamHttp::Http2, Selected::Http(Alpn::Http1)) => Alpn::H2,
        (UpstreamHttp::Http2, Selected::Foreign(_)) => Alpn::H2,
        (UpstreamHttp::Http1 | UpstreamHttp::Negotiated, Selected::Foreign(_)) => Alpn::Http1,
        (UpstreamHttp::Http2, _) | (UpstreamHttp::Negotiated, Selected::Http(Alpn::H2)) => return Ok(true),
        (UpstreamHttp::Http1 | UpstreamHttp::Negotiated, _) => return Ok(false),
    };
    match &identity.tls {
        Some(settings) => Err(alpn_mismatch(needed.as_str(), alpn.name(), settings)),
        // Nothing is negotiated in cleartext.
        None => Ok(needed == Alpn::H2),
    }
}

/// The report of a handshake that went well and was of no use.
pub(crate) fn refused(mut report: HandshakeReport, failure: &Failure) -> HandshakeReport {
    report.outcome = Outcome::Failed(failure.reason);
    report.message.clone_from(&failure.message);
    report.remedy.clone_from(&failure.remedy);
    report
}

fn no_endpoints() -> Failure {
    Failure {
        reason: Reason::NoEndpoints,
        message: "the service has no ready endpoints".to_owned(),
        remedy: "check that its pods are ready and that its selector and port match them".to_owned(),
    }
}

fn too_many_connections() -> Failure {
    Failure {
        reason: Reason::Overflow,
        message: format!("{MAX_CONNECTIONS} connections to this upstream are open already"),
        remedy: "add endpoints, or make the upstream answer faster".to_owned(),
    }
}

fn too_many_handshakes(most: usize, limit: Duration) -> Failure {
    Failure {
        reason: Reason::Overflow,
        message: format!(
            "{most} TLS handshakes with this upstream were under way for all of {} ms",
            limit.as_millis()
        ),
        remedy: "see why its handshakes take long, or raise upstream_max_handshakes in the Module ambassador"
            .to_owned(),
    }
}

fn still_opening(address: SocketAddr, tls: bool, limit: Duration) -> Failure {
    let (reason, what) = if tls {
        (Reason::HandshakeTimeout, "TLS handshake")
    } else {
        (Reason::ConnectTimeout, "connection")
    };
    Failure {
        reason,
        message: format!(
            "the {what} with {address} that this request would share was still under way after {} ms",
            limit.as_millis()
        ),
        remedy: "raise spec.connect_timeout_ms, or see why the upstream takes so long to connect".to_owned(),
    }
}

impl EndpointPool {
    /// Tells those who wait for a connection that there is none.
    fn note_failure(&self, error: &LeaseError) {
        let mut failures = self.failures.borrow_mut();
        *failures = (failures.0 + 1, Some(error.clone()));
    }

    /// Why the connection failed that a request has waited for since there were so many failures. One that
    /// took too long is no answer for a request that has the time to try itself.
    fn failed_since(&self, failures: u64, need: &Need) -> Option<LeaseError> {
        let noted = self.failures.borrow();
        let error = noted.1.as_ref().filter(|_| noted.0 != failures)?;
        let timed_out = matches!(
            error.failure.reason,
            Reason::ConnectTimeout | Reason::HandshakeTimeout | Reason::Overflow
        );
        let left = need.deadline.saturating_duration_since(Instant::now());
        (!timed_out || left < need.limit / 2).then(|| error.clone())
    }
}
