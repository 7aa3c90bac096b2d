//! Objects as tests write them. Namespace and `ambassador_id` are added when they are applied.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::certificates::Identity;

pub const OURS: &str = "getambassador.io/v3alpha1";

pub fn listener(port: u16) -> Value {
    json!({
        "apiVersion": OURS, "kind": "Listener", "metadata": {"name": "web"},
        "spec": {
            "port": port, "protocol": "HTTP", "securityModel": "XFP",
            "hostBinding": {"namespace": {"from": "ALL"}},
        },
    })
}

/// A Mapping of every hostname; `more` are further fields of its spec.
pub fn mapping(name: &str, prefix: &str, service: &str, more: &Value) -> Value {
    let mut spec = json!({"hostname": "*", "prefix": prefix, "service": service});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"apiVersion": OURS, "kind": "Mapping", "metadata": {"name": name}, "spec": spec})
}

pub fn tls_context(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": OURS, "kind": "TLSContext", "metadata": {"name": name}, "spec": spec})
}

pub fn secret(name: &str, entries: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<_, _> = entries
        .iter()
        .map(|(key, text)| ((*key).to_owned(), STANDARD.encode(text).into()))
        .collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "data": data})
}

pub fn tls_secret(name: &str, identity: &Identity) -> Value {
    secret(name, &[("tls.crt", &identity.chain), ("tls.key", &identity.key)])
}

/// A Service whose port 443 leads to endpoint ports named `https`.
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": 8443}]},
    })
}

/// An EndpointSlice with ready endpoints at these addresses, which share a port.
pub fn slice(name: &str, service: &str, addresses: &[SocketAddr]) -> Value {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| json!({"addresses": [address.ip()], "conditions": {"ready": true}}))
        .collect();
    let port = addresses.first().map_or(8443, SocketAddr::port);
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "endpoints": endpoints, "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    })
}
