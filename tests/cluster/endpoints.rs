//! Where the pods of a Service are: how a cluster says it, and what the gateway makes of it.

use std::net::{Ipv6Addr, SocketAddr};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Cluster;
use super::objects::mapping;
use crate::support::peer::{Upstream, read_head};
use crate::support::program::Gateway;
use crate::support::waiting::eventually;

const SLICES: &str = "discovery.k8s.io/v1";

/// A Service `svc` with one port, and a Mapping of everything to it.
async fn with_service(cluster: &Cluster, spec: Value) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "svc"}, "spec": spec,
    });
    cluster.apply(service).await;
    let to_svc = mapping("m", "/", "http://svc:80", &json!({"timeout_ms": 60000}));
    cluster.apply(to_svc).await;
}

fn port(name: Option<&str>, target: impl Into<Value>) -> Value {
    let mut port = json!({"port": 80, "protocol": "TCP", "targetPort": target.into()});
    if let Some(name) = name {
        port["name"] = name.into();
    }
    json!({"ports": [port]})
}

/// An EndpointSlice of `svc` with one endpoint.
fn slice(name: &str, address: SocketAddr, port_name: Option<&str>, conditions: &Value) -> Value {
    let mut port = json!({"port": address.port(), "protocol": "TCP"});
    if let Some(name) = port_name {
        port["name"] = name.into();
    }
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    json!({
        "apiVersion": SLICES, "kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "svc"}},
        "endpoints": [{"addresses": [address.ip()], "conditions": conditions}], "ports": [port],
    })
}

fn ready() -> Value {
    json!({"ready": true, "serving": true, "terminating": false})
}

/// Waits until requests reach these upstreams, and no others of `all`.
async fn only(gateway: &Gateway, all: &[&Upstream], wanted: &[usize]) {
    eventually("the right pods get traffic", async || {
        let before: Vec<usize> = all.iter().map(|pod| pod.requests().len()).collect();
        for _ in 0..12 {
            gateway.get("/").await;
        }
        let reached: Vec<usize> = (0..all.len())
            .filter(|pod| all[*pod].requests().len() > before[*pod])
            .collect();
        (reached == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn ready_pods_get_traffic_and_where_there_is_none_those_that_still_serve() {
    let cluster = Cluster::new().await;
    with_service(&cluster, port(Some("web"), 8080)).await;
    let (one, other) = (Upstream::cleartext().await, Upstream::cleartext().await);
    let pods = [&one, &other];
    let conditions = |ready: bool, serving: bool, terminating: bool| json!({"ready": ready, "serving": serving, "terminating": terminating});
    let apply = async |name: &str, pod: &Upstream, conditions: Value| {
        cluster
            .apply(slice(name, pod.address, Some("web"), &conditions))
            .await;
    };
    apply("one", &one, ready()).await;
    apply("other", &other, conditions(false, false, false)).await;
    let gateway = cluster.plan().start().await;
    only(&gateway, &pods, &[0]).await;
    apply("other", &other, ready()).await;
    only(&gateway, &pods, &[0, 1]).await;
    apply("one", &one, conditions(false, true, true)).await;
    only(&gateway, &pods, &[1]).await;
    apply("other", &other, conditions(false, false, true)).await;
    only(&gateway, &pods, &[0]).await;
    apply("one", &one, conditions(false, false, true)).await;
    let answer = gateway.get_until("/", |answer| answer.status == 503).await;
    assert_eq!(answer.reason(), "no_endpoints");
}

#[tokio::test]
async fn target_ports_are_found_by_name_by_number_and_alone() {
    let cluster = Cluster::new().await;
    let pod = Upstream::cleartext().await;
    with_service(&cluster, port(Some("web"), "http-port")).await;
    cluster
        .apply(slice("one", pod.address, Some("web"), &ready()))
        .await;
    let gateway = cluster.plan().start().await;
    only(&gateway, &[&pod], &[0]).await;

    // The endpoint controller leaves the name out where the Service has none.
    let number = pod.address.port();
    cluster.delete("v1", "Service", "svc").await;
    cluster.apply(slice("one", pod.address, None, &ready())).await;
    with_service(&cluster, port(None, number)).await;
    only(&gateway, &[&pod], &[0]).await;
}

#[tokio::test]
async fn both_families_of_a_service_get_traffic() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await else {
        return eprintln!("this machine has no IPv6");
    };
    // A real cluster lets no pod be at ::1.
    let cluster = Cluster::fake().await;
    let four = Upstream::cleartext().await;
    let six = listener.local_addr().unwrap();
    let (seen, mut sees) = watch::channel(false);
    let served = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_head(&mut stream).await;
            seen.send_replace(true);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            // The gateway may be gone.
            let _ = stream.write_all(answer).await;
        }
    });
    let mut spec = port(Some("web"), 8080);
    spec["ipFamilyPolicy"] = "PreferDualStack".into();
    with_service(&cluster, spec).await;
    cluster
        .apply(slice("four", four.address, Some("web"), &ready()))
        .await;
    cluster.apply(slice("six", six, Some("web"), &ready())).await;
    let gateway = cluster.plan().start().await;
    eventually("both get traffic", async || {
        gateway.get("/").await.assert_ok();
        (*sees.borrow_and_update() && !four.requests().is_empty()).then_some(())
    })
    .await;
    served.abort();
}

#[tokio::test]
async fn a_headless_service_and_one_of_a_name_are_reached() {
    let cluster = Cluster::new().await;
    let pod = Upstream::cleartext().await;
    let mut spec = port(Some("web"), 8080);
    spec["clusterIP"] = "None".into();
    with_service(&cluster, spec).await;
    cluster
        .apply(slice("one", pod.address, Some("web"), &ready()))
        .await;
    let named = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "named"},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    });
    cluster.apply(named).await;
    let service = format!("http://named:{}", pod.address.port());
    cluster
        .apply(mapping("named", "/named/", &service, &json!({})))
        .await;
    let gateway = cluster.plan().start().await;
    gateway.get("/").await.assert_ok();
    gateway.get("/named/").await.assert_ok();
}

/// An object of a Service's endpoints, older than slices.
fn endpoints(addresses: &[SocketAddr]) -> Value {
    let subsets: Vec<_> = addresses
        .iter()
        .map(|address| {
            json!({
                "addresses": [{"ip": address.ip()}],
                "ports": [{"name": "web", "port": address.port(), "protocol": "TCP"}],
            })
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "svc"}, "subsets": subsets})
}

#[tokio::test]
async fn endpoints_are_read_where_slices_are_missing_or_forbidden() {
    for forbidden in [false, true] {
        let cluster = Cluster::guarded().await;
        cluster.gate().install("endpointslices", forbidden);
        cluster.gate().forbid("endpointslices", forbidden);
        let (one, other) = (Upstream::cleartext().await, Upstream::cleartext().await);
        with_service(&cluster, port(Some("web"), 8080)).await;
        cluster.apply(endpoints(&[one.address])).await;
        let gateway = cluster.plan().start().await;
        gateway.get("/").await.assert_ok();
        only(&gateway, &[&one, &other], &[0]).await;
        cluster.apply(endpoints(&[one.address, other.address])).await;
        only(&gateway, &[&one, &other], &[0, 1]).await;
        cluster.apply(endpoints(&[other.address])).await;
        only(&gateway, &[&one, &other], &[1]).await;

        // Slices that come later win, and nothing stands in for them any more.
        let sliced = slice("svc-x", one.address, Some("web"), &ready());
        cluster.apply(sliced).await;
        cluster.gate().install("endpointslices", true);
        cluster.gate().forbid("endpointslices", false);
        only(&gateway, &[&one, &other], &[0]).await;
        eventually("Endpoints are watched no more", async || {
            let metrics = gateway.admin("/metrics").await;
            let watched = metrics.text().contains("kind=\"endpoints\"");
            (!watched).then_some(())
        })
        .await;
        only(&gateway, &[&one, &other], &[0]).await;
    }
}

#[tokio::test]
async fn a_pod_that_leaves_finishes_what_it_has() {
    let cluster = Cluster::new().await;
    let (asked, mut asks) = watch::channel(0);
    let (go, wait) = watch::channel(false);
    let slow = Upstream::raw(move |mut stream: TcpStream| {
        let (asked, mut wait) = (asked.clone(), wait.clone());
        async move {
            if read_head(&mut stream).await.starts_with("GET /late ") {
                asked.send_modify(|asked| *asked += 1);
                wait.wait_for(|go| *go).await.unwrap();
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlate";
            stream.write_all(answer).await.unwrap();
        }
    });
    let (slow, fresh) = (slow.await, Upstream::cleartext().await);
    with_service(&cluster, port(Some("web"), 8080)).await;
    cluster
        .apply(slice("one", slow.address, Some("web"), &ready()))
        .await;
    let gateway = cluster.plan().start().await;
    let (address, authority) = (gateway.address, gateway.authority());
    let answer = tokio::spawn(async move {
        let mut client = crate::support::client::Client::http1(address).await;
        client.get(&authority, "/late").await
    });
    asks.wait_for(|asked| *asked == 1).await.unwrap();
    cluster
        .apply(slice("two", fresh.address, Some("web"), &ready()))
        .await;
    cluster.delete(SLICES, "EndpointSlice", "one").await;
    eventually("all go to the pod that is left", async || {
        let before = fresh.requests().len();
        for _ in 0..4 {
            // Until it is known, the pod that leaves answers too.
            assert_eq!(gateway.get("/").await.status, 200);
        }
        (fresh.requests().len() == before + 4).then_some(())
    })
    .await;
    go.send(true).unwrap();
    assert_eq!(answer.await.unwrap().text(), "late", "it was not cut off");
}
