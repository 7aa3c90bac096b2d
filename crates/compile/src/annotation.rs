//! Objects in the annotation `getambassador.io/config` of Services and Ingresses (A22 to A28).
//!
//! They are read once, when the object that carries them is: a compile over thousands of Services reads no YAML. What is
//! wrong with them is told on the object that carries them, which is what a user can edit.

use nuncio_model::{ObjectRef, Problem, Severity};
use serde_json::{Map, Value};

use crate::{Object, conversion, unread, yaml};

/// The annotation.
const KEY: &str = "getambassador.io/config";
/// As a field.
pub(crate) const FIELD: &str = "metadata.annotations.getambassador.io/config";

/// Where an object of an annotation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Annotation {
    /// The object that carries the annotation.
    pub(crate) holder: ObjectRef,
    /// Number of the document in it, from 1.
    pub(crate) document: usize,
    /// Its apiVersion as it is written there.
    pub(crate) version: Box<str>,
}

impl Annotation {
    /// The beginning of a sentence about the object.
    pub(crate) fn words(&self, object: &ObjectRef) -> String {
        format!("document {}, {} `{}`: ", self.document, object.kind, object.name)
    }

    /// A field of the object as one of its holder: the documents are a list, counted from 0 as all lists of a path.
    pub(crate) fn field(&self, field: &str) -> String {
        let dot = if field.is_empty() { "" } else { "." };
        format!("{FIELD}[{}]{dot}{field}", self.document - 1)
    }
}

/// What the annotation of an object holds: objects, and why the other documents are none.
pub(crate) fn read(holder: &Object) -> Vec<Result<Object, Box<Problem>>> {
    let Some(text) = holder.annotations.get(KEY).filter(|_| may_hold(holder)) else {
        return Vec::new();
    };
    let mut read: Vec<Result<Object, Box<Problem>>> = Vec::new();
    for piece in yaml::pieces(text) {
        let (nodes, fault) = yaml::parse(piece);
        for node in nodes {
            let number = read.len() + 1;
            let object = node
                .into_value()
                .map_err(|fault| fault_problem(holder, number, &fault))
                .and_then(|document| object(holder, number, document));
            read.push(object);
        }
        if let Some(fault) = fault {
            let number = read.len() + 1;
            read.push(Err(fault_problem(holder, number, &fault)));
        }
    }
    read
}

fn may_hold(holder: &Object) -> bool {
    let group = holder.api_version.split('/').next().unwrap_or_default();
    match holder.kind.as_str() {
        "Service" => holder.api_version == "v1",
        "Ingress" => matches!(group, "networking.k8s.io" | "extensions"),
        _ => false,
    }
}

fn object(holder: &Object, number: usize, document: Value) -> Result<Object, Box<Problem>> {
    let Value::Object(mut document) = document else {
        let message = "is no object; write one with apiVersion, kind and name".to_owned();
        return Err(problem(holder, number, &message));
    };
    let written = document
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if written.is_empty() {
        return Err(problem(
            holder,
            number,
            "has no apiVersion; write getambassador.io/v3alpha1",
        ));
    }
    if let Some(version) = written.strip_prefix("ambassador/") {
        let version = format!("getambassador.io/{version}");
        if conversion::age(&version).is_some() {
            document.insert("apiVersion".into(), version.into());
        }
    }
    let document = inherited(with_metadata(document), holder);
    let mut object = Object::from_document(document, holder.place.clone())
        .map_err(|told| problem(holder, number, &format!("cannot be read: {}", told.message)))?;
    // One of Ambassador's in an unknown version may have been meant to guard, which compile sees to.
    if conversion::age(&object.api_version).is_none() && !unread::is_ambassadors(&object) {
        let message = format!(
            "has the apiVersion `{written}`, which is none that an annotation may hold; write getambassador.io/v3alpha1"
        );
        return Err(problem(holder, number, &message));
    }
    object.annotation = Some(Box::new(Annotation {
        holder: holder.reference.clone(),
        document: number,
        version: written.into(),
    }));
    Ok(object)
}

/// The flat form, `name` beside `kind` and the fields of `spec` beside both, in the form of the API server (A23).
fn with_metadata(document: Map<String, Value>) -> Map<String, Value> {
    if document.contains_key("metadata") {
        return document;
    }
    let (mut whole, mut metadata) = (Map::new(), Map::new());
    let mut spec = Map::new();
    for (key, value) in document {
        match key.as_str() {
            "apiVersion" | "kind" => whole.insert(key, value),
            "name" | "namespace" | "generation" => metadata.insert(key, value),
            "metadata_labels" => metadata.insert("labels".into(), value),
            "spec" if value.is_object() => whole.insert(key, value),
            _ => spec.insert(key, value),
        };
    }
    match whole.get_mut("spec").and_then(Value::as_object_mut) {
        Some(own) => own.extend(spec),
        None => {
            whole.insert("spec".into(), spec.into());
        }
    }
    whole.insert("metadata".into(), metadata.into());
    whole
}

/// Namespace and labels are those of the holder where the document has none.
fn inherited(mut document: Map<String, Value>, holder: &Object) -> Value {
    if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
        let lacks = |metadata: &Map<String, Value>, key| metadata.get(key).is_none_or(Value::is_null);
        if lacks(metadata, "namespace") {
            metadata.insert("namespace".into(), (*holder.reference.namespace).into());
        }
        if lacks(metadata, "labels") && !holder.labels.is_empty() {
            let labels: Map<String, Value> = holder
                .labels
                .iter()
                .map(|(key, value)| (key.clone(), value.as_str().into()))
                .collect();
            metadata.insert("labels".into(), labels.into());
        }
    }
    document.into()
}

fn fault_problem(holder: &Object, number: usize, fault: &yaml::Fault) -> Box<Problem> {
    let (line, column) = (fault.spot.line, fault.spot.column);
    let message = format!(
        "cannot be read, line {line}, column {column} of the annotation: {}",
        fault.message
    );
    problem(holder, number, &message)
}

fn problem(holder: &Object, number: usize, message: &str) -> Box<Problem> {
    Box::new(Problem {
        severity: Severity::Error,
        reason: "bad_annotation".into(),
        message: format!("document {number} of the annotation `{KEY}` {message}"),
        object: Some(holder.reference.clone()),
        field: Some(FIELD.into()),
        place: holder.place.clone(),
    })
}

#[cfg(test)]
mod tests;
