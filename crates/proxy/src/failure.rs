//! What went wrong with a request, and the one place where that becomes an answer.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use nuncio_model::{Failure, Guard, Reason, Unresolved};

use crate::answer::Unframed;
use crate::body::{Broken, Interrupted};
use crate::headers::Excess;
use crate::incoming::HttpError;
use crate::upstream::pool::{Lease, SendError};

/// The body of an answer for a failed upstream: neutral, the operator has the rest.
const UPSTREAM_BODY: &str = "upstream connect error or disconnect/reset before headers";
const TIMEOUT_BODY: &str = "upstream request timeout";

/// A request that failed: whose fault, may it be tried again, what does the client see.
#[derive(Debug)]
pub(crate) struct ProxyError {
    pub(crate) fault: Fault,
    pub(crate) failure: Failure,
}

/// Whose fault it is. That also says whether another try may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The configuration's: nothing was sent, and nothing will change until it does.
    Configuration,
    /// The upstream's, before a byte of the request was sent to it.
    Connect,
    /// The upstream's, after the request went out on a connection that had worked before: it was
    /// probably closing, and a request that may be replayed deserves one fresh connection.
    StaleConnection,
    /// The upstream's, which refused an HTTP/2 stream, or ended its connection, before it did anything with it.
    RefusedStream,
    /// The upstream's, which serves this request over HTTP/1.1 only.
    Http1Required,
    /// The upstream's, after the request went out.
    Upstream,
    /// The client's, who went away or broke off its own request.
    Client,
    /// The client's, whose body came too slowly.
    SlowClient,
}

impl ProxyError {
    pub(crate) fn unresolved(unresolved: &Unresolved) -> Self {
        let failure = Failure {
            reason: unresolved.reason,
            message: unresolved.message.to_string(),
            remedy: "see what `nuncio check` or /api/v1/problems says of the Mapping".to_owned(),
        };
        Self {
            fault: Fault::Configuration,
            failure,
        }
    }

    /// What guards the request cannot be asked.
    pub(crate) fn guarded(guard: &Guard) -> Self {
        let failure = Failure {
            reason: guard.unresolved.reason,
            message: guard.unresolved.message.to_string(),
            remedy: format!(
                "see what `nuncio check` or /api/v1/problems says of {}",
                guard.object
            ),
        };
        Self {
            fault: Fault::Configuration,
            failure,
        }
    }

    pub(crate) fn no_route(why: &str) -> Self {
        let failure = Failure {
            reason: Reason::NoRoute,
            message: format!("no route: {why}"),
            remedy: "run `nuncio explain` with the URL".to_owned(),
        };
        Self {
            fault: Fault::Client,
            failure,
        }
    }

    pub(crate) fn connect(failure: Failure) -> Self {
        Self {
            fault: Fault::Connect,
            failure,
        }
    }

    pub(crate) fn timeout(limit: std::time::Duration) -> Self {
        let failure = Failure {
            reason: Reason::ResponseTimeout,
            message: format!("no complete response within {} ms", limit.as_millis()),
            remedy: "raise spec.timeout_ms, or see why the upstream takes so long".to_owned(),
        };
        Self {
            fault: Fault::Upstream,
            failure,
        }
    }

    /// One attempt took too long; the time of the whole is not over.
    pub(crate) fn try_timeout(limit: std::time::Duration) -> Self {
        let failure = Failure {
            reason: Reason::ResponseTimeout,
            message: format!("no response within the {} ms of one attempt", limit.as_millis()),
            remedy: "raise spec.retry_policy.per_try_timeout, or see why the upstream takes so long"
                .to_owned(),
        };
        Self {
            fault: Fault::Upstream,
            failure,
        }
    }

    /// A request that was given to a connection came back with an error instead of a response; `interrupted`
    /// where its client is the reason.
    pub(crate) fn send(lease: &Lease, error: &SendError, interrupted: Option<&Interrupted>) -> Self {
        if let Some(interrupted) = interrupted {
            return Self::interrupted(lease, interrupted);
        }
        // The last words of the peer come before how it ended the connection after them.
        if lease.requires_http1() || error.error.as_ref().is_some_and(HttpError::requires_http1) {
            return Self {
                fault: Fault::Http1Required,
                failure: http1_required(lease),
            };
        }
        if let Some(cause) = lease.cause() {
            return Self {
                fault: Fault::Upstream,
                failure: cause.clone(),
            };
        }
        let Some(error) = &error.error else {
            return Self::reset(lease, "it was closed");
        };
        if error.is_parse() || error.breaks_http2() {
            return Self {
                fault: Fault::Upstream,
                failure: not_http(lease, error),
            };
        }
        let mut failed = Self::reset(lease, &words(error));
        if error.is_unprocessed() {
            failed.fault = Fault::RefusedStream;
        }
        failed
    }

    /// The request's body will never be complete.
    pub(crate) fn interrupted(lease: &Lease, why: &Interrupted) -> Self {
        let fault = if why.is_slowness() {
            Fault::SlowClient
        } else {
            Fault::Client
        };
        Self {
            fault,
            failure: reset_failure(lease, &why.to_string()),
        }
    }

    /// The header section or the trailers of a response are larger than may be.
    pub(crate) fn section_too_large(lease: &Lease, what: &str, excess: &Excess) -> Self {
        let remedy = match excess {
            Excess::Fields(_) => "see why the upstream sends so many fields",
            Excess::Bytes { .. } => {
                "raise max_request_headers_kb in the Module ambassador, or have the upstream send less"
            }
        };
        let failure = Failure {
            reason: Reason::UpstreamProtocolError,
            message: format!("the {what} that {} sent is too large: {excess}", lease.address()),
            remedy: remedy.to_owned(),
        };
        Self {
            fault: Fault::Upstream,
            failure,
        }
    }

    /// An answer of which nobody can tell where its body ends.
    pub(crate) fn unframed(lease: &Lease, unframed: &Unframed) -> Self {
        let failure = Failure {
            reason: Reason::UpstreamProtocolError,
            message: format!("{} sent {unframed}", lease.address()),
            remedy: unframed.remedy().to_owned(),
        };
        Self {
            fault: Fault::Upstream,
            failure,
        }
    }

    /// The body of an answer cannot be read.
    pub(crate) fn broken_body(lease: &Lease, broken: &Broken) -> Self {
        let failure = match lease.cause() {
            Some(cause) => cause.clone(),
            None if is_protocol_error(broken) => Failure {
                reason: Reason::UpstreamProtocolError,
                message: format!(
                    "the body that {} sent cannot be read: {}",
                    lease.address(),
                    words(broken)
                ),
                remedy: "see what the upstream writes as the body of its answers".to_owned(),
            },
            None => reset_failure(lease, &words(broken)),
        };
        Self {
            fault: Fault::Upstream,
            failure,
        }
    }

    fn reset(lease: &Lease, why: &str) -> Self {
        let fault = if lease.reused() {
            Fault::StaleConnection
        } else {
            Fault::Upstream
        };
        Self {
            fault,
            failure: reset_failure(lease, why),
        }
    }

    /// The answer for the client.
    pub(crate) fn response(&self, grpc: bool, expose: bool) -> Response<Bytes> {
        let reason = self.failure.reason;
        let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let body = match reason {
            Reason::NoRoute => "",
            Reason::ResponseTimeout => TIMEOUT_BODY,
            Reason::NoEndpoints => "no healthy upstream",
            _ => UPSTREAM_BODY,
        };
        let mut response = own(status, body);
        if expose && reason != Reason::NoRoute {
            response
                .headers_mut()
                .insert("x-nuncio-reason", HeaderValue::from_static(reason.code()));
        }
        if grpc {
            // All is said in the head; a body would be taken for a message.
            *response.body_mut() = Bytes::new();
            grpc_status(response.headers_mut(), reason, body);
        }
        response
    }
}

/// An answer of the gateway's own.
pub(crate) fn own(status: StatusCode, body: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status;
    if !body.is_empty() {
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}

/// gRPC clients read the status from these headers of a response without messages.
fn grpc_status(headers: &mut HeaderMap, reason: Reason, message: &'static str) {
    // gRPC's codes: DEADLINE_EXCEEDED, UNIMPLEMENTED, UNAVAILABLE.
    let code = match reason {
        Reason::ResponseTimeout => "4",
        Reason::NoRoute => "12",
        _ => "14",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(code));
    headers.insert("grpc-message", HeaderValue::from_static(message));
}

fn reset_failure(lease: &Lease, why: &str) -> Failure {
    let ours = lease.tls().map(|report| &report.client_certificate);
    // It has accepted that by TLS, and may still hold it against the request.
    let certificate_missing = ours.is_some_and(|ours| ours.requested && !ours.sent);
    let (asked, or_secret) = match certificate_missing {
        true => (
            "; it had asked for a client certificate and got none",
            "; if it wants a client certificate, set spec.secret",
        ),
        false => ("", ""),
    };
    Failure {
        reason: Reason::ResetBeforeResponse,
        message: format!(
            "{} took the request and gave no response: {why}{asked}",
            lease.address()
        ),
        remedy: format!(
            "see why the upstream closes; where its keep-alive time is short, it may be closing idle \
             connections{or_secret}"
        ),
    }
}

fn not_http(lease: &Lease, error: &HttpError) -> Failure {
    let spoken = if lease.is_http2() { "HTTP/2" } else { "HTTP/1.1" };
    let fault = lease.head_fault(error.is_too_large());
    Failure {
        reason: Reason::UpstreamProtocolError,
        message: format!(
            "what {} answered is not {spoken}: {}",
            lease.address(),
            fault.unwrap_or_else(|| words(error))
        ),
        remedy: "check the port in spec.service; where the port speaks TLS, write https:// before the host"
            .to_owned(),
    }
}

/// Whether the peer wrote a body that breaks the rules, rather than broke it off.
pub(crate) fn is_protocol_error(broken: &Broken) -> bool {
    let error = match broken {
        Broken::Read(HttpError::Http1(error)) => error,
        Broken::Read(error) => return error.breaks_http2(),
        Broken::Short(_) => return false,
    };
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let kind = cause.map(std::io::Error::kind);
    matches!(
        kind,
        Some(std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData)
    )
}

fn http1_required(lease: &Lease) -> Failure {
    Failure {
        reason: Reason::ResetBeforeResponse,
        message: format!(
            "{} took the request and requires HTTP/1.1 for it (HTTP_1_1_REQUIRED)",
            lease.address()
        ),
        remedy:
            "let alpn_protocols of the TLSContext be h2,http/1.1, or http/1.1 alone; gRPC has no way over \
                 HTTP/1.1"
                .to_owned(),
    }
}

/// The error with its causes, outermost first.
pub(crate) fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
