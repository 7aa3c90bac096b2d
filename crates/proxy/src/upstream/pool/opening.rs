//! How a request gets a connection: from what waits, else by opening one, at the next endpoint in turn.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nuncio_model::{Alpn, Failure, HandshakeReport, Identity, Outcome, Reason, UpstreamHttp};
use nuncio_tls::alpn_mismatch;
use tokio::time::timeout_at;

use super::super::connector::{ConnectError, Connected};
use super::super::gate::Pass;
use super::super::live::{MAX_CONNECTIONS, Wanted};
use super::{Addresses, EndpointPool, Facts, Lease, LeaseError, Pool};

/// Endpoints whose handshakes may fail for one request.
const MOST_ENDPOINTS: usize = 3;

/// The connection that a request needs.
#[derive(Clone, Copy)]
pub(crate) struct Need<'a> {
    pub(crate) wanted: Wanted,
    /// One that carried no request before.
    pub(crate) fresh: bool,
    /// Endpoints that failed the request already: they are asked again only where there is no other.
    pub(crate) tried: &'a Tried,
    pub(crate) deadline: Instant,
    /// The time that was given in all, for messages.
    pub(crate) limit: Duration,
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
    /// A connection for one request. Where an endpoint's handshake fails for a reason that repeats, nothing
    /// of the request was sent, so another endpoint is asked (row F8); the first failure is the one told
    /// (row F9).
    pub(crate) async fn lease(&self, addresses: &Addresses, need: &Need<'_>) -> Result<Lease, LeaseError> {
        if self.seen_version.get() != addresses.version.get() {
            self.update_endpoints(addresses, need.deadline).await?;
        }
        let mut tried = need.tried.clone();
        let mut first = None;
        for _ in 0..MOST_ENDPOINTS {
            let Some(endpoint) = self
                .pick(&tried)
                .filter(|next| first.is_none() || !tried.has(next))
            else {
                break;
            };
            tried.note(endpoint.live.address);
            match (self.lease_from(endpoint, need).await, &first) {
                (Err(error), None) if error.failure.reason.repeats() => first = Some(error),
                (Err(error), Some(_)) => {
                    self.live.count_failure(error.failure.reason);
                    if !error.failure.reason.repeats() {
                        break;
                    }
                }
                (settled, before) => {
                    // Whoever has asked counts what it is told.
                    if let Some(error) = before {
                        self.live.count_failure(error.failure.reason);
                    }
                    return settled;
                }
            }
        }
        Err(first.unwrap_or_else(|| no_endpoints().into()))
    }

    /// The next endpoint in turn, of those that were not tried where there are any.
    fn pick(&self, tried: &Tried) -> Option<Rc<EndpointPool>> {
        let endpoints = self.endpoints.borrow();
        let next = self.next.get();
        self.next.set(next.wrapping_add(1));
        let at = next.checked_rem(endpoints.len())?;
        let (before, after) = endpoints.split_at(at);
        let untried = after.iter().chain(before).find(|endpoint| !tried.has(endpoint));
        untried.or(after.first()).cloned()
    }

    async fn lease_from(&self, endpoint: Rc<EndpointPool>, need: &Need<'_>) -> Result<Lease, LeaseError> {
        let needs_http1 = need.wanted == Wanted::Http1;
        let pooled = || {
            endpoint
                .idle_http1()
                .or_else(|| endpoint.stream_unless(needs_http1))
        };
        if let Some(lease) = (!need.fresh).then(pooled).flatten() {
            return Ok(lease);
        }
        let http1 = needs_http1 || self.live.identity.http == UpstreamHttp::Http1;
        if http1 || endpoint.protocol.get() == Some(Alpn::Http1) {
            return self.open(endpoint, need).await;
        }
        // Whoever waits here can share what the one before opens.
        let opening = Rc::clone(&endpoint);
        let Ok(Ok(_permit)) = timeout_at(need.deadline.into(), opening.opening.acquire()).await else {
            return Err(endpoint.failed(waited_too_long(endpoint.live.address, need.limit), None));
        };
        match endpoint.stream_unless(need.fresh) {
            Some(lease) => Ok(lease),
            None => self.open(endpoint, need).await,
        }
    }

    /// Waits until one more TLS handshake may begin.
    async fn turn(&self, endpoint: &EndpointPool, need: &Need<'_>) -> Result<Pass<'_>, LeaseError> {
        let most = self.limits.get().handshakes;
        let turn = timeout_at(need.deadline.into(), self.handshakes.enter(most)).await;
        turn.map_err(|_| endpoint.failed(too_many_handshakes(most, need.limit), None))
    }

    async fn open(&self, endpoint: Rc<EndpointPool>, need: &Need<'_>) -> Result<Lease, LeaseError> {
        let permit = self.live.connection_permit().ok_or_else(too_many_connections)?;
        let permit = Rc::new(permit);
        let pass = match &self.live.identity.tls {
            Some(_) => Some(self.turn(&endpoint, need).await?),
            None => None,
        };
        // While this one waited for its turn, another may have finished with a connection.
        if let Some(lease) = (!need.fresh && pass.is_some())
            .then(|| endpoint.idle_http1())
            .flatten()
        {
            return Ok(lease);
        }
        let dialled = self
            .live
            .dial(&endpoint.live, need.wanted, need.deadline, need.limit);
        let connected = dialled.await;
        drop(pass);
        let connected = match connected {
            Ok(connected) => connected,
            Err(ConnectError { failure, report, .. }) => {
                let report = report.map(Arc::new);
                self.record(&endpoint, report.as_ref());
                return Err(endpoint.failed(failure, report));
            }
        };
        let Connected {
            io,
            alpn,
            cause,
            report,
        } = connected;
        let http2 = match speaks_http2(&self.live.identity, need.wanted, alpn) {
            Ok(http2) => http2,
            Err(failure) => {
                let report = report.map(|report| Arc::new(refused(report, &failure)));
                self.record(&endpoint, report.as_ref());
                return Err(endpoint.failed(failure, report));
            }
        };
        let facts = Rc::new(Facts {
            cause,
            tls: report.map(Arc::new),
            _permit: Rc::clone(&permit),
        });
        self.record(&endpoint, facts.tls.as_ref());
        endpoint
            .protocol
            .set(Some(if http2 { Alpn::H2 } else { Alpn::Http1 }));
        Ok(endpoint.begin_http(io, http2, facts, permit).await?)
    }

    fn record(&self, endpoint: &EndpointPool, report: Option<&Arc<HandshakeReport>>) {
        if let Some(report) = report {
            self.live.record_handshake(&endpoint.live, report);
        }
    }
}

/// Decision 9: what ALPN negotiated is what is spoken.
pub(crate) fn speaks_http2(identity: &Identity, wanted: Wanted, alpn: Option<Alpn>) -> Result<bool, Failure> {
    let http = if wanted == Wanted::Http1 {
        UpstreamHttp::Http1
    } else {
        identity.http
    };
    let needed = match (http, alpn) {
        (UpstreamHttp::Http1, Some(Alpn::H2)) => Alpn::Http1,
        (UpstreamHttp::Http2, Some(Alpn::Http1)) => Alpn::H2,
        (UpstreamHttp::Http2, _) | (UpstreamHttp::Negotiated, Some(Alpn::H2)) => return Ok(true),
        (UpstreamHttp::Http1 | UpstreamHttp::Negotiated, _) => return Ok(false),
    };
    match &identity.tls {
        Some(settings) => Err(alpn_mismatch(needed.as_str(), alpn.map(Alpn::as_str), settings)),
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

fn waited_too_long(address: SocketAddr, limit: Duration) -> Failure {
    Failure {
        reason: Reason::ConnectTimeout,
        message: format!(
            "no connection to {address} was ready within {} ms",
            limit.as_millis()
        ),
        remedy: "raise spec.connect_timeout_ms, or see why its handshakes take long".to_owned(),
    }
}
