//! Rows R10 and R11: what becomes of connections when addresses change.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio_rustls::TlsStream;

use crate::support::certificates::{Certificates, Identity};
use crate::support::client::{Client, Response};
use crate::support::peer::{Connection, Tapped, Tls, Upstream};
use crate::support::program::{Gateway, mapping, tls_context};
use crate::support::waiting::eventually;

/// A Service of this name with port 443.
fn service(name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - {{port: 443}}\n"
    )
}

/// An EndpointSlice of a Service with one pod.
pub(super) fn slice(service: &str, name: &str, pod: &Upstream) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {service}-{name}\n  \
         labels: {{kubernetes.io/service-name: {service}}}\naddressType: IPv4\nports:\n- {{port: {}}}\n\
         endpoints:\n- addresses: [{}]\n  conditions: {{ready: true}}\n",
        pod.address.port(),
        pod.address.ip()
    )
}

/// Server names of the connections that were asked for something.
fn names_asked(upstream: &Upstream) -> Vec<(String, String)> {
    let asked = |connection: &Connection| {
        let name = connection.hello.as_ref()?.sni.clone()?;
        let authorities = connection
            .requests
            .iter()
            .map(|request| (name.clone(), request.authority()));
        Some(authorities.collect::<Vec<_>>())
    };
    upstream.look(|all| all.iter().filter_map(asked).flatten().collect())
}

#[tokio::test]
async fn r10_two_names_of_one_address_share_no_connection_and_no_ticket() {
    for alpn in ["h2", "http/1.1"] {
        let ca = Certificates::new();
        let upstream = Tls::with(&ca.server(&["a.test", "b.test"]))
            .alpn(&[alpn])
            .start()
            .await;
        let alpn = format!("alpn_protocols: {alpn}");
        let manifests = tls_context("ctx", &["ca_secret: ca", "verify: {mode: full}", &alpn])
            + &mapping(
                "a",
                "/a/",
                "https://a.test",
                &["tls: ctx", "host_rewrite: a.test"],
            )
            + &mapping(
                "b",
                "/b/",
                "https://b.test",
                &["tls: ctx", "host_rewrite: b.test"],
            )
            + &ca.secret("ca");
        let plan = Gateway::with(manifests).resolve("a.test:443", upstream.address);
        let gateway = plan.resolve("b.test:443", upstream.address).start().await;
        for path in ["/a/", "/b/", "/a/", "/b/"] {
            gateway.get(path).await.assert_ok();
        }
        let asked = names_asked(&upstream);
        assert_eq!(asked.len(), 4);
        assert!(
            asked.iter().all(|(name, authority)| name == authority),
            "{asked:?}"
        );
        let connections = upstream.connections();
        assert_eq!(connections.len(), 2, "{connections:#?}");
        assert!(
            connections
                .iter()
                .all(|connection| !connection.session.as_ref().unwrap().resumed)
        );
    }
}

/// The addresses of two pods change places between two Services.
#[tokio::test]
async fn r10_an_address_that_passes_to_another_service_brings_nothing_along() {
    for alpn in ["h2", "http/1.1"] {
        let ca = Certificates::new();
        let identity = ca.server(&["a", "b"]);
        let pod = || Tls::with(&identity).alpn(&[alpn]).start();
        let (one, other) = (pod().await, pod().await);
        let alpn = format!("alpn_protocols: {alpn}");
        let manifests = tls_context("ctx", &["ca_secret: ca", "verify: {mode: full}", &alpn])
            + &mapping("a", "/a/", "https://a", &["tls: ctx", "host_rewrite: a"])
            + &mapping("b", "/b/", "https://b", &["tls: ctx", "host_rewrite: b"])
            + &(service("a") + &service("b"))
            + &ca.secret("ca");
        let pods = |a, b| slice("a", "pod", a) + &slice("b", "pod", b);
        let plan = Gateway::with(manifests).file("pods.yaml", &pods(&one, &other));
        let gateway = plan.start().await;
        gateway.get("/a/").await.assert_ok();
        gateway.get("/b/").await.assert_ok();

        gateway.write("pods.yaml", &pods(&other, &one));
        for pod in [&one, &other] {
            pod.saw("the idle connection closes", |connection| connection.closed)
                .await;
        }
        for path in ["/a/", "/b/", "/a/", "/b/"] {
            gateway.get(path).await.assert_ok();
        }
        for (pod, before, after) in [(&one, "a", "b"), (&other, "b", "a")] {
            let pair = |name: &str| (name.to_owned(), name.to_owned());
            assert_eq!(names_asked(pod), [pair(before), pair(after), pair(after)]);
            let connections = pod.connections();
            assert_eq!(connections.len(), 2, "{connections:#?}");
            let resumed = connections[1].session.as_ref().unwrap().resumed;
            assert!(!resumed, "no ticket of the other name");
        }
    }
}

/// What came of each connection of a pod: whether it said good-bye, and how its socket ended.
type Ends = Arc<Mutex<Vec<(bool, Result<(), io::ErrorKind>)>>>;

/// A pod that answers with its name, to `/slow` only when it may.
struct Pod {
    upstream: Upstream,
    ends: Ends,
    slow: watch::Receiver<usize>,
    go: watch::Sender<bool>,
}

impl Pod {
    async fn new(identity: &Identity, name: &'static str) -> Self {
        let ends = Ends::default();
        let (asked, slow) = watch::channel(0);
        let (go, wait) = watch::channel(false);
        let kept = Arc::clone(&ends);
        let upstream = Tls::with(identity)
            .alpn(&["http/1.1"])
            .start_with(move |mut stream, _| {
                let (ends, asked, wait) = (Arc::clone(&kept), asked.clone(), wait.clone());
                async move {
                    let said = serve(&mut stream, name, asked, wait).await;
                    // After the last word nothing follows but the end of the socket.
                    let end = match stream {
                        TlsStream::Server(stream) => stream.into_inner().0,
                        TlsStream::Client(_) => return,
                    };
                    let end = { end }.read(&mut [0]).await.map_err(|error| error.kind());
                    ends.lock()
                        .unwrap()
                        .push((said, end.map(|read| assert_eq!(read, 0))));
                }
            });
        Self {
            upstream: upstream.await,
            ends,
            slow,
            go,
        }
    }

    /// Waits until so many connections are over, and each of them well.
    async fn ended_well(&self, connections: usize) {
        eventually("the connections close", async || {
            (self.ends.lock().unwrap().len() >= connections).then_some(())
        })
        .await;
        let ends = self.ends.lock().unwrap().clone();
        assert_eq!(
            ends,
            vec![(true, Ok(())); connections],
            "close_notify, FIN and no reset"
        );
    }
}

/// Answers until the gateway ends the connection; says whether it did so with a close_notify.
async fn serve(
    stream: &mut TlsStream<Tapped>,
    name: &str,
    asked: watch::Sender<usize>,
    mut wait: watch::Receiver<bool>,
) -> bool {
    let mut head = Vec::new();
    loop {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => {
                // read_u8 tells every end as an error; reading again tells them apart.
                return head.is_empty() && matches!(stream.read(&mut [0]).await, Ok(0));
            }
        }
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        if head.starts_with(b"GET /slow") {
            asked.send_modify(|asked| *asked += 1);
            wait.wait_for(|go| *go).await.unwrap();
        }
        head.clear();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn r11_an_endpoint_that_goes_is_drained_and_one_that_comes_is_asked() {
    let ca = Certificates::new();
    let identity = ca.server(&["svc"]);
    let mut one = Pod::new(&identity, "one").await;
    let other = Pod::new(&identity, "other").await;
    let manifests = tls_context("ctx", &["ca_secret: ca", "verify: {mode: full}"])
        + &mapping(
            "m",
            "/",
            "https://svc",
            &["tls: ctx", "rewrite: \"\"", "timeout_ms: 0"],
        )
        + &service("svc")
        + &ca.secret("ca");
    let plan = Gateway::with(manifests).file("one.yaml", &slice("svc", "one", &one.upstream));
    let gateway = plan.start().await;
    // One connection is busy, one idle.
    let mut client = Client::http1(gateway.address).await;
    let slow = tokio::spawn(async move { client.get("a", "/slow").await });
    one.slow.wait_for(|asked| *asked == 1).await.unwrap();
    assert_eq!(gateway.get("/").await.text(), "one");
    assert_eq!(one.upstream.connections().len(), 2);

    gateway.write("other.yaml", &slice("svc", "other", &other.upstream));
    let asked = |name: &'static str| move |answer: &Response| answer.text() == name;
    gateway.get_until("/", asked("other")).await;
    gateway.get_until("/", asked("one")).await;

    // Nobody asks for anything while what is idle closes.
    gateway.remove("one.yaml");
    one.ended_well(1).await;
    assert!(!slow.is_finished());
    for _ in 0..4 {
        assert_eq!(gateway.get("/").await.text(), "other");
    }
    one.go.send(true).unwrap();
    let answer = slow.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "one"));
    one.ended_well(2).await;
    assert_eq!(one.upstream.connections().len(), 2);

    // The last one goes as well, and comes back.
    gateway.remove("other.yaml");
    other.ended_well(1).await;
    let nobody = gateway.get("/").await;
    assert_eq!((nobody.status.as_u16(), nobody.reason()), (503, "no_endpoints"));
    gateway.write("other.yaml", &slice("svc", "other", &other.upstream));
    gateway.get_until("/", asked("other")).await;
}
