//! TLS handshakes over sockets: as many as it takes to connect once, which is one but for two cases.
//!
//! A peer that leaves the large hello of post-quantum key exchange unanswered is sent a small one beside it
//! (decision 19). One that takes offence at the session that the gateway tries to resume is asked for a
//! full handshake, once (row R12). Both are within the time that was given to connect.

#![expect(
    clippy::disallowed_methods,
    reason = "everybody else asks LiveUpstream::dial, which asks this"
)]

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use nuncio_model::{Failure, Reason};
use nuncio_tls::{Closed, Handshake};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};

use super::connector::{SmallHello, TlsTarget, connect_tcp};
use super::hello::{Answered, Plan};
use super::live::lock;
use super::stream::{LastBytes, Socket};

/// Where to and for how long.
pub(super) struct Call<'a> {
    pub(super) address: SocketAddr,
    pub(super) tls: &'a TlsTarget<'a>,
    pub(super) deadline: Instant,
    /// The time that was given in all, for messages.
    pub(super) limit: Duration,
}

/// A handshake that came to its end.
pub(super) struct Handshaken {
    pub(super) attempt: Attempt,
    pub(super) result: Result<(), Failure>,
    /// Set where the peer answers small hellos only.
    pub(super) small_hello: Option<SmallHello>,
}

/// What is sent first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    /// With everything that is offered.
    Full,
    /// Without post-quantum groups.
    Small,
}

impl Call<'_> {
    /// Does the handshake over `tcp`, and over further connections where it must.
    pub(super) async fn handshake(&self, tcp: TcpStream) -> Result<Handshaken, Failure> {
        let done = self.with_the_right_hello(tcp).await?;
        let Err(failure) = &done.result else {
            return Ok(done);
        };
        if !done.attempt.handshake.resumes() {
            return Ok(done);
        }
        // It may have been about the session alone. Whatever it was, none is tried again.
        self.tls.endpoint.forget_sessions();
        if failure.reason == Reason::HandshakeTimeout {
            return Ok(done);
        }
        match self.connect_again().await {
            Ok(tcp) => self.with_the_right_hello(tcp).await,
            Err(_) => Ok(done),
        }
    }

    async fn with_the_right_hello(&self, tcp: TcpStream) -> Result<Handshaken, Failure> {
        if !self.tls.endpoint.hello_is_large() {
            return self.one(tcp, Size::Full).await;
        }
        let now = Instant::now();
        let left = self.deadline.saturating_duration_since(now);
        let plan = lock(self.tls.hellos).plan(now, left);
        let mut done = match plan {
            Plan::Large => self.one(tcp, Size::Full).await?,
            Plan::Small => self.one(tcp, Size::Small).await?,
            Plan::Both { head_start } => self.both(tcp, head_start).await?,
        };
        let answered = match (done.attempt.handshake.is_answered(), done.attempt.size) {
            (false, _) => Answered::Neither,
            (true, Size::Full) => Answered::Large,
            (true, Size::Small) => Answered::Small,
        };
        let is_news = lock(self.tls.hellos).learn(plan, answered, Instant::now());
        done.small_hello = (answered == Answered::Small).then_some(match is_news {
            true => SmallHello::News,
            false => SmallHello::Known,
        });
        if let (Plan::Both { .. }, Answered::Neither, Err(failure)) = (plan, answered, &mut done.result) {
            failure.message += "; nor did it answer a smaller one without post-quantum key exchange";
        }
        Ok(done)
    }

    async fn connect_again(&self) -> Result<TcpStream, Failure> {
        connect_tcp(self.address, self.deadline, self.limit, true).await
    }

    async fn one(&self, tcp: TcpStream, size: Size) -> Result<Handshaken, Failure> {
        let mut attempt = self.begin(tcp, size)?;
        let result = attempt.run(self.deadline).await;
        Ok(Handshaken {
            attempt,
            result,
            small_hello: None,
        })
    }

    fn begin(&self, tcp: TcpStream, size: Size) -> Result<Attempt, Failure> {
        let handshake = match size {
            Size::Full => self.tls.endpoint.start(),
            Size::Small => self.tls.endpoint.start_small(),
        };
        Ok(Attempt {
            tcp,
            handshake: handshake?,
            size,
        })
    }

    /// Sends the large hello and, if nothing comes back within the head start, a small one on a second
    /// connection. The first of the two that gets an answer decides; where none does, the first is told.
    async fn both(&self, tcp: TcpStream, head_start: Duration) -> Result<Handshaken, Failure> {
        let mut large = self.begin(tcp, Size::Full)?;
        let early = timeout(head_start, poll_fn(|cx| large.poll(cx))).await.ok();
        if large.handshake.is_answered() || matches!(early, Some(Ok(()))) {
            let result = match early {
                Some(result) => result,
                None => large.run(self.deadline).await,
            };
            return Ok(large.ended(result));
        }
        let mut early = early;
        let small = async {
            let tcp = self.connect_again().await?;
            self.one(tcp, Size::Small).await
        };
        let mut small = pin!(small);
        let won = {
            let large = async {
                match early.take() {
                    Some(result) => result,
                    None => large.run(self.deadline).await,
                }
            };
            tokio::select! {
                biased;
                result = large => Err(result),
                done = &mut small => Ok(done),
            }
        };
        match won {
            Ok(Ok(done)) if done.attempt.handshake.is_answered() => Ok(done),
            // The small one failed in silence, too; the time of the large one goes on.
            Ok(_) => {
                let result = large.run(self.deadline).await;
                Ok(large.ended(result))
            }
            Err(result) if large.handshake.is_answered() => Ok(large.ended(result)),
            Err(result) => match small.await {
                Ok(done) if done.attempt.handshake.is_answered() => Ok(done),
                _ => Ok(large.ended(result)),
            },
        }
    }
}

/// A TLS handshake over a socket.
pub(super) struct Attempt {
    pub(super) tcp: TcpStream,
    pub(super) handshake: Handshake,
    size: Size,
}

impl Attempt {
    async fn run(&mut self, deadline: Instant) -> Result<(), Failure> {
        match timeout_at(deadline.into(), poll_fn(|cx| self.poll(cx))).await {
            Ok(result) => result,
            Err(_) => Err(self.handshake.closed(Closed::Timeout, &[])),
        }
    }

    fn ended(self, result: Result<(), Failure>) -> Handshaken {
        Handshaken {
            attempt: self,
            result,
            small_hello: None,
        }
    }

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
