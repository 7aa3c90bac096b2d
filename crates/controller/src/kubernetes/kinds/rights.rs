//! The roles in deploy/ give what following and reporting take, and nothing else. That the chart gives the
//! same is tested beside it.

use std::collections::BTreeSet;
use std::path::Path;

use nuncio_compile::yaml;
use serde_json::Value;

use super::{KINDS, SECRET};
use crate::kubernetes::status;

/// Group, resource and verb.
type Right = (String, String, String);

fn texts(rule: &Value, field: &str) -> Vec<String> {
    let texts = rule[field].as_array().unwrap().iter();
    texts.map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// What the roles of a file give.
fn given(file: &str) -> BTreeSet<Right> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let mut rights = BTreeSet::new();
    for piece in yaml::pieces(&text) {
        let (nodes, fault) = yaml::parse(piece);
        assert!(fault.is_none(), "{file}: {fault:?}");
        let documents = nodes.into_iter().map(|node| node.into_value().unwrap());
        let roles =
            documents.filter(|document| matches!(document["kind"].as_str(), Some("Role" | "ClusterRole")));
        for role in roles {
            for rule in role["rules"].as_array().unwrap() {
                assert!(rule.get("resourceNames").is_none());
                for group in texts(rule, "apiGroups") {
                    for resource in texts(rule, "resources") {
                        let verbs = texts(rule, "verbs").into_iter();
                        rights.extend(verbs.map(|verb| (group.clone(), resource.clone(), verb)));
                    }
                }
            }
        }
    }
    rights
}

/// What the code asks for.
fn needed() -> BTreeSet<Right> {
    let right = |group: &str, resource: &str, verb: &str| (group.into(), resource.into(), verb.into());
    let mut rights = BTreeSet::from([
        right("events.k8s.io", "events", "create"),
        right("events.k8s.io", "events", "patch"),
        right("coordination.k8s.io", "leases", "get"),
        right("coordination.k8s.io", "leases", "create"),
        right("coordination.k8s.io", "leases", "update"),
    ]);
    for kind in &KINDS {
        rights.insert(right(kind.group, kind.plural, "list"));
        rights.insert(right(kind.group, kind.plural, "watch"));
        if kind.kind == SECRET {
            // One that is named only now is read by itself.
            rights.insert(right(kind.group, kind.plural, "get"));
        }
        if status::has_status(kind.kind, true) {
            rights.insert(right(kind.group, &format!("{}/status", kind.plural), "patch"));
        }
    }
    rights
}

#[test]
fn the_roles_give_what_is_needed_and_no_more() {
    for file in ["nuncio.yaml", "nuncio-single-namespace.yaml"] {
        assert_eq!(given(file), needed(), "{file}");
    }
}
