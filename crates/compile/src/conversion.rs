//! Documents of `getambassador.io/v1` and `v2` as v3alpha1 says the same (A8, C.5).
//!
//! Total: what has the wrong type stays as it is, and is told where the document is read. What the reference keeps only
//! to get the old document back (`v2ExplicitTLS` and its like) is not made.

use serde_json::{Map, Value, json};

/// A group and version that is still read, and what to say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// `v3alpha1`
    Current,
    /// `v2`
    Deprecated,
    /// `v1`
    Unsupported,
}

/// Marks an `ambassador_id` of an object that the reference wrote as v3alpha1 and stored as v2.
pub(crate) const STORED_AS_V2: &str = "--apiVersion-v3alpha1-only--";

/// Stands in `host` of a stored v2 Mapping that has none in v3alpha1.
const NO_HOST: &str = "_skip_mapping_with_empty_host_";

/// How old an API version is; none where it is not Ambassador's.
pub(crate) fn age(api_version: &str) -> Option<Age> {
    match api_version {
        "getambassador.io/v3alpha1" => Some(Age::Current),
        "getambassador.io/v2" => Some(Age::Deprecated),
        "getambassador.io/v1" => Some(Age::Unsupported),
        _ => None,
    }
}

/// Makes `spec` of an old document that of v3alpha1.
pub(crate) fn convert(kind: &str, document: &mut Value) {
    let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    ambassador_id(spec);
    match kind {
        "Mapping" => {
            tls(spec);
            presence(spec, "headers", "regex_headers");
            presence(spec, "query_parameters", "regex_query_parameters");
            host(spec);
            one_to_list(spec, "remove_request_headers");
            one_to_list(spec, "remove_response_headers");
            rename(spec, "v3health_checks", "health_checks");
            rename(spec, "v3StatsName", "stats_name");
        }
        "TCPMapping" => {
            tls(spec);
            rename(spec, "v3StatsName", "stats_name");
        }
        "TLSContext" => rename(spec, "v3CRLSecret", "crl_secret"),
        _ => {}
    }
}

/// One spelling and a list; the mark of what was stored as v2 goes.
fn ambassador_id(spec: &mut Map<String, Value>) {
    rename(spec, "ambassadorId", "ambassador_id");
    one_to_list(spec, "ambassador_id");
    let ids = spec.get_mut("ambassador_id").and_then(Value::as_array_mut);
    for id in ids.into_iter().flatten() {
        if let Some(rest) = id.as_str().and_then(|id| id.strip_prefix(STORED_AS_V2)) {
            *id = rest.into();
        }
    }
}

/// `true` asks for TLS and names no context, which is what `https://` says; `false` and nothing leave it to the scheme.
fn tls(spec: &mut Map<String, Value>) {
    match spec.get("tls") {
        Some(Value::Bool(true)) => {
            if let Some(Value::String(service)) = spec.get_mut("service") {
                *service = with_https(service);
            }
        }
        Some(Value::Bool(false) | Value::Null) => {}
        Some(Value::String(name)) if name.is_empty() => {}
        _ => return,
    }
    spec.remove("tls");
}

fn with_https(service: &str) -> String {
    let scheme = |scheme: &str| {
        let (head, rest) = service.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    if scheme("https://").is_some() {
        return service.to_owned();
    }
    format!("https://{}", scheme("http://").unwrap_or(service))
}

/// `true` asks only that it is there, which any value fulfils; `false` and nothing ask nothing.
fn presence(spec: &mut Map<String, Value>, field: &str, by_expression: &str) {
    let Some(Value::Object(conditions)) = spec.get_mut(field) else {
        return;
    };
    let wanted: Vec<String> = conditions
        .iter()
        .filter(|(_, value)| **value == Value::Bool(true))
        .map(|(name, _)| name.clone())
        .collect();
    conditions.retain(|_, value| !matches!(value, Value::Bool(_) | Value::Null));
    if wanted.is_empty() {
        return;
    }
    let expressions = spec.entry(by_expression).or_insert_with(|| json!({}));
    if expressions.is_null() {
        *expressions = json!({});
    }
    let Value::Object(expressions) = expressions else {
        return;
    };
    for name in wanted {
        expressions.entry(name).or_insert_with(|| ".*".into());
    }
}

/// `host` is a glob unless it is an expression; a Mapping without one is for every host. A `hostname` is no field of
/// v2, but who writes one means it.
fn host(spec: &mut Map<String, Value>) {
    let is_empty = |value: Option<&Value>| value.is_none_or(|value| value.is_null() || value == "");
    if spec.get("host_regex") == Some(&Value::Bool(true)) {
        return;
    }
    if spec
        .get("host_regex")
        .is_some_and(|value| matches!(value, Value::Bool(_) | Value::Null))
    {
        spec.remove("host_regex");
    }
    match spec.remove("host") {
        Some(host) if host == NO_HOST => {}
        Some(host) if !is_empty(Some(&host)) => {
            spec.insert("hostname".into(), host);
        }
        _ if is_empty(spec.get("hostname")) => {
            spec.insert("hostname".into(), "*".into());
        }
        _ => {}
    }
}

fn one_to_list(spec: &mut Map<String, Value>, field: &str) {
    if let Some(value) = spec.get_mut(field).filter(|value| value.is_string()) {
        *value = Value::Array(vec![value.take()]);
    }
}

/// A field that stands under both names keeps what the new one says.
fn rename(spec: &mut Map<String, Value>, old: &str, new: &str) {
    if let Some(value) = spec.remove(old) {
        let known = spec.entry(new).or_insert(Value::Null);
        if known.is_null() {
            *known = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(kind: &str, spec: &Value) -> Value {
        let mut document = json!({"kind": kind, "spec": spec});
        convert(kind, &mut document);
        document["spec"].take()
    }

    /// C.5
    #[test]
    fn tls_becomes_a_scheme_or_stays_a_name() {
        let cases = [
            (
                json!({"service": "svc", "tls": true}),
                json!({"service": "https://svc"}),
            ),
            (
                json!({"service": "HTTP://svc:80", "tls": true}),
                json!({"service": "https://svc:80"}),
            ),
            (
                json!({"service": "HTTPS://svc", "tls": true}),
                json!({"service": "HTTPS://svc"}),
            ),
            (
                json!({"service": "https://svc", "tls": false}),
                json!({"service": "https://svc"}),
            ),
            (json!({"service": "svc", "tls": null}), json!({"service": "svc"})),
            (json!({"service": "svc", "tls": ""}), json!({"service": "svc"})),
            (
                json!({"service": "http://svc", "tls": "ctx"}),
                json!({"service": "http://svc", "tls": "ctx"}),
            ),
            (
                json!({"service": 5, "tls": [1]}),
                json!({"service": 5, "tls": [1]}),
            ),
        ];
        for (before, mut after) in cases {
            after["hostname"] = "*".into();
            assert_eq!(converted("Mapping", &before), after, "{before}");
        }
        let tcp = converted("TCPMapping", &json!({"service": "svc", "tls": true}));
        assert_eq!(tcp, json!({"service": "https://svc"}));
    }

    #[test]
    fn conditions_of_presence_become_expressions() {
        let spec = json!({
            "headers": {"x-a": true, "x-b": "b", "x-c": false, "x-d": null},
            "regex_headers": {"x-a": "^1"},
            "query_parameters": {"q": true},
        });
        let expected = json!({
            "headers": {"x-b": "b"}, "regex_headers": {"x-a": "^1"},
            "query_parameters": {}, "regex_query_parameters": {"q": ".*"},
            "hostname": "*",
        });
        assert_eq!(converted("Mapping", &spec), expected);
    }

    #[test]
    fn a_host_is_a_glob_unless_it_is_an_expression() {
        let cases = [
            (json!({}), json!({"hostname": "*"})),
            (json!({"host": ""}), json!({"hostname": "*"})),
            (
                json!({"host": "*.a.test", "host_regex": false}),
                json!({"hostname": "*.a.test"}),
            ),
            (
                json!({"host": "a|b", "host_regex": true}),
                json!({"host": "a|b", "host_regex": true}),
            ),
            (json!({"host": NO_HOST}), json!({})),
            (json!({"hostname": "a.test"}), json!({"hostname": "a.test"})),
            (
                json!({"hostname": "a.test", "host": "b.test"}),
                json!({"hostname": "b.test"}),
            ),
        ];
        for (before, after) in cases {
            assert_eq!(converted("Mapping", &before), after, "{before}");
        }
    }

    #[test]
    fn old_spellings_become_new_ones() {
        let id = |spec: &Value| converted("Host", spec)["ambassador_id"].take();
        assert_eq!(id(&json!({"ambassador_id": "a"})), json!(["a"]));
        assert_eq!(id(&json!({"ambassadorId": ["a", "b"]})), json!(["a", "b"]));
        let stored = format!("{STORED_AS_V2}a");
        assert_eq!(id(&json!({"ambassador_id": [stored, "b"]})), json!(["a", "b"]));
        let context = converted("TLSContext", &json!({"v3CRLSecret": "crl"}));
        assert_eq!(context, json!({"crl_secret": "crl"}));
        let mapping = converted(
            "Mapping",
            &json!({"remove_request_headers": "a", "v3StatsName": "s", "v3health_checks": []}),
        );
        let expected = json!({
            "remove_request_headers": ["a"], "stats_name": "s", "health_checks": [], "hostname": "*",
        });
        assert_eq!(mapping, expected);
    }

    #[test]
    fn what_is_no_spec_stays() {
        assert_eq!(converted("Mapping", &json!([1])), json!([1]));
    }
}
