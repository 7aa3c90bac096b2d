//! The socket: a bounded number of connections, short waits, nothing read but heads.
//!
//! Health is answered whatever else goes on. A connection that finds all places taken gets that of the one
//! that has kept its place longest without sending a request, or failing that, without taking its answer. Pages
//! that may be large are written on other threads, a few at a time.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::Admin;
use crate::answer::Answer;
use crate::body::AnswerBody;
use crate::pages::{Ask, Page, page};
use crate::places::{Place, Places};

/// For a request head to be complete, and for the next one to begin.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For an answer to be taken.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection ends after the request that it has then, so that none holds its place for ever.
const CONNECTION_AGE: Duration = Duration::from_secs(300);
/// For the request in flight when a connection is to end.
const GRACE: Duration = Duration::from_secs(5);
/// Most bytes of a request head.
const MAX_HEAD: usize = 16 * 1024;
/// After a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Large answers that are made or being taken at once.
pub(crate) const MAX_DUMPS: usize = 4;
/// Scrapes of the metrics at once. Apart from the others, so that those cannot keep them out.
const MAX_SCRAPES: usize = 4;
/// For one of the answers before it to be taken.
const DUMP_PATIENCE: Duration = Duration::from_secs(5);

/// What all connections share.
struct Desk {
    admin: Admin,
    dumps: Arc<Semaphore>,
    scrapes: Arc<Semaphore>,
}

/// Serves the admin interface on `listener` until `stop` is done, then finishes what is in flight, for a
/// few seconds at most.
///
/// Bodies of requests are ignored. Errors of single connections are theirs alone; none ends this.
pub async fn serve(listener: TcpListener, admin: Admin, stop: impl Future<Output = ()>) -> io::Result<()> {
    let places = Places::new(admin.max_connections);
    let desk = Arc::new(Desk {
        admin,
        dumps: Arc::new(Semaphore::new(MAX_DUMPS)),
        scrapes: Arc::new(Semaphore::new(MAX_SCRAPES)),
    });
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let stream = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            stream = accept(&listener, &places) => stream,
        };
        let place = places.take();
        connections.spawn(converse(stream, Arc::clone(&desk), place, stopped.clone()));
    }
    drop(listener);
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// The next connection. Where there is no descriptor for it, the connection that has waited longest gives
/// up its own.
async fn accept(listener: &TcpListener, places: &Arc<Places>) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                places.give_up_one();
                tracing::warn!("the admin interface cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the requests of one connection until either side has enough.
async fn converse(stream: TcpStream, desk: Arc<Desk>, place: Place, mut stopped: watch::Receiver<bool>) {
    let place = Arc::new(place);
    let of_requests = Arc::clone(&place);
    let service = service_fn(move |request: Request<Incoming>| {
        let (desk, place) = (Arc::clone(&desk), Arc::clone(&of_requests));
        async move {
            place.answers();
            Ok::<Response<AnswerBody>, Infallible>(desk.answer(&request, place).await)
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        // What goes wrong on the wire is the client's affair.
        _ = connection.as_mut() => return,
        () = place.given_up() => return,
        () = place.overdue(ANSWER_TIMEOUT) => return,
        _ = stopped.wait_for(|stopping| *stopping) => {}
        () = tokio::time::sleep(CONNECTION_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(GRACE, connection).await;
}

impl Desk {
    async fn answer(self: Arc<Self>, request: &Request<Incoming>, place: Arc<Place>) -> Response<AnswerBody> {
        let page = match page(&self.admin, request) {
            Ok(page) => page,
            Err(refusal) => return refusal.into_response(place, None),
        };
        let gate = match page.ask {
            Ask::Health => return page.answer(&self.admin).into_response(place, None),
            Ask::Metrics => &self.scrapes,
            Ask::Dump => &self.dumps,
        };
        let permit = tokio::time::timeout(DUMP_PATIENCE, Arc::clone(gate).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return page.busy().into_response(place, None);
        };
        let desk = Arc::clone(&self);
        // It may take long, and nobody else's answer waits for it.
        let made = tokio::task::spawn_blocking(move || page.answer(&desk.admin)).await;
        made.unwrap_or_else(|_| Answer::failed())
            .into_response(place, Some(permit))
    }
}

/// A page that is asked for is passed to another thread.
const _: fn() = || {
    fn sent<T: Send + 'static>() {}
    sent::<Page>();
};
