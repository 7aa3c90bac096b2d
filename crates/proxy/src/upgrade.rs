//! Connections that change their protocol: from then on, bytes both ways.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use nuncio_model::{HeaderEdits, Settings};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use crate::body::ResponseBody;
use crate::exchange::Exchange;
use crate::headers;
use crate::incoming::Incoming;
use crate::patience::STREAM_IDLE;
use crate::request::finish_head;
use crate::upstream::pool::Lease;

/// Sends the upstream's 101 on and connects the two sides once it is out. The exchange lasts as
/// long as they are connected.
pub(crate) fn relay(
    mut response: Response<Incoming>,
    lease: Lease,
    client: OnUpgrade,
    edits: &HeaderEdits,
    mut exchange: Box<Exchange>,
    settings: &Settings,
) -> Response<ResponseBody> {
    let upstream = hyper::upgrade::on(&mut response);
    let protocol = response.headers().get(http::header::UPGRADE).cloned();
    let (mut parts, _) = response.into_parts();
    headers::sanitise_response(&mut parts.headers);
    if let Some(protocol) = protocol {
        headers::set_upgrade(&mut parts.headers, protocol);
    }
    finish_head(&mut parts.headers, edits, &exchange, settings);
    exchange.status = parts.status.as_u16();
    let (sent, received) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    exchange.bytes_in = Some(Rc::clone(&sent));
    let tunnel = exchange.tunnel();
    // Among the endpoint's connections: it counts as one, and ends with them when their time is over.
    let endpoint = Rc::clone(lease.endpoint());
    endpoint.drive(async move {
        let _lease = lease;
        tokio::select! {
            () = stands_still(Rc::clone(&sent), Rc::clone(&received)) => {}
            () = connect(client, upstream, sent, Rc::clone(&received)) => {}
        }
        exchange.bytes_out = received.get();
        exchange.complete();
        drop(tunnel);
    });
    Response::from_parts(parts, ResponseBody::none())
}

/// Waits until nothing has passed for as long as a stream may stand still.
async fn stands_still(sent: Rc<Cell<u64>>, received: Rc<Cell<u64>>) {
    let mut seen = None;
    while seen != Some((sent.get(), received.get())) {
        seen = Some((sent.get(), received.get()));
        tokio::time::sleep(STREAM_IDLE).await;
    }
}

/// Passes bytes on until both sides have ended, or one has broken off: many do not say good-bye, and that
/// is no failure.
async fn connect(client: OnUpgrade, upstream: OnUpgrade, sent: Rc<Cell<u64>>, received: Rc<Cell<u64>>) {
    let (Ok(upstream), Ok(client)) = (upstream.await, client.await) else {
        return;
    };
    let mut client = Counted {
        io: TokioIo::new(client),
        read: sent,
        written: received,
    };
    let _ = copy_bidirectional(&mut client, &mut TokioIo::new(upstream)).await;
}

/// A client's side, with a count of what passed, which is known however it ends.
struct Counted {
    io: TokioIo<Upgraded>,
    read: Rc<Cell<u64>>,
    written: Rc<Cell<u64>>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        let new = buf.filled().len() - before;
        self.read.set(self.read.get() + new as u64);
        Poll::Ready(result)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.written.set(self.written.get() + n as u64);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
