//! What any cluster does.

use serde_json::json;

use super::objects::{OURS, mapping, secret, service, slice, tls_context, tls_secret};
use super::{Cluster, problem_is_told};
use crate::support::certificates::{Certificates, Identity};
use crate::support::peer::{Tls, Upstream};
use crate::support::program::{Gateway, Running};
use crate::support::waiting::eventually;

/// A Service `svc` in the cluster whose one endpoint insists on a client certificate of `ca`, and the objects that
/// lead `/` to it.
struct World {
    cluster: Cluster,
    ca: Certificates,
    upstream: Upstream,
}

impl World {
    async fn new(cluster: Cluster) -> Self {
        let ca = Certificates::new();
        let upstream = Tls::with(&ca.server(&["svc"])).client_ca(&ca.pem(), true);
        let upstream = upstream
            .answer(|_| {
                let close = http::Response::builder().header("connection", "close");
                close.body("ok".into()).unwrap()
            })
            .start()
            .await;
        cluster.apply(service("svc")).await;
        cluster.apply(slice("svc-1", "svc", &[upstream.address])).await;
        cluster.apply(secret("ca", &[("ca.crt", &ca.pem())])).await;
        let context = json!({"secret": "client", "ca_secret": "ca"});
        cluster.apply(tls_context("context", &context)).await;
        let to_svc = mapping("m", "/", "https://svc", &json!({"tls": "context"}));
        cluster.apply(to_svc).await;
        Self {
            cluster,
            ca,
            upstream,
        }
    }

    async fn show(&self, client: &Identity) {
        self.cluster.apply(tls_secret("client", client)).await;
    }

    /// Waits until a request is answered by an upstream that was shown this certificate.
    async fn is_shown(&self, gateway: &Gateway, client: &Identity) {
        eventually("the certificate is shown", async || {
            let answered = gateway.get("/").await.status == http::StatusCode::OK;
            let connections = self.upstream.connections();
            let asked = connections.into_iter().rfind(|seen| !seen.requests.is_empty());
            let shown = asked?.session?.client?;
            (answered && shown == client.chain_der()[0].as_ref()).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_the_cluster_holds_is_served() {
    let world = World::new(Cluster::new().await).await;
    let client = world.ca.client("gateway");
    world.show(&client).await;
    let gateway = world.cluster.plan().start().await;
    gateway.get("/").await.assert_ok();
    world.is_shown(&gateway, &client).await;
    assert_eq!(gateway.admin("/ambassador/v0/check_ready").await.status, 200);
}

/// Twenty pods that start beside an API server that has read some of its roles and definitions, and refuses the rest.
#[tokio::test]
async fn a_starting_api_server_makes_no_gateway_ready() {
    const PODS: u8 = 20;
    let world = World::new(Cluster::guarded().await).await;
    world.show(&world.ca.client("gateway")).await;
    let gate = world.cluster.gate();
    gate.starts(true);
    // All have the same Listener on one machine.
    let pods = (1..=PODS).map(|pod| format!("127.0.1.{pod}"));
    let mut pods: Vec<Running> = pods.map(|bind| world.cluster.another(&bind)).collect();
    eventually("each pod is refused twice", async || {
        (gate.lists("mappings") >= 2 * usize::from(PODS)).then_some(())
    })
    .await;
    gate.starts(false);
    for pod in &mut pods {
        pod.logged(" ready").await;
        let log = pod.stderr();
        let first = log.iter().find(|line| line.contains("configuration published"));
        let first = first.expect("it published something");
        assert!(first.contains(" listeners=1 upstreams=1 "), "{first}");
    }
}

#[tokio::test]
async fn a_secret_that_comes_changes_and_goes_is_followed() {
    let world = World::new(Cluster::new().await).await;
    let gateway = world.cluster.plan().start().await;
    gateway.get("/").await.assert_refused("tls_config_unresolved");
    let mut client = world.ca.client("first");
    world.show(&client).await;
    world.is_shown(&gateway, &client).await;
    for round in 0..10 {
        if round % 2 == 1 {
            world.cluster.delete("v1", "Secret", "client").await;
            problem_is_told(&gateway, "stale", true).await;
            // The last good one goes on serving.
            world.is_shown(&gateway, &client).await;
        }
        client = world.ca.client("next");
        world.show(&client).await;
        world.is_shown(&gateway, &client).await;
    }
}

#[tokio::test]
async fn mappings_come_change_and_go() {
    let world = World::new(Cluster::new().await).await;
    world.show(&world.ca.client("gateway")).await;
    let gateway = world.cluster.plan().start().await;
    let tls = json!({"tls": "context"});
    world
        .cluster
        .apply(mapping("other", "/other/", "https://nowhere", &tls))
        .await;
    gateway
        .get_until("/other/", |answer| answer.reason() == "dns_failed")
        .await;
    world
        .cluster
        .apply(mapping("other", "/other/", "https://svc", &tls))
        .await;
    gateway.get_until("/other/", |answer| answer.status == 200).await;
    world.cluster.delete(OURS, "Mapping", "m").await;
    gateway.get_until("/", |answer| answer.status == 404).await;
    gateway.get("/other/").await.assert_ok();
}

#[tokio::test]
async fn endpoints_come_and_go_without_a_compile() {
    let world = World::new(Cluster::new().await).await;
    world.show(&world.ca.client("gateway")).await;
    let other = Tls::with(&world.ca.server(&["svc"]))
        .client_ca(&world.ca.pem(), true)
        .start()
        .await;
    let gateway = world.cluster.plan().start().await;
    gateway.get("/").await.assert_ok();
    let revision = revision(&gateway).await;
    world.cluster.apply(slice("svc-2", "svc", &[other.address])).await;
    eventually("the added endpoint gets traffic", async || {
        gateway.get("/").await.assert_ok();
        (!other.requests().is_empty()).then_some(())
    })
    .await;
    world
        .cluster
        .delete("discovery.k8s.io/v1", "EndpointSlice", "svc-1")
        .await;
    eventually("the removed endpoint gets none", async || {
        let before = world.upstream.requests().len();
        for _ in 0..4 {
            gateway.get("/").await.assert_ok();
        }
        (world.upstream.requests().len() == before).then_some(())
    })
    .await;
    assert_eq!(self::revision(&gateway).await, revision);
}

async fn revision(gateway: &Gateway) -> String {
    let metrics = gateway.admin("/metrics").await;
    let line = metrics
        .text()
        .lines()
        .find(|line| line.starts_with("nuncio_config_revision "));
    line.unwrap().to_owned()
}

#[tokio::test]
async fn one_object_that_cannot_be_used_takes_no_other_down() {
    let world = World::new(Cluster::new().await).await;
    world.show(&world.ca.client("gateway")).await;
    let cluster = &world.cluster;
    cluster
        .apply(mapping("bad", "/bad/", "https://svc:99999", &json!({})))
        .await;
    cluster
        .apply(tls_context("bad", &json!({"sni": "not a name"})))
        .await;
    cluster
        .apply(mapping(
            "uses-bad",
            "/uses-bad/",
            "https://svc",
            &json!({"tls": "bad"}),
        ))
        .await;
    let gateway = cluster.plan().start().await;
    gateway.get("/").await.assert_ok();
    gateway.get("/bad/").await.assert_refused("service_invalid");
    gateway
        .get("/uses-bad/")
        .await
        .assert_refused("tls_config_unresolved");
}

/// The namespace of a Secret is looked through for it though only an annotation names it, and each edit of the Service
/// counts.
#[tokio::test]
async fn objects_in_the_annotation_of_a_service_are_served() {
    let world = World::new(Cluster::new().await).await;
    let client = world.ca.client("annotated");
    world.cluster.apply(tls_secret("annotated", &client)).await;
    let id = &world.cluster.namespace;
    let annotated = |prefix: &str| {
        let mut service = service("svc");
        let objects = format!(
            "---\napiVersion: ambassador/v1\nkind: Mapping\nname: annotated\nambassador_id: {id}\nprefix: {prefix}\n\
             service: svc\ntls: annotated\nresolver: endpoint\n\
             ---\napiVersion: getambassador.io/v2\nkind: TLSContext\nname: annotated\nambassador_id: {id}\n\
             secret: annotated\nca_secret: ca\n"
        );
        service["metadata"]["annotations"] = json!({"getambassador.io/config": objects});
        service
    };
    world.cluster.apply(annotated("/first/")).await;
    let gateway = world.cluster.plan().start().await;
    gateway.get("/first/").await.assert_ok();
    let shown = world.upstream.last().session.unwrap().client.unwrap();
    assert_eq!(shown, client.chain_der()[0].as_ref());

    world.cluster.apply(annotated("/second/")).await;
    gateway.get_until("/second/", |answer| answer.status == 200).await;
    // What has no route of its own is left to the Mapping of `/`, whose Secret is not there.
    gateway
        .get("/first/")
        .await
        .assert_refused("tls_config_unresolved");
    world.cluster.apply(service("svc")).await;
    gateway
        .get_until("/second/", |answer| answer.reason() == "tls_config_unresolved")
        .await;
}
