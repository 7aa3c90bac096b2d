//! Guards: what must let requests pass. Where one cannot be asked, no request passes it.

use std::sync::Arc;

use nuncio_model::{Guard, GuardRule, Guards};
use serde_json::Value;

use crate::Object;

/// Fields of the Module that say which addresses may pass.
pub(crate) const ADDRESS_LISTS: [&str; 2] = ["ip_allow", "ip_deny"];

/// Fields of a rule that name what its requests are sent through.
const FILTERS: [&str; 3] = ["filters", "envoyFilters", "wafRef"];

/// In the order in which requests meet them: addresses come first.
pub(crate) fn in_order(by_address: Option<&Guard>, others: &[Guard]) -> Guards {
    by_address.into_iter().chain(others).cloned().collect()
}

/// The rules of a FilterPolicy or its like, in the order in which they are looked at. What cannot be read guards
/// everything.
pub(crate) fn rules(object: &Object) -> Arc<[GuardRule]> {
    let document = object.document.value();
    let Some(rules) = document.pointer("/spec/rules").and_then(Value::as_array) else {
        return Arc::from([rule(&Value::Null)]);
    };
    let mut rules: Vec<&Value> = rules.iter().collect();
    rules.sort_by_key(|rule| std::cmp::Reverse(rule["precedence"].as_i64().unwrap_or(0)));
    rules.into_iter().map(rule).collect()
}

fn rule(rule: &Value) -> GuardRule {
    let glob = |field: &str| match rule[field].as_str() {
        Some("") | None => "*",
        Some(text) => text,
    };
    let is_empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    // Only a list that is there and empty says that there is no filter.
    let mut written = FILTERS.iter().filter_map(|field| rule.get(field)).peekable();
    let is_exempt = written.peek().is_some() && written.all(is_empty);
    GuardRule {
        host: glob("host").to_lowercase().into(),
        path: glob("path").into(),
        guards: !is_exempt,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(rules: &Value) -> Vec<(String, String, bool)> {
        let document = json!({
            "apiVersion": "getambassador.io/v3alpha1", "kind": "FilterPolicy",
            "metadata": {"name": "it"}, "spec": {"rules": rules},
        });
        let object = Object::from_document(document, None).unwrap();
        let rules = super::rules(&object);
        let texts = rules
            .iter()
            .map(|rule| (rule.host.to_string(), rule.path.to_string(), rule.guards));
        texts.collect()
    }

    #[test]
    fn rules_are_read_by_precedence() {
        let filters = json!([{"name": "jwt"}]);
        let rules = json!([
            {"host": "*", "path": "/*", "filters": filters},
            {"host": "A.test", "path": "/public/*", "filters": null, "precedence": 1},
            {"path": "/waf", "wafRef": {"name": "w"}},
        ]);
        let rule = |host: &str, path: &str, guards| (host.to_owned(), path.to_owned(), guards);
        assert_eq!(
            read(&rules),
            [
                rule("a.test", "/public/*", false),
                rule("*", "/*", true),
                rule("*", "/waf", true)
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_guards_everything() {
        let everything = [("*".to_owned(), "*".to_owned(), true)];
        for rules in [
            json!(null),
            json!("x"),
            json!([{}]),
            json!([5]),
            json!([{"host": 1}]),
        ] {
            assert_eq!(read(&rules), everything, "{rules}");
        }
        assert_eq!(read(&json!([])), []);
    }
}
