//! What the gateway writes to the cluster: status, Events, and the Lease that lets one of several do so.

use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::Cluster;
use super::gate::Asked;
use super::objects::{OURS, mapping, secret, service, slice, tls_context, tls_secret};
use crate::support::certificates::Certificates;
use crate::support::peer::{Tls, Upstream};
use crate::support::program::{Gateway, KeptPort, Running};
use crate::support::waiting::eventually;

pub(super) const EVENTS: &str = "events.k8s.io/v1";

/// A gateway that tells Mappings too.
async fn start(cluster: &Cluster) -> Gateway {
    let plan = cluster.plan().env("AMBASSADOR_UPDATE_MAPPING_STATUS", "true");
    plan.start().await
}

/// A second one of the same cluster; it has another port to listen on, since both are on one machine.
async fn second(cluster: &Cluster) -> Running {
    let mut program = cluster.another("127.0.0.2");
    program.logged(" ready").await;
    program
}

/// Waits for the status of an object to become right.
pub(super) async fn status(
    cluster: &Cluster,
    kind: &str,
    name: &str,
    right: impl Fn(&Value) -> bool,
) -> Value {
    let what = format!("the status of {kind} {name}");
    eventually(&what, async || {
        let object = cluster.get(OURS, kind, name).await;
        Some(object["status"].clone()).filter(|status| right(status))
    })
    .await
}

/// A condition of a status.
pub(super) fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == kind));
    found.unwrap_or(&Value::Null)
}

pub(super) fn is(status: &Value, kind: &str, value: &str) -> bool {
    condition(status, kind)["status"] == value
}

fn holder(lease: &Value) -> String {
    lease["spec"]["holderIdentity"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Waits until somebody holds the Lease; who that is.
async fn held(cluster: &Cluster, right: impl Fn(&str) -> bool) -> String {
    let api = cluster.api("coordination.k8s.io/v1", "Lease");
    let name = format!("nuncio-leader-{}", cluster.namespace);
    eventually("somebody holds the Lease", async || {
        let lease = api.get_opt(&name).await.unwrap()?;
        let holder = holder(&serde_json::to_value(lease).unwrap());
        (!holder.is_empty() && right(&holder)).then_some(holder)
    })
    .await
}

/// Every write of a status that was asked for.
fn status_writes(cluster: &Cluster) -> Vec<Asked> {
    let asked = cluster.gate().asked();
    asked
        .into_iter()
        .filter(|asked| asked.subresource == "status")
        .collect()
}

async fn metric(gateway: &Gateway, line: &str) {
    eventually(line, async || {
        let metrics = gateway.admin("/metrics").await;
        metrics.text().lines().any(|known| known == line).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_mapping_to_a_service_that_does_not_exist_says_so() {
    let cluster = Cluster::new().await;
    cluster.apply(service("svc")).await;
    let qualified = format!("https://gone.{}", cluster.namespace);
    for (name, service) in [("gone", "https://gone"), ("qualified", &qualified)] {
        let prefix = format!("/{name}/");
        cluster.apply(mapping(name, &prefix, service, &json!({}))).await;
    }
    let world = mapping("world", "/world/", "https://gone.example", &json!({}));
    cluster.apply(world).await;
    let _gateway = start(&cluster).await;
    for name in ["gone", "qualified"] {
        let told = status(&cluster, "Mapping", name, Value::is_object).await;
        assert_eq!(told["state"], "Inactive", "{told}");
        let reason = told["reason"].as_str().unwrap();
        assert!(reason.contains("asks for Service `gone`"), "{told}");
    }
    // It may be a name of the world.
    let told = status(&cluster, "Mapping", "world", Value::is_object).await;
    assert_eq!(told["state"], "Running", "{told}");
    cluster.apply(service("gone")).await;
    status(&cluster, "Mapping", "gone", |status| status["state"] == "Running").await;
}

#[tokio::test]
async fn a_mapping_behind_a_guard_that_is_not_asked_says_so() {
    let cluster = Cluster::new().await;
    cluster.apply(service("svc")).await;
    let bypass = json!({"bypass_auth": true});
    for (name, more) in [("guarded", json!({})), ("open", bypass)] {
        let prefix = format!("/{name}/");
        cluster.apply(mapping(name, &prefix, "https://svc", &more)).await;
    }
    let guard = json!({
        "apiVersion": OURS, "kind": "AuthService", "metadata": {"name": "auth"},
        "spec": {"auth_service": "auth", "proto": "http"},
    });
    cluster.apply(guard).await;
    let _gateway = start(&cluster).await;
    let told = status(&cluster, "Mapping", "guarded", Value::is_object).await;
    assert_eq!(told["state"], "Inactive", "{told}");
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.starts_with("its requests are answered 503: "), "{told}");
    let told = status(&cluster, "Mapping", "open", Value::is_object).await;
    assert_eq!(told["state"], "Running", "{told}");
    cluster.delete(OURS, "AuthService", "auth").await;
    status(&cluster, "Mapping", "guarded", |status| {
        status["state"] == "Running"
    })
    .await;
}

#[tokio::test]
async fn every_object_is_told_what_became_of_it() {
    let cluster = Cluster::new().await;
    let plain = json!({});
    cluster
        .apply(tls_context("good", &json!({"sni": "x.test"})))
        .await;
    cluster
        .apply(tls_context("bad", &json!({"sni": "not a name"})))
        .await;
    cluster
        .apply(tls_context("lost", &json!({"secret": "nowhere"})))
        .await;
    cluster.apply(service("svc")).await;
    cluster
        .apply(mapping("good", "/good/", "https://svc", &plain))
        .await;
    cluster
        .apply(mapping("gone", "/gone/", "https://gone", &plain))
        .await;
    cluster
        .apply(mapping("bad", "/bad/", "https://svc:99999", &plain))
        .await;
    let uses = json!({"tls": "bad"});
    cluster
        .apply(mapping("uses", "/uses/", "https://svc", &uses))
        .await;
    let mut foreign = mapping("foreign", "/foreign/", "svc", &plain);
    foreign["spec"]["ambassador_id"] = json!(["somebody-else"]);
    let params = PatchParams::apply("nuncio-tests").force();
    let api = cluster.api(OURS, "Mapping");
    api.patch("foreign", &params, &Patch::Apply(&foreign))
        .await
        .unwrap();
    let _gateway = start(&cluster).await;

    let good = status(&cluster, "Mapping", "good", Value::is_object).await;
    assert_eq!(good, json!({"state": "Running"}));
    let bad = status(&cluster, "Mapping", "bad", Value::is_object).await;
    assert_eq!(bad["state"], "Inactive");
    assert!(bad["reason"].as_str().unwrap().contains("99999"), "{bad}");
    // What is wrong with the origination is told where it is used, too.
    let uses = status(&cluster, "Mapping", "uses", Value::is_object).await;
    assert_eq!(uses["state"], "Inactive", "{uses}");

    let good = status(&cluster, "TLSContext", "good", Value::is_object).await;
    assert!(
        is(&good, "Accepted", "True") && is(&good, "ResolvedRefs", "True"),
        "{good}"
    );
    assert!(is(&good, "UpstreamTLS", "Unknown"), "{good}");
    let bad = status(&cluster, "TLSContext", "bad", Value::is_object).await;
    assert!(
        is(&bad, "Accepted", "False") && is(&bad, "ResolvedRefs", "True"),
        "{bad}"
    );
    assert!(
        condition(&bad, "Accepted")["message"]
            .as_str()
            .unwrap()
            .contains("not a name")
    );
    let lost = status(&cluster, "TLSContext", "lost", Value::is_object).await;
    assert!(
        is(&lost, "Accepted", "False") && is(&lost, "ResolvedRefs", "False"),
        "{lost}"
    );
    assert!(
        condition(&lost, "ResolvedRefs")["message"]
            .as_str()
            .unwrap()
            .contains("nowhere")
    );
    let listener = status(&cluster, "Listener", "web", Value::is_object).await;
    assert!(is(&listener, "Accepted", "True"), "{listener}");
    let foreign = cluster.get(OURS, "Mapping", "foreign").await;
    assert!(
        foreign.get("status").is_none(),
        "it is another gateway's: {foreign}"
    );
}

#[tokio::test]
async fn a_context_that_is_mended_says_so_and_since_when() {
    let cluster = Cluster::new().await;
    cluster
        .apply(tls_context("context", &json!({"sni": "not a name"})))
        .await;
    let _gateway = start(&cluster).await;
    let broken = status(&cluster, "TLSContext", "context", |status| {
        is(status, "Accepted", "False")
    })
    .await;
    let generation = condition(&broken, "Accepted")["observedGeneration"]
        .as_i64()
        .unwrap();
    // Broken in another way: since when it is broken does not change.
    cluster
        .apply(tls_context("context", &json!({"sni": "neither is this"})))
        .await;
    let still = status(&cluster, "TLSContext", "context", |status| {
        condition(status, "Accepted")["observedGeneration"] == generation + 1
    })
    .await;
    assert!(is(&still, "Accepted", "False"), "{still}");
    let since = |status: &Value| condition(status, "Accepted")["lastTransitionTime"].clone();
    assert_eq!(since(&still), since(&broken));
    cluster
        .apply(tls_context("context", &json!({"sni": "a.test"})))
        .await;
    let mended = status(&cluster, "TLSContext", "context", |status| {
        is(status, "Accepted", "True")
    })
    .await;
    assert_eq!(
        condition(&mended, "Accepted")["observedGeneration"],
        generation + 2
    );
    assert_ne!(since(&mended), since(&broken));
}

#[tokio::test]
async fn a_handshake_that_fails_is_told_to_its_context() {
    let cluster = Cluster::new().await;
    let (ca, other) = (Certificates::new(), Certificates::new());
    let upstream = Tls::with(&ca.server(&["svc"])).start().await;
    cluster.apply(service("svc")).await;
    cluster.apply(slice("svc-1", "svc", &[upstream.address])).await;
    cluster.apply(secret("ca", &[("ca.crt", &other.pem())])).await;
    let context = json!({"ca_secret": "ca", "verify": {"mode": "full"}});
    cluster.apply(tls_context("context", &context)).await;
    let tls = json!({"tls": "context"});
    cluster.apply(mapping("m", "/", "https://svc", &tls)).await;
    let gateway = start(&cluster).await;
    gateway.get("/").await.assert_refused("unknown_issuer");
    let failed = status(&cluster, "TLSContext", "context", |status| {
        is(status, "UpstreamTLS", "False")
    })
    .await;
    let told = condition(&failed, "UpstreamTLS");
    assert_eq!(told["reason"], "unknown_issuer");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("https://svc:443"), "{message}");
    assert!(message.contains(&upstream.address.to_string()), "{message}");
    assert!(is(&failed, "Accepted", "True"), "{failed}");

    cluster.apply(secret("ca", &[("ca.crt", &ca.pem())])).await;
    gateway.get_until("/", |answer| answer.status == 200).await;
    let mended = status(&cluster, "TLSContext", "context", |status| {
        is(status, "UpstreamTLS", "True")
    })
    .await;
    assert_eq!(condition(&mended, "UpstreamTLS")["reason"], "Established");
}

#[tokio::test]
async fn a_problem_is_an_event_of_its_object() {
    let cluster = Cluster::new().await;
    cluster
        .apply(mapping("bad", "/bad/", "https://svc:99999", &json!({})))
        .await;
    let _gateway = cluster.plan().start().await;
    let uid = cluster.get(OURS, "Mapping", "bad").await["metadata"]["uid"].clone();
    let api = cluster.api("events.k8s.io/v1", "Event");
    let event = eventually("an Event", async || {
        let all = api.list(&ListParams::default()).await.unwrap();
        let all = all.into_iter().map(|event| serde_json::to_value(event).unwrap());
        all.into_iter().find(|event| event["regarding"]["uid"] == uid)
    })
    .await;
    assert_eq!(
        (&event["type"], &event["reason"]),
        (&json!("Warning"), &json!("service_invalid"))
    );
    assert_eq!(event["reportingController"], "nuncio");
    assert_eq!(event["regarding"]["kind"], "Mapping");
    assert!(event["note"].as_str().unwrap().contains("99999"), "{event}");
    // Nobody asked for a status of Mappings.
    assert!(cluster.get(OURS, "Mapping", "bad").await.get("status").is_none());
}

#[tokio::test]
async fn one_of_two_gateways_writes_and_the_other_takes_over() {
    let cluster = Cluster::new().await;
    let mut first = start(&cluster).await;
    let of_first = held(&cluster, |_| true).await;
    let mut second = second(&cluster).await;
    metric(&first, "nuncio_kubernetes_leader 1").await;
    status(&cluster, "Listener", "web", |status| {
        is(status, "Accepted", "True")
    })
    .await;
    assert_eq!(held(&cluster, |_| true).await, of_first);
    first.program.signal("TERM");
    let of_second = held(&cluster, |holder| holder != of_first).await;
    assert_eq!(first.program.end().await, 0);
    first.program.logged("let go of the Lease").await;
    // Now the second tells.
    cluster.apply(service("svc")).await;
    cluster
        .apply(mapping("late", "/late/", "https://svc", &json!({})))
        .await;
    status(&cluster, "Mapping", "late", |status| status["state"] == "Running").await;
    assert_eq!(held(&cluster, |_| true).await, of_second);
    second.signal("TERM");
    assert_eq!(second.end().await, 0);
}

#[tokio::test]
async fn who_lost_the_lease_stops_writing_until_it_has_it_again() {
    let cluster = Cluster::guarded().await;
    let gateway = start(&cluster).await;
    let own = held(&cluster, |_| true).await;
    let name = format!("nuncio-leader-{}", cluster.namespace);
    let leases = cluster.api("coordination.k8s.io/v1", "Lease");
    let taken = json!({"spec": {"holderIdentity": "somebody-else"}});
    let params = PatchParams::default();
    leases.patch(&name, &params, &Patch::Merge(&taken)).await.unwrap();
    metric(&gateway, "nuncio_kubernetes_leader 0").await;
    let before = cluster.gate().asked().len();
    cluster.apply(service("svc")).await;
    cluster
        .apply(mapping("late", "/late/", "https://svc", &json!({})))
        .await;
    // The other one never renews, so it is taken for gone in the end.
    held(&cluster, |holder| holder == own).await;
    status(&cluster, "Mapping", "late", |status| status["state"] == "Running").await;
    let since: Vec<_> = cluster.gate().asked().split_off(before);
    let taken = since
        .iter()
        .position(|asked| asked.plural == "leases" && asked.verb == "update");
    let written = since.iter().position(|asked| asked.subresource == "status");
    assert!(taken.is_some() && taken < written, "{taken:?} {written:?}");
}

#[tokio::test]
async fn what_is_so_already_is_written_once_by_whoever_leads() {
    let cluster = Cluster::guarded().await;
    let upstream = Upstream::cleartext().await;
    for number in 0..50 {
        let (name, prefix) = (format!("m{number}"), format!("/{number}/"));
        let to = mapping(
            &name,
            &prefix,
            &format!("http://{}", upstream.address),
            &json!({}),
        );
        cluster.apply(to).await;
    }
    cluster
        .apply(tls_context("bad", &json!({"sni": "not a name"})))
        .await;
    let mut first = start(&cluster).await;
    for number in 0..50 {
        status(&cluster, "Mapping", &format!("m{number}"), |status| {
            status["state"] == "Running"
        })
        .await;
    }
    status(&cluster, "TLSContext", "bad", |status| {
        is(status, "Accepted", "False")
    })
    .await;
    status(&cluster, "Listener", "web", |status| {
        is(status, "Accepted", "True")
    })
    .await;
    let _second = second(&cluster).await;
    let of_first = held(&cluster, |_| true).await;
    let text = first.admin("/metrics").await.text().to_owned();
    assert!(
        text.contains("nuncio_config_revision 1\n"),
        "its own status is no change: {text}"
    );
    first.program.signal("TERM");
    first.program.end().await;
    held(&cluster, |holder| holder != of_first).await;
    // The second has looked at everything once it tells of something new.
    cluster.apply(service("svc")).await;
    cluster
        .apply(mapping("new", "/new/", "https://svc", &json!({})))
        .await;
    status(&cluster, "Mapping", "new", |status| status["state"] == "Running").await;
    for asked in status_writes(&cluster) {
        assert_eq!(asked.verb, "patch");
        assert!(asked.query.contains("fieldManager=nuncio"), "{asked:?}");
        assert!(asked.body.get("spec").is_none());
    }
    let mut writes: Vec<_> = status_writes(&cluster)
        .into_iter()
        .map(|asked| format!("{}/{}", asked.plural, asked.name))
        .collect();
    let all = writes.len();
    writes.sort();
    writes.dedup();
    assert_eq!((writes.len(), all), (53, 53), "each once");
    // The problem was told before: the same Event counts once more.
    let of_bad = eventually("the Event counts", async || {
        let events = cluster.list(EVENTS, "Event").await;
        let of_bad = |event: &&Value| event["regarding"]["name"] == "bad";
        let of_bad: Vec<_> = events.iter().filter(of_bad).cloned().collect();
        (of_bad.first()?["series"]["count"] == 2).then_some(of_bad)
    })
    .await;
    assert_eq!(of_bad.len(), 1, "{of_bad:#?}");
}

#[tokio::test]
async fn a_status_that_cannot_be_written_now_is_written_later() {
    let cluster = Cluster::guarded().await;
    cluster.gate().fail_statuses(3);
    let gateway = start(&cluster).await;
    status(&cluster, "Listener", "web", |status| {
        is(status, "Accepted", "True")
    })
    .await;
    assert_eq!(status_writes(&cluster).len(), 4);
    metric(
        &gateway,
        "nuncio_kubernetes_writes_total{what=\"status\",outcome=\"failed\"} 3",
    )
    .await;
    metric(
        &gateway,
        "nuncio_kubernetes_writes_total{what=\"status\",outcome=\"written\"} 1",
    )
    .await;
}

#[tokio::test]
async fn a_status_that_can_never_be_written_keeps_no_other_from_it() {
    let cluster = Cluster::guarded().await;
    cluster.gate().spoil("spoilt");
    let plain = json!({});
    cluster.apply(service("svc")).await;
    cluster
        .apply(mapping("spoilt", "/spoilt/", "https://svc", &plain))
        .await;
    for number in 0..20 {
        let (name, prefix) = (format!("m{number}"), format!("/{number}/"));
        cluster
            .apply(mapping(&name, &prefix, "https://svc", &plain))
            .await;
    }
    cluster
        .apply(mapping("bad", "/bad/", "https://svc:99999", &plain))
        .await;
    let mut gateway = start(&cluster).await;
    for number in 0..20 {
        status(&cluster, "Mapping", &format!("m{number}"), Value::is_object).await;
    }
    eventually("problems are Events all the same", async || {
        let events = cluster.list(EVENTS, "Event").await;
        let of_bad = events.iter().any(|event| event["regarding"]["name"] == "bad");
        of_bad.then_some(())
    })
    .await;
    gateway.program.logged("the status of Mapping spoilt").await;
}

#[tokio::test]
async fn a_gateway_that_may_not_write_serves_and_says_so_once() {
    let cluster = Cluster::guarded().await;
    let upstream = Upstream::cleartext().await;
    let to = mapping("m", "/", &format!("http://{}", upstream.address), &json!({}));
    cluster.apply(to).await;
    cluster
        .apply(mapping("bad", "/bad/", "https://svc:99999", &json!({})))
        .await;
    cluster
        .apply(tls_context("context", &json!({"sni": "x.test"})))
        .await;
    cluster.gate().forbid("mappings/status", true);
    cluster.gate().forbid("events", true);
    cluster.gate().install("tlscontexts/status", false);
    cluster.gate().drop_conditions("listeners");
    let mut gateway = start(&cluster).await;
    for words in [
        "no status of Mapping objects is written",
        "no status of TLSContext objects is written",
        "no status of Listener objects is written",
        "no Events are written",
    ] {
        gateway.program.logged(words).await;
    }
    for number in 0..5 {
        let (name, prefix) = (format!("m{number}"), format!("/{number}/"));
        let to = mapping(
            &name,
            &prefix,
            &format!("http://{}", upstream.address),
            &json!({}),
        );
        cluster.apply(to).await;
        gateway.get_until(&prefix, |answer| answer.status == 200).await;
    }
    let log = gateway.program.stderr();
    let told = log
        .iter()
        .filter(|line| line.contains("no status of Mapping objects"));
    assert_eq!(told.count(), 1, "{log:#?}");
    assert!(
        status_writes(&cluster)
            .iter()
            .filter(|asked| asked.plural == "mappings")
            .count()
            <= 2
    );
}

#[tokio::test]
async fn without_a_lease_nobody_writes_and_everybody_serves() {
    let cluster = Cluster::guarded().await;
    cluster.gate().forbid("leases", true);
    let upstream = Upstream::cleartext().await;
    let to = mapping("m", "/", &format!("http://{}", upstream.address), &json!({}));
    cluster.apply(to).await;
    let mut gateway = start(&cluster).await;
    gateway.program.logged("the Lease nuncio-leader").await;
    gateway.get("/").await.assert_ok();
    metric(&gateway, "nuncio_kubernetes_leader 0").await;
    assert!(status_writes(&cluster).is_empty());
    assert!(cluster.list(EVENTS, "Event").await.is_empty());
}

#[tokio::test]
async fn of_many_good_and_one_bad_of_each_kind_the_bad_ones_say_why() {
    let cluster = Cluster::new().await;
    let ca = Certificates::new();
    cluster.apply(tls_secret("good", &ca.server(&["svc"]))).await;
    let spare = KeptPort::new();
    let kinds = [
        mapping("bad", "/bad/", "https://svc:99999", &json!({})),
        tls_context("bad", &json!({"secret": "nowhere"})),
        json!({
            "apiVersion": OURS, "kind": "Host", "metadata": {"name": "bad"},
            "spec": {"hostname": "bad.test", "tlsSecret": {"name": "nowhere"}},
        }),
        json!({
            "apiVersion": OURS, "kind": "Listener", "metadata": {"name": "bad"},
            // The definition lets a stack of any layers through.
            "spec": {
                "port": spare.number, "protocolStack": ["UDP"], "securityModel": "XFP",
                "hostBinding": {"namespace": {"from": "ALL"}},
            },
        }),
        json!({
            "apiVersion": OURS, "kind": "Module", "metadata": {"name": "ambassador"},
            "spec": {"config": {"server_name": "a\nb"}},
        }),
    ];
    for bad in kinds {
        cluster.apply(bad).await;
    }
    cluster.apply(service("svc")).await;
    for number in 0..500 {
        let (name, prefix) = (format!("m{number:03}"), format!("/{number}/"));
        cluster
            .apply(mapping(&name, &prefix, "https://svc", &json!({})))
            .await;
    }
    let _gateway = start(&cluster).await;
    let bad = status(&cluster, "Mapping", "bad", |status| status["state"] == "Inactive").await;
    assert!(bad["reason"].as_str().unwrap().contains("99999"), "{bad}");
    for (kind, name) in [
        ("TLSContext", "bad"),
        ("Host", "bad"),
        ("Listener", "bad"),
        ("Module", "ambassador"),
    ] {
        let bad = status(&cluster, kind, name, |status| is(status, "Accepted", "False")).await;
        let told = condition(&bad, "Accepted");
        assert!(!told["message"].as_str().unwrap().is_empty(), "{kind}: {bad}");
    }
    let last = status(&cluster, "Mapping", "m499", Value::is_object).await;
    assert_eq!(last, json!({"state": "Running"}));
}
