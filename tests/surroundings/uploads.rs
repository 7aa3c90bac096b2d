//! Clients that begin to send a body and do not go on.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::body::{Body, Frame};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::program::{Gateway, Running, mapping, nuncio};

/// Uploads of one client that stand still: more than an upstream has connections.
const CONNECTIONS: usize = 6;
const STREAMS: usize = 200;
/// Bytes that come of each at once.
const BEGINNING: usize = 16 * 1024;

/// A body of which this comes, and no more.
struct Stalled(Option<Bytes>);

impl Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(beginning) => Poll::Ready(Some(Ok(Frame::data(beginning)))),
            None => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn stalled_uploads_do_not_take_an_upstream_from_others() {
    let mut upstream = Running::start(nuncio(["echo", "--listen", "127.0.0.1:0"]));
    let address = upstream
        .printed("the address", |line| line.rsplit('/').next().map(str::to_owned))
        .await;
    let gateway = Gateway::start(mapping("m", "/", &format!("http://{address}"), &[])).await;
    let mut uploads = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(gateway.address).await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        for _ in 0..STREAMS {
            let mut sender: http2::SendRequest<Stalled> = sender.clone();
            let uri = format!("http://{}/", gateway.address);
            let request = Request::post(uri)
                .body(Stalled(Some(vec![b'a'; BEGINNING].into())))
                .unwrap();
            uploads.spawn(async move {
                sender.ready().await.unwrap();
                let answer = sender.send_request(request).await;
                answer.map(|answer| (answer.status(), answer.headers().contains_key("x-nuncio-reason")))
            });
        }
    }
    // Those that come when all connections are taken, and none of the others is slow yet, get that answer at once.
    let overflow = uploads.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(overflow, (StatusCode::SERVICE_UNAVAILABLE, true));
    gateway.get_until("/", |answer| answer.status == 200).await;
    let mut spared = 0;
    while spared == 0 {
        let answer = uploads.join_next().await.unwrap().unwrap().unwrap();
        spared += usize::from(answer == (StatusCode::REQUEST_TIMEOUT, false));
    }
    let log = gateway.program.stdout();
    let spared = log.iter().find(|line| line.contains("\"status\":408")).unwrap();
    assert!(
        spared.contains("\"flags\":\"SI\"") && spared.contains("bytes a second"),
        "{spared}"
    );
}
