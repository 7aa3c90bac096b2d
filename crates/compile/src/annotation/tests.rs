use serde_json::json;

use super::*;

fn holder(kind: &str, text: &str) -> Object {
    let api_version = if kind == "Ingress" {
        "networking.k8s.io/v1"
    } else {
        "v1"
    };
    let metadata = json!({
        "name": "svc", "namespace": "shop", "labels": {"team": "a"}, "annotations": {KEY: text},
    });
    let document = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
    Object::from_document(document, None).unwrap()
}

fn only(text: &str) -> Object {
    let mut read = holder("Service", text).annotated;
    assert_eq!(read.len(), 1, "{read:?}");
    read.remove(0).unwrap()
}

const FLAT: &str = "{apiVersion: getambassador.io/v3alpha1, kind: Mapping, name: m, prefix: /, service: svc}";

#[test]
fn a_flat_document_gets_metadata_and_spec() {
    let object = only(
        "{apiVersion: ambassador/v2, kind: Mapping, name: m, namespace: far, generation: 3, metadata_labels: {b: c}, \
         prefix: /, host: a.test}",
    );
    assert_eq!(object.api_version, "getambassador.io/v2");
    assert_eq!(object.reference, ObjectRef::new("Mapping", "far", "m"));
    assert_eq!(
        object.labels.into_iter().collect::<Vec<_>>(),
        [("b".into(), "c".into())]
    );
    let spec = object.document.value()["spec"].take();
    assert_eq!(spec, json!({"prefix": "/", "hostname": "a.test"}));
}

#[test]
fn namespace_and_labels_are_inherited() {
    for text in [
        FLAT,
        "{apiVersion: getambassador.io/v3alpha1, kind: Mapping, metadata: {name: m}, spec: {prefix: /}}",
    ] {
        let object = only(text);
        assert_eq!(&*object.reference.namespace, "shop");
        assert_eq!(object.labels["team"], "a");
    }
}

#[test]
fn services_and_ingresses_hold_objects_and_nothing_else_does() {
    assert_eq!(holder("Service", FLAT).annotated.len(), 1);
    assert_eq!(holder("Ingress", FLAT).annotated.len(), 1);
    assert!(holder("Endpoints", FLAT).annotated.is_empty());
    assert!(holder("Service", "").annotated.is_empty());
}

#[test]
fn an_object_of_an_annotation_holds_none_itself() {
    let nested = json!({
        "apiVersion": "getambassador.io/v3alpha1", "kind": "Mapping",
        "metadata": {"name": "m", "annotations": {KEY: FLAT}},
    });
    assert!(only(&nested.to_string()).annotated.is_empty());
}

#[test]
fn what_cannot_be_read_is_told_by_its_number_and_takes_no_other_with_it() {
    let text = format!(
        "{FLAT}\n---\nkind: [\n---\n{}\n",
        FLAT.replace("name: m", "name: other")
    );
    let read = holder("Service", &text).annotated;
    let names: Vec<_> = read
        .iter()
        .map(|one| one.as_ref().map(|object| object.reference.name.to_string()))
        .collect();
    assert_eq!((names[0].as_deref(), names[2].as_deref()), (Ok("m"), Ok("other")));
    let problem = names[1].as_ref().unwrap_err();
    assert_eq!(problem.field.as_deref(), Some(FIELD));
    assert_eq!(problem.object.as_ref().unwrap().kind.as_ref(), "Service");
    assert!(
        problem.message.starts_with("document 2 of the annotation"),
        "{}",
        problem.message
    );
    assert!(problem.message.contains("line 3, column"), "{}", problem.message);
}

/// A24, A26
#[test]
fn the_order_is_that_of_the_holder() {
    let text = format!("{FLAT}\n---\n{FLAT}");
    let holder = holder("Service", &text);
    let orders: Vec<_> = holder.annotated.iter().flatten().map(Object::order).collect();
    assert_eq!(orders, ["svc.shop.1", "svc.shop.2"]);
}
