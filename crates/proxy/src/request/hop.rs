//! The way of a request from its route to the upstream: decide on the head, edit it, send, and see what
//! the answer is.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use hyper::upgrade::OnUpgrade;
use nuncio_model::{Failure, Forward, Listener, Reason, Rewrite, Settings};

use super::{Head, SCHEME, path_of};
use crate::answer::{Framing, framing};
use crate::body::{RequestBody, UpstreamBody};
use crate::client::connection::Client;
use crate::client::interim::Outlet;
use crate::exchange::Exchange;
use crate::failure::{Fault, ProxyError};
use crate::headers::{self, Origin};
use crate::incoming::Incoming;
use crate::login;
use crate::path::has_dot_segments;
use crate::patience::{Patience, Upload};
use crate::serving::LiveTarget;
use crate::upstream::live::Wanted;
use crate::upstream::pool::{Lease, Pool};
use crate::worker::Worker;

/// The way from here to the upstream.
pub(super) struct Hop<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) client: &'a Client,
    pub(super) listener: &'a Listener,
    pub(super) settings: &'a Settings,
    pub(super) forward: &'a Forward,
    pub(super) live: &'a LiveTarget,
    pub(super) pool: &'a Rc<Pool>,
    /// The request may go over HTTP/1.1 where the upstream says that it must.
    pub(super) may_use_http1: bool,
    /// Where interim answers go; none where the client speaks HTTP/1.0.
    pub(super) outlet: Option<Outlet>,
}

/// What becomes of a request's head.
pub(super) struct Plan {
    /// The protocol to change to.
    upgrade: Option<HeaderValue>,
    /// The path to send; none where it stays as it came.
    path: Option<PathAndQuery>,
    /// The normal path that is rewritten, with its query.
    original_path: Option<HeaderValue>,
    /// The authority to send.
    pub(super) authority: HeaderValue,
}

/// How a request fared.
pub(super) enum Sent {
    Answered {
        response: Response<UpstreamBody>,
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
            original_path: self.original_path(parts, head),
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
            original_path,
            authority,
        } = plan;
        let on_upgrade = upgrade
            .is_some()
            .then(|| parts.extensions.remove::<OnUpgrade>())
            .flatten();
        self.edit_head(&mut parts, path, original_path, upgrade.as_ref());
        if let (Some(entry), Some(id)) = (&mut exchange.entry, parts.headers.get(&headers::X_REQUEST_ID)) {
            entry.request_id = id.clone();
        }
        let most = self.settings.max_request_headers_bytes;
        let upload = (!body.is_end_stream()).then(|| Rc::new(Upload::new(body, most, &self.worker.uploads)));
        exchange.bytes_in = upload.as_ref().map(|upload| Rc::clone(&upload.bytes));
        let body = upload.as_ref().and_then(Upload::next_turn);
        let body = body.unwrap_or(RequestBody::Empty);
        let logs_in = login::logs_in(&parts.headers);
        let needs_http1 = logs_in || self.pool.live.requires_http1();
        let wanted = if upgrade.is_some() || (self.may_use_http1 && needs_http1) {
            Wanted::Http1
        } else {
            Wanted::Configured
        };
        let patience = Patience::new(self.forward.timeout, exchange.started, upload);
        let to_head = parts.method == Method::HEAD;
        let request = Request::from_parts(parts, body);
        let sending = self.send(request, authority, wanted, logs_in, &patience, exchange);
        let (response, mut lease) = sending.await?;
        if let Some(excess) = headers::excess(0, response.headers(), most) {
            return Err(ProxyError::section_too_large(&lease, "header section", &excess));
        }
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
            response: begin_body(response, &mut lease, to_head)?,
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

    /// The path to send where it is not the one that came; refuses a request that is rewritten to what is no
    /// path, for the path that came is not the one that was meant, or to one that the upstream would resolve
    /// to another.
    fn path(&self, parts: &Parts, head: &Head<'_>) -> Result<Option<PathAndQuery>, StatusCode> {
        let path = self.forward.rewrite.apply(&head.path);
        let came = parts.uri.path_and_query().map(PathAndQuery::as_str);
        if came.map(path_of) == Some(&*path) {
            // An empty one says `/` of itself and is written as nothing.
            return Ok((came == Some("/")).then_some(PathAndQuery::from_static("/")));
        }
        // The prefix `/a`, rewritten to `/b/`, makes `/b/../c` of `/a../c`.
        if self.forward.rewrite != Rewrite::None && has_dot_segments(path_of(&path)) {
            return Err(StatusCode::BAD_REQUEST);
        }
        let target = with_query(path.into_owned(), parts.uri.query());
        let length = target.len();
        match PathAndQuery::from_maybe_shared(Bytes::from(target)) {
            // What it takes for a fragment it cuts off.
            Ok(target) if target.as_str().len() == length => Ok(Some(target)),
            _ => Err(StatusCode::BAD_REQUEST),
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

    fn original_path(&self, parts: &Parts, head: &Head<'_>) -> Option<HeaderValue> {
        if self.settings.suppress_envoy_headers || self.forward.rewrite == Rewrite::None {
            return None;
        }
        let target = with_query(head.path.to_string(), parts.uri.query());
        HeaderValue::from_maybe_shared(Bytes::from(target)).ok()
    }

    fn edit_head(
        &self,
        parts: &mut Parts,
        path: Option<PathAndQuery>,
        original_path: Option<HeaderValue>,
        upgrade: Option<&HeaderValue>,
    ) {
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
            if let Some(original) = original_path {
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
}

/// Makes sure that there is one reading of where the answer ends, and begins to read it.
fn begin_body(
    response: Response<Incoming>,
    lease: &mut Lease,
    to_head: bool,
) -> Result<Response<UpstreamBody>, ProxyError> {
    let (mut parts, body) = response.into_parts();
    let framing = framing(parts.status, &mut parts.headers, to_head);
    let framing = framing.map_err(|unframed| ProxyError::unframed(lease, &unframed))?;
    if framing != Framing::AsRead {
        lease.is_last();
    }
    let body = UpstreamBody::begin(body, framing);
    let body = body.map_err(|broken| ProxyError::broken_body(lease, &broken))?;
    Ok(Response::from_parts(parts, body))
}

fn with_query(mut path: String, query: Option<&str>) -> String {
    if let Some(query) = query {
        path.push('?');
        path.push_str(query);
    }
    path
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
