//! The use of a connection for one request.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use http_body::Body;
use hyper::client::conn::{TrySendError, http1};
use hyper::ext::on_informational;
use nuncio_model::{Failure, HandshakeReport, Reason};

use super::http2::Http2Lease;
use super::{EndpointPool, Facts, IDLE_TIMEOUT, refused};
use crate::answer::Stay;
use crate::body::RequestBody;
use crate::client::interim::Ear;
use crate::incoming::{HttpError, Incoming};
use crate::patience::Upload;

/// How long a connection may take to become ready again after the end of a response.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

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
        matches!(self, Self::Http2(lease) if lease.shared.requires_http1())
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
        match self {
            Self::Http1(lease) => lease.unwanted = Some(Rc::clone(content)),
            Self::Http2(lease) => lease.unwanted = true,
        }
    }

    fn facts(&self) -> &Facts {
        match self {
            Self::Http1(lease) => &lease.facts,
            Self::Http2(lease) => &lease.shared.facts,
        }
    }

    /// Sends a request. The error holds the request again where nothing of it was sent. `ear` is for interim answers.
    pub(crate) fn send(
        &mut self,
        request: http::Request<RequestBody>,
        ear: Option<Ear>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, SendError>> {
        // The request is gone before there is anything to wait for, and takes no room in what waits.
        let begun = match self {
            Self::Http1(lease) => lease.begin(request, ear).map(Either::Left),
            Self::Http2(lease) => lease.begin(request, ear).map(Either::Right),
        };
        async move {
            let answer = match begun? {
                Either::Left(answer) => {
                    let answer = answer.await;
                    self.facts().line.complete();
                    if let (Self::Http1(lease), Ok(answer)) = (&mut *self, &answer) {
                        lease.stay = Stay::of(answer.headers(), lease.facts.line.is_http10());
                    }
                    answer?.map(Incoming::Http1)
                }
                Either::Right(answer) => answer.await.map_err(|error| self.failed(error))?,
            };
            self.facts().verdict.accepted();
            Ok(answer)
        }
    }

    fn failed(&self, error: h2::Error) -> SendError {
        match self {
            Self::Http1(_) => HttpError::Http2(error).into(),
            Self::Http2(lease) => lease.error(error).into(),
        }
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
            Self::Http2(lease) => lease.finish(),
        }
    }
}

impl Http1Lease {
    /// Hands a request to what drives the connection.
    fn begin(
        &mut self,
        mut request: http::Request<RequestBody>,
        ear: Option<Ear>,
    ) -> Result<impl Future<Output = Result<http::Response<hyper::body::Incoming>, Unsent>> + use<>, SendError>
    {
        let Some(sender) = &mut self.sender else {
            return Err(SendError::spent(request));
        };
        if let Some(ear) = ear {
            on_informational(&mut request, move |answer| {
                ear.hear(answer.status(), answer.headers());
            });
        }
        let first_over_tls = !self.reused && self.facts.tls.is_some();
        let is_early = first_over_tls && !request.body().is_end_stream();
        self.facts.line.expect(is_early);
        Ok(sender.try_send_request(request))
    }

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

/// What hyper says of a request that could not be sent.
type Unsent = TrySendError<http::Request<RequestBody>>;

/// Why a request could not be sent.
pub(crate) struct SendError {
    /// None where the lease was spent already.
    pub(crate) error: Option<HttpError>,
    /// The request, where nothing of it went out.
    pub(crate) unsent: Option<Box<http::Request<RequestBody>>>,
}

impl SendError {
    fn spent(request: http::Request<RequestBody>) -> Self {
        Self {
            error: None,
            unsent: Some(Box::new(request)),
        }
    }
}

impl From<HttpError> for SendError {
    fn from(error: HttpError) -> Self {
        Self {
            error: Some(error),
            unsent: None,
        }
    }
}

impl From<Unsent> for SendError {
    fn from(mut error: Unsent) -> Self {
        let unsent = error.take_message().map(Box::new);
        Self {
            error: Some(HttpError::Http1(error.into_error())),
            unsent,
        }
    }
}
