//! Rows R3 and R4: what runs while a certificate changes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{originating, shows};
use crate::support::certificates::{Certificates, Identity};
use crate::support::client::Client;
use crate::support::peer::{Tls, Upstream};
use crate::support::program::Gateway;
use crate::support::waiting::{PATIENCE, eventually};

/// A body that is poured out bit by bit; it ends when the sender is dropped.
struct Poured(mpsc::UnboundedReceiver<Bytes>);

impl Body for Poured {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(cx);
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// An upstream that wants a client certificate and a gateway in front of it, whose certificate will change.
struct World {
    ca: Certificates,
    upstream: Upstream,
    gateway: Gateway,
    old: Identity,
}

impl World {
    /// What a connection that is retired still does may take `drain` seconds.
    async fn new(alpn: &'static str, drain: u32) -> Self {
        let ca = Certificates::new();
        let tls = Tls::with(&ca.server(&["a.test"])).client_ca(&ca.pem(), true);
        let upstream = echoing(tls.alpn(&[alpn])).await;
        let alpn = format!("alpn_protocols: {alpn}");
        let lines = ["timeout_ms: 0", "rewrite: \"\""];
        let old = ca.client("old");
        let plan = originating(&upstream, &lines, &["secret: me", &alpn])
            .file("secret.yaml", &old.secret("me"))
            .args(&["--drain-time", &drain.to_string()]);
        let gateway = plan.start().await;
        Self {
            ca,
            upstream,
            gateway,
            old,
        }
    }

    /// Changes the certificate and waits until a request was answered under the new one.
    async fn rotate(&self) -> Identity {
        let new = self.ca.client("new");
        self.gateway.write("secret.yaml", &new.secret("me"));
        eventually("the new certificate", async || {
            self.gateway.get("/quick").await.assert_ok();
            shows(&self.upstream.last(), &new).then_some(())
        })
        .await;
        new
    }

    /// Waits until the connection of the old certificate that was there first is closed.
    async fn old_is_closed(&self) {
        eventually("the old connection closes", async || {
            self.upstream.look(|all| all[0].closed).then_some(())
        })
        .await;
    }
}

/// An upstream that answers to `/echo` with the body of the request as it comes, to anything else with `ok`.
pub(super) async fn echoing(tls: Tls) -> Upstream {
    tls.start_with(async |stream, _| {
        let service = service_fn(async |request| Ok::<_, Infallible>(answer(request)));
        let server = auto::Builder::new(TokioExecutor::new());
        // How the connection ends is the gateway's business.
        let _ = server.serve_connection(TokioIo::new(stream), service).await;
    })
    .await
}

fn answer(request: Request<Incoming>) -> Response<BoxBody<Bytes, hyper::Error>> {
    let body = match request.uri().path() {
        "/echo" => request.into_body().boxed(),
        _ => http_body_util::Full::from("ok")
            .map_err(|never| match never {})
            .boxed(),
    };
    Response::builder()
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap()
}

/// A request that goes on, and its answer.
pub(super) struct Talk {
    say: mpsc::UnboundedSender<Bytes>,
    body: Incoming,
}

impl Talk {
    /// Begins one by HTTP/2, as gRPC clients do.
    pub(super) async fn begin(gateway: &Gateway) -> Self {
        Self::begin_with(gateway, "application/grpc").await
    }

    async fn begin_with(gateway: &Gateway, content_type: &str) -> Self {
        let stream = TcpStream::connect(gateway.address).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let (say, poured) = mpsc::unbounded_channel();
        let request = Request::post("http://a/echo")
            .header("content-type", content_type)
            .header("te", "trailers")
            .body(Poured(poured));
        let response = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        Self {
            say,
            body: response.into_body(),
        }
    }

    /// Says something and hears it.
    pub(super) async fn echoes(&mut self, text: &'static str) {
        self.say.send(Bytes::from(text)).unwrap();
        let mut heard = Vec::new();
        while heard.len() < text.len() {
            let frame = self.next().await.expect("it is over").expect("it broke off");
            heard.extend(frame.into_data().unwrap());
        }
        assert_eq!(heard, text.as_bytes());
    }

    async fn next(&mut self) -> Option<hyper::Result<Frame<Bytes>>> {
        let next = tokio::time::timeout(PATIENCE, self.body.frame());
        next.await.expect("nothing comes")
    }

    /// Waits until it breaks off.
    pub(super) async fn breaks_off(&mut self) {
        match self.next().await {
            Some(Err(_)) => {}
            other => panic!("no error: {other:?}"),
        }
    }
}

/// The upstream offers both versions, so a copy of the request is kept to fall back with. It must not take the
/// body away from the request that was answered.
#[tokio::test]
async fn a_stream_that_is_answered_before_its_body_goes_on() {
    let ca = Certificates::new();
    let upstream = echoing(Tls::with(&ca.server(&["a.test"])).alpn(&["h2", "http/1.1"])).await;
    let context = ["alpn_protocols: h2,http/1.1"];
    let plan = originating(&upstream, &["timeout_ms: 0", "rewrite: \"\""], &context);
    let gateway = plan.start().await;
    let mut talk = Talk::begin_with(&gateway, "text/plain").await;
    talk.echoes("one").await;
    talk.echoes("two").await;
}

/// A call of gRPC in both directions, and a download by HTTP/1.1 that is also an upload.
#[tokio::test]
async fn r3_streams_outlive_a_rotation() {
    for alpn in ["h2", "http/1.1"] {
        let world = World::new(alpn, 600).await;
        let mut talk = Talk::begin(&world.gateway).await;
        talk.echoes("before").await;
        let new = world.rotate().await;
        talk.echoes("after").await;
        let asked = world.upstream.connections();
        assert!(shows(&asked[0], &world.old) && !asked[0].closed, "{alpn}");
        assert!(
            asked[1..].iter().any(|connection| shows(connection, &new)),
            "{alpn}"
        );

        let Talk { say, body } = talk;
        drop(say);
        let rest = body.collect().await;
        assert!(
            rest.unwrap().to_bytes().is_empty(),
            "{alpn}: it ends as it should"
        );
        world.old_is_closed().await;
    }
}

#[tokio::test]
async fn r3_streams_of_an_old_certificate_end_with_the_drain_time() {
    for alpn in ["h2", "http/1.1"] {
        let world = World::new(alpn, 1).await;
        let mut talk = Talk::begin(&world.gateway).await;
        talk.echoes("before").await;
        let written = Instant::now();
        world.rotate().await;
        talk.breaks_off().await;
        assert!(
            written.elapsed() >= Duration::from_secs(1),
            "{alpn}: it had its time"
        );
        world.old_is_closed().await;
        world.gateway.get("/quick").await.assert_ok();
        let entry = world.gateway.access_log("/echo").await;
        assert_eq!(entry["status"], 200, "{entry:#}");
    }
}

#[tokio::test]
async fn r4_nothing_new_joins_a_connection_of_an_old_certificate() {
    let world = World::new("h2", 600).await;
    let mut talk = Talk::begin(&world.gateway).await;
    talk.echoes("before").await;
    world.gateway.get("/quick").await.assert_ok();
    assert_eq!(world.upstream.connections().len(), 1, "they share one connection");
    let new = world.rotate().await;
    talk.echoes("after").await;
    let mut client = Client::http2(world.gateway.address).await;
    for _ in 0..10 {
        client.get("a", "/quick").await.assert_ok();
    }
    let connections = world.upstream.connections();
    assert_eq!(connections.len(), 2, "{connections:#?}");
    assert!(shows(&connections[0], &world.old) && shows(&connections[1], &new));
    assert!(!connections[0].closed, "it is busy");
}

/// With a stream that never ends.
#[tokio::test]
async fn r4_a_busy_connection_of_an_old_certificate_closes_with_the_drain_time() {
    let world = World::new("h2", 1).await;
    let mut talks = vec![
        Talk::begin(&world.gateway).await,
        Talk::begin(&world.gateway).await,
    ];
    for talk in &mut talks {
        talk.echoes("before").await;
    }
    assert_eq!(world.upstream.connections().len(), 1, "they share one connection");
    world.rotate().await;
    for talk in &mut talks {
        talk.breaks_off().await;
    }
    world.old_is_closed().await;
    world.gateway.get("/quick").await.assert_ok();
    let (active, idle) = connections_of(&world.gateway).await;
    assert_eq!((active, idle), (0.0, 1.0), "none of the old ones is counted");
}

async fn connections_of(gateway: &Gateway) -> (f64, f64) {
    let count = async |state| {
        gateway
            .count("nuncio_upstream_connections", &[("state", state)])
            .await
    };
    (count("active").await, count("idle").await)
}
