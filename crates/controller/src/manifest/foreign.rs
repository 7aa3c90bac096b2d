//! YAML that other tools read, and that stands beside manifests.

use serde_json::Value;

/// What a document is, where it is meant for another tool. A document with a part of a Kubernetes object is none: what
/// it lacks may be a slip.
pub(super) fn what(document: &Value, file: &str) -> Option<&'static str> {
    let text = |key| document.get(key).and_then(Value::as_str).unwrap_or_default();
    let has = |key| document.get(key).is_some();
    if let Value::Array(entries) = document {
        let is_patch = |entry: &Value| entry.get("op").is_some() && entry.get("path").is_some();
        return (!entries.is_empty() && entries.iter().all(is_patch)).then_some("a JSON patch (RFC 6902)");
    }
    let file = file.rsplit('/').next().unwrap_or(file);
    let is_kustomization = text("apiVersion").starts_with("kustomize.config.k8s.io/")
        || (matches!(file, "kustomization.yaml" | "kustomization.yml") && !has("metadata"));
    if is_kustomization {
        return Some("a Kustomization; check what `kubectl kustomize FOLDER` prints");
    }
    if matches!(text("apiVersion"), "v1" | "v2") && !has("kind") && has("name") && has("version") {
        return Some("the Chart.yaml of a Helm chart; check what `helm template CHART` prints");
    }
    let is_object = document.as_object().is_some_and(|document| !document.is_empty());
    if !is_object || ["apiVersion", "kind", "metadata", "spec"].into_iter().any(has) {
        return None;
    }
    Some(match file {
        "values.yaml" | "values.yml" => "the values of a Helm chart; check what `helm template CHART` prints",
        _ if has("jobs") => "a workflow",
        _ if has("services") => "a Compose file",
        _ => "YAML of another kind, without apiVersion and kind",
    })
}
