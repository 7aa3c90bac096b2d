//! From a JSON schema to what the API server takes: a structural schema.
//!
//! Each place has a type or is left open (`x-kubernetes-preserve-unknown-fields`); there are no references, no
//! alternatives of types and no defaults. Null is no value that a user means, so nothing is nullable, as in the
//! reference's definitions.

use serde_json::{Map, Value, json};

/// Leaves a place open: whatever stands there is kept.
pub(crate) const OPEN: &str = "x-kubernetes-preserve-unknown-fields";

/// What is copied as it is.
const PLAIN: &[&str] = &["type", "format", "enum", "minimum", "maximum", "required", OPEN];

/// The structural form of a schema. A place where a value of one of several types may stand is left open.
pub(crate) fn structural(schema: &Value) -> Value {
    let mut out = Map::new();
    if let Some(text) = schema.get("description").and_then(Value::as_str) {
        let words: Vec<&str> = text.split_whitespace().collect();
        out.insert("description".into(), words.join(" ").into());
    }
    match alternatives(schema).as_deref() {
        None => copy(schema, &mut out),
        Some([only]) => copy(only, &mut out),
        Some(_) => {
            out.insert(OPEN.into(), true.into());
        }
    }
    if !out.contains_key("type") {
        out.insert(OPEN.into(), true.into());
    }
    out.into()
}

/// The forms that a value may have, without null and without forms of forms.
fn alternatives(schema: &Value) -> Option<Vec<&Value>> {
    let forms = schema.get("anyOf").or_else(|| schema.get("oneOf"))?.as_array()?;
    let mut all = Vec::new();
    for form in forms
        .iter()
        .filter(|form| form.get("enum") != Some(&json!([null])))
    {
        match alternatives(form) {
            Some(inner) => all.extend(inner),
            None => all.push(form),
        }
    }
    Some(all)
}

fn copy(schema: &Value, out: &mut Map<String, Value>) {
    for &key in PLAIN {
        if let Some(value) = schema.get(key) {
            out.insert(key.into(), value.clone());
        }
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let properties: Map<String, Value> = properties
            .iter()
            .map(|(name, schema)| (name.clone(), structural(schema)))
            .collect();
        out.insert("properties".into(), properties.into());
    } else if let Some(values) = schema
        .get("additionalProperties")
        .filter(|values| values.is_object())
    {
        out.insert("additionalProperties".into(), structural(values));
    }
    if let Some(items) = schema.get("items") {
        out.insert("items".into(), structural(items));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_server_does_not_take_is_left_out() {
        let schema = json!({
            "title": "T", "description": "One\ntwo.", "type": "object", "nullable": true, "default": null,
            "properties": {
                "a": {"type": "integer", "format": "int64", "nullable": true, "default": null},
                "b": {"description": "Either.", "anyOf": [{"type": "string"}, {"type": "object"}]},
                "c": {"anyOf": [{"type": "array", "items": {}}, {"enum": [null], "nullable": true}]},
                "d": {"type": "object", "additionalProperties": {"type": "string"}},
                "e": {"type": "object", "properties": {}, "additionalProperties": false},
            },
        });
        let open = json!({OPEN: true});
        let expected = json!({
            "description": "One two.", "type": "object",
            "properties": {
                "a": {"type": "integer", "format": "int64"},
                "b": {"description": "Either.", OPEN: true},
                "c": {"type": "array", "items": open},
                "d": {"type": "object", "additionalProperties": {"type": "string"}},
                "e": {"type": "object", "properties": {}},
            },
        });
        assert_eq!(structural(&schema), expected);
    }
}
