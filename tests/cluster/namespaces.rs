//! What is read of which namespace, and what becomes of references into others.

use serde_json::{Value, json};

use super::objects::{mapping, secret, tls_context, tls_secret};
use super::{Cluster, problem_is_told};
use crate::support::certificates::Certificates;
use crate::support::peer::{Tls, Upstream};
use crate::support::waiting::eventually;

/// A TLSContext with this spec, and a Mapping at `/<name>/` that uses it.
async fn lead(cluster: &Cluster, name: &str, service: &str, spec: &Value) {
    cluster.apply(tls_context(name, spec)).await;
    let prefix = format!("/{name}/");
    cluster
        .apply(mapping(name, &prefix, service, &json!({"tls": name})))
        .await;
}

#[tokio::test]
async fn k14_only_references_into_a_namespace_that_must_not_be_read_fail() {
    let cluster = Cluster::guarded().await;
    let gate = cluster.gate();
    gate.forbid("secrets", true);
    gate.grant_in("secrets", &cluster.namespace);
    let ca = Certificates::new();
    let upstream = Tls::with(&ca.server(&["svc"])).client_ca(&ca.pem(), true);
    let upstream = upstream
        .answer(|_| {
            let close = http::Response::builder().header("connection", "close");
            close.body("ok".into()).unwrap()
        })
        .start()
        .await;
    let service = format!("https://{}", upstream.address);
    let client = tls_secret("client", &ca.client("gateway"));
    let (z, y) = (
        cluster.another_namespace("z").await,
        cluster.another_namespace("y").await,
    );
    cluster.apply(client.clone()).await;
    cluster.apply_in(&z, client.clone()).await;
    lead(&cluster, "own", &service, &json!({"secret": "client"})).await;
    lead(
        &cluster,
        "foreign",
        &service,
        &json!({"secret": format!("client.{z}")}),
    )
    .await;
    let gateway = cluster.plan().start().await;
    gateway.get("/own/").await.assert_ok();
    gateway
        .get("/foreign/")
        .await
        .assert_refused("tls_config_unresolved");
    let foreign = format!("TLSContext foreign.{}", cluster.namespace);
    let problem = gateway.problem(&foreign, "forbidden_secret").await;
    let message = problem["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("kubectl create role nuncio-secrets -n {z} ")),
        "{message}"
    );
    let metrics = gateway.admin("/metrics").await;
    let is_up = "nuncio_kubernetes_watch_up{kind=\"secrets\"} 1\n";
    assert!(metrics.text().contains(is_up), "what may be read is watched");
    let problems = gateway.problems().await;
    let of_kind = problems
        .iter()
        .find(|problem| problem["reason"] == "kind_forbidden");
    assert!(of_kind.is_none(), "least privilege is no mistake: {of_kind:?}");

    // What may be read is followed as ever.
    let next = ca.client("next");
    cluster.apply(tls_secret("client", &next)).await;
    eventually("the new certificate is shown", async || {
        gateway.get("/own/").await.assert_ok();
        let shown = upstream.last().session?.client?;
        (shown == next.chain_der()[0].as_ref()).then_some(())
    })
    .await;
    // A namespace that is named later is asked as well, and what is granted is noticed.
    lead(
        &cluster,
        "late",
        &service,
        &json!({"secret": format!("client.{y}")}),
    )
    .await;
    gateway
        .get_until("/late/", |answer| answer.reason() == "tls_config_unresolved")
        .await;
    cluster.apply_in(&y, client).await;
    gate.grant_in("secrets", &y);
    gate.grant_in("secrets", &z);
    for path in ["/late/", "/foreign/"] {
        gateway.get_until(path, |answer| answer.status == 200).await;
    }
    problem_is_told(&gateway, "forbidden_secret", false).await;
}

#[tokio::test]
async fn secrets_of_the_own_namespace_alone_are_read_where_that_is_asked_for() {
    let cluster = Cluster::guarded().await;
    let upstream = Upstream::cleartext().await;
    let service = format!("https://{}", upstream.address);
    let ca = secret("ca", &[("ca.crt", &Certificates::new().pem())]);
    let z = cluster.another_namespace("z").await;
    cluster.apply(ca.clone()).await;
    cluster.apply_in(&z, ca).await;
    lead(&cluster, "own", &service, &json!({"ca_secret": "ca"})).await;
    lead(
        &cluster,
        "foreign",
        &service,
        &json!({"ca_secret": format!("ca.{z}")}),
    )
    .await;
    let plan = cluster.plan().env("AMBASSADOR_CERTS_SINGLE_NAMESPACE", "1");
    let gateway = plan.start().await;
    gateway.get("/own/").await.assert_refused("not_tls");
    gateway
        .get("/foreign/")
        .await
        .assert_refused("tls_config_unresolved");
    let foreign = format!("TLSContext foreign.{}", cluster.namespace);
    let problem = gateway.problem(&foreign, "missing_secret").await;
    let message = problem["message"].as_str().unwrap();
    assert!(message.contains("AMBASSADOR_CERTS_SINGLE_NAMESPACE"), "{message}");
    let asked = cluster.gate().asked();
    let elsewhere = asked
        .iter()
        .find(|asked| asked.plural == "secrets" && asked.namespace != cluster.namespace);
    assert!(elsewhere.is_none(), "{elsewhere:?}");
}

#[tokio::test]
async fn objects_of_the_own_namespace_alone_are_read_where_that_is_asked_for() {
    let cluster = Cluster::guarded().await;
    let upstream = Upstream::cleartext().await;
    let service = format!("http://{}", upstream.address);
    let to_upstream = |name: &str, prefix: &str| mapping(name, prefix, &service, &json!({}));
    let z = cluster.another_namespace("z").await;
    cluster.apply(to_upstream("own", "/own/")).await;
    cluster.apply_in(&z, to_upstream("foreign", "/foreign/")).await;
    let plan = cluster.plan().env("AMBASSADOR_SINGLE_NAMESPACE", "1");
    let gateway = plan.start().await;
    gateway.get("/own/").await.assert_ok();
    assert_eq!(gateway.get("/foreign/").await.status, 404);
    let asked = cluster.gate().asked();
    let reads = asked
        .iter()
        .filter(|asked| matches!(asked.verb, "list" | "watch"));
    for read in reads {
        assert_eq!(read.namespace, cluster.namespace, "{read:?}");
    }
}

#[tokio::test]
async fn selectors_stand_in_every_list_and_watch() {
    let cluster = Cluster::guarded().await;
    let plan = cluster.plan().env("AMBASSADOR_LABEL_SELECTOR", "team=shop");
    let plan = plan.env("AMBASSADOR_FIELD_SELECTOR", "metadata.name!=other");
    let _gateway = plan.start().await;
    eventually("every kind is watched", async || {
        (cluster.gate().count("watch", "secrets") > 0).then_some(())
    })
    .await;
    let asked = cluster.gate().asked();
    let reads = asked
        .iter()
        .filter(|asked| matches!(asked.verb, "list" | "watch") && asked.plural != "leases");
    for read in reads {
        let query = &read.query;
        assert!(query.contains("labelSelector=team%3Dshop"), "{read:?}");
        assert!(
            query.contains("fieldSelector=metadata.name%21%3Dother"),
            "{read:?}"
        );
    }
}

#[tokio::test]
async fn a_secret_that_is_named_later_is_read_then() {
    let cluster = Cluster::guarded().await;
    let upstream = Upstream::cleartext().await;
    let service = format!("https://{}", upstream.address);
    let ca = secret("ca", &[("ca.crt", &Certificates::new().pem())]);
    cluster.apply(ca).await;
    let gateway = cluster.plan().start().await;
    assert_eq!(cluster.gate().count("get", "secrets"), 0);
    lead(&cluster, "uses", &service, &json!({"ca_secret": "ca"})).await;
    gateway
        .get_until("/uses/", |answer| answer.reason() == "not_tls")
        .await;
    assert_eq!(cluster.gate().count("get", "secrets"), 1);
}
