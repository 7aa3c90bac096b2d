//! The socket: few connections, short waits, nothing read but heads.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::Admin;
use crate::pages::answer;

/// More clients than that wait in the listen queue.
const MAX_CONNECTIONS: usize = 64;
/// For a request head to be complete, and for the next one to begin.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection ends after the request that it has then, so that none holds its place for ever.
const CONNECTION_AGE: Duration = Duration::from_secs(300);
/// For the request in flight when a connection is to end.
const GRACE: Duration = Duration::from_secs(5);
/// Most bytes of a request head.
const MAX_HEAD: usize = 16 * 1024;
/// After a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves the admin interface on `listener` until `stop` is done, then finishes what is in flight, for a
/// few seconds at most.
///
/// Bodies of requests are ignored. Errors of single connections are theirs alone; none ends this.
pub async fn serve(listener: TcpListener, admin: Admin, stop: impl Future<Output = ()>) -> io::Result<()> {
    let admin = Arc::new(admin);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { break };
        let connection = converse(stream, Arc::clone(&admin), stopped.clone());
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// The next connection and its place; none when there are no places to be had any more.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, place)),
            Err(error) => {
                tracing::warn!("the admin interface cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the requests of one connection until either side has enough.
async fn converse(stream: TcpStream, admin: Arc<Admin>, mut stopped: watch::Receiver<bool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&admin, request.method(), request.uri()).into_response();
        async { Ok::<Response<Full<Bytes>>, Infallible>(response) }
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
        _ = stopped.wait_for(|stopping| *stopping) => {}
        () = tokio::time::sleep(CONNECTION_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(GRACE, connection).await;
}
