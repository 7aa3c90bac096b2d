//! Sending: pick a connection, send, and send again where that is safe or the Mapping asks for it.
//!
//! A body passes through and is kept nowhere, so a request whose body the upstream began to take is sent
//! once. One whose body nobody touched may go to the next endpoint.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::{EXPECT, HOST, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri, Version};
use http_body::Body;
use nuncio_model::{Failure, Reason};

use super::hop::Hop;
use super::retry::{Again, Retries};
use crate::body::{Interrupted, RequestBody};
use crate::client::interim::Ear;
use crate::exchange::Exchange;
use crate::expectation::Gate;
use crate::failure::{Fault, ProxyError};
use crate::headers;
use crate::incoming::Incoming;
use crate::login;
use crate::patience::{Attempt, Patience, STREAM_IDLE, Upload};
use crate::upstream::live::Wanted;
use crate::upstream::pool::{Lease, Need, SendError, Tried};

/// How long the connection of a request that made room may take to close.
const CLOSING_TIME: Duration = Duration::from_millis(100);
const CLOSING_PAUSE: Duration = Duration::from_millis(1);

/// What a request needs of its connection, and what it has been through.
struct Trip<'a> {
    wanted: Wanted,
    /// It authenticates the connection that it goes on.
    logs_in: bool,
    patience: &'a Patience,
    authority: &'a HeaderValue,
    tried: Tried,
    /// A connection that carried no request before.
    fresh: bool,
    /// When the attempt began. The first one begins with the request.
    began: Instant,
    retries: Retries<'a>,
}

/// An attempt that did not give an answer to go on with.
struct Failed {
    error: ProxyError,
    /// Where it went, if it came that far.
    endpoint: Option<SocketAddr>,
    /// The request, where it may be sent again as far as its body is concerned.
    request: Option<Request<RequestBody>>,
    /// It met a connection that was just being closed.
    stale: bool,
}

impl From<ProxyError> for Failed {
    fn from(error: ProxyError) -> Self {
        Self {
            error,
            endpoint: None,
            request: None,
            stale: false,
        }
    }
}

/// An answer, and the request where it may be sent again.
struct Answered {
    response: Response<Incoming>,
    lease: Lease,
    copy: Option<Copy>,
}

impl Hop<'_> {
    /// Sends the request and waits for the head of a response to go on with. A request that found a
    /// connection closing is sent once more on a fresh one where that is safe; any other failure has it
    /// sent again where the Mapping's `retry_policy` says so.
    pub(super) async fn send(
        &self,
        mut request: Request<RequestBody>,
        authority: HeaderValue,
        wanted: Wanted,
        logs_in: bool,
        patience: &Patience,
        exchange: &mut Exchange,
    ) -> Result<(Response<Incoming>, Lease), ProxyError> {
        let until = self.forward.timeout.map(|timeout| exchange.started + timeout);
        let mut trip = Trip {
            wanted,
            logs_in,
            patience,
            authority: &authority,
            tried: Tried::default(),
            fresh: false,
            began: exchange.started,
            retries: Retries::new(self.forward.retry.as_ref(), until),
        };
        loop {
            if let Some(entry) = &mut exchange.entry {
                entry.attempts += 1;
            }
            let (again, next, endpoint) = match self.attempt(request, &trip, exchange).await {
                Ok(Answered {
                    response,
                    mut lease,
                    copy,
                }) => {
                    let status = response.status().as_u16();
                    let copy = copy.filter(Copy::can_be_sent);
                    let again = trip.retries.after_answer(status, copy.is_some());
                    // A copy that is made into a request takes the body away from the one that was answered.
                    let next = again
                        .zip(copy)
                        .and_then(|(again, copy)| Some((again, copy.request()?)));
                    let Some((again, next)) = next else {
                        if let Some(upload) = patience.upload().filter(|upload| upload.answered()) {
                            lease.leaves_out(upload);
                        }
                        return Ok((response, lease));
                    };
                    self.pool.count(status);
                    let endpoint = lease.address();
                    if response.body().is_end_stream() {
                        lease.finish();
                    }
                    (again, next, Some(endpoint))
                }
                Err(Failed {
                    request: Some(copy),
                    error,
                    ..
                }) if error.fault == Fault::Http1Required && self.may_use_http1 => {
                    // Another connection speaks HTTP/1.1, where this cannot happen again.
                    trip.wanted = Wanted::Http1;
                    trip.began = Instant::now();
                    request = copy;
                    continue;
                }
                Err(failed) => {
                    let may_go_out = failed.request.is_some();
                    let again = trip
                        .retries
                        .after_failure(&failed.error, failed.stale, may_go_out);
                    let (Some(again), Some(next)) = (again, failed.request) else {
                        return Err(failed.error);
                    };
                    if again != Again::Fresh {
                        self.pool.live.count_failure(failed.error.failure.reason);
                    }
                    (again, next, failed.endpoint)
                }
            };
            trip.fresh = again == Again::Fresh;
            if let Again::After(pause) = again {
                endpoint
                    .into_iter()
                    .for_each(|endpoint| trip.tried.note(endpoint));
                tokio::time::sleep(pause).await;
            }
            trip.began = Instant::now();
            request = next;
        }
    }

    /// Sends the request once.
    async fn attempt(
        &self,
        request: Request<RequestBody>,
        trip: &Trip<'_>,
        exchange: &mut Exchange,
    ) -> Result<Answered, Failed> {
        let mut lease = match self.lease(trip, exchange).await {
            Ok(lease) => lease,
            Err((error, endpoint)) => {
                return Err(Failed {
                    error,
                    endpoint,
                    request: Some(request),
                    stale: false,
                });
            }
        };
        if let Some(entry) = &mut exchange.entry {
            entry.endpoint = Some(lease.address());
            entry.upstream_tls = lease.tls().cloned();
        }
        if trip.logs_in {
            self.pool.bind(&lease, &self.client.owner);
        }
        let may_fall_back = lease.is_http2() && self.may_use_http1;
        if let Some(upload) = request.body().upload() {
            upload.pace.holds(self.pool.live.slots());
            // Both sides of a gRPC call may be silent for as long as they like.
            if lease.is_http2() && headers::is_grpc(request.headers()) {
                upload.pace.set_free();
            }
        }
        let copy = (may_fall_back || trip.retries.wants_copy(lease.reused(), request.method()))
            .then(|| Copy::of(&request));
        let mut request = self.address(request, trip.authority, &lease)?;
        let ear = self.hear_interim_answers(&mut request);
        let attempt = Attempt {
            began: trip.began,
            limit: trip.retries.per_try_timeout(),
        };
        let answer = {
            let sending = pin!(lease.send(request, ear));
            trip.patience.wait(sending, attempt).await
        };
        match answer {
            Some(Ok(response)) => {
                if login::asks_to_log_in(&response) {
                    self.pool.bind(&lease, &self.client.owner);
                }
                Ok(Answered {
                    response,
                    lease,
                    copy,
                })
            }
            Some(Err(error)) => {
                let failed = failed(&lease, error, trip.patience.interrupted(), copy);
                if failed.error.fault == Fault::Http1Required && self.may_use_http1 {
                    self.pool.live.note_http1_required(lease.address());
                }
                Err(failed)
            }
            None => Err(Failed {
                error: self.out_of_time(trip.patience, attempt, &lease),
                endpoint: Some(lease.address()),
                request: copy.and_then(Copy::request),
                stale: false,
            }),
        }
    }

    /// Sees to the interim answers of this attempt, and to a client that expects one before it sends content.
    fn hear_interim_answers(&self, request: &mut Request<RequestBody>) -> Option<Ear> {
        let expects = headers::expects_continue(request.headers());
        let gate = request.body().upload().map(|upload| &upload.gate);
        let Some(outlet) = &self.outlet else {
            gate.into_iter().for_each(Gate::open);
            if expects {
                request.headers_mut().remove(EXPECT);
            }
            return None;
        };
        // hyper sends 100 to a client of HTTP/1.1 when the content is read.
        let client = || self.client.speaks_http2().then(|| outlet.clone());
        let continued = gate.filter(|_| expects).map(|gate| gate.shut(client()));
        if expects && continued.is_none() {
            request.headers_mut().remove(EXPECT);
        }
        Some(Ear::new(outlet.clone(), continued))
    }

    fn out_of_time(&self, patience: &Patience, attempt: Attempt, lease: &Lease) -> ProxyError {
        if let Some(slowness) = patience.interrupted().filter(|why| why.is_slowness()) {
            return ProxyError::interrupted(lease, slowness);
        }
        match attempt.limit {
            Some(limit) if patience.deadline().is_none_or(|end| Instant::now() < end) => {
                ProxyError::try_timeout(limit)
            }
            _ => ProxyError::timeout(self.forward.timeout.unwrap_or(STREAM_IDLE)),
        }
    }

    async fn lease(
        &self,
        trip: &Trip<'_>,
        exchange: &mut Exchange,
    ) -> Result<Lease, (ProxyError, Option<SocketAddr>)> {
        let per_try = trip.retries.per_try_timeout();
        let connect_timeout = self.forward.connect_timeout;
        let limit = per_try.map_or(connect_timeout, |per_try| per_try.min(connect_timeout));
        // A connect timeout that is not above the whole timeout decides alone, so that a silent peer is
        // told as such; but no retry outlives the whole.
        let end = trip.retries.end().or_else(|| {
            let short = self.forward.timeout.is_some_and(|timeout| timeout < limit);
            trip.patience.deadline().filter(|_| short)
        });
        let deadline = end.map_or(trip.began + limit, |end| end.min(trip.began + limit));
        let need = Need {
            wanted: trip.wanted,
            fresh: trip.fresh,
            deadline,
            limit,
            limited_by_try: limit < connect_timeout,
        };
        let lease = loop {
            let lease = match self.pool.lease_bound(&self.client.owner, &need).await {
                Ok(Some(own)) => Ok(own),
                Ok(None) => {
                    let leased = self.pool.lease(&self.worker.addresses, &need, &trip.tried);
                    leased.await
                }
                Err(error) => Err(error),
            };
            if lease.is_ok() || !self.make_room(deadline).await {
                break lease;
            }
        };
        lease.map_err(|error| {
            if let Some(entry) = &mut exchange.entry {
                entry.endpoint = error.endpoint;
                entry.upstream_tls = error.tls;
            }
            let over = end.is_some_and(|end| end == deadline && Instant::now() >= end);
            let told = if over {
                ProxyError::timeout(self.forward.timeout.unwrap_or_default())
            } else {
                ProxyError::connect(error.failure)
            };
            (told, error.endpoint)
        })
    }

    /// Where all connections to the upstream are taken, has a request end that holds one for a client who hardly
    /// sends; false where there is none.
    async fn make_room(&self, deadline: Instant) -> bool {
        let live = &self.pool.live;
        let least = self.settings.min_request_rate;
        if !live.is_full() || !self.worker.uploads.spare_one(live.slots(), least) {
            return false;
        }
        let until = deadline.min(Instant::now() + CLOSING_TIME);
        while live.is_full() && Instant::now() < until {
            tokio::time::sleep(CLOSING_PAUSE).await;
        }
        Instant::now() < deadline
    }

    /// Writes the authority and the length of the content where the connection's protocol wants them.
    fn address(
        &self,
        mut request: Request<RequestBody>,
        authority: &HeaderValue,
        lease: &Lease,
    ) -> Result<Request<RequestBody>, ProxyError> {
        let content = request.body().content();
        let method = request.method().clone();
        headers::frame_request(request.headers_mut(), &method, content, lease.is_http2());
        if !lease.is_http2() {
            if request.uri().authority().is_some() {
                // It was meant for an HTTP/2 connection before.
                *request.uri_mut() = Uri::from(path_of(&request));
            }
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
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(authority.as_bytes())
            .path_and_query(path_of(&request))
            .build();
        *request.uri_mut() = uri.map_err(|error| bad_authority(authority, &error))?;
        Ok(request)
    }
}

fn path_of(request: &Request<RequestBody>) -> PathAndQuery {
    let path = request.uri().path_and_query().cloned();
    path.unwrap_or(PathAndQuery::from_static("/"))
}

/// What to make of a request that came back with an error.
fn failed(
    lease: &Lease,
    mut error: SendError,
    interrupted: Option<&Interrupted>,
    copy: Option<Copy>,
) -> Failed {
    let told = ProxyError::send(lease, &error, interrupted);
    lease.note_refusal(&told.failure);
    let unsent = error.unsent.take().map(|request| *request);
    let harmless = copy.as_ref().is_some_and(|copy| copy.method.is_idempotent());
    let closing = matches!(told.fault, Fault::StaleConnection | Fault::RefusedStream);
    let stale = lease.reused() && (unsent.is_some() || closing && harmless);
    Failed {
        error: told,
        endpoint: Some(lease.address()),
        request: unsent.or_else(|| copy?.request()),
        stale,
    }
}

/// What it takes to send a request again.
struct Copy {
    method: Method,
    uri: Uri,
    version: Version,
    /// A list is cheaper to copy than a map, and most copies are never sent.
    fields: Vec<(HeaderName, HeaderValue)>,
    /// The body, unless there is none.
    upload: Option<Rc<Upload>>,
}

impl Copy {
    fn of(request: &Request<RequestBody>) -> Self {
        let fields = request.headers().iter();
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            fields: fields
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            upload: request.body().upload().cloned(),
        }
    }

    fn can_be_sent(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| !upload.begun.get())
    }

    /// The request, unless some of its body is gone.
    fn request(self) -> Option<Request<RequestBody>> {
        let body = match &self.upload {
            Some(upload) => upload.next_turn()?,
            None => RequestBody::Empty,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        for (name, value) in self.fields {
            request.headers_mut().append(name, value);
        }
        Some(request)
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
