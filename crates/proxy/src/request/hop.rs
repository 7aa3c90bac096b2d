//! The way of a request from its route to the upstream: edit the head, pick a connection, send, and
//! send once more where that is safe.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use nuncio_model::{Failure, Forward, Listener, Reason, Rewrite, Settings};

use super::{Head, SCHEME};
use crate::body::RequestBody;
use crate::client::connection::Client;
use crate::exchange::Exchange;
use crate::failure::{Fault, ProxyError};
use crate::headers::{self, Origin};
use crate::patience::{Patience, STREAM_IDLE, Upload};
use crate::serving::LiveTarget;
use crate::upstream::live::Wanted;
use crate::upstream::pool::{Lease, Need, Pool, SendError, Tried};
use crate::worker::Worker;

/// How often a request is sent at most.
const MAX_ATTEMPTS: u32 = 2;

/// The way from here to the upstream.
pub(super) struct Hop<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) client: &'a Client,
    pub(super) listener: &'a Listener,
    pub(super) settings: &'a Settings,
    pub(super) forward: &'a Forward,
    pub(super) live: &'a LiveTarget,
    pub(super) pool: &'a Rc<Pool>,
}

/// What becomes of a request's head.
pub(super) struct Plan {
    /// The protocol to change to.
    upgrade: Option<HeaderValue>,
    /// The path to send; none where it stays as it came.
    path: Option<PathAndQuery>,
    /// The authority to send.
    authority: HeaderValue,
}

/// How a request fared.
pub(super) enum Sent {
    Answered {
        response: Response<Incoming>,
        lease: Lease,
        deadline: Option<Instant>,
    },
    Upgraded {
        response: Response<Incoming>,
        lease: Lease,
        upgrade: OnUpgrade,
    },
}

impl Hop<'_> {
    /// Decides on the head, or refuses the request.
    pub(super) fn plan(&self, parts: &Parts, head: &Head<'_>) -> Result<Plan, StatusCode> {
        let upgrade = self.upgrade(&parts.headers)?;
        Ok(Plan {
            upgrade,
            path: self.path(parts, head)?,
            authority: self.authority(parts, head),
        })
    }

    pub(super) async fn forward(
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
        let upload = (!body.is_end_stream()).then(Rc::<Upload>::default);
        exchange.bytes_in = upload.as_ref().map(|upload| Rc::clone(&upload.bytes));
        let body = match &upload {
            Some(upload) => RequestBody::Client(body, Rc::clone(upload)),
            None => RequestBody::Empty,
        };
        let wanted = if upgrade.is_some() {
            Wanted::Http1
        } else {
            Wanted::Configured
        };
        let patience = Patience::new(self.forward.timeout, exchange.started, upload);
        let request = Request::from_parts(parts, body);
        let (response, lease) = self.send(request, authority, wanted, &patience, exchange).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match on_upgrade {
                Some(upgrade) => Ok(Sent::Upgraded {
                    response,
                    lease,
                    upgrade,
                }),
                None => Err(unasked_upgrade(&lease)),
            };
        }
        Ok(Sent::Answered {
            response,
            lease,
            deadline: patience.deadline(),
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

    /// The path to send where it is not the one that came; refuses a request that a regex rewrites to
    /// what is no path, for the path that came is not the one that was meant.
    fn path(&self, parts: &Parts, head: &Head<'_>) -> Result<Option<PathAndQuery>, StatusCode> {
        let path = self.forward.rewrite.apply(&head.path);
        let changed = path.as_ref() != parts.uri.path();
        if !changed {
            return Ok(None);
        }
        let path_and_query = match parts.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.into_owned(),
        };
        match PathAndQuery::from_maybe_shared(Bytes::from(path_and_query)) {
            Ok(path_and_query) => Ok(Some(path_and_query)),
            Err(_) => Err(StatusCode::BAD_REQUEST),
        }
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
        patience: &Patience,
        exchange: &mut Exchange,
    ) -> Result<(Response<Incoming>, Lease), ProxyError> {
        let mut next = Some(request);
        let mut attempts = 0;
        let mut last_error = None;
        while let Some(request) = next.take() {
            attempts += 1;
            if let Some(entry) = &mut exchange.entry {
                entry.attempts = attempts;
            }
            let mut lease = self
                .lease(wanted, attempts > 1, patience.deadline(), exchange)
                .await?;
            if let Some(entry) = &mut exchange.entry {
                entry.endpoint = Some(lease.address());
                entry.upstream_tls = lease.tls().cloned();
            }
            let may_retry = attempts < MAX_ATTEMPTS && lease.reused();
            let request = self.address(request, &authority, &lease)?;
            let copy = may_retry.then(|| replayable(&request)).flatten();
            let sent = patience.wait(lease.send(request)).await;
            match sent {
                None => return Err(ProxyError::timeout(self.forward.timeout.unwrap_or(STREAM_IDLE))),
                Some(Ok(response)) => return Ok((response, lease)),
                Some(Err(error)) => {
                    let (failed, again) = judge(&lease, error, may_retry, copy);
                    last_error = Some(failed);
                    next = again;
                }
            }
        }
        Err(last_error.unwrap_or_else(|| ProxyError::timeout(Duration::ZERO)))
    }

    async fn lease(
        &self,
        wanted: Wanted,
        fresh: bool,
        deadline: Option<Instant>,
        exchange: &mut Exchange,
    ) -> Result<Lease, ProxyError> {
        let limit = self.forward.connect_timeout;
        let now = Instant::now();
        // A connect timeout that is not above the whole timeout decides alone, so that a silent peer is
        // told as such.
        let first = match (deadline, self.forward.timeout) {
            (Some(deadline), Some(timeout)) if timeout < limit => deadline.min(now + limit),
            _ => now + limit,
        };
        let need = Need {
            wanted,
            fresh,
            tried: &Tried::default(),
            deadline: first,
            limit,
        };
        let lease = self.pool.lease(&self.worker.addresses, &need).await;
        lease.map_err(|error| {
            if let Some(entry) = &mut exchange.entry {
                entry.endpoint = error.endpoint;
                entry.upstream_tls = error.tls;
            }
            match deadline {
                Some(deadline) if first == deadline && Instant::now() >= deadline => {
                    ProxyError::timeout(self.forward.timeout.unwrap_or_default())
                }
                _ => ProxyError::connect(error.failure),
            }
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

/// What to make of a failed attempt: the error, and the request where it may be sent again.
fn judge(
    lease: &Lease,
    mut error: SendError,
    may_retry: bool,
    copy: Option<Request<RequestBody>>,
) -> (ProxyError, Option<Request<RequestBody>>) {
    let failed = ProxyError::send(lease, &error);
    lease.note_refusal(&failed.failure);
    let unsent = error.unsent.take().filter(|_| may_retry);
    let again = match failed.fault {
        Fault::StaleConnection => unsent.or(copy),
        _ => unsent,
    };
    (failed, again)
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
