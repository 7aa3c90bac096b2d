//! An object as the cluster has it, without what changes nothing: two that are equal here mean the
//! same, whatever the API server counted up meanwhile.

use std::sync::Arc;

use kube::api::DynamicObject;
use nuncio_compile::Object;
use nuncio_model::ObjectRef;
use serde_json::{Map, Value, json};

use super::follow::Heard;
use super::kinds::Kind;
use super::status;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

/// An object, and what status is written with.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) key: Key,
    pub(crate) object: Object,
    /// `metadata.uid`
    pub(crate) uid: Arc<str>,
    /// `metadata.generation`, 0 where the kind has none.
    pub(crate) generation: i64,
    /// What its status says that we might write.
    pub(crate) status: Option<Box<str>>,
}

/// Holds a copy of the whole object, of a Secret's data too; `kubectl apply` writes it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl Key {
    pub(crate) fn of(object: &DynamicObject) -> Self {
        let metadata = &object.metadata;
        Self {
            namespace: metadata.namespace.as_deref().unwrap_or_default().into(),
            name: metadata.name.as_deref().unwrap_or_default().into(),
        }
    }
}

impl Found {
    /// What to tell of an object that the API server showed.
    pub(crate) fn heard(object: DynamicObject, kind: &Kind) -> Heard {
        let key = Key::of(&object);
        let uid = object.metadata.uid.as_deref().unwrap_or_default().into();
        let generation = object.metadata.generation.unwrap_or_default();
        let status = object.data.get("status");
        let status = status.and_then(|status| status::seen(kind.kind, status));
        match Object::from_document(document(object, kind), None) {
            Ok(object) => Heard::Object(Arc::new(Self {
                key,
                object,
                uid,
                generation,
                status,
            })),
            Err(mut problem) => {
                problem.object = Some(ObjectRef::new(kind.kind, &key.namespace, &key.name));
                Heard::Unreadable(key, problem)
            }
        }
    }
}

/// The document without status, versions and the notes of other programs.
fn document(object: DynamicObject, kind: &Kind) -> Value {
    let DynamicObject { metadata, data, .. } = object;
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    let mut head = Map::new();
    head.insert("name".into(), metadata.name.into());
    head.insert("namespace".into(), metadata.namespace.into());
    if let Some(labels) = metadata.labels.filter(|labels| !labels.is_empty()) {
        head.insert("labels".into(), json!(labels));
    }
    if !annotations.is_empty() {
        head.insert("annotations".into(), json!(annotations));
    }
    let mut document = match data {
        Value::Object(data) => data,
        _ => Map::new(),
    };
    document.remove("status");
    let version = match kind.group {
        "" => kind.version.to_owned(),
        group => format!("{group}/{}", kind.version),
    };
    document.insert("apiVersion".into(), version.into());
    document.insert("kind".into(), kind.kind.into());
    document.insert("metadata".into(), head.into());
    document.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::kinds::{KINDS, number_of};

    fn heard(document: Value, kind: &str) -> Heard {
        let object = serde_json::from_value(document).unwrap();
        Found::heard(object, &KINDS[number_of(kind)])
    }

    fn mapping(version: &str, status: &str) -> Value {
        json!({
            "apiVersion": "getambassador.io/v3alpha1", "kind": "Mapping",
            "metadata": {
                "name": "shop", "namespace": "a", "resourceVersion": version, "generation": 3, "uid": "u",
                "managedFields": [{"manager": version}],
                "annotations": {LAST_APPLIED: version, "mine": "1"},
            },
            "spec": {"prefix": "/"}, "status": {"state": status},
        })
    }

    #[test]
    fn what_the_server_counts_is_no_part_of_an_object() {
        let (Heard::Object(a), Heard::Object(b)) = (
            heard(mapping("1", "Running"), "Mapping"),
            heard(mapping("2", "Inactive"), "Mapping"),
        ) else {
            panic!("both can be read");
        };
        assert_eq!(a.object, b.object);
        assert_eq!(a.object.annotations.len(), 1);
        assert_eq!((&*a.uid, a.generation, &*a.key.namespace), ("u", 3, "a"));
    }

    #[test]
    fn an_object_that_cannot_be_read_is_a_problem_with_its_name() {
        let mut document = mapping("1", "");
        document["metadata"]["name"] = "".into();
        let Heard::Unreadable(key, problem) = heard(document, "Mapping") else {
            panic!("it has no name");
        };
        assert_eq!(&*key.namespace, "a");
        assert!(problem.object.is_some());
    }
}
