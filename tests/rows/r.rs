//! Rotation: rows R. What changes reaches every connection, and no request is lost for it.

mod endpoints;
mod expiry;
mod sessions;
mod streams;
mod trust;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsStream;

use crate::support::certificates::{Certificates, Identity, secret};
use crate::support::client::{Client, request};
use crate::support::peer::{Connection, Tapped, Tls, Upstream};
use crate::support::program::{Gateway, Plan, mapping, tls_context};
use crate::support::waiting::eventually;

/// Clients that ask without a pause, half of them by HTTP/2; every answer must be 200 `ok`.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    clients: JoinSet<()>,
}

impl Load {
    /// On `gateway`, for each of these paths one client.
    fn start(gateway: &Gateway, paths: &[&str]) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            asked: Arc::default(),
            clients: JoinSet::new(),
        };
        for (number, path) in paths.iter().enumerate() {
            let (stop, asked) = (Arc::clone(&load.stop), Arc::clone(&load.asked));
            let (address, path) = (gateway.address, (*path).to_owned());
            load.clients.spawn(async move {
                let mut client = match number % 2 {
                    0 => Client::http1(address).await,
                    _ => Client::http2(address).await,
                };
                while !stop.load(Ordering::Relaxed) {
                    client.get("a", &path).await.assert_ok();
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    /// Waits for something while the load goes on.
    async fn until<T>(&mut self, what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
        eventually(what, async || {
            if let Some(ended) = self.clients.try_join_next() {
                ended.unwrap();
            }
            attempt().await
        })
        .await
    }

    /// Waits until every client has had answers to requests that it sends from now on.
    async fn goes_on(&mut self) {
        let enough = self.asked.load(Ordering::Relaxed) + 10 * self.clients.len();
        let asked = Arc::clone(&self.asked);
        let more = async || (asked.load(Ordering::Relaxed) >= enough).then_some(());
        self.until("more answers", more).await;
    }

    /// Ends it, and fails for any answer that was not right.
    async fn end(mut self, gateway: &Gateway) {
        self.goes_on().await;
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        let metrics = gateway.admin("/metrics").await;
        let failures = "nuncio_upstream_failures_total{";
        assert!(!metrics.text().contains(failures), "{}", metrics.text());
    }
}

/// Cleartext pods of a Service between which its address moves. That the gateway asks the other one tells that
/// it has read its files, and twice that it has also compiled and published what it read the first time,
/// whether or not anything came of it.
struct Beacon {
    pods: [Upstream; 2],
}

impl Beacon {
    async fn new() -> Self {
        Self {
            pods: [Upstream::cleartext().await, Upstream::cleartext().await],
        }
    }

    /// Adds the Service to a gateway.
    fn plan(&self, plan: Plan) -> Plan {
        let service = mapping("beacon", "/beacon/", "http://beacon", &[])
            + "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: beacon\nspec:\n  ports:\n  - {port: 80}\n";
        plan.file("beacon.yaml", &service).file(
            "beacon-pod.yaml",
            &endpoints::slice("beacon", "pod", &self.pods[0]),
        )
    }

    /// Returns when every edit so far has been read, compiled and published.
    async fn settled(&self, gateway: &Gateway) {
        for pod in [&self.pods[1], &self.pods[0]] {
            gateway.write("beacon-pod.yaml", &endpoints::slice("beacon", "pod", pod));
            let before = pod.requests().len();
            eventually("the beacon has moved", async || {
                gateway.get("/beacon/").await.assert_ok();
                (pod.requests().len() > before).then_some(())
            })
            .await;
        }
    }
}

/// The revision that is published.
async fn revision(gateway: &Gateway) -> String {
    let metrics = gateway.admin("/metrics").await;
    let line = metrics
        .text()
        .lines()
        .find(|line| line.starts_with("nuncio_config_revision "));
    line.unwrap().to_owned()
}

/// A Mapping to `https://a.test` with the TLSContext `ctx`, which is `upstream`.
fn originating(upstream: &Upstream, mapping_lines: &[&str], context: &[&str]) -> Plan {
    super::origination(upstream, mapping_lines, context)
}

/// Whether a connection shows this client certificate.
fn shows(connection: &Connection, client: &Identity) -> bool {
    let shown = connection
        .session
        .as_ref()
        .and_then(|session| session.client.as_ref());
    shown.is_some_and(|shown| *shown == client.chain_der()[0].as_ref())
}

#[tokio::test]
async fn r1_a_client_certificate_that_rotates_under_load_costs_no_request() {
    for alpn in ["h2", "http/1.1"] {
        let ca = Certificates::new();
        let upstream = Tls::with(&ca.server(&["a.test"]))
            .client_ca(&ca.pem(), true)
            .alpn(&[alpn])
            .start()
            .await;
        let alpn = format!("alpn_protocols: {alpn}");
        let plan = originating(&upstream, &[], &["secret: me", "ca_secret: ca", &alpn])
            .file("ca.yaml", &ca.secret("ca"))
            .file("secret.yaml", &ca.client("first").secret("me"))
            .args(&["--workers", "2"]);
        let gateway = plan.start().await;
        let mut load = Load::start(&gateway, &["/"; 4]);
        for number in 0..10 {
            let client = ca.client(&format!("client {number}"));
            gateway.write("secret.yaml", &client.secret("me"));
            let asked =
                |connection: &Connection| shows(connection, &client) && !connection.requests.is_empty();
            load.until("requests under the new certificate", async || {
                upstream.look(|all| all.iter().any(asked)).then_some(())
            })
            .await;
        }
        load.end(&gateway).await;
        eventually("what showed an old certificate is closed", async || {
            upstream.look(|all| {
                let last = all.last()?.session.as_ref()?.client.clone()?;
                let open = all.iter().filter(|connection| !connection.closed);
                let mut shown = open.filter_map(|connection| connection.session.as_ref()?.client.as_ref());
                shown.all(|shown| *shown == last).then_some(())
            })
        })
        .await;
    }
}

/// A certificate and its key that are written one after the other, as two patches of one Secret are.
#[tokio::test]
async fn k8_updates_in_two_steps_cost_no_request_under_load() {
    let ca = Certificates::new();
    let tls = Tls::with(&ca.server(&["a.test"])).client_ca(&ca.pem(), true);
    let upstream = tls.start().await;
    let mut current = ca.client("first");
    let plan = originating(&upstream, &[], &["secret: me"]);
    let gateway = plan.file("secret.yaml", &current.secret("me")).start().await;
    let mut load = Load::start(&gateway, &["/"; 4]);
    load.goes_on().await;
    for number in 0..5 {
        let next = ca.client(&format!("client {number}"));
        let half = Identity {
            chain: next.chain.clone(),
            key: current.key.clone(),
        };
        gateway.write("secret.yaml", &half.secret("me"));
        let stale = async || (gateway.upstream_of("m").await["stale"] == true).then_some(());
        load.until("the half is seen", stale).await;
        load.goes_on().await;
        let shown = |connection: &Connection| shows(connection, &next);
        assert!(!upstream.look(|all| all.iter().any(shown)), "it has no key yet");
        gateway.write("secret.yaml", &next.secret("me"));
        let seen = async || upstream.look(|all| all.iter().any(shown)).then_some(());
        load.until("the whole is shown", seen).await;
        current = next;
    }
    load.end(&gateway).await;
}

/// Waits for a connection that is opened from now on and stands.
async fn new_connection(load: &mut Load, upstream: &Upstream) {
    let before = upstream.look(<[Connection]>::len);
    load.until("a new connection", async || {
        upstream.look(|all| {
            let stands = |connection: &Connection| connection.session.is_some();
            all[before..].iter().any(stands).then_some(())
        })
    })
    .await;
}

#[tokio::test]
async fn r2_a_ca_that_is_replaced_in_three_steps_costs_no_request() {
    for alpn in ["h2", "http/1.1"] {
        let (old, new) = (Certificates::named("old CA"), Certificates::named("new CA"));
        let tls = |ca: &Certificates| Tls::with(&ca.server(&["a.test"])).alpn(&[alpn]);
        let (upstream, server) = tls(&old).changing().await;
        let bundle = |pem: &str| secret("ca", &[("ca.crt", pem)]);
        let alpn = format!("alpn_protocols: {alpn}");
        let context = ["ca_secret: ca", "verify: {mode: full}", &alpn];
        let plan = originating(&upstream, &[], &context).file("ca.yaml", &bundle(&old.pem()));
        let gateway = plan.start().await;
        let mut load = Load::start(&gateway, &["/"; 4]);
        load.goes_on().await;

        gateway.write("ca.yaml", &bundle(&(old.pem() + &new.pem())));
        new_connection(&mut load, &upstream).await;
        server.to(&tls(&new));
        gateway.write("ca.yaml", &bundle(&new.pem()));
        new_connection(&mut load, &upstream).await;
        load.end(&gateway).await;
        let handshake = gateway.last_handshake("m").await;
        assert_eq!(handshake["verify"]["result"], "ok", "{handshake:#}");
        assert!(
            handshake["peer"][0]["issuer"]
                .as_str()
                .unwrap()
                .contains("new CA"),
            "{handshake:#}"
        );
    }
}

#[tokio::test]
async fn r5_a_secret_that_is_touched_changes_nothing() {
    let ca = Certificates::new();
    let upstream = Tls::with(&ca.server(&["a.test"])).client_ca(&ca.pem(), true);
    let upstream = upstream.start().await;
    let secrets = ca.client("me").secret("me") + &ca.secret("ca");
    let beacon = Beacon::new().await;
    let plan = originating(&upstream, &[], &["secret: me", "ca_secret: ca"]);
    let gateway = beacon.plan(plan.file("secrets.yaml", &secrets)).start().await;
    gateway.get("/").await.assert_ok();
    let before = revision(&gateway).await;
    let resource_version = |n: u8| {
        let metadata = format!("metadata:\n  resourceVersion: \"{n}\"\n  annotations: {{seen: \"{n}\"}}\n");
        secrets.replace("metadata:\n", &metadata)
    };
    for touched in [&secrets, &resource_version(1), &resource_version(2)] {
        gateway.write("secrets.yaml", touched);
        beacon.settled(&gateway).await;
    }
    let file = std::fs::File::options()
        .write(true)
        .open(gateway.folder().join("secrets.yaml"));
    file.unwrap().set_modified(SystemTime::now()).unwrap();
    beacon.settled(&gateway).await;

    gateway.get("/").await.assert_ok();
    let connections = upstream.connections();
    assert_eq!(connections.len(), 1, "{connections:#?}");
    assert!(!connections[0].closed);
    assert_eq!(revision(&gateway).await, before);

    // The same bytes in another order are another matter of the file and none of the wire.
    gateway.write(
        "secrets.yaml",
        &(ca.secret("ca") + &ca.client("other").secret("me")),
    );
    gateway
        .get_until("/", |_| upstream.connections().len() == 2)
        .await;
    assert_ne!(revision(&gateway).await, before);
}

#[tokio::test]
async fn r6_labels_and_headers_reach_no_connection() {
    let ca = Certificates::new();
    let upstream = Tls::with(&ca.server(&["a.test"])).client_ca(&ca.pem(), true);
    let upstream = upstream.start().await;
    let beacon = Beacon::new().await;
    let objects = |more: &[&str]| {
        let mut lines = vec!["tls: ctx"];
        lines.extend(more);
        mapping("m", "/m/", "https://a.test", &lines)
            + &tls_context("ctx", &["secret: me", "ca_secret: ca"])
            + &ca.secret("ca")
    };
    let plan = Gateway::with(ca.client("me").secret("me")).resolve("a.test:443", upstream.address);
    let plan = plan.file("objects.yaml", &objects(&[]));
    let gateway = beacon.plan(plan).start().await;
    gateway.get("/m/").await.assert_ok();
    for label in ["blue", "green"] {
        let labels = format!("metadata:\n  labels: {{team: {label}}}\n  annotations: {{told: {label}}}\n");
        gateway.write("objects.yaml", &objects(&[]).replace("metadata:\n", &labels));
        beacon.settled(&gateway).await;
        gateway.get("/m/").await.assert_ok();
    }
    gateway.write("objects.yaml", &objects(&["add_response_headers: {x-mark: new}"]));
    gateway
        .get_until("/m/", |answer| answer.header("x-mark") == "new")
        .await;
    let connections = upstream.connections();
    assert_eq!(connections.len(), 1, "{connections:#?}");
    assert!(!connections[0].closed);
    assert_eq!(connections[0].requests.len(), upstream.requests().len());
}

/// Each Mapping has a server name of its own and so is an upstream of its own, and all show one certificate.
#[tokio::test]
async fn r7_a_secret_of_two_thousand_mappings_rotates_for_all_of_them() {
    const MAPPINGS: usize = 2000;
    let ca = Certificates::new();
    let upstream = Tls::with(&ca.server(&["a.test"])).client_ca(&ca.pem(), true);
    let upstream = upstream.alpn(&["http/1.1"]).start().await;
    let mut manifests = tls_context("ctx", &["secret: me"]);
    for number in 0..MAPPINGS {
        let host = format!("host_rewrite: h{number}.test");
        let (name, prefix) = (format!("m{number}"), format!("/{number}/"));
        let service = format!("https://{}", upstream.address);
        manifests += &mapping(&name, &prefix, &service, &["tls: ctx", &host]);
    }
    let (old, new) = (ca.client("old"), ca.client("new"));
    let plan = Gateway::with(manifests).file("secret.yaml", &old.secret("me"));
    let gateway = plan.start().await;
    // One of each hundred is warm when the certificate changes.
    let warm: Vec<String> = (0..MAPPINGS)
        .step_by(100)
        .map(|number| format!("/{number}/"))
        .collect();
    let warm: Vec<&str> = warm.iter().map(String::as_str).collect();
    let mut load = Load::start(&gateway, &warm);
    load.goes_on().await;
    gateway.write("secret.yaml", &new.secret("me"));
    load.until("the new certificate", async || {
        upstream
            .look(|all| all.iter().any(|connection| shows(connection, &new)))
            .then_some(())
    })
    .await;
    load.end(&gateway).await;

    let before = upstream.look(<[Connection]>::len);
    let mut client = Client::http1(gateway.address).await;
    for number in 0..MAPPINGS {
        let get = request(Method::GET, "a", &format!("/{number}/"), "");
        client.send(get).await.unwrap().assert_ok();
    }
    upstream.look(|all| {
        let of_new = |connection: &Connection| shows(connection, &new);
        assert!(all[before..].iter().all(of_new));
        let asked = all.iter().filter(|connection| of_new(connection));
        let names: BTreeSet<_> = asked
            .filter_map(|connection| connection.hello.as_ref()?.sni.clone())
            .collect();
        assert_eq!(names.len(), MAPPINGS);
    });
}

/// Answers `ok` until told to end.
async fn serve_until(stream: TlsStream<Tapped>, mut end: watch::Receiver<bool>) {
    let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("ok"))));
    let server = auto::Builder::new(TokioExecutor::new());
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let was_over = *end.borrow_and_update();
    let told = async {
        // Connections after the end are those of the next server.
        match was_over {
            true => std::future::pending().await,
            false => end.changed().await.unwrap(),
        }
    };
    let over = tokio::select! {
        _ = connection.as_mut() => true,
        () = told => false,
    };
    if !over {
        connection.as_mut().graceful_shutdown();
        // How it ends is the gateway's business.
        let _ = connection.await;
    }
}

#[tokio::test]
async fn r8_an_upstream_that_changes_its_certificate_to_a_trusted_ca_costs_no_request() {
    for alpn in ["h2", "http/1.1"] {
        let (old, new) = (Certificates::named("old CA"), Certificates::named("new CA"));
        let tls = |ca: &Certificates| Tls::with(&ca.server(&["a.test"])).alpn(&[alpn]);
        // As servers do that are replaced: they finish what they have and say good-bye.
        let (restart, restarted) = watch::channel(false);
        let (upstream, server) = tls(&old)
            .start_changing(move |stream, _| serve_until(stream, restarted.clone()))
            .await;
        let alpn = format!("alpn_protocols: {alpn}");
        let context = ["ca_secret: ca", "verify: {mode: full}", &alpn];
        let bundle = secret("ca", &[("ca.crt", &(old.pem() + &new.pem()))]);
        let plan = originating(&upstream, &[], &context).file("ca.yaml", &bundle);
        let gateway = plan.start().await;
        let mut load = Load::start(&gateway, &["/"; 4]);
        load.goes_on().await;
        server.to(&tls(&new));
        restart.send(true).unwrap();
        load.until("the new certificate", async || {
            let handshake = &gateway.upstream_of("m").await["endpoints"][0]["last_handshake"];
            let issuer = handshake["peer"][0]["issuer"].as_str()?;
            issuer.contains("new CA").then_some(())
        })
        .await;
        load.end(&gateway).await;
    }
}

/// The first connection of a new certificate is there before any request needs it.
#[tokio::test]
async fn a_rotation_opens_its_connection_before_it_takes_effect() {
    let ca = Certificates::new();
    let (old, new) = (ca.client("old"), ca.client("new"));
    let upstream = Tls::with(&ca.server(&["a.test"]))
        .client_ca(&ca.pem(), true)
        .start()
        .await;
    let manifests =
        tls_context("ctx", &["secret: client"]) + &mapping("m", "/", "https://a.test", &["tls: ctx"]);
    let plan = Gateway::with(manifests).args(&["--workers", "1"]);
    let plan = plan.file("client.yaml", &old.secret("client"));
    let gateway = plan.resolve("a.test:443", upstream.address).start().await;
    gateway.get("/").await.assert_ok();
    gateway.write("client.yaml", &new.secret("client"));
    let shown = |connection: &Connection| {
        let session = connection.session.as_ref();
        session.and_then(|session| session.client.clone())
    };
    let warm = upstream.saw("a session with the new certificate", |connection| {
        shown(connection).is_some_and(|client| client == new.chain_der()[0].as_ref())
    });
    assert_eq!(warm.await.requests.len(), 0);
    // Until the new configuration is in force the old connection answers, and then this one.
    eventually("the new connection answers", async || {
        gateway.get("/").await.assert_ok();
        upstream.connections()[1].requests.first().map(drop)
    })
    .await;
    let old = upstream.saw("the old connection closes", |connection| connection.closed);
    assert!(!old.await.requests.is_empty());
}
