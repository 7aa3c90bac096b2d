//! Both ends of the gateway by the byte: a client that writes what it is told, and upstreams that
//! answer with what they are told and keep what they were sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::peer::{Upstream, read_head};
use crate::support::program::{Gateway, mapping};
use crate::support::waiting::PATIENCE;

/// Writes `bytes` and reads up to the end of the connection, which must come.
pub async fn raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The gateway may refuse before it has read all.
    let _ = stream.write_all(bytes.as_ref()).await;
    rest(&mut stream).await
}

/// Reads up to the end of the connection, which must come.
pub async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is an end as well.
    let ended = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.is_ok();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(ended, "the connection stays open after {answer:?}");
    answer
}

/// One message as it stood on the wire: head and body, the body without chunk sizes.
#[derive(Clone, Debug)]
pub struct Message {
    pub head: String,
    pub body: String,
}

impl Message {
    /// The header lines, in alphabetical order.
    pub fn headers(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .head
            .lines()
            .skip(1)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    }

    /// The first line.
    pub fn first_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// Values of a header, as they came.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1);
        let pairs = lines.filter_map(|line| line.split_once(": "));
        pairs
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}

/// Reads one message, which must come. None at the end of the connection.
pub async fn message(stream: &mut (impl AsyncRead + Unpin)) -> Option<Message> {
    timeout(PATIENCE, next_message(stream))
        .await
        .expect("no message comes")
}

/// Reads the next message, whenever it comes.
pub async fn next_message(stream: &mut (impl AsyncRead + Unpin)) -> Option<Message> {
    let head = read_head(stream).await;
    if head.is_empty() {
        return None;
    }
    let mut message = Message {
        head,
        body: String::new(),
    };
    if message.values("transfer-encoding") == ["chunked"] {
        message.body = chunks(stream).await;
    } else if let [length] = message.values("content-length")[..] {
        let mut body = vec![0; length.parse().unwrap()];
        // A body that breaks off counts as far as it came.
        let _ = stream.read_exact(&mut body).await;
        message.body = String::from_utf8_lossy(&body).into_owned();
    }
    Some(message)
}

async fn chunks(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut body = String::new();
    loop {
        let line = line(stream).await;
        let Ok(size) = usize::from_str_radix(line.trim_end(), 16) else {
            return body;
        };
        if size == 0 {
            while !matches!(&*self::line(stream).await, "\r\n" | "") {}
            return body;
        }
        let mut chunk = vec![0; size + 2];
        if stream.read_exact(&mut chunk).await.is_err() {
            return body;
        }
        body.push_str(&String::from_utf8_lossy(&chunk[..size]));
    }
}

/// One line with its end.
pub async fn line(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        match stream.read_u8().await {
            Ok(byte) => line.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(line).unwrap()
}

/// An upstream that speaks cleartext by the byte.
pub struct Script {
    pub upstream: Upstream,
    seen: Arc<Mutex<Vec<Message>>>,
}

impl Script {
    /// Answers every request with `answer`, and keeps its connections.
    pub async fn answering(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::each(move |_| (answer.clone(), true)).await
    }

    /// Answers every request with `answer`, and closes.
    pub async fn closing(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::each(move |_| (answer.clone(), false)).await
    }

    /// Answers each request with what `answer` says, and keeps the connection where it says so.
    pub async fn each(answer: impl Fn(&Message) -> (String, bool) + Clone + Send + 'static) -> Self {
        let seen = Arc::<Mutex<Vec<Message>>>::default();
        let kept = Arc::clone(&seen);
        let upstream = Upstream::raw(move |mut stream| {
            let (answer, kept) = (answer.clone(), Arc::clone(&kept));
            async move {
                while let Some(request) = next_message(&mut stream).await {
                    let (bytes, keep) = answer(&request);
                    kept.lock().unwrap().push(request);
                    // The gateway may be gone.
                    let _ = stream.write_all(bytes.as_bytes()).await;
                    if !keep {
                        break;
                    }
                }
            }
        });
        Self {
            upstream: upstream.await,
            seen,
        }
    }

    /// Every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }

    /// The latest request.
    #[track_caller]
    pub fn request(&self) -> Message {
        self.requests().pop().expect("nobody asked for anything")
    }

    /// The text for `service`.
    pub fn service(&self) -> String {
        format!("http://{}", self.upstream.address)
    }

    /// A gateway that sends everything here, as it came; `lines` are further lines of the Mapping.
    pub async fn gateway(&self, lines: &[&str]) -> Gateway {
        Gateway::start(self.mapping(lines)).await
    }

    /// A Mapping `m` that sends everything here, as it came.
    pub fn mapping(&self, lines: &[&str]) -> String {
        let mut all = vec!["rewrite: \"\""];
        all.extend(lines);
        mapping("m", "/", &self.service(), &all)
    }
}

/// A plain answer.
pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
