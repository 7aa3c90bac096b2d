//! Which Secrets objects name, so that nobody needs to keep the others.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use crate::inventory::{self, Inventory};
use crate::problems::Problems;
use crate::{Object, Options};

/// Fields of a TLSContext's `spec` that name a Secret.
const OF_CONTEXT: [&str; 3] = ["secret", "ca_secret", "crl_secret"];
/// Fields of a Host's `spec.tls` that name one.
const OF_HOST_TLS: [&str; 3] = ["ca_secret", "caSecret", "crl_secret"];

/// Namespace and name of every Secret that a TLSContext or Host of ours may mean. Whether a dot in a name
/// separates the namespace depends on more than the object, so a name with one stands for both.
pub fn referenced_secrets(objects: &[Object], options: &Options) -> HashSet<(Arc<str>, Arc<str>)> {
    let mut unheard = Problems::default();
    let naming = objects
        .iter()
        .filter(|object| object.may_hold(&["TLSContext", "Host"]));
    let expanded = inventory::expand(naming, &mut unheard);
    let inventory = Inventory::take(&expanded, options, &mut unheard);
    let mut named = HashSet::new();
    for object in inventory.contexts {
        let document = object.document.value();
        for field in OF_CONTEXT {
            add(&document["spec"][field], &object.reference.namespace, &mut named);
        }
    }
    for object in inventory.hosts {
        let document = object.document.value();
        let (spec, own) = (&document["spec"], &object.reference.namespace);
        for field in OF_HOST_TLS {
            add(&spec["tls"][field], own, &mut named);
        }
        let secret = &spec["tlsSecret"];
        let namespace = secret["namespace"].as_str().filter(|text| !text.is_empty());
        if let Some(name) = secret["name"].as_str().filter(|name| !name.is_empty()) {
            named.insert((namespace.map_or_else(|| Arc::clone(own), Arc::from), name.into()));
        }
    }
    let own_only = options.single_namespace || options.certs_single_namespace;
    named.retain(|(namespace, _)| !own_only || **namespace == *options.namespace);
    named
}

fn add(name: &Value, namespace: &Arc<str>, named: &mut HashSet<(Arc<str>, Arc<str>)>) {
    let Some(text) = name.as_str().filter(|text| !text.is_empty()) else {
        return;
    };
    named.insert((Arc::clone(namespace), text.into()));
    if let Some((name, elsewhere)) = text.rsplit_once('.') {
        named.insert((elsewhere.into(), name.into()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, spec: &Value) -> Object {
        let document = json!({
            "apiVersion": "getambassador.io/v3alpha1", "kind": kind,
            "metadata": {"name": "it", "namespace": "here"}, "spec": spec,
        });
        Object::from_document(document, None).unwrap()
    }

    #[test]
    fn every_secret_that_may_be_meant_is_named_and_no_other() {
        let objects = [
            object(
                "TLSContext",
                &json!({"secret": "client", "ca_secret": "ca.there", "crl_secret": ""}),
            ),
            object(
                "Host",
                &json!({"tlsSecret": {"name": "server"}, "tls": {"ca_secret": "callers"}}),
            ),
            object("Mapping", &json!({"prefix": "/", "service": "secret"})),
        ];
        let named = referenced_secrets(&objects, &Options::default());
        let mut named: Vec<_> = named
            .iter()
            .map(|(namespace, name)| format!("{namespace}/{name}"))
            .collect();
        named.sort();
        assert_eq!(
            named,
            [
                "here/ca.there",
                "here/callers",
                "here/client",
                "here/server",
                "there/ca"
            ]
        );
    }

    #[test]
    fn what_an_object_of_another_gateway_names_does_not_count() {
        let objects = [object(
            "TLSContext",
            &json!({"secret": "client", "ambassador_id": ["other"]}),
        )];
        assert!(referenced_secrets(&objects, &Options::default()).is_empty());
    }
}
