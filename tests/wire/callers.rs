//! Both ends of an exchange in either version of HTTP, step by step.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::socket::message;
use super::versions::{http2, http2_upstream, to, whole};
use crate::support::peer::{Upstream, read_head};
use crate::support::program::{Gateway, mapping};
use crate::support::waiting::eventually;

/// The content of requests.
pub const CONTENT: &str = "body";

/// Name and value of each field, in alphabetical order.
type Fields = Vec<(String, String)>;

/// What an upstream does with a request, in order.
#[derive(Clone, Copy)]
pub enum Step {
    /// An interim answer, so many times.
    Interim(u16, &'static [(&'static str, &'static str)], usize),
    /// Waits until it is told to go on.
    Wait,
    /// Reads the content, and notes it.
    Content,
    Answer(u16, &'static str),
}

/// An upstream that takes the same steps with each request.
pub struct Stepwise {
    pub upstream: Upstream,
    go_on: watch::Sender<bool>,
    notes: Arc<Mutex<Vec<String>>>,
    http2: bool,
}

impl Stepwise {
    pub async fn start(http2: bool, steps: &'static [Step]) -> Self {
        let (go_on, told) = watch::channel(false);
        let notes = Arc::<Mutex<Vec<String>>>::default();
        let side = Side {
            steps,
            told,
            notes: Arc::clone(&notes),
        };
        let upstream = if http2 {
            http2_upstream(move |request, respond| side.clone().serve_http2(request, respond)).await
        } else {
            Upstream::raw(move |stream| side.clone().serve_http1(stream)).await
        };
        Self {
            upstream,
            go_on,
            notes,
            http2,
        }
    }

    /// A gateway that speaks the upstream's version with it.
    pub async fn gateway(&self) -> Gateway {
        let version = if self.http2 { "grpc: true" } else { "grpc: false" };
        let service = format!("http://{}", self.upstream.address);
        Gateway::start(mapping("m", "/", &service, &["rewrite: \"\"", version])).await
    }

    pub fn go_on(&self) {
        self.go_on.send_replace(true);
    }

    /// What it noted, once there is as much.
    pub async fn notes(&self, count: usize) -> Vec<String> {
        eventually("notes", async || {
            let notes = self.notes.lock().unwrap().clone();
            (notes.len() >= count).then_some(notes)
        })
        .await
    }
}

/// The upstream's end of the exchanges.
#[derive(Clone)]
struct Side {
    steps: &'static [Step],
    told: watch::Receiver<bool>,
    notes: Arc<Mutex<Vec<String>>>,
}

impl Side {
    fn note(&self, note: impl Into<String>) {
        self.notes.lock().unwrap().push(note.into());
    }

    async fn serve_http1(mut self, mut stream: TcpStream) {
        loop {
            let head = read_head(&mut stream).await;
            if head.is_empty() {
                return;
            }
            let expects = head.lines().find_map(|line| line.strip_prefix("expect: "));
            self.note(format!("expect {}", expects.unwrap_or("nothing")));
            for step in self.steps {
                let text = match step {
                    Step::Interim(status, fields, times) => {
                        let lines: String = fields.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
                        format!("HTTP/1.1 {status} Interim\r\n{lines}\r\n").repeat(*times)
                    }
                    Step::Answer(status, body) => {
                        let length = body.len();
                        format!("HTTP/1.1 {status} Final\r\ncontent-length: {length}\r\n\r\n{body}")
                    }
                    Step::Wait => {
                        self.told.wait_for(|told| *told).await.unwrap();
                        continue;
                    }
                    Step::Content => {
                        let mut content = [0; CONTENT.len()];
                        match stream.read_exact(&mut content).await {
                            Ok(_) => self.note(String::from_utf8_lossy(&content)),
                            Err(_) => return self.note("no content"),
                        }
                        continue;
                    }
                };
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        }
    }

    async fn serve_http2(mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let expects = request
            .headers()
            .get("expect")
            .map(|value| value.to_str().unwrap());
        self.note(format!("expect {}", expects.unwrap_or("nothing")));
        let mut content = request.into_body();
        for step in self.steps {
            match *step {
                Step::Interim(status, fields, times) => {
                    for _ in 0..times {
                        let mut interim = Response::builder().status(status);
                        for (name, value) in fields {
                            interim = interim.header(*name, *value);
                        }
                        respond.send_informational(interim.body(()).unwrap()).unwrap();
                    }
                }
                Step::Answer(status, body) => {
                    let head = Response::builder().status(status).body(()).unwrap();
                    let mut sending = respond.send_response(head, false).unwrap();
                    sending.send_data(body.into(), true).unwrap();
                }
                Step::Wait => drop(self.told.wait_for(|told| *told).await.unwrap()),
                Step::Content => match content.data().await {
                    Some(Ok(data)) => self.note(String::from_utf8_lossy(&data)),
                    _ => self.note("no content"),
                },
            }
        }
    }
}

/// The client's end of one exchange.
pub enum Caller {
    Http1(TcpStream),
    Http2(ResponseFuture, SendStream<Bytes>),
}

impl Caller {
    /// Asks for `/`.
    pub async fn get(gateway: &Gateway, over_http2: bool) -> Self {
        if over_http2 {
            let request = to(Method::GET, "/").body(()).unwrap();
            let (response, stream) = http2(gateway).await.send_request(request, true).unwrap();
            return Self::Http2(response, stream);
        }
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let head = "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        Self::Http1(stream)
    }

    /// Asks for permission to send [`CONTENT`].
    pub async fn expecting(gateway: &Gateway, over_http2: bool) -> Self {
        if over_http2 {
            let request = to(Method::POST, "/").header("content-length", CONTENT.len());
            let request = request.header("expect", "100-continue").body(()).unwrap();
            let (response, stream) = http2(gateway).await.send_request(request, false).unwrap();
            return Self::Http2(response, stream);
        }
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let head = "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        Self::Http1(stream)
    }

    /// The next interim answer; none where HTTP/2 has the final one.
    pub async fn interim(&mut self) -> Option<(u16, Fields)> {
        let (status, mut fields): (u16, Fields) = match self {
            Self::Http1(stream) => {
                let head = read_head(stream).await;
                let mut lines = head.lines().filter(|line| !line.is_empty());
                let status = lines.next().unwrap().split(' ').nth(1).unwrap();
                let fields = lines.filter_map(|line| line.split_once(": "));
                let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                (status.parse().unwrap(), fields.map(owned).collect())
            }
            Self::Http2(response, _) => {
                let interim = std::future::poll_fn(|cx| response.poll_informational(cx));
                let (head, ()) = interim.await?.unwrap().into_parts();
                let owned = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                    (name.to_string(), value.to_str().unwrap().to_owned())
                };
                (head.status.as_u16(), head.headers.iter().map(owned).collect())
            }
        };
        fields.sort();
        Some((status, fields))
    }

    /// Sends all of [`CONTENT`].
    pub async fn send(&mut self) {
        match self {
            Self::Http1(stream) => stream.write_all(CONTENT.as_bytes()).await.unwrap(),
            Self::Http2(_, stream) => stream.send_data(CONTENT.into(), true).unwrap(),
        }
    }

    /// Status and body of the final answer.
    pub async fn answer(&mut self) -> (u16, String) {
        match self {
            Self::Http1(stream) => {
                let answer = message(stream).await.expect("an answer");
                let status = answer.first_line().split(' ').nth(1).unwrap();
                (status.parse().unwrap(), answer.body)
            }
            Self::Http2(response, _) => {
                let answer = whole(response.await.unwrap()).await;
                (answer.status.as_u16(), answer.text().to_owned())
            }
        }
    }

    /// Waits until the gateway lets it know that the content is not wanted any more.
    pub async fn refused_content(self) {
        match self {
            Self::Http1(mut stream) => assert!(message(&mut stream).await.is_none(), "nothing can follow"),
            Self::Http2(_, mut stream) => {
                let reset = std::future::poll_fn(|cx| stream.poll_reset(cx));
                assert_eq!(reset.await.unwrap(), Reason::NO_ERROR);
            }
        }
    }
}
