//! What the roles of deploy/ allow is enough for all that the gateway asks of the API server.

use std::collections::BTreeSet;

use nuncio_compile::yaml;
use serde_json::{Value, json};

use super::Cluster;
use super::gate::Asked;
use super::objects::{mapping, secret, tls_context};
use crate::support::certificates::Certificates;
use crate::support::program::repository;
use crate::support::waiting::eventually;

/// The documents of a file in deploy/.
pub fn documents(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(repository().join("deploy").join(file)).unwrap();
    let pieces = yaml::pieces(&text);
    let nodes = pieces.into_iter().flat_map(|piece| yaml::parse(piece).0);
    nodes.map(|node| node.into_value().unwrap()).collect()
}

/// Resource and verb of every rule in the roles of this kind.
fn allowed(documents: &[Value], kind: &str) -> BTreeSet<(String, String)> {
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        let texts = rule[field].as_array().unwrap().iter();
        texts.map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let roles = documents.iter().filter(|document| document["kind"] == kind);
    let rules = roles.flat_map(|role| role["rules"].as_array().unwrap());
    rules
        .flat_map(|rule| {
            let verbs = texts(rule, "verbs");
            let resources = texts(rule, "resources").into_iter();
            resources.flat_map(move |resource| {
                verbs
                    .clone()
                    .into_iter()
                    .map(move |verb| (resource.clone(), verb))
            })
        })
        .collect()
}

/// Lets a gateway with these variables do all that it does with an API server; what it asked then.
async fn asked_by_a_gateway(cluster: &Cluster, variables: &[(&str, &str)]) -> Vec<Asked> {
    let ca = Certificates::new();
    let wrong = mapping("wrong", "/", "https://svc", &json!({"tls": "missing"}));
    cluster.apply(wrong).await;
    cluster.apply(secret("ca", &[("ca.crt", &ca.pem())])).await;
    let before = cluster.gate().asked().len();
    let mut plan = cluster.plan().env("AMBASSADOR_UPDATE_MAPPING_STATUS", "true");
    for (name, value) in variables {
        plan = plan.env(name, value);
    }
    let _gateway = plan.start().await;
    // A Secret that was passed over at first, and is named now, is read by itself.
    cluster
        .apply(tls_context("context", &json!({"ca_secret": "ca"})))
        .await;
    let all_of_it = [
        ("secrets", "", "get"),
        ("mappings", "status", "patch"),
        ("tlscontexts", "status", "patch"),
        ("events", "", "create"),
        ("leases", "", "create"),
        ("leases", "", "update"),
    ];
    eventually("the gateway reads, tells and leads", async || {
        let asked = cluster.gate().asked().split_off(before);
        let seen = |(plural, subresource, verb): &(&str, &str, &str)| {
            asked.iter().any(|asked| {
                asked.plural == *plural && asked.subresource == *subresource && asked.verb == *verb
            })
        };
        all_of_it.iter().all(seen).then_some(asked)
    })
    .await
}

/// The resource as rules call it, and the verb.
fn wanted(asked: &Asked) -> (String, String) {
    let resource = match asked.subresource.as_str() {
        "" => asked.plural.clone(),
        subresource => format!("{}/{subresource}", asked.plural),
    };
    (resource, asked.verb.to_owned())
}

#[tokio::test]
async fn every_request_names_the_gateway_and_its_version() {
    let cluster = Cluster::guarded().await;
    let _gateway = cluster.plan().start().await;
    let asked = cluster.gate().asked();
    assert!(!asked.is_empty());
    let agent = concat!("nuncio/", env!("CARGO_PKG_VERSION"));
    let other = asked.iter().find(|asked| asked.agent != agent);
    assert!(other.is_none(), "{other:?}");
}

#[tokio::test]
async fn a_guard_that_may_not_be_read_keeps_the_gateway_from_serving() {
    for plural in ["authservices", "filterpolicies"] {
        let cluster = Cluster::guarded().await;
        cluster.gate().forbid(plural, true);
        let mut gateway = cluster.another("127.0.0.1");
        let forbidden = format!("{plural}.getambassador.io cannot be watched: it is forbidden");
        gateway.logged(&forbidden).await;
        // Every other kind had the time to be listed.
        let before = cluster.gate().lists(plural);
        eventually("it is asked for once more", async || {
            (cluster.gate().lists(plural) > before).then_some(())
        })
        .await;
        let log = gateway.stderr();
        let published = log.iter().any(|line| line.contains("configuration published"));
        assert!(!published, "{plural}");
        cluster.gate().forbid(plural, false);
        gateway.logged(" ready").await;
    }
}

#[tokio::test]
async fn nothing_is_asked_that_the_roles_do_not_allow() {
    let cluster = Cluster::guarded().await;
    let documents = documents("nuncio.yaml");
    let (anywhere, own) = (allowed(&documents, "ClusterRole"), allowed(&documents, "Role"));
    for asked in asked_by_a_gateway(&cluster, &[]).await {
        let right = wanted(&asked);
        let is_own = asked.namespace == cluster.namespace && own.contains(&right);
        assert!(is_own || anywhere.contains(&right), "{asked:?} is not allowed");
    }
}

#[tokio::test]
async fn a_gateway_of_one_namespace_asks_nothing_outside_of_it() {
    let file = "nuncio-single-namespace.yaml";
    let cluster = Cluster::with_roles(file).await.with_gate().await;
    let own = allowed(&documents(file), "Role");
    for asked in asked_by_a_gateway(&cluster, &[("AMBASSADOR_SINGLE_NAMESPACE", "true")]).await {
        let is_own = asked.namespace == cluster.namespace && own.contains(&wanted(&asked));
        assert!(is_own, "{asked:?} is not allowed");
    }
}
