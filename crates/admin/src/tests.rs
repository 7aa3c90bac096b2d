//! Requests over real sockets, to a snapshot made by hand and a proxy that is none.

mod answers;
mod gateway;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use nuncio_model::Snapshot;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use self::gateway::{FakeProxy, about};
use crate::{Admin, serve};

/// Connections that may be open at once.
const CONNECTIONS: usize = 16;

/// A running admin interface.
struct Served {
    address: SocketAddr,
    snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    proxy: Arc<FakeProxy>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Served {
    /// With this configuration, or none yet.
    async fn new(snapshot: Option<Snapshot>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = watch::channel(snapshot.map(Arc::new));
        let proxy = Arc::new(FakeProxy::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let admin = Admin {
            cluster: None,
            leaving: watch::channel(false).1,
            snapshot: receiver,
            live: proxy.clone(),
            about: about(),
            lost_log_lines: Arc::new(|| 7),
            names: vec!["admin".to_owned()],
            max_connections: CONNECTIONS,
        };
        let task = tokio::spawn(serve(listener, admin, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            snapshot: sender,
            proxy,
            stop,
            task,
        }
    }

    /// With the usual configuration.
    async fn usual() -> Self {
        Self::new(Some(gateway::snapshot())).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of their own and reads until the server closes it.
    async fn send(&self, request: &str) -> Reply {
        let mut stream = self.connect().await;
        let mut bytes = Vec::new();
        // A server that refuses a request need not read it to its end: what counts is what it said.
        let _ = stream.write_all(request.as_bytes()).await;
        let _ = stream.read_to_end(&mut bytes).await;
        Reply::parse(&bytes)
    }

    async fn request(&self, method: &str, target: &str) -> Reply {
        self.send(&format!(
            "{method} {target} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"
        ))
        .await
    }

    async fn get(&self, target: &str) -> Reply {
        self.request("GET", target).await
    }

    async fn json(&self, target: &str) -> Value {
        let reply = self.get(target).await;
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, Some("application/json")),
            "{target}"
        );
        serde_json::from_str(&reply.body).unwrap()
    }
}

/// What came back.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Self {
            status,
            headers,
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| &**value)
    }
}
