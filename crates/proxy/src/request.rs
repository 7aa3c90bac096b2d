//! The path of a request. [`handle`] reads from top to bottom: read the head, find the route, edit
//! the request, pick a connection, send (once more where that is safe), edit the response, stream,
//! record.

mod attempts;
mod hop;
mod retry;

use std::borrow::Cow;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, SERVER, USER_AGENT};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use nuncio_model::{
    Action, Forward, Guard, HeaderEdits, InsecureAction, Listener, RequestHead, SecurityModel, Settings,
    Target, VirtualHost,
};

use self::hop::{Hop, Sent};
use crate::access_log::{AccessLog, Entry};
use crate::body::{ResponseBody, UpstreamBody};
use crate::client::connection::Client;
use crate::client::interim::{Interim, Outlet};
use crate::client::offence::Offence;
use crate::exchange::Exchange;
use crate::failure::{Fault, ProxyError, own};
use crate::headers;
use crate::incoming::Incoming;
use crate::path::{self, PathError};
use crate::serving::Serving;
use crate::upgrade;
use crate::upstream::pool::Lease;
use crate::worker::Worker;

/// The only scheme until listeners terminate TLS.
const SCHEME: &str = "http";
/// Always served as it is: certificate authorities ask for it without TLS.
const ACME_PREFIX: &str = "/.well-known/acme-challenge/";

/// Answers one request. Interim answers are left in `interim`.
#[expect(
    clippy::too_many_lines,
    reason = "the path of a request reads from top to bottom in one place"
)]
pub(crate) async fn handle(
    worker: Rc<Worker>,
    client: Rc<Client>,
    interim: Arc<Interim>,
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
    let (mut parts, body) = request.into_parts();
    headers::join_cookies(&mut parts.headers);
    begin_entry(&worker, &client, &parts, &mut exchange);

    if parts.version < Version::HTTP_11 && !settings.enable_http10 {
        return Ok(answer(upgrade_required(), exchange, settings));
    }
    if let Some(refusal) = too_large(&parts, settings, &mut exchange) {
        return Ok(answer(refusal, exchange, settings));
    }
    if let Some(refusal) = client.refusal() {
        let offence = match refusal.status {
            StatusCode::BAD_REQUEST => Offence::MalformedHead,
            _ => Offence::HeadTooLarge,
        };
        worker.offended(&client, offence);
        exchange.refused(refusal.message.clone());
        let mut response = refused(refusal.status, &refusal.message);
        close(&mut response);
        return Ok(answer(response, exchange, settings));
    }
    let head = match Head::read(&parts, settings) {
        Ok(head) => head,
        Err(why) => {
            exchange.refused(why.to_owned());
            return Ok(answer(bad_request(why), exchange, settings));
        }
    };
    let (listener, target) = match find(&serving, &client, &parts, &head) {
        Found::Target(listener, target) => (listener, target),
        Found::Redirect(target) => {
            exchange.mapped(target, &serving.target(target, &worker.stats));
            return Ok(answer(redirect(&parts, &head), exchange, settings));
        }
        Found::Guarded(target, guard) => {
            if let Some(target) = target {
                exchange.mapped(target, &serving.target(target, &worker.stats));
            }
            let (expose, grpc) = (worker.shared.expose_reasons, headers::is_grpc(&parts.headers));
            return Ok(fail(
                expose,
                &ProxyError::guarded(guard),
                grpc,
                exchange,
                settings,
            ));
        }
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
    let mut hop = Hop {
        worker: &worker,
        client: &client,
        listener,
        settings,
        forward,
        live: &live,
        pool,
        may_use_http1: !grpc && pool.live.offers_both(),
        outlet: (parts.version >= Version::HTTP_11).then(|| {
            let most = settings.max_request_headers_bytes;
            Outlet::open(interim, client.request_number(), most)
        }),
    };
    let plan = match hop.plan(&parts, &head) {
        Ok(plan) => plan,
        Err(status) => return Ok(answer(own(status, ""), exchange, settings)),
    };
    let named;
    match pool.of_authority(plan.authority.as_bytes()) {
        None => {}
        Some(Ok(own)) => {
            named = own;
            exchange.sent_to(&named, &serving.snapshot.upstream(forward.upstream).name);
            hop.pool = &named;
        }
        Some(Err(failure)) => {
            let error = ProxyError::connect(failure);
            return Ok(fail(
                worker.shared.expose_reasons,
                &error,
                grpc,
                exchange,
                settings,
            ));
        }
    }
    Ok(match hop.forward(parts, body, plan, &mut exchange).await {
        Ok(Sent::Answered {
            response,
            lease,
            deadline,
        }) => relay(response, lease, deadline, forward, exchange, settings),
        Ok(Sent::Upgraded {
            response,
            lease,
            upgrade,
        }) => {
            client.wire.upgrade();
            upgrade::relay(
                response,
                lease,
                upgrade,
                &forward.response_headers,
                exchange,
                settings,
            )
        }
        Err(error) if error.fault == Fault::Client => {
            exchange.client_broke_off(error);
            answer(bad_request("bad request"), exchange, settings)
        }
        Err(error) if error.fault == Fault::SlowClient => {
            exchange.client_was_slow(error);
            answer(too_slow(), exchange, settings)
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
    /// The error says why the request must be refused.
    fn read(parts: &'a Parts, settings: &Settings) -> Result<Self, &'static str> {
        const NO_HOST: &str = "the host of the request is not one host and port";
        let mut hosts = parts.headers.get_all(HOST).iter();
        let host = hosts.next();
        if hosts.next().is_some() || (host.is_none() && parts.version == Version::HTTP_11) {
            return Err("the request does not have exactly one Host field");
        }
        let authority = match (parts.uri.authority(), host) {
            (Some(authority), _) => authority.as_str(),
            (None, Some(host)) => host.to_str().map_err(|_| NO_HOST)?,
            (None, None) => "",
        };
        let Some(has_upper_case) = read_authority(authority) else {
            return Err(NO_HOST);
        };
        let authority = if has_upper_case {
            Cow::Owned(authority.to_ascii_lowercase())
        } else {
            Cow::Borrowed(authority)
        };
        let path = read_path(parts, settings)?;
        Ok(Self { authority, path })
    }
}

/// The path that the request asks for, in normal form, out of any form of target (RFC 9112 section 3.2).
fn read_path<'a>(parts: &'a Parts, settings: &Settings) -> Result<Cow<'a, str>, &'static str> {
    let of_http = |scheme: &Scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
    if !parts.uri.scheme().is_none_or(of_http) {
        return Err("the scheme of the request target is neither http nor https");
    }
    let target = parts.uri.path_and_query().map(PathAndQuery::as_str);
    let path = match target.unwrap_or_default() {
        "*" if parts.method != Method::OPTIONS => return Err("only OPTIONS may ask for `*`"),
        "" if parts.method == Method::CONNECT => return Ok(Cow::Borrowed("")),
        // `http://host?query`, which HTTP/2 writes with a slash.
        query if query.starts_with('?') && parts.version != Version::HTTP_2 => "/",
        target => path_of(target),
    };
    if !target.is_none_or(str::is_ascii) {
        return Err(PathError::NotAscii.as_str());
    }
    path::normalise(path, settings).map_err(PathError::as_str)
}

/// What stands before the query.
fn path_of(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// Whether a host and port has upper case; none where it is not `host`, `host:` or `host:80`, but `host:http`.
fn read_authority(authority: &str) -> Option<bool> {
    let (mut has_upper_case, mut in_port, mut is_number) = (false, false, true);
    for byte in authority.bytes() {
        match AUTHORITY[usize::from(byte)] {
            Byte::No => return None,
            Byte::Digit => {}
            Byte::Colon => (in_port, is_number) = (true, true),
            Byte::Bracket => (in_port, is_number) = (false, true),
            class @ (Byte::Upper | Byte::Other) => {
                has_upper_case |= class == Byte::Upper;
                is_number &= !in_port;
            }
        }
    }
    is_number.then_some(has_upper_case)
}

/// What the bytes of a host and port are (RFC 3986 section 3.2). There is no user in HTTP's, and what two
/// readers take for the end of the host in different places must not go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Byte {
    /// Of no authority.
    No,
    Digit,
    Upper,
    Other,
    /// Begins a port, unless it is inside the brackets of an address.
    Colon,
    Bracket,
}

static AUTHORITY: [Byte; 256] = {
    let mut table = [Byte::No; 256];
    let mut at = 0;
    while at < table.len() {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 256")]
        let byte = at as u8;
        table[at] = match byte {
            b'0'..=b'9' => Byte::Digit,
            b'A'..=b'Z' => Byte::Upper,
            b':' => Byte::Colon,
            b']' => Byte::Bracket,
            b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' | b'%' | b'[' => Byte::Other,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => Byte::Other,
            _ => Byte::No,
        };
        at += 1;
    }
    table
};

/// Where a request goes.
enum Found<'a> {
    Target(&'a Arc<Listener>, &'a Target),
    /// To the same place, by https.
    Redirect(&'a Target),
    /// Nowhere: it does not pass this guard.
    Guarded(Option<&'a Target>, &'a Guard),
    Nothing(&'static str),
}

fn find<'a>(serving: &'a Serving, client: &Client, parts: &Parts, head: &Head<'_>) -> Found<'a> {
    let guards = &serving.snapshot.guards;
    if let Some(guard) = guards.before_all() {
        return Found::Guarded(None, guard);
    }
    let Some(listener) = serving.listener(client.port) else {
        return Found::Nothing("its Listener is gone");
    };
    if parts.method == Method::CONNECT {
        return Found::Nothing("CONNECT asks for a tunnel, which no Mapping makes");
    }
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
        InsecureAction::Route => match &target.action {
            Action::Forward(forward)
                if let Some(guard) = guards.before(forward, &head.authority, &head.path) =>
            {
                Found::Guarded(Some(target), guard)
            }
            _ => Found::Target(listener, target),
        },
        InsecureAction::Redirect => Found::Redirect(target),
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

fn bad_request(why: &'static str) -> Response<Bytes> {
    let mut response = own(StatusCode::BAD_REQUEST, why);
    // What follows on the connection cannot be trusted either.
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// To a client whose body came too slowly. What follows on the connection is the rest of it.
fn too_slow() -> Response<Bytes> {
    let mut response = own(StatusCode::REQUEST_TIMEOUT, "request timeout");
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The answer to an HTTP/2 request whose head is larger than may be. hyper looks at those of HTTP/1.1, and ends the
/// connection; here the other streams go on.
fn too_large(parts: &Parts, settings: &Settings, exchange: &mut Exchange) -> Option<Response<Bytes>> {
    if parts.version != Version::HTTP_2 {
        return None;
    }
    let most = settings.max_request_headers_bytes;
    let path = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let (status, message) = if path > most {
        let message = format!("the request target has {path} bytes, at most {most} are allowed");
        (StatusCode::URI_TOO_LONG, message)
    } else {
        let excess = headers::excess(path, &parts.headers, most)?;
        let message = format!("the header section of the request is too large: {excess}");
        (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message)
    };
    let response = refused(status, &message);
    exchange.refused(message);
    Some(response)
}

/// The answer to a request that is refused, with the reason.
fn refused(status: StatusCode, why: &str) -> Response<Bytes> {
    // For the type of the content.
    let mut response = own(status, "refused");
    *response.body_mut() = Bytes::copy_from_slice(why.as_bytes());
    response
}

/// What follows on the connection cannot be trusted either.
fn close(response: &mut Response<Bytes>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

/// To a client that speaks HTTP/1.0 where the Module does not let it in.
fn upgrade_required() -> Response<Bytes> {
    let mut response = own(StatusCode::UPGRADE_REQUIRED, "");
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Sends the upstream's answer on.
fn relay(
    response: Response<UpstreamBody>,
    lease: Lease,
    deadline: Option<Instant>,
    forward: &Forward,
    mut exchange: Box<Exchange>,
    settings: &Settings,
) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    headers::sanitise_response(&mut parts.headers);
    finish_head(&mut parts.headers, &forward.response_headers, &exchange, settings);
    parts.version = Version::HTTP_11;
    parts.extensions = http::Extensions::new();
    exchange.status = parts.status.as_u16();
    let most_trailers = settings.max_request_headers_bytes;
    let body = ResponseBody::upstream(body, lease, deadline, most_trailers, exchange);
    Response::from_parts(parts, body)
}

/// What every answer of an upstream gets. The gateway's own name comes last: it is no Mapping's to edit.
pub(crate) fn finish_head(
    headers: &mut HeaderMap,
    edits: &HeaderEdits,
    exchange: &Exchange,
    settings: &Settings,
) {
    if !settings.suppress_envoy_headers {
        let milliseconds = u64::try_from(exchange.elapsed().as_millis()).unwrap_or(u64::MAX);
        headers.insert(
            headers::X_ENVOY_SERVICE_TIME.clone(),
            headers::number(milliseconds),
        );
    }
    headers::edit(headers, edits);
    headers.insert(SERVER, settings.server_name.clone());
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
