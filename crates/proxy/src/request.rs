//! The path of a request. [`handle`] reads from top to bottom: read the head, find the route, edit
//! the request, pick a connection, send (once more where that is safe), edit the response, stream,
//! record.

use std::borrow::Cow;
use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, SERVER, USER_AGENT};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use nuncio_model::{
    Action, Failure, Forward, InsecureAction, Listener, Reason, RequestHead, Rewrite, SecurityModel,
    Settings, Target, VirtualHost,
};
use tokio::time::timeout_at;

use crate::access_log::{AccessLog, Entry};
use crate::body::{RequestBody, ResponseBody};
use crate::client::connection::Client;
use crate::exchange::Exchange;
use crate::failure::{Fault, ProxyError, own};
use crate::headers::{self, Origin};
use crate::serving::{LiveTarget, Serving};
use crate::upgrade;
use crate::upstream::live::Wanted;
use crate::upstream::pool::{Lease, Pool, SendError};
use crate::worker::Worker;

/// The only scheme until listeners terminate TLS.
const SCHEME: &str = "http";
/// Always served as it is: certificate authorities ask for it without TLS.
const ACME_PREFIX: &str = "/.well-known/acme-challenge/";
/// How often a request is sent at most.
const MAX_ATTEMPTS: u32 = 2;

/// Answers one request.
pub(crate) async fn handle(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let mut exchange = Exchange::begin(&worker, &client);
    let Some(serving) = worker.serving() else {
        return Ok(answer(
            own(StatusCode::SERVICE_UNAVAILABLE, "not ready yet"),
            exchange,
            &Settings::default(),
        ));
    };
    let settings = &serving.snapshot.settings;
    let (parts, body) = request.into_parts();
    begin_entry(&worker, &client, &parts, &mut exchange);

    let Some(head) = Head::read(&client, &parts, settings) else {
        return Ok(answer(bad_request(), exchange, settings));
    };
    let (listener, target) = match find(&serving, &client, &parts, &head) {
        Found::Target(listener, target) => (listener, target),
        Found::Redirect => return Ok(answer(redirect(&parts, &head), exchange, settings)),
        Found::Nothing(why) => {
            let grpc = headers::is_grpc(&parts.headers);
            return Ok(fail(false, &ProxyError::no_route(why), grpc, exchange, settings));
        }
    };
    let live = serving.target(target, &worker.stats);
    exchange.mapped(target, &live);
    let forward = match &target.action {
        Action::Forward(forward) => forward,
        Action::Unresolved(unresolved) => {
            let grpc = headers::is_grpc(&parts.headers);
            let error = ProxyError::unresolved(unresolved);
            return Ok(fail(
                worker.shared.expose_reasons,
                &error,
                grpc,
                exchange,
                settings,
            ));
        }
    };
    let grpc = forward.grpc || headers::is_grpc(&parts.headers);
    let pool = serving.pool(forward.upstream, &worker.shared.registry, &worker.stats);
    exchange.sent_to(pool, &serving.snapshot.upstream(forward.upstream).name);
    let hop = Hop {
        worker: &worker,
        client: &client,
        listener,
        settings,
        forward,
        live: &live,
        pool,
    };
    let plan = match hop.plan(&parts, &head) {
        Ok(plan) => plan,
        Err(status) => return Ok(answer(own(status, ""), exchange, settings)),
    };
    Ok(match hop.forward(parts, body, plan, &mut exchange).await {
        Ok(Sent::Answered {
            response,
            lease,
            deadline,
        }) => relay(response, lease, deadline, forward, exchange, settings),
        Ok(Sent::Upgraded { response, upgrade }) => {
            upgrade::relay(response, upgrade, &forward.response_headers, exchange, settings)
        }
        Err(error) => fail(worker.shared.expose_reasons, &error, grpc, exchange, settings),
    })
}

/// What of a request decides its way.
struct Head<'a> {
    /// Lower case, with the port where one was given.
    authority: Cow<'a, str>,
    /// Normalised.
    path: Cow<'a, str>,
}

impl<'a> Head<'a> {
    /// None for a request that must be refused.
    fn read(client: &Client, parts: &'a Parts, settings: &Settings) -> Option<Self> {
        if client.ambiguous.is_set() {
            return None;
        }
        let mut hosts = parts.headers.get_all(HOST).iter();
        let host = hosts.next();
        if hosts.next().is_some() {
            return None;
        }
        let authority = match (parts.uri.authority(), host) {
            (Some(authority), _) => authority.as_str(),
            (None, Some(host)) => host.to_str().ok()?,
            (None, None) if parts.version == Version::HTTP_11 => return None,
            (None, None) => "",
        };
        let authority = if authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(authority.to_ascii_lowercase())
        } else {
            Cow::Borrowed(authority)
        };
        let path = crate::path::normalise(parts.uri.path(), settings.merge_slashes);
        Some(Self { authority, path })
    }
}

/// Where a request goes.
enum Found<'a> {
    Target(&'a Arc<Listener>, &'a Target),
    /// To the same place, by https.
    Redirect,
    Nothing(&'static str),
}

fn find<'a>(serving: &'a Serving, client: &Client, parts: &Parts, head: &Head<'_>) -> Found<'a> {
    let Some(listener) = serving.listener(client.port) else {
        return Found::Nothing("its Listener is gone");
    };
    let mut authority = &*head.authority;
    if serving.snapshot.settings.strip_matching_host_port
        && let Some((host, port)) = authority.rsplit_once(':')
        && port.parse() == Ok(client.port)
    {
        authority = host;
    }
    let Some(host) = listener.hosts.find(authority) else {
        return Found::Nothing("no Host has this name");
    };
    let request = RequestHead {
        authority,
        path: &head.path,
        query: parts.uri.query(),
        method: &parts.method,
        headers: &parts.headers,
    };
    let Some((_, target)) = host.routes.find(&request, fastrand::u8(..100)) else {
        return Found::Nothing("no Mapping of the Host matches");
    };
    match insecure_action(listener, host, parts, &head.path) {
        InsecureAction::Route => Found::Target(listener, target),
        InsecureAction::Redirect => Found::Redirect,
        InsecureAction::Reject => Found::Nothing("the Host rejects insecure requests"),
    }
}

/// What the Host says of this request if it is insecure; a secure one is always routed.
fn insecure_action(listener: &Listener, host: &VirtualHost, parts: &Parts, path: &str) -> InsecureAction {
    let secure = match listener.security_model {
        SecurityModel::Secure => true,
        SecurityModel::Insecure => false,
        // Only a trusted proxy in front is believed; this listener itself speaks cleartext.
        SecurityModel::Xfp => {
            listener.l7_depth > 0
                && parts
                    .headers
                    .get(&headers::X_FORWARDED_PROTO)
                    .is_some_and(|proto| proto == "https")
        }
    };
    if secure || path.starts_with(ACME_PREFIX) {
        InsecureAction::Route
    } else {
        host.insecure
    }
}

fn redirect(parts: &Parts, head: &Head<'_>) -> Response<Bytes> {
    let host = head.authority.strip_suffix(":80").unwrap_or(&head.authority);
    let query = parts
        .uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let location = format!("https://{host}{}{query}", head.path);
    let Ok(location) = HeaderValue::try_from(location) else {
        return own(StatusCode::BAD_REQUEST, "");
    };
    let mut response = own(StatusCode::MOVED_PERMANENTLY, "");
    response.headers_mut().insert(LOCATION, location);
    response
}

fn bad_request() -> Response<Bytes> {
    let mut response = own(StatusCode::BAD_REQUEST, "bad request");
    // What follows on the connection cannot be trusted either.
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The way from here to the upstream.
struct Hop<'a> {
    worker: &'a Rc<Worker>,
    client: &'a Client,
    listener: &'a Listener,
    settings: &'a Settings,
    forward: &'a Forward,
    live: &'a LiveTarget,
    pool: &'a Rc<Pool>,
}

/// What becomes of a request's head.
struct Plan {
    /// The protocol to change to.
    upgrade: Option<HeaderValue>,
    /// The path to send; none where it stays as it came.
    path: Option<PathAndQuery>,
    /// The authority to send.
    authority: HeaderValue,
}

/// How a request fared.
enum Sent {
    Answered {
        response: Response<Incoming>,
        lease: Lease,
        deadline: Option<Instant>,
    },
    Upgraded {
        response: Response<Incoming>,
        upgrade: OnUpgrade,
    },
}

impl Hop<'_> {
    /// Decides on the head, or refuses the request.
    fn plan(&self, parts: &Parts, head: &Head<'_>) -> Result<Plan, StatusCode> {
        let upgrade = self.upgrade(&parts.headers)?;
        Ok(Plan {
            upgrade,
            path: self.path(parts, head),
            authority: self.authority(parts, head),
        })
    }

    async fn forward(
        &self,
        mut parts: Parts,
        body: Incoming,
        plan: Plan,
        exchange: &mut Exchange,
    ) -> Result<Sent, ProxyError> {
        let Plan {
            upgrade,
            path,
            authority,
        } = plan;
        let on_upgrade = upgrade
            .is_some()
            .then(|| parts.extensions.remove::<OnUpgrade>())
            .flatten();
        self.edit_head(&mut parts, path, upgrade.as_ref());
        if let (Some(entry), Some(id)) = (&mut exchange.entry, parts.headers.get(&headers::X_REQUEST_ID)) {
            entry.request_id = id.clone();
        }
        let body = if body.is_end_stream() {
            RequestBody::Empty
        } else {
            let count = Rc::new(Cell::new(0));
            exchange.bytes_in = Some(Rc::clone(&count));
            RequestBody::Client(body, count)
        };
        let wanted = if upgrade.is_some() {
            Wanted::Http1
        } else {
            Wanted::Configured
        };
        let deadline = self.forward.timeout.map(|timeout| exchange.started + timeout);
        let request = Request::from_parts(parts, body);
        let (response, lease) = self.send(request, authority, wanted, deadline, exchange).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match on_upgrade {
                Some(upgrade) => Ok(Sent::Upgraded { response, upgrade }),
                None => Err(unasked_upgrade(&lease)),
            };
        }
        Ok(Sent::Answered {
            response,
            lease,
            deadline,
        })
    }

    /// The protocol to change to, where the client asks for one and the Mapping lets it.
    fn upgrade(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, StatusCode> {
        let Some(protocol) = headers::wanted_upgrade(headers) else {
            return Ok(None);
        };
        let name = protocol.to_str().unwrap_or_default().to_ascii_lowercase();
        if self
            .forward
            .allow_upgrade
            .iter()
            .any(|allowed| **allowed == *name)
        {
            Ok(Some(protocol.clone()))
        } else if name == "h2c" {
            // Not asked of the upstream, and the client may go on without.
            Ok(None)
        } else {
            Err(StatusCode::FORBIDDEN)
        }
    }

    fn path(&self, parts: &Parts, head: &Head<'_>) -> Option<PathAndQuery> {
        let path = rewrite(&self.forward.rewrite, &head.path);
        let changed = path.as_ref() != parts.uri.path();
        if !changed {
            return None;
        }
        let path_and_query = match parts.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.into_owned(),
        };
        PathAndQuery::from_maybe_shared(Bytes::from(path_and_query)).ok()
    }

    fn authority(&self, parts: &Parts, head: &Head<'_>) -> HeaderValue {
        if let Some(host) = &self.forward.host_rewrite {
            return host.clone();
        }
        let host = parts
            .headers
            .get(HOST)
            .filter(|_| parts.uri.authority().is_none());
        host.cloned()
            .or_else(|| HeaderValue::from_str(&head.authority).ok())
            .unwrap_or(HeaderValue::from_static(""))
    }

    fn edit_head(&self, parts: &mut Parts, path: Option<PathAndQuery>, upgrade: Option<&HeaderValue>) {
        let headers = &mut parts.headers;
        headers::sanitise_request(headers, upgrade);
        let origin = Origin {
            peer: self.client.peer.ip(),
            peer_value: &self.client.peer_value,
            l7_depth: self.listener.l7_depth,
        };
        headers::forwarded(headers, &origin, SCHEME, self.settings);
        if !self.settings.suppress_envoy_headers {
            if let Some(timeout) = &self.live.expected_timeout {
                headers.insert(headers::X_ENVOY_EXPECTED_TIMEOUT.clone(), timeout.clone());
            }
            if self.forward.rewrite != Rewrite::None
                && let Some(original) = parts.uri.path_and_query()
                && let Ok(original) = HeaderValue::from_str(original.as_str())
            {
                headers.insert(headers::X_ENVOY_ORIGINAL_PATH.clone(), original);
            }
        }
        if let Some(path) = path {
            parts.uri = Uri::from(path);
        } else if parts.uri.authority().is_some() {
            parts.uri = parts
                .uri
                .path_and_query()
                .cloned()
                .map(Uri::from)
                .unwrap_or_default();
        }
        headers::edit(headers, &self.forward.request_headers);
    }

    /// Sends the request and waits for the head of the response. A request that found a connection
    /// closing is sent once more on a fresh one where that is safe.
    async fn send(
        &self,
        request: Request<RequestBody>,
        authority: HeaderValue,
        wanted: Wanted,
        deadline: Option<Instant>,
        exchange: &mut Exchange,
    ) -> Result<(Response<Incoming>, Lease), ProxyError> {
        let mut next = Some(request);
        let mut attempts = 0;
        let mut last_error = None;
        while let Some(request) = next.take() {
            attempts += 1;
            let mut lease = self.lease(wanted, attempts > 1, deadline).await?;
            if let Some(entry) = &mut exchange.entry {
                entry.attempts = attempts;
                entry.endpoint = Some(lease.address());
                entry.upstream_tls = lease.tls().cloned();
            }
            let may_retry = attempts < MAX_ATTEMPTS && lease.reused();
            let request = self.address(request, &authority, &lease)?;
            let copy = may_retry.then(|| replayable(&request)).flatten();
            let sent = within(deadline, lease.send(request)).await;
            match sent {
                None => return Err(ProxyError::timeout(self.forward.timeout.unwrap_or_default())),
                Some(Ok(response)) => return Ok((response, lease)),
                Some(Err(error)) => {
                    let (failed, again) = self.failed(&lease, error, may_retry, copy);
                    last_error = Some(failed);
                    next = again;
                }
            }
        }
        Err(last_error.unwrap_or_else(|| ProxyError::timeout(Duration::ZERO)))
    }

    /// What to make of a failed attempt: the error, and the request where it may be sent again.
    #[expect(clippy::unused_self, reason = "part of the request path")]
    fn failed(
        &self,
        lease: &Lease,
        mut error: SendError,
        may_retry: bool,
        copy: Option<Request<RequestBody>>,
    ) -> (ProxyError, Option<Request<RequestBody>>) {
        let failed = ProxyError::send(lease, &error);
        let unsent = error.unsent.take().filter(|_| may_retry);
        let again = match failed.fault {
            Fault::StaleConnection => unsent.or(copy),
            _ => unsent,
        };
        (failed, again)
    }

    async fn lease(
        &self,
        wanted: Wanted,
        fresh: bool,
        deadline: Option<Instant>,
    ) -> Result<Lease, ProxyError> {
        let limit = self.forward.connect_timeout;
        let now = Instant::now();
        // A connect timeout that is not above the whole timeout decides alone, so that a silent peer is
        // told as such.
        let first = match (deadline, self.forward.timeout) {
            (Some(deadline), Some(timeout)) if timeout < limit => deadline.min(now + limit),
            _ => now + limit,
        };
        let lease = self
            .pool
            .lease(&self.worker.addresses, wanted, fresh, first, limit)
            .await;
        lease.map_err(|failure| match deadline {
            Some(deadline) if first == deadline && Instant::now() >= deadline => {
                ProxyError::timeout(self.forward.timeout.unwrap_or_default())
            }
            _ => ProxyError::connect(failure),
        })
    }

    /// Writes the authority where the connection's protocol wants it.
    fn address(
        &self,
        mut request: Request<RequestBody>,
        authority: &HeaderValue,
        lease: &Lease,
    ) -> Result<Request<RequestBody>, ProxyError> {
        if !lease.is_http2() {
            *request.version_mut() = Version::HTTP_11;
            request.headers_mut().insert(HOST, authority.clone());
            return Ok(request);
        }
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(HOST);
        let scheme = if self.pool.live.identity.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let path = request
            .uri()
            .path_and_query()
            .cloned()
            .unwrap_or(PathAndQuery::from_static("/"));
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(authority.as_bytes())
            .path_and_query(path)
            .build();
        *request.uri_mut() = uri.map_err(|error| bad_authority(authority, &error))?;
        Ok(request)
    }
}

/// The path after the Mapping's rewrite.
pub fn rewrite<'a>(rewrite: &Rewrite, path: &'a str) -> Cow<'a, str> {
    match rewrite {
        Rewrite::None => Cow::Borrowed(path),
        Rewrite::Prefix { matched: None, with } => Cow::Owned(with.to_string()),
        Rewrite::Prefix {
            matched: Some(matched),
            with,
        } => {
            let rest = path.get(*matched..).unwrap_or_default();
            if path.get(..*matched) == Some(&**with) {
                Cow::Borrowed(path)
            } else {
                joined(with, rest)
            }
        }
        Rewrite::Regex {
            pattern,
            substitution,
        } => pattern.regex().replace_all(path, &**substitution),
    }
}

/// A path begins with a slash, whatever the rewrite says.
fn joined(with: &str, rest: &str) -> Cow<'static, str> {
    let slash = if with.starts_with('/') || (with.is_empty() && rest.starts_with('/')) {
        ""
    } else {
        "/"
    };
    Cow::Owned(format!("{slash}{with}{rest}"))
}

/// A copy of a request that may be sent twice and has no body.
fn replayable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !request.body().is_end_stream() || !request.method().is_idempotent() {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// None when the deadline came first.
async fn within<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        Some(deadline) => timeout_at(deadline.into(), future).await.ok(),
        None => Some(future.await),
    }
}

fn unasked_upgrade(lease: &Lease) -> ProxyError {
    let failure = Failure {
        reason: Reason::UpstreamProtocolError,
        message: format!("{} changed the protocol without being asked to", lease.address()),
        remedy: "set spec.allow_upgrade if clients may ask for it".to_owned(),
    };
    ProxyError {
        fault: Fault::Upstream,
        failure,
    }
}

fn bad_authority(authority: &HeaderValue, error: &http::Error) -> ProxyError {
    let failure = Failure {
        reason: Reason::UpstreamProtocolError,
        message: format!("{authority:?} cannot be sent as an HTTP/2 authority: {error}"),
        remedy: "set spec.host_rewrite to a host name".to_owned(),
    };
    ProxyError {
        fault: Fault::Client,
        failure,
    }
}

/// Sends the upstream's answer on.
fn relay(
    response: Response<Incoming>,
    lease: Lease,
    deadline: Option<Instant>,
    forward: &Forward,
    mut exchange: Box<Exchange>,
    settings: &Settings,
) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    headers::sanitise_response(&mut parts.headers);
    finish_head(&mut parts.headers, &exchange, settings);
    headers::edit(&mut parts.headers, &forward.response_headers);
    parts.version = Version::HTTP_11;
    parts.extensions = http::Extensions::new();
    exchange.status = parts.status.as_u16();
    Response::from_parts(
        parts,
        ResponseBody::upstream(body, Some(lease), deadline, exchange),
    )
}

/// What every answer of an upstream gets.
pub(crate) fn finish_head(headers: &mut HeaderMap, exchange: &Exchange, settings: &Settings) {
    headers.insert(SERVER, settings.server_name.clone());
    if !settings.suppress_envoy_headers {
        let milliseconds = u64::try_from(exchange.elapsed().as_millis()).unwrap_or(u64::MAX);
        headers.insert(
            headers::X_ENVOY_SERVICE_TIME.clone(),
            HeaderValue::from(milliseconds),
        );
    }
}

/// An answer of the gateway's own.
fn answer(
    response: Response<Bytes>,
    mut exchange: Box<Exchange>,
    settings: &Settings,
) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    parts.headers.insert(SERVER, settings.server_name.clone());
    exchange.status = parts.status.as_u16();
    Response::from_parts(parts, ResponseBody::own(body, exchange))
}

/// The answer for a request that failed.
fn fail(
    expose: bool,
    error: &ProxyError,
    grpc: bool,
    mut exchange: Box<Exchange>,
    settings: &Settings,
) -> Response<ResponseBody> {
    exchange.failed(error);
    answer(error.response(grpc, expose), exchange, settings)
}

/// Notes what the access log wants and the request path gives away.
fn begin_entry(worker: &Worker, client: &Client, parts: &Parts, exchange: &mut Exchange) {
    if worker.shared.access_log == AccessLog::Off {
        return;
    }
    let authority = parts.uri.authority().map(ToString::to_string);
    let host = || {
        parts
            .headers
            .get(HOST)
            .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned())
    };
    let listener = worker
        .serving()
        .and_then(|serving| serving.listener(client.port).map(|l| Arc::clone(&l.name)));
    exchange.entry = Some(Box::new(Entry {
        request_id: header(&parts.headers, &headers::X_REQUEST_ID).unwrap_or(HeaderValue::from_static("")),
        client: client.peer,
        listener: listener.unwrap_or_else(|| "".into()),
        protocol: headers::protocol(parts.version),
        method: parts.method.clone(),
        scheme: SCHEME,
        authority: authority.or_else(host).unwrap_or_default(),
        path: parts
            .uri
            .path_and_query()
            .map_or_else(|| "/".to_owned(), ToString::to_string),
        user_agent: header(&parts.headers, &USER_AGENT),
        mapping: None,
        upstream: None,
        endpoint: None,
        attempts: 0,
        upstream_tls: None,
        status: 0,
        flags: "",
        reason: None,
        message: String::new(),
        duration: Duration::ZERO,
        bytes_in: 0,
        bytes_out: 0,
    }));
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    headers.get(name).cloned()
}
