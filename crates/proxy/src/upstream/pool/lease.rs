//! The use of a connection for one request.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Body;
use hyper::client::conn::http1;
use nuncio_model::{Failure, HandshakeReport, Reason};

use super::{EndpointPool, Facts, IDLE_TIMEOUT, Shared, refused};
use crate::answer::Stay;
use crate::body::RequestBody;
use crate::patience::Upload;

/// How long a connection may take to become ready again after the end of a response.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long after its streams the task that drives an HTTP/2 connection may learn of its end.
const END_TIMEOUT: Duration = Duration::from_millis(100);

/// The use of a connection for one request.
pub(crate) enum Lease {
    Http1(Http1Lease),
    Http2(Http2Lease),
}

/// The whole of an HTTP/1.1 connection. Dropped before the response's end, the connection closes.
pub(crate) struct Http1Lease {
    pub(super) sender: Option<http1::SendRequest<RequestBody>>,
    pub(super) facts: Rc<Facts>,
    pub(super) endpoint: Rc<EndpointPool>,
    /// It carried a request before this one.
    pub(super) reused: bool,
    /// What its last answer said of it.
    pub(super) stay: Stay,
    /// The content that the upstream answered without; the request never ends, nor can another follow it.
    pub(super) unwanted: Option<Rc<Upload>>,
}

/// A stream of an HTTP/2 connection.
pub(crate) struct Http2Lease {
    pub(super) shared: Rc<Shared>,
    pub(super) endpoint: Rc<EndpointPool>,
    pub(super) reused: bool,
}

/// Why there is no connection.
#[derive(Clone)]
pub(crate) struct LeaseError {
    pub(crate) failure: Failure,
    /// The address that was tried.
    pub(crate) endpoint: Option<SocketAddr>,
    /// How far TLS came with it.
    pub(crate) tls: Option<Arc<HandshakeReport>>,
    /// The endpoint was not asked, for it is known what it would answer.
    pub(super) remembered: bool,
}

impl From<Failure> for LeaseError {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            endpoint: None,
            tls: None,
            remembered: false,
        }
    }
}

impl Lease {
    pub(crate) fn reused(&self) -> bool {
        match self {
            Self::Http1(lease) => lease.reused,
            Self::Http2(lease) => lease.reused,
        }
    }

    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.endpoint().live.address
    }

    pub(crate) fn endpoint(&self) -> &Rc<EndpointPool> {
        match self {
            Self::Http1(lease) => &lease.endpoint,
            Self::Http2(lease) => &lease.endpoint,
        }
    }

    /// What its bytes said about this connection's end, if that was the cause.
    pub(crate) fn cause(&self) -> Option<&Failure> {
        self.facts().cause.get()
    }

    /// Whether this connection ended because its peer requires HTTP/1.1.
    pub(crate) fn requires_http1(&self) -> bool {
        self.facts().requires_http1.get() == Some(true)
    }

    /// Waits until it is known why an HTTP/2 connection ended whose streams know that it did.
    pub(crate) async fn end_of_connection(&self) {
        let facts = self.facts();
        let ended = facts.ended.notified();
        if self.is_http2() && facts.requires_http1.get().is_none() {
            let _ = tokio::time::timeout(END_TIMEOUT, ended).await;
        }
    }

    /// How TLS began; none for cleartext.
    pub(crate) fn tls(&self) -> Option<&Arc<HandshakeReport>> {
        self.facts().tls.as_ref()
    }

    /// Under TLS 1.3 a peer refuses our certificate only after the handshake (rows P15, P16). Then that is
    /// how the handshake ended, whatever was reported of it before.
    pub(crate) fn note_refusal(&self, failure: &Failure) {
        let about_us = matches!(
            failure.reason,
            Reason::ClientCertRequired | Reason::ClientCertRejected
        );
        if let Some(report) = self.tls().filter(|_| about_us) {
            let report = refused(HandshakeReport::clone(report), failure);
            let (live, report) = (&self.endpoint().live, Arc::new(report));
            live.forget_sessions();
            live.tell_handshake(Arc::clone(&report));
            self.facts().verdict.refused(live.address, failure, &report);
        }
    }

    /// The answer came without this content, which will not be sent.
    pub(crate) fn leaves_out(&mut self, content: &Rc<Upload>) {
        if let Self::Http1(lease) = self {
            lease.unwanted = Some(Rc::clone(content));
        }
    }

    fn facts(&self) -> &Facts {
        match self {
            Self::Http1(lease) => &lease.facts,
            Self::Http2(lease) => &lease.shared.facts,
        }
    }

    /// Sends a request. The error holds the request again where nothing of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: http::Request<RequestBody>,
    ) -> Result<http::Response<hyper::body::Incoming>, SendError> {
        let answer = match self {
            Self::Http1(lease) => {
                let Some(sender) = &mut lease.sender else {
                    return Err(SendError::spent(request));
                };
                let line = &lease.facts.line;
                let first_over_tls = !lease.reused && lease.facts.tls.is_some();
                line.expect(first_over_tls && !request.body().is_end_stream());
                let answer = sender.try_send_request(request).await;
                line.complete();
                if let Ok(answer) = &answer {
                    lease.stay = Stay::of(answer.headers(), line.is_http10());
                }
                answer
            }
            Self::Http2(lease) => {
                let response = lease.shared.sender.borrow_mut().try_send_request(request);
                response.await
            }
        };
        if answer.is_ok() {
            self.facts().verdict.accepted();
        }
        answer.map_err(SendError::from)
    }

    /// What is wrong with the head of an HTTP/1.1 answer that could not be read, where that shows.
    pub(crate) fn head_fault(&self, too_large: bool) -> Option<String> {
        self.facts().line.fault(too_large)
    }

    /// The connection carries no request after this one.
    pub(crate) fn is_last(&mut self) {
        if let Self::Http1(lease) = self {
            lease.stay = Stay::Closed;
        }
    }

    /// Nobody needs it any more, and it carried no request. The peer may have refused us on it meanwhile.
    pub(super) fn give_back(self) {
        if let Some(cause) = self.cause() {
            self.note_refusal(cause);
        }
        self.finish();
    }

    /// The response is complete: the connection may serve again.
    pub(crate) fn finish(self) {
        match self {
            Self::Http1(lease) => lease.finish(),
            Self::Http2(_) => {}
        }
    }
}

impl Http1Lease {
    fn finish(mut self) {
        if self.unwanted.is_some() {
            return;
        }
        let Some(mut sender) = self.sender.take() else {
            return;
        };
        let (endpoint, facts) = (Rc::clone(&self.endpoint), Rc::clone(&self.facts));
        let limit = match self.stay {
            Stay::Open => IDLE_TIMEOUT,
            Stay::Idle(limit) => limit.min(IDLE_TIMEOUT),
            Stay::Closed => {
                end(&facts);
                return endpoint.closed();
            }
        };
        if sender.is_ready() {
            keep(&endpoint, sender, facts, limit);
        } else if sender.is_closed() {
            end(&facts);
            endpoint.closed();
        } else {
            tokio::task::spawn_local(async move {
                match tokio::time::timeout(READY_TIMEOUT, sender.ready()).await {
                    Ok(Ok(())) => keep(&endpoint, sender, facts, limit),
                    Ok(Err(_)) => {
                        end(&facts);
                        endpoint.closed();
                    }
                    Err(_) => end(&facts),
                }
            });
        }
    }
}

/// For the next request: of anybody, or of the client that the connection belongs to.
fn keep(endpoint: &EndpointPool, sender: http1::SendRequest<RequestBody>, facts: Rc<Facts>, limit: Duration) {
    match facts.binding.get() {
        None => endpoint.keep(sender, facts, limit),
        Some(binding) => binding.keep(sender, &facts, endpoint, limit),
    }
}

fn end(facts: &Rc<Facts>) {
    if let Some(binding) = facts.binding.get() {
        binding.end(facts);
    }
}

impl Drop for Http1Lease {
    fn drop(&mut self) {
        if self.sender.is_some() {
            end(&self.facts);
        }
        if let Some(unwanted) = &self.unwanted {
            unwanted.gate.give_up();
        }
        self.endpoint.counts.active.subtract(1);
    }
}

impl Drop for Http2Lease {
    fn drop(&mut self) {
        let left = self.shared.streams.get() - 1;
        self.shared.streams.set(left);
        self.endpoint.room.notify_one();
        if left > 0 {
            return;
        }
        self.shared.idle_since.set(Instant::now());
        self.endpoint.counts.active.subtract(1);
        if self.shared.pooled.get() {
            self.endpoint.counts.idle.add(1);
        }
    }
}

/// Why a request could not be sent.
pub(crate) struct SendError {
    /// None where the lease was spent already.
    pub(crate) error: Option<hyper::Error>,
    /// The request, where nothing of it went out.
    pub(crate) unsent: Option<http::Request<RequestBody>>,
}

impl SendError {
    fn spent(request: http::Request<RequestBody>) -> Self {
        Self {
            error: None,
            unsent: Some(request),
        }
    }
}

impl From<hyper::client::conn::TrySendError<http::Request<RequestBody>>> for SendError {
    fn from(mut error: hyper::client::conn::TrySendError<http::Request<RequestBody>>) -> Self {
        let unsent = error.take_message();
        Self {
            error: Some(error.into_error()),
            unsent,
        }
    }
}
