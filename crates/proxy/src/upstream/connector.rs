//! One connection to one endpoint: TCP, then TLS, within one time limit. Only `dial` asks for it.

#![expect(
    clippy::disallowed_methods,
    reason = "everybody else asks LiveUpstream::dial, which asks this"
)]

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use nuncio_model::{Alpn, Failure, HandshakeReport, Reason, TlsSettings};
use nuncio_tls::{Closed, EndpointTls, Evidence, Handshake};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::stream::{FirstCause, LastBytes, PlainIo, Socket, TlsIo, UpstreamIo};

/// A connection that is ready for HTTP.
pub(crate) struct Connected {
    pub(crate) io: UpstreamIo,
    /// What ALPN gave; none without TLS.
    pub(crate) alpn: Option<Alpn>,
    /// Filled in when TLS fails later.
    pub(crate) cause: FirstCause,
    /// What the handshake showed; none without TLS.
    pub(crate) report: Option<HandshakeReport>,
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
}

/// Connects to `address` until `deadline`. `limit` is the time that was given in all, for messages.
pub(super) async fn connect(
    address: SocketAddr,
    tls: Option<TlsTarget<'_>>,
    deadline: Instant,
    limit: Duration,
) -> Result<Connected, ConnectError> {
    let tcp = connect_tcp(address, deadline, limit).await?;
    let Some(tls) = tls else {
        let cause = FirstCause::default();
        return Ok(Connected {
            io: UpstreamIo::Plain(PlainIo::new(tcp, Arc::clone(&cause))),
            alpn: None,
            cause,
            report: None,
        });
    };
    let started = Instant::now();
    let mut attempt = Attempt {
        tcp,
        handshake: tls.endpoint.start()?,
    };
    let result = match timeout_at(deadline.into(), poll_fn(|cx| attempt.poll(cx))).await {
        Ok(result) => result,
        Err(_) => Err(attempt.handshake.closed(Closed::Timeout, &[])),
    };
    let now = SystemTime::now();
    match result {
        Ok(()) => {
            let report = attempt.handshake.report_ok(started.elapsed(), now);
            let established = attempt.handshake.into_connection();
            let cause = FirstCause::default();
            let io = TlsIo {
                tcp: attempt.tcp,
                tls: established.connection,
                seen: established.seen,
                settings: Arc::clone(tls.settings),
                cause: Arc::clone(&cause),
            };
            let io = UpstreamIo::Tls(Box::new(io));
            Ok(Connected {
                io,
                alpn: established.alpn,
                cause,
                report: Some(report),
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

async fn connect_tcp(address: SocketAddr, deadline: Instant, limit: Duration) -> Result<TcpStream, Failure> {
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
    Err(tcp_failure(address, &error, limit))
}

fn tcp_failure(address: SocketAddr, error: &io::Error, limit: Duration) -> Failure {
    match error.kind() {
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
            remedy: "check the address and the routes of this host".to_owned(),
        },
    }
}

/// A TLS handshake over a socket.
struct Attempt {
    tcp: TcpStream,
    handshake: Handshake,
}

impl Attempt {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            ready!(self.poll_write(cx))?;
            if !self.handshake.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_read(cx))?;
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while self.handshake.connection().wants_write() {
            match self.handshake.connection().write_tls(&mut Socket {
                tcp: &mut self.tcp,
                cx,
            }) {
                Ok(0) => return Poll::Ready(Err(self.handshake.closed(Closed::Eof, &[]))),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(self.last_words(&error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self.handshake.read_tls(&mut Socket {
            tcp: &mut self.tcp,
            cx,
        }) {
            Ok(0) => Poll::Ready(Err(self.handshake.closed(Closed::Eof, &[]))),
            Ok(_) => Poll::Ready(self.process(cx)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(self.handshake.closed(closed_by(&error), &[]))),
        }
    }

    fn process(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        let result = self.handshake.process().map(|_| ());
        if result.is_err() {
            // The peer is told why, as far as the socket takes it at once.
            let _ = self.handshake.connection().write_tls(&mut Socket {
                tcp: &mut self.tcp,
                cx,
            });
        }
        result
    }

    /// A write failed: an alert that came before the reset is the cause, not the reset.
    fn last_words(&mut self, error: &io::Error) -> Failure {
        for _ in 0..16 {
            match self.handshake.read_tls(&mut LastBytes(&self.tcp)) {
                Ok(1..) => {}
                _ => break,
            }
            if let Err(failure) = self.handshake.process() {
                return failure;
            }
        }
        self.handshake.closed(closed_by(error), &[])
    }
}

fn closed_by(error: &io::Error) -> Closed {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            Closed::Reset
        }
        io::ErrorKind::UnexpectedEof => Closed::Eof,
        kind => Closed::Io(kind),
    }
}
