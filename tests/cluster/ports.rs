//! Listeners whose ports cannot be opened: they are problems of those Listeners, and of nobody else.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use serde_json::{Value, json};

use super::Cluster;
use super::objects::{OURS, listener};
use super::status::{EVENTS, condition, is, status};
use crate::support::waiting::eventually;

fn named(name: &str, port: u16) -> Value {
    let mut object = listener(port);
    object["metadata"]["name"] = json!(name);
    object
}

async fn has_event(cluster: &Cluster, name: &str, reason: &str) {
    eventually(&format!("an Event on {name}"), async || {
        let events = cluster.list(EVENTS, "Event").await;
        let found = |event: &Value| event["regarding"]["name"] == name && event["reason"] == reason;
        events.iter().any(found).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_listener_on_a_taken_port_stops_no_gateway() {
    let cluster = Cluster::new().await;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    cluster.apply(named("taken", address.port())).await;
    let gateway = cluster.plan().start().await;
    let refused = status(&cluster, "Listener", "taken", |status| {
        is(status, "Accepted", "False")
    })
    .await;
    assert_eq!(
        condition(&refused, "Accepted")["reason"],
        "port_unavailable",
        "{refused}"
    );
    let open = status(&cluster, "Listener", "web", Value::is_object).await;
    assert!(is(&open, "Accepted", "True"), "{open}");
    has_event(&cluster, "taken", "port_unavailable").await;
    let port = gateway.address;
    TcpStream::connect(port).expect("the other port is open");

    drop(taken);
    status(&cluster, "Listener", "taken", |status| {
        is(status, "Accepted", "True")
    })
    .await;
    TcpStream::connect(address).expect("the port is open once it is free");
}

#[tokio::test]
async fn a_listener_on_the_admin_port_is_refused() {
    let cluster = Cluster::new().await;
    let gateway = cluster.plan().start().await;
    cluster.apply(named("admin", gateway.admin.port())).await;
    let refused = status(&cluster, "Listener", "admin", |status| {
        is(status, "Accepted", "False")
    })
    .await;
    assert_eq!(
        condition(&refused, "Accepted")["reason"],
        "reserved_port",
        "{refused}"
    );
    has_event(&cluster, "admin", "reserved_port").await;
    assert_eq!(gateway.admin("/ambassador/v0/check_ready").await.status, 200);
    assert_eq!(
        cluster.get(OURS, "Listener", "admin").await["spec"]["port"],
        gateway.admin.port()
    );
}
