//! The CustomResourceDefinitions of all kinds that there may be objects of.
//!
//! They are made to be installed over the reference's and to be replaced by those again. No object is lost on either
//! way: a version in which the API server may have stored objects stays in the list, not served any more, and every
//! field of the reference's schema is known here. What the reference's definitions let through is let through.

use serde_json::{Map, Value, json};

use crate::structural::{OPEN, structural};
use crate::{
    Column, GROUP, HostSpec, KubernetesEndpointResolverSpec, KubernetesServiceResolverSpec, ListenerSpec,
    MappingSpec, ModuleSpec, Rule, Spec, TlsContextSpec, VERSION, Values, schema, schema_at,
};

/// Versions in which objects may be stored, by the reference from 1.x to 3.x. Without the reference's webhook nobody
/// can convert them, so they are not served.
const STORED_ONCE: [&str; 2] = ["v1", "v2"];

/// What is said of a field that has no effect.
const WITHOUT_EFFECT: &str = "Known to Ambassador; nuncio does not act on it yet.";

const TO_ENDPOINTS: &str = "Finds Services of the cluster; nuncio sends to their ready endpoints.";

/// What is said of a field that is for nobody who reads objects.
const NOTE: &str = "How the object looked in getambassador.io/v2; of no meaning to a gateway.";

/// What differs between the kinds.
struct Kind {
    name: &'static str,
    plural: &'static str,
    about: &'static str,
    spec: Value,
    columns: &'static [Column],
}

/// A CustomResourceDefinition a kind, each a whole document for the API server.
pub fn definitions() -> Vec<Value> {
    let kinds = [
        typed::<MappingSpec>("A route and its upstream."),
        typed::<TlsContextSpec>("Certificates and TLS parameters, for upstreams and for termination."),
        typed::<HostSpec>("A virtual host."),
        typed::<ListenerSpec>("A port."),
        typed::<ModuleSpec>("Settings for the whole gateway; only the one named ambassador is read."),
        open(
            "TCPMapping",
            "tcpmappings",
            "A port whose bytes are passed on; not served by nuncio yet.",
        ),
        typed::<KubernetesServiceResolverSpec>(TO_ENDPOINTS),
        typed::<KubernetesEndpointResolverSpec>(TO_ENDPOINTS),
        open(
            "ConsulResolver",
            "consulresolvers",
            "Finds services in Consul; not supported by nuncio.",
        ),
        open(
            "AuthService",
            "authservices",
            "Asks a service whether a request may pass; not supported by nuncio.",
        ),
        open(
            "RateLimitService",
            "ratelimitservices",
            "Counts requests in a service; not supported by nuncio.",
        ),
        open(
            "LogService",
            "logservices",
            "Sends access logs to a service; not supported by nuncio.",
        ),
        open(
            "TracingService",
            "tracingservices",
            "Sends traces to a service; not supported by nuncio.",
        ),
        open(
            "DevPortal",
            "devportals",
            "A catalogue of services; not supported by nuncio.",
        ),
    ];
    kinds.into_iter().map(Kind::definition).collect()
}

/// A kind whose fields are known.
fn typed<S: Spec>(about: &'static str) -> Kind {
    let mut spec = structural(schema::<S>().as_value());
    for path in S::LATER {
        if let Some(field) = schema_at(&mut spec, path) {
            field["description"] = WITHOUT_EFFECT.into();
        }
    }
    for path in S::NOTES {
        if let Some(field) = schema_at(&mut spec, path) {
            field["description"] = NOTE.into();
        }
    }
    for (path, values) in S::VALUES {
        if let Some(field) = schema_at(&mut spec, path) {
            restrict(field, *values);
        }
    }
    if !S::REQUIRED.is_empty() {
        spec["required"] = S::REQUIRED.into();
    }
    if !S::RULES.is_empty() {
        spec["x-kubernetes-validations"] = S::RULES.iter().map(rule).collect();
    }
    Kind {
        name: S::KIND,
        plural: S::PLURAL,
        about,
        spec,
        columns: S::COLUMNS,
    }
}

/// A kind whose objects are kept as they are.
fn open(name: &'static str, plural: &'static str, about: &'static str) -> Kind {
    Kind {
        name,
        plural,
        about,
        spec: json!({"type": "object", OPEN: true}),
        columns: &[],
    }
}

fn restrict(field: &mut Value, values: Values) {
    match values {
        Values::OneOf(texts) => field["enum"] = texts.into(),
        Values::Between(least, most) => {
            field["minimum"] = least.into();
            field["maximum"] = most.into();
        }
        Values::AnyObject => field["type"] = "object".into(),
        Values::KnownNames => {
            let properties = field.get_mut("properties").and_then(Value::as_object_mut);
            for (_, known) in properties.into_iter().flatten() {
                let description = known["description"].take();
                *known = json!({"description": description, OPEN: true});
            }
            field[OPEN] = true.into();
        }
    }
}

fn rule(rule: &Rule) -> Value {
    let holds = rule.holds.split_whitespace().collect::<Vec<_>>().join(" ");
    json!({"rule": holds, "message": rule.message})
}

impl Kind {
    fn definition(self) -> Value {
        let singular = self.name.to_lowercase();
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{}.{GROUP}", self.plural),
                "labels": {"app.kubernetes.io/name": "nuncio", "app.kubernetes.io/part-of": "nuncio"},
            },
            "spec": {
                "group": GROUP,
                "names": {
                    "categories": ["ambassador-crds"],
                    "kind": self.name,
                    "listKind": format!("{}List", self.name),
                    "plural": self.plural,
                    "singular": singular,
                },
                "scope": "Namespaced",
                // Where the reference was installed with its webhook, that one goes: null takes the field away.
                "conversion": {"strategy": "None", "webhook": null},
                "preserveUnknownFields": false,
                "versions": self.versions(),
            },
        })
    }

    fn versions(self) -> Value {
        let stored = STORED_ONCE.map(|name| {
            let schema = json!({"type": "object", OPEN: true});
            json!({
                "name": name, "served": false, "storage": false, "deprecated": true,
                "schema": {"openAPIV3Schema": schema},
            })
        });
        let mut version = Map::new();
        version.insert("name".into(), VERSION.into());
        version.insert("served".into(), true.into());
        version.insert("storage".into(), true.into());
        version.insert("subresources".into(), json!({"status": {}}));
        if !self.columns.is_empty() {
            let columns: Value = self.columns.iter().map(column).collect();
            version.insert("additionalPrinterColumns".into(), columns);
        }
        let schema = json!({
            "description": self.about,
            "type": "object",
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": self.spec,
                "status": status(),
            },
        });
        version.insert("schema".into(), json!({"openAPIV3Schema": schema}));
        stored.into_iter().chain([version.into()]).collect()
    }
}

fn column(column: &Column) -> Value {
    json!({"name": column.name, "type": column.kind, "jsonPath": column.path})
}

/// What the gateway says of an object; whatever else stands there, such as what other gateways said, is kept.
fn status() -> Value {
    json!({
        "description": "What gateways say of the object.",
        "type": "object",
        OPEN: true,
        "properties": {
            "state": {"description": "Running, or Inactive with a reason.", "type": "string"},
            "reason": {"description": "Why it is inactive.", "type": "string"},
            "conditions": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status"],
                    "properties": {
                        "type": {"type": "string", "maxLength": 316},
                        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                        "reason": {"type": "string", "maxLength": 1024},
                        "message": {"type": "string", "maxLength": 32768},
                        "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
                        "lastTransitionTime": {"type": "string", "format": "date-time"},
                    },
                },
            },
        },
    })
}

#[cfg(test)]
mod tests;
