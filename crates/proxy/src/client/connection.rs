//! A client's connection from accept to close.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep, timeout};

use super::http2;
use super::io::{FramedTcp, GuardedIo, Wire};
use super::offence::Offence;
use crate::descriptors::Descriptor;
use crate::framing::{Ambiguous, Guard, LONGEST_END, Refusal};
use crate::headers::http2_list_limit;
use crate::incoming::{HttpError, Incoming};
use crate::request;
use crate::upstream::pool::Owner;
use crate::worker::{QUIET, Worker};

/// What an HTTP/2 client sends first, RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a client may take to say its first bytes, or to finish a head that it began.
const HEAD_TIMEOUT: u64 = 30;
/// The first and the longest pause while the rest of an HTTP/2 preface is waited for.
const PEEK_PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(320)];
/// A client may break off so many requests of HTTP/2; from then on, no more than half. As Envoy.
const MOST_BROKEN_OFF: u32 = 500;

/// A client's connection, as its requests and its worker see it.
pub(crate) struct Client {
    id: u64,
    pub(crate) peer: SocketAddr,
    /// The peer's address as `x-forwarded-for` wants it.
    pub(crate) peer_value: HeaderValue,
    /// Port of the listener that it came in on.
    pub(crate) port: u16,
    ambiguous: Ambiguous,
    pub(crate) wire: Arc<Wire>,
    /// The worker's second in which a sweep first found it in a head.
    head_since: Cell<Option<u64>>,
    /// Requests under way.
    requests: Cell<u32>,
    /// All requests so far.
    begun: Cell<u32>,
    /// Those that it broke off before they were answered.
    broken_off: Cell<u32>,
    http2: Cell<bool>,
    /// The worker's second in which something last began or ended.
    active_at: Cell<u64>,
    ending: Cell<Ending>,
    waker: RefCell<Option<Waker>>,
    /// What of connections to upstreams belongs to it.
    pub(crate) owner: Owner,
}

/// How a connection is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// After the requests that are under way.
    Gracefully,
    /// At once.
    Now,
}

impl Client {
    pub(crate) fn begin_request(&self) {
        self.requests.set(self.requests.get() + 1);
        self.begun.set(self.begun.get().saturating_add(1));
    }

    pub(crate) fn end_request(&self, worker: &Worker) {
        self.requests.set(self.requests.get().saturating_sub(1));
        self.active_at.set(worker.second.get());
    }

    /// A request was broken off before its answer began. A client that does little else uses upstreams and never waits
    /// for them (CVE-2023-44487).
    pub(crate) fn broke_off(self: &Rc<Self>, worker: &Worker) {
        self.broken_off.set(self.broken_off.get().saturating_add(1));
        let begun = self.begun.get();
        let ending = self.ending.get() == Ending::Now;
        if self.http2.get() && !ending && begun >= MOST_BROKEN_OFF && self.broken_off.get() > begun / 2 {
            self.cut();
            worker.offended(self, Offence::Resets);
        }
    }

    /// Why the request that began last is refused, where it cannot be read or separated from what stands around it.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        self.ambiguous.concerns(self.begun.get())
    }

    /// Tells a client of HTTP/1.1 that this was the last answer, where it is.
    fn say_that_it_ends<B>(&self, response: &mut Response<B>) {
        if self.ending.get() == Ending::Gracefully && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
    }

    /// The number of the request that began last, counted from one.
    pub(crate) fn request_number(&self) -> u32 {
        self.begun.get()
    }

    pub(crate) fn speaks_http2(&self) -> bool {
        self.http2.get()
    }

    /// Closes the connection at once where it carries one request at a time.
    pub(crate) fn cut_http1(&self) {
        if !self.http2.get() {
            self.cut();
        }
    }

    /// Closes the connection at once, whatever it is about.
    fn cut(&self) {
        self.end(Ending::Now);
    }

    fn end(&self, ending: Ending) {
        self.ending.set(ending);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// The connections of a worker.
#[derive(Default)]
pub(crate) struct Clients {
    open: RefCell<HashMap<u64, Rc<Client>>>,
    next: Cell<u64>,
    /// Connections that changed their protocol; hyper has let go of them.
    tunnels: Cell<usize>,
    empty: Notify,
}

/// Connections that make room for others.
pub(crate) struct Spared {
    /// That are about to end.
    pub(crate) ending: usize,
    /// Those of them that were asked to just now.
    pub(crate) closed: usize,
}

/// A connection that changed its protocol, for as long as it lasts.
pub(crate) struct Tunnel(Rc<Worker>);

impl Tunnel {
    pub(crate) fn new(worker: &Rc<Worker>) -> Self {
        let clients = &worker.clients;
        clients.tunnels.set(clients.tunnels.get() + 1);
        Self(Rc::clone(worker))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let clients = &self.0.clients;
        clients.tunnels.set(clients.tunnels.get() - 1);
        clients.tell_if_empty();
    }
}

impl Clients {
    fn add(&self, peer: SocketAddr, port: u16, second: u64) -> Rc<Client> {
        let id = self.next.get();
        self.next.set(id + 1);
        let client = Rc::new(Client {
            id,
            peer,
            peer_value: HeaderValue::try_from(peer.ip().to_canonical().to_string())
                .unwrap_or(HeaderValue::from_static("unknown")),
            port,
            ambiguous: Ambiguous::default(),
            wire: Arc::default(),
            head_since: Cell::new(None),
            requests: Cell::new(0),
            begun: Cell::new(0),
            broken_off: Cell::new(0),
            http2: Cell::new(false),
            active_at: Cell::new(second),
            ending: Cell::new(Ending::No),
            waker: RefCell::default(),
            owner: Owner::new(id),
        });
        self.open.borrow_mut().insert(id, Rc::clone(&client));
        client
    }

    fn remove(&self, client: &Client) {
        self.open.borrow_mut().remove(&client.id);
        self.tell_if_empty();
    }

    fn is_empty(&self) -> bool {
        self.open.borrow().is_empty() && self.tunnels.get() == 0
    }

    fn tell_if_empty(&self) {
        if self.is_empty() {
            self.empty.notify_one();
        }
    }

    /// Waits until no connection is left.
    pub(crate) async fn emptied(&self) {
        while !self.is_empty() {
            self.empty.notified().await;
        }
    }

    /// Ends every connection that carries no request and no part of one.
    pub(crate) fn end_idle(&self) {
        let open = self.open.borrow();
        let idle = |client: &&Rc<Client>| client.requests.get() == 0 && !client.wire.in_head();
        open.values()
            .filter(idle)
            .for_each(|client| client.end(Ending::Now));
    }

    /// Asks the connections of a port that is no longer served to end after their requests.
    pub(crate) fn leave_port(&self, port: u16) {
        let open = self.open.borrow();
        let of_port = open.values().filter(|client| client.port == port);
        of_port.for_each(|client| client.end(Ending::Gracefully));
    }

    /// Ends every connection, whatever it is about.
    pub(crate) fn cut_all(&self) {
        self.open.borrow().values().for_each(|client| client.cut());
    }

    /// Asks every connection to end after the requests that are under way.
    pub(crate) fn drain(&self) {
        self.open
            .borrow()
            .values()
            .for_each(|client| client.end(Ending::Gracefully));
    }

    /// Has at least `wanted` connections end that carry no request, as far as there are as many: first those that
    /// have been idle longest, and those in the middle of a head last. A sixty-fourth of all is ended at once, so
    /// that not every new connection has to look for one.
    pub(crate) fn end_longest_idle(&self, wanted: usize) -> Spared {
        let open = self.open.borrow();
        let (ending, others): (Vec<_>, Vec<_>) = open
            .values()
            .partition(|client| client.ending.get() == Ending::Now);
        if ending.len() >= wanted {
            return Spared {
                ending: ending.len(),
                closed: 0,
            };
        }
        let mut idle = others;
        idle.retain(|client| client.requests.get() == 0);
        idle.sort_unstable_by_key(|client| (client.wire.in_head(), client.active_at.get(), client.id));
        idle.truncate((wanted - ending.len()).max(open.len() / 64));
        idle.iter().for_each(|client| client.cut());
        Spared {
            ending: ending.len() + idle.len(),
            closed: idle.len(),
        }
    }

    /// Ends connections that have been idle, or in the middle of a head, for too long.
    pub(crate) fn sweep(&self, second: u64, idle: Duration) {
        for client in self.open.borrow().values() {
            if client.requests.get() > 0 {
                continue;
            }
            let (since, limit) = if client.wire.in_head() {
                // The head may have begun after an hour of silence.
                let since = client.head_since.get().unwrap_or(second);
                client.head_since.set(Some(since));
                (since, HEAD_TIMEOUT)
            } else {
                client.head_since.set(None);
                (client.active_at.get(), idle.as_secs())
            };
            if second.saturating_sub(since) > limit {
                client.cut();
            }
        }
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(worker: Rc<Worker>, tcp: TcpStream, peer: SocketAddr, port: u16) {
    let _descriptor = Descriptor::take();
    let client = worker.clients.add(peer, port, worker.second.get());
    if worker.draining.get() {
        client.end(Ending::Gracefully);
    }
    // A client that breaks off is no error of ours.
    let _ = serve_client(&worker, tcp, &client).await;
    client.owner.release();
    worker.clients.remove(&client);
}

async fn serve_client(worker: &Rc<Worker>, tcp: TcpStream, client: &Rc<Client>) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let limit = Duration::from_secs(HEAD_TIMEOUT);
    let Some(http2) = unless_ended(client, timeout(limit, speaks_http2(&tcp))).await else {
        return Ok(());
    };
    let http2 = http2.map_err(|_| io::ErrorKind::TimedOut)??;
    client.http2.set(http2);
    if http2 {
        let io = FramedTcp::new(tcp, Arc::clone(&client.wire));
        let most = http2_list_limit(header_limit(worker));
        let connection = pin!(http2::Connection::new(io, most, |request, respond| {
            let answer = http2::answer(Rc::clone(worker), Rc::clone(client), request, respond);
            tokio::task::spawn_local(answer);
        }));
        let ended = drive(client, connection, http2::Connection::graceful_shutdown).await;
        let ended = ended.map(|ended| ended.map_err(HttpError::Http2));
        Offence::of(ended, client.wire.is_flooded())
            .into_iter()
            .for_each(|offence| worker.offended(client, offence));
    } else {
        let most = header_limit(worker);
        let guard = Guard::new(client.ambiguous.clone(), most);
        let io = GuardedIo::new(tcp, guard, Arc::clone(&client.wire));
        let mut builder = http1::Builder::new();
        // The guard refuses with words what is larger, before hyper does.
        builder.half_close(true).max_header_size(most + LONGEST_END);
        let interim = &client.wire.interim;
        let service = service_fn(async |request: Request<hyper::body::Incoming>| {
            let request = request.map(Incoming::Http1);
            let handled = request::handle(Rc::clone(worker), Rc::clone(client), Arc::clone(interim), request);
            let mut response = handled.await?;
            interim.close();
            client.say_that_it_ends(&mut response);
            Ok::<_, Infallible>(response)
        });
        let connection = pin!(builder.serve_connection(io, service).with_upgrades());
        let shut_down = http1::UpgradeableConnection::graceful_shutdown;
        let ended = drive(client, connection, shut_down).await;
        let ended = ended.map(|ended| ended.map_err(HttpError::Http1));
        Offence::of(ended, client.wire.is_flooded())
            .into_iter()
            .for_each(|offence| worker.offended(client, offence));
    }
    Ok(())
}

fn header_limit(worker: &Worker) -> usize {
    worker.serving().map_or(60 * 1024, |serving| {
        serving.snapshot.settings.max_request_headers_bytes
    })
}

/// Drives a connection to its end, or to the end that it is asked for.
/// What it came to; none where it was cut.
async fn drive<C: Future>(
    client: &Client,
    mut connection: Pin<&mut C>,
    shut_down: impl Fn(Pin<&mut C>),
) -> Option<C::Output> {
    let mut asked = false;
    let mut quiet: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if client.ending.get() == Ending::Now {
            return Poll::Ready(None);
        }
        let mut waker = client.waker.borrow_mut();
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(ended));
        }
        if client.ending.get() != Ending::Gracefully || asked {
            return Poll::Pending;
        }
        // Asked between two requests, hyper closes at once, together with the request that is on its way or
        // waits in the socket. HTTP/2 says which was the last that counts; else the next one is answered
        // and told to be the last. When none comes, there is nothing to wait for.
        let may_ask = client.requests.get() > 0 || (client.http2.get() && client.begun.get() > 0);
        if may_ask {
            asked = true;
            shut_down(connection.as_mut());
            return connection.as_mut().poll(cx).map(Some);
        }
        let quiet = quiet.get_or_insert_with(|| Box::pin(sleep(QUIET)));
        if quiet.as_mut().poll(cx).is_ready() && !client.wire.in_head() {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

/// Waits for `future`; None where the connection is to end at once.
async fn unless_ended<F: Future>(client: &Client, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if client.ending.get() == Ending::Now {
            return Poll::Ready(None);
        }
        *client.waker.borrow_mut() = Some(cx.waker().clone());
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Looks at the first bytes without taking them.
async fn speaks_http2(tcp: &TcpStream) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    let mut seen = 0;
    let [mut pause, longest] = PEEK_PAUSES;
    loop {
        let n = tcp.peek(&mut first).await?;
        if n == PREFACE.len() || first[..n] != PREFACE[..n] {
            return Ok(n == PREFACE.len() && first == *PREFACE);
        }
        if n <= seen {
            // The client closed, or sent nothing new although the socket is readable.
            if n == 0 {
                return Ok(false);
            }
            tokio::time::sleep(pause).await;
            pause = longest.min(pause * 2);
        }
        seen = n;
    }
}
