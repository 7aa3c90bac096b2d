//! One connection to one endpoint: TCP, then TLS, within one time limit. Only `dial` asks for it.

#![expect(
    clippy::disallowed_methods,
    reason = "everybody else asks LiveUpstream::dial, which asks this"
)]

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use nuncio_model::{Failure, HandshakeReport, Reason, TlsSettings};
use nuncio_tls::{EndpointTls, Evidence, Selected};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::attempt::{Call, Handshaken};
use super::hello::Hellos;
use super::stream::{FirstCause, PlainIo, TlsIo, UpstreamIo, Writes};

/// What helps where large hellos are not answered.
pub(super) const SMALL_HELLO_REMEDY: &str = "let whatever stands before the upstream pass a TLS hello of more than one \
     packet; to send no such hello, set spec.ecdh_curves to [X25519, P-256]";

/// A connection that is ready for HTTP.
pub(crate) struct Connected {
    pub(crate) io: UpstreamIo,
    /// What ALPN gave; none without TLS.
    pub(crate) alpn: Selected,
    /// Filled in when TLS fails later.
    pub(crate) cause: FirstCause,
    /// What the handshake showed; none without TLS.
    pub(crate) report: Option<HandshakeReport>,
    /// Set where the peer answers only small hellos.
    pub(crate) small_hello: Option<SmallHello>,
}

/// A peer answers no large hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SmallHello {
    /// This was just found out.
    News,
    /// It was known.
    Known,
}

/// What a failed attempt leaves behind.
pub(crate) struct ConnectError {
    pub(crate) failure: Failure,
    /// Present where TLS had begun.
    pub(crate) report: Option<HandshakeReport>,
    /// What the peer showed of itself, where it came to that.
    pub(crate) evidence: Option<Evidence>,
}

impl From<Failure> for ConnectError {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            report: None,
            evidence: None,
        }
    }
}

/// What to speak TLS with.
pub(super) struct TlsTarget<'a> {
    pub(super) endpoint: &'a EndpointTls,
    pub(super) settings: &'a Arc<TlsSettings>,
    pub(super) hellos: &'a Mutex<Hellos>,
}

/// Connects to `address` until `deadline`. `limit` is the time that was given in all, for messages.
pub(super) async fn connect(
    address: SocketAddr,
    tls: Option<TlsTarget<'_>>,
    deadline: Instant,
    limit: Duration,
) -> Result<Connected, ConnectError> {
    let over_tls = tls.is_some();
    let tcp = connect_tcp(address, deadline, limit, over_tls).await?;
    let Some(tls) = tls else {
        let cause = FirstCause::default();
        return Ok(Connected {
            io: UpstreamIo::Plain(PlainIo::new(tcp, Arc::clone(&cause))),
            alpn: Selected::Undecided,
            cause,
            report: None,
            small_hello: None,
        });
    };
    let started = Instant::now();
    let call = Call {
        address,
        tls: &tls,
        deadline,
        limit,
    };
    let Handshaken {
        attempt,
        result,
        small_hello,
    } = call.handshake(tcp).await?;
    let now = SystemTime::now();
    match result {
        Ok(()) => {
            let mut report = attempt.handshake.report_ok(started.elapsed(), now);
            if small_hello.is_some() {
                tell_of_the_small_hello(&mut report);
            }
            let established = attempt.handshake.into_connection();
            let cause = FirstCause::default();
            let io = TlsIo {
                tcp: attempt.tcp,
                tls: established.connection,
                seen: established.seen,
                settings: Arc::clone(tls.settings),
                cause: Arc::clone(&cause),
                since: Instant::now(),
                has_answered: false,
                writes: Writes::Sent,
            };
            let io = UpstreamIo::Tls(Box::new(io));
            Ok(Connected {
                io,
                alpn: established.alpn,
                cause,
                report: Some(report),
                small_hello,
            })
        }
        Err(failure) => {
            let report = attempt.handshake.report_failed(&failure, started.elapsed(), now);
            Err(ConnectError {
                failure,
                report: Some(report),
                evidence: attempt.handshake.into_evidence(),
            })
        }
    }
}

/// Decision 19: what was agreed on is not what would have been.
fn tell_of_the_small_hello(report: &mut HandshakeReport) {
    let rest = report.message.strip_prefix("connected").unwrap_or_default();
    report.message = format!(
        "connected without post-quantum key exchange, since the upstream does not answer the larger hello \
         that offers it{rest}"
    );
    if report.remedy.is_empty() {
        SMALL_HELLO_REMEDY.clone_into(&mut report.remedy);
    }
}

/// The socket alone. `over_tls`: a TLS handshake is to follow.
pub(super) async fn connect_tcp(
    address: SocketAddr,
    deadline: Instant,
    limit: Duration,
    over_tls: bool,
) -> Result<TcpStream, Failure> {
    let error = match timeout_at(deadline.into(), TcpStream::connect(address)).await {
        Ok(Ok(tcp)) => {
            // Without it small writes wait for the peer's acknowledgement; a socket that cannot set
            // it still works.
            let _ = tcp.set_nodelay(true);
            return Ok(tcp);
        }
        Ok(Err(error)) => error,
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    Err(tcp_failure(address, &error, limit, over_tls))
}

fn tcp_failure(address: SocketAddr, error: &io::Error, limit: Duration, over_tls: bool) -> Failure {
    match error.kind() {
        // It stood, and was gone before anything could be sent.
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            Failure {
                reason: match over_tls {
                    true => Reason::ResetDuringHandshake,
                    false => Reason::ConnectRefused,
                },
                message: format!("{address} accepted the connection and reset it at once"),
                remedy:
                    "see whether the upstream, or a proxy or firewall before it, lets the gateway in and has \
                         room for more connections: its log says more"
                        .to_owned(),
            }
        }
        io::ErrorKind::ConnectionRefused => Failure {
            reason: Reason::ConnectRefused,
            message: format!("nothing listens on {address}"),
            remedy: "check the port of spec.service and that the service runs".to_owned(),
        },
        io::ErrorKind::TimedOut => Failure {
            reason: Reason::ConnectTimeout,
            message: format!(
                "{address} did not accept a connection within {} ms",
                limit.as_millis()
            ),
            remedy: "check that a firewall or network policy lets the gateway through, or raise \
                     spec.connect_timeout_ms"
                .to_owned(),
        },
        _ => Failure {
            reason: Reason::ConnectUnreachable,
            message: format!("{address} cannot be reached: {error}"),
            remedy: if is_own_shortage(error) {
                "raise the limit on open files of the gateway (ulimit -n), or add gateways"
            } else {
                "check the address and the routes of this host"
            }
            .to_owned(),
        },
    }
}

/// Whether it is the gateway that has no room for another connection: EMFILE and ENFILE have no kind of
/// their own.
fn is_own_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: &io::Error, over_tls: bool) -> Failure {
        let address = SocketAddr::from(([127, 0, 0, 1], 443));
        tcp_failure(address, error, Duration::from_millis(300), over_tls)
    }

    /// How soon a reset comes decides whether connecting or the handshake meets it.
    #[test]
    fn one_that_resets_at_once_was_reached() {
        for kind in [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe] {
            let tls = told(&kind.into(), true);
            assert_eq!(tls.reason, Reason::ResetDuringHandshake);
            assert!(
                tls.message.contains("127.0.0.1:443 accepted the connection"),
                "{}",
                tls.message
            );
            assert_eq!(told(&kind.into(), false).reason, Reason::ConnectRefused);
        }
    }

    #[test]
    fn a_shortage_of_our_own_is_not_looked_for_in_the_network() {
        let no_more_files = told(&io::Error::from_raw_os_error(24), true);
        assert_eq!(no_more_files.reason, Reason::ConnectUnreachable);
        assert!(
            no_more_files.remedy.contains("open files"),
            "{}",
            no_more_files.remedy
        );
        let no_route = told(&io::ErrorKind::NetworkUnreachable.into(), true);
        assert!(no_route.remedy.contains("routes"), "{}", no_route.remedy);
    }
}
