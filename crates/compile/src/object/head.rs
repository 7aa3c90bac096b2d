//! The head of a document: `apiVersion`, `kind` and `metadata`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::placeholder::Placeholder;

/// What is wrong with a head.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) reason: &'static str,
    /// Dotted path from the root.
    pub(super) field: String,
    pub(super) message: String,
}

impl Flaw {
    fn new(field: &str, message: impl Into<String>) -> Self {
        Self {
            reason: "not_an_object",
            field: field.to_owned(),
            message: message.into(),
        }
    }
}

/// What YAML reads as something else than a string.
const NO_STRING: &str =
    "is a number or a boolean in YAML, which also reads yes, no, on, off, y and n as booleans";

pub(super) fn refuse_other_than_object(document: &Value) -> Result<(), Flaw> {
    let message = match document {
        Value::Object(_) => return Ok(()),
        Value::Array(entries) if entries.iter().any(Value::is_object) => {
            "the document is a list; write each entry as a document of its own after a line `---`, or put the list under \
             `items` of `apiVersion: v1`, `kind: List`"
        }
        Value::String(text) if is_rule(text) => {
            "this line is no separator of documents; write `---`, with nothing after it"
        }
        _ => "the document is no object; a manifest has apiVersion, kind and metadata",
    };
    Err(Flaw::new("", message))
}

/// A line that was meant as a separator, or what YAML makes of it and the line after it.
fn is_rule(text: &str) -> bool {
    let rule = text.split_whitespace().next().unwrap_or_default();
    rule.len() > 1 && rule.bytes().all(|byte| b"-=_*".contains(&byte))
}

/// `apiVersion` or `kind`.
pub(super) fn string(document: &Value, field: &str) -> Result<String, Flaw> {
    let form = match field {
        "kind" => "write the kind, such as Mapping",
        _ => "write group and version, such as getambassador.io/v3alpha1",
    };
    read(document.get(field), Some(document), field, form, form)
}

/// `metadata.name`
pub(super) fn name(kind: &str, document: &Value) -> Result<String, Flaw> {
    const FIELD: &str = "metadata.name";
    let metadata = document.get("metadata").filter(|metadata| !metadata.is_null());
    if kind == "List" && metadata.is_none_or(|metadata| metadata.get("name").is_none()) {
        let message = match document.get("items") {
            None => "the List has no `items`; put the objects there",
            Some(_) => "`items` of the List is no list; begin each object in it with `- `",
        };
        return Err(Flaw::new("items", message));
    }
    if let Some(metadata) = metadata.filter(|metadata| !metadata.is_object()) {
        let message = format!(
            "`metadata` is {} where an object is expected; write `metadata: {{name: NAME}}`",
            type_of(metadata)
        );
        return Err(Flaw::new("metadata", message));
    }
    if let (None, Some(near)) = (metadata, nearly(document, "metadata")) {
        let message = format!(
            "the document has no `metadata`, which every object needs; write `metadata` in place of `{near}`"
        );
        return Err(Flaw::new("metadata", message));
    }
    let given = metadata.and_then(|metadata| metadata.get("name"));
    if given.is_none() && document.get("name").is_some_and(Value::is_string) {
        let message = "the document has no `metadata.name`, but a `name` at its root; write that under `metadata`, and \
                       what is not apiVersion, kind or metadata under `spec`";
        return Err(Flaw::new(FIELD, message));
    }
    if given.is_none() && metadata.is_some_and(|metadata| metadata.get("generateName").is_some()) {
        let message =
            "`metadata.generateName` gives no name that a manifest could refer to; write `metadata.name`";
        return Err(Flaw::new("metadata.generateName", message));
    }
    read(given, metadata, FIELD, "put it in quotes", "write one")
}

/// `metadata.namespace`, `default` where there is none.
pub(super) fn namespace(document: &Value) -> Result<String, Flaw> {
    match document.pointer("/metadata/namespace") {
        None | Some(Value::Null) => Ok("default".to_owned()),
        given => read(
            given,
            None,
            "metadata.namespace",
            "put it in quotes",
            "write one, or remove it",
        ),
    }
}

/// A string that is there. `quote` says what to do about a number or a boolean, `write` about anything else.
fn read(
    given: Option<&Value>,
    beside: Option<&Value>,
    field: &str,
    quote: &str,
    write: &str,
) -> Result<String, Flaw> {
    let message = match given {
        Some(Value::String(text)) if !text.is_empty() => match Placeholder::in_name(text) {
            None => return Ok(text.clone()),
            Some(left) => {
                return Err(Flaw {
                    reason: "template",
                    ..Flaw::new(field, format!("`{field}` {}", left.message()))
                });
            }
        },
        Some(Value::String(_)) => format!("`{field}` is empty; {write}"),
        Some(Value::Bool(_) | Value::Number(_)) => format!("`{field}` {NO_STRING}; {quote}"),
        Some(other @ (Value::Array(_) | Value::Object(_))) => {
            format!(
                "`{field}` is {} where a string is expected; {write}",
                type_of(other)
            )
        }
        Some(Value::Null) | None => {
            let name = field.rsplit('.').next().unwrap_or(field);
            let near = beside.and_then(|beside| nearly(beside, name));
            let write = near.map_or_else(
                || write.to_owned(),
                |near| format!("write `{name}` in place of `{near}`"),
            );
            format!("the document has no `{field}`, which every object needs; {write}")
        }
    };
    Err(Flaw::new(field, message))
}

/// A key of an object that was probably meant to be `name`.
fn nearly<'v>(object: &'v Value, name: &str) -> Option<&'v str> {
    const SLIPS: usize = 2;
    let slips = |key: &str| strsim::damerau_levenshtein(&key.to_lowercase(), &name.to_lowercase());
    let keys = object.as_object()?.keys().map(|key| (slips(key), key.as_str()));
    keys.min()
        .filter(|(slips, _)| *slips <= SLIPS)
        .map(|(_, key)| key)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// `metadata.labels` or `metadata.annotations`.
pub(super) fn string_map(document: &Value, map: &str) -> Result<BTreeMap<String, String>, Flaw> {
    let path = format!("metadata.{map}");
    let entries = match document.pointer(&format!("/metadata/{map}")) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(entries)) => entries,
        Some(other) => {
            let message = format!(
                "`{path}` is {} where an object is expected; write each entry as `name: value`",
                type_of(other)
            );
            return Err(Flaw::new(&path, message));
        }
    };
    let read = entries.iter().map(|(key, value)| {
        let field = format!("{path}.{key}");
        let message = match value {
            Value::String(text) => return Ok((key.clone(), text.clone())),
            Value::Null => return Ok((key.clone(), String::new())),
            Value::Bool(_) | Value::Number(_) => format!("`{field}` {NO_STRING}; put it in quotes"),
            Value::Array(_) | Value::Object(_) => format!(
                "`{field}` is {} where a string is expected; write it as a block of text, after `|`",
                type_of(value)
            ),
        };
        Err(Flaw::new(&field, message))
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::Object;

    fn refused(document: serde_json::Value) -> (String, String) {
        let problem = Object::from_document(document, None).unwrap_err();
        (problem.field.unwrap(), problem.message)
    }

    fn mapping(metadata: &serde_json::Value) -> serde_json::Value {
        json!({"apiVersion": "getambassador.io/v3alpha1", "kind": "Mapping", "metadata": metadata})
    }

    #[test]
    fn a_wrong_head_is_one_message_that_fits_it() {
        for (metadata, field, end) in [
            (
                json!({"nmae": "a"}),
                "metadata.name",
                "write `name` in place of `nmae`",
            ),
            (json!({"name": 123}), "metadata.name", "put it in quotes"),
            (
                json!({"name": ["a"]}),
                "metadata.name",
                "is a list where a string is expected; write one",
            ),
            (json!({"name": ""}), "metadata.name", "is empty; write one"),
            (
                json!({"name": "${NAME}"}),
                "metadata.name",
                "envsubst < FILE | nuncio check -`",
            ),
            (
                json!({"generateName": "a-"}),
                "metadata.generateName",
                "write `metadata.name`",
            ),
            (json!("a"), "metadata", "write `metadata: {name: NAME}`"),
            (
                json!({"namespace": "a"}),
                "metadata.name",
                "which every object needs; write one",
            ),
            (
                json!({"name": "a", "namespace": true}),
                "metadata.namespace",
                "put it in quotes",
            ),
            (
                json!({"name": "a", "namespace": ""}),
                "metadata.namespace",
                "write one, or remove it",
            ),
            (
                json!({"name": "a", "labels": {"v": 1}}),
                "metadata.labels.v",
                "put it in quotes",
            ),
            (
                json!({"name": "a", "labels": ["v"]}),
                "metadata.labels",
                "write each entry as `name: value`",
            ),
            (
                json!({"name": "a", "annotations": {"getambassador.io/config": {}}}),
                "metadata.annotations.getambassador.io/config",
                "as a block of text, after `|`",
            ),
        ] {
            let (found, message) = refused(mapping(&metadata));
            assert_eq!(found, field, "{message}");
            assert!(message.ends_with(end), "{message}");
        }
    }

    #[test]
    fn a_misspelt_or_mistyped_key_of_the_head_says_what_to_write() {
        for (key, near) in [
            ("apiVersion", "apiversion"),
            ("kind", "Kind"),
            ("metadata", "metdata"),
        ] {
            let mut document = mapping(&json!({"name": "a"}));
            document[near] = document[key].take();
            document.as_object_mut().unwrap().remove(key);
            let (found, message) = refused(document);
            assert_eq!(found, key);
            assert!(
                message.ends_with(&format!("write `{key}` in place of `{near}`")),
                "{message}"
            );
        }
        for (key, value, end) in [
            ("apiVersion", json!(3), "such as getambassador.io/v3alpha1"),
            ("apiVersion", json!(["a"]), "such as getambassador.io/v3alpha1"),
            ("kind", json!(true), "write the kind, such as Mapping"),
        ] {
            let mut document = mapping(&json!({"name": "a"}));
            document[key] = value;
            let (found, message) = refused(document);
            assert_eq!(found, key);
            assert!(message.ends_with(end), "{message}");
        }
    }

    #[test]
    fn what_is_no_object_says_what_it_is() {
        assert!(refused(json!([{"kind": "Mapping"}])).1.contains("`items`"));
        assert!(refused(json!("---- apiVersion")).1.contains("write `---`"));
        let list = |items: serde_json::Value| json!({"apiVersion": "v1", "kind": "List", "items": items});
        assert!(refused(list(json!({}))).1.contains("begin each object"));
        assert!(
            refused(json!({"apiVersion": "v1", "kind": "List"}))
                .1
                .contains("has no `items`")
        );
        assert!(Object::from_document(list(json!(null)), None).unwrap().is_list());
        let flat =
            json!({"apiVersion": "getambassador.io/v2", "kind": "Mapping", "name": "a", "prefix": "/"});
        assert!(refused(flat).1.contains("under `spec`"));
    }
}
