//! What a compile costs in a cluster of 10,000 Mappings: the first, one after a Mapping was edited, one after
//! endpoints changed; the best of several rounds. `cargo bench -p nuncio-compile --bench edit`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot go on has failed; its output is the figures"
)]

use std::time::{Duration, Instant};

use data_encoding::BASE64;
use nuncio_compile::{LastGood, Object, Objects, Options, Output, compile};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

/// The object that a round changes.
type Change = fn(usize) -> Option<Object>;

const MAPPINGS: usize = 10_000;
const ROUNDS: usize = 20;

fn object(document: Value) -> Object {
    Object::from_document(document, None).unwrap()
}

fn ours(kind: &str, name: &str, spec: &Value) -> Object {
    object(json!({
        "apiVersion": "getambassador.io/v3alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
    }))
}

fn mapping(number: usize, rewrite: &str) -> Object {
    let spec = json!({
        "hostname": "*", "prefix": format!("/{number}/"), "service": format!("https://svc-{number}"),
        "tls": format!("context-{}", number / 10), "rewrite": rewrite,
    });
    ours("Mapping", &format!("mapping-{number:05}"), &spec)
}

fn slice(number: usize, address: &str) -> Object {
    let name = format!("svc-{number}");
    object(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("{name}-x"), "namespace": "shop", "labels": {"kubernetes.io/service-name": name},
        },
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": 8443, "protocol": "TCP"}],
    }))
}

fn secret(number: usize) -> Object {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![format!("client-{number}")]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let data = json!({
        "tls.crt": BASE64.encode(certificate.pem().as_bytes()),
        "tls.key": BASE64.encode(key.serialize_pem().as_bytes()),
    });
    object(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": format!("client-{number}"), "namespace": "shop"}, "data": data,
    }))
}

fn world() -> Vec<Object> {
    let mut objects = Vec::new();
    let spec = json!({
        "port": 8080, "protocol": "HTTP", "securityModel": "XFP", "hostBinding": {"namespace": {"from": "ALL"}},
    });
    objects.push(ours("Listener", "web", &spec));
    for number in 0..MAPPINGS / 10 {
        let spec = json!({"secret": format!("client-{number}")});
        objects.push(ours("TLSContext", &format!("context-{number}"), &spec));
        objects.push(secret(number));
    }
    for number in 0..MAPPINGS {
        objects.push(object(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("svc-{number}"), "namespace": "shop"},
            "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "https", "port": 443, "targetPort": 8443}]},
        })));
        objects.push(slice(number, "10.1.0.1"));
        objects.push(mapping(number, "/"));
    }
    objects
}

/// Replaces the object of the same name.
fn put(objects: &mut Objects, object: Object) {
    let known = objects
        .objects
        .iter_mut()
        .find(|known| known.reference == object.reference);
    *known.unwrap() = object;
}

fn timed(objects: &Objects, options: &Options, before: &Output) -> (Duration, Output) {
    let begun = Instant::now();
    let output = compile(objects, options, &before.last_good);
    (begun.elapsed(), output)
}

fn main() {
    let options = Options {
        namespace: "shop".into(),
        now: std::time::SystemTime::now(),
        ..Options::default()
    };
    let mut objects = Objects {
        objects: world(),
        ..Objects::default()
    };
    let begun = Instant::now();
    let mut output = compile(&objects, &options, &LastGood::default());
    println!(
        "first compile: {:?}, {} problems",
        begun.elapsed(),
        output.snapshot.problems.len()
    );
    let kinds: [(&str, Change); 3] = [
        ("nothing changed", |_| None),
        ("a Mapping edited", |round| {
            Some(mapping(17, &format!("/{round}/")))
        }),
        ("endpoints changed", |round| {
            Some(slice(17, &format!("10.2.{round}.1")))
        }),
    ];
    for (what, change) in kinds {
        let mut took = Vec::with_capacity(ROUNDS);
        for round in 0..ROUNDS {
            if let Some(object) = change(round) {
                put(&mut objects, object);
            }
            let (time, next) = timed(&objects, &options, &output);
            took.push(time);
            output = next;
        }
        // A busy machine can only add to it.
        println!("{what}: {:?}", took.into_iter().min().unwrap_or_default());
    }
}
