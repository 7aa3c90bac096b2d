//! From a document to the typed `spec` of its kind, with a problem for everything that does not fit.

mod protection;
mod unknown;
mod wrong_type;

use nuncio_crds::{Spec, field_names};
use nuncio_model::Severity;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Object;
use crate::problems::Problems;
use crate::tellable::tellable_path;
use wrong_type::Flaw;

/// Fields a document may have at its root.
const ROOT_FIELDS: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];

/// Wrong types that are reported in one object before the rest of it is given up.
const MOST_WRONG_TYPES: usize = 20;

/// A `spec` as far as it could be read.
#[derive(Debug)]
pub(crate) struct Decoded<S> {
    /// Fields with a wrong type are absent from it.
    pub(crate) spec: S,
    /// Paths, from `spec`, of fields with a wrong type, and what was said about each.
    pub(crate) broken: Vec<(String, String)>,
}

impl<S> Decoded<S> {
    /// What was said about a field of which one begins like one of `names`.
    pub(crate) fn broken(&self, names: &[&str]) -> Option<&str> {
        let first = |path: &str| path.split('.').next().map_or(String::new(), str::to_owned);
        self.broken
            .iter()
            .find(|(path, _)| path.is_empty() || names.contains(&first(path).as_str()))
            .map(|(_, message)| message.as_str())
    }

    /// What was said about the first field that is broken.
    pub(crate) fn any_broken(&self) -> Option<&str> {
        self.broken.first().map(|(_, message)| message.as_str())
    }
}

/// Reads `spec`. Fields of a wrong type are errors and read as absent; unknown fields and fields that
/// have no effect yet are warnings.
pub(crate) fn spec<S: Spec + Default>(object: &Object, problems: &mut Problems) -> Decoded<S> {
    let document = object.document.value();
    let mut decoded = Decoded {
        spec: S::default(),
        broken: report_unknown_root_fields::<S>(object, &document, problems),
    };
    let Some(value) = document.get("spec").filter(|value| !value.is_null()) else {
        if document.pointer("/metadata/spec").is_some() {
            let message =
                "`spec` stands under `metadata`, so nothing of it is read; indent it less".to_owned();
            problems.error(object, "unknown_field", "metadata.spec", message.clone());
            decoded.broken.push((String::new(), message));
        }
        return decoded;
    };
    if !value.is_object() {
        let message =
            "`spec` is no object, so nothing of it is read; write its fields under it, as `name: value`"
                .to_owned();
        problems.error(object, "wrong_type", "spec", message.clone());
        decoded.broken.push((String::new(), message));
        return decoded;
    }
    let mut mended = None;
    while decoded.broken.len() < MOST_WRONG_TYPES {
        let value = mended.as_ref().unwrap_or(value);
        let read = match Flaw::unseen::<S>(value) {
            Some(flaw) => Err(flaw),
            None => attempt::<S>(value),
        };
        match read {
            Ok((spec, ignored)) => {
                let lost = report_ignored_fields::<S>(object, value, &ignored, problems);
                decoded.broken.extend(lost);
                decoded.spec = spec;
                return decoded;
            }
            Err(Flaw {
                reason,
                path,
                message,
            }) => {
                // What is missing now may be what was wrong.
                let inside = format!("{path}.");
                if !decoded.broken.iter().any(|(known, _)| known.starts_with(&inside)) {
                    problems.error(object, reason, &join("spec", &path), message.clone());
                }
                let cut = path.split('[').next().unwrap_or_default().to_owned();
                let rest = without(value, &cut);
                decoded.broken.push((cut, message));
                match rest {
                    Some(rest) => mended = Some(rest),
                    None => return decoded,
                }
            }
        }
    }
    decoded
}

/// Reads a whole document of a kind that is not ours; fields beyond those needed are Kubernetes'
/// business. The message on failure holds no value of the document.
pub(crate) fn document<T: DeserializeOwned>(object: &Object, problems: &mut Problems) -> Option<T> {
    let mut track = serde_path_to_error::Track::new();
    let mut reader = object.document.reader();
    let deserializer = serde_path_to_error::Deserializer::new(&mut reader, &mut track);
    match T::deserialize(deserializer) {
        Ok(value) => Some(value),
        Err(error) => {
            let path = tellable_path(&dotted(&track.path()));
            let what = wrong_type::type_alone(&without_place(&error));
            let what = what.unwrap_or_else(|| "has the wrong type".to_owned());
            let message = format!("`{path}` {what}, so this {} is not used; correct it", object.kind);
            problems.error(object, "wrong_type", &path, message);
            None
        }
    }
}

/// What `serde_json` says without line and column, which are not those of the file.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

type Ignored = Vec<(String, String)>;

/// One pass over `value`; gives unknown fields as parent path and name.
fn attempt<S: Spec>(value: &Value) -> Result<(S, Ignored), Flaw> {
    let mut ignored = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let result = serde_ignored::deserialize(deserializer, |path: serde_ignored::Path<'_>| {
        ignored.extend(parent_and_name(&path));
    });
    match result {
        Ok(spec) => Ok((spec, ignored)),
        Err(error) => Err(Flaw::of_type::<S>(&dotted(&track.path()), &error.to_string())),
    }
}

fn dotted(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("[{index}]")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                text = join(&text, key);
            }
            Segment::Unknown => {}
        }
    }
    text
}

/// `parent.child`, or the one that is not empty.
pub(crate) fn join(parent: &str, child: &str) -> String {
    match (parent.is_empty(), child.is_empty()) {
        (_, true) => parent.to_owned(),
        (true, _) => child.to_owned(),
        _ if child.starts_with('[') => format!("{parent}{child}"),
        _ => format!("{parent}.{child}"),
    }
}

fn parent_and_name(path: &serde_ignored::Path<'_>) -> Option<(String, String)> {
    use serde_ignored::Path;
    match path {
        Path::Map { parent, key } => Some((ignored_path(parent), key.clone())),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            parent_and_name(parent)
        }
        Path::Root | Path::Seq { .. } => None,
    }
}

fn ignored_path(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Map { parent, key } => join(&ignored_path(parent), key),
        Path::Seq { parent, index } => format!("{}[{index}]", ignored_path(parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            ignored_path(parent)
        }
    }
}

/// A copy without the field at `path`; none where `path` leads to no field.
fn without(value: &Value, path: &str) -> Option<Value> {
    let mut copy = value.clone();
    let mut steps = path.split('.').peekable();
    let mut object = copy.as_object_mut()?;
    while let Some(step) = steps.next() {
        // A key may hold dots itself, as names of headers do.
        let rest: Vec<&str> = steps.clone().collect();
        let whole = if rest.is_empty() {
            step.to_owned()
        } else {
            format!("{step}.{}", rest.join("."))
        };
        if object.remove(&whole).is_some() {
            return Some(copy);
        }
        object = object.get_mut(step)?.as_object_mut()?;
    }
    None
}

/// What of these was meant to protect something, as in [`Decoded::broken`].
fn report_unknown_root_fields<S: Spec>(
    object: &Object,
    document: &Value,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let mut lost = Vec::new();
    let fields = document
        .as_object()
        .into_iter()
        .flat_map(|document| document.keys());
    for field in fields.filter(|field| !ROOT_FIELDS.contains(&field.as_str())) {
        let known: Vec<String> = ROOT_FIELDS.iter().map(|&name| name.to_owned()).collect();
        match protection::at_root::<S>(document, field, &known) {
            Some(meant) => lost.push(report_lost(object, field, &meant, problems)),
            None => {
                let message = unknown::at_root::<S>(&object.kind, field, &known);
                problems.warning(object, "unknown_field", field, message);
            }
        }
    }
    lost
}

/// What of these was meant to protect something, as in [`Decoded::broken`].
fn report_ignored_fields<S: Spec>(
    object: &Object,
    spec: &Value,
    ignored: &Ignored,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let mut lost = Vec::new();
    for (parent, name) in ignored {
        let path = join(parent, name);
        let field = join("spec", &path);
        if S::NOTES.contains(&path.as_str()) {
            continue;
        }
        if S::LATER.contains(&path.as_str()) {
            // An empty value is what some tools write for a field that is not set.
            if !is_idle::<S>(spec, &path) {
                report_later::<S>(object, &path, &field, problems);
            }
        } else if is_label_selector::<S>(parent) {
            lost.push(report_unselected(object, parent, name, problems));
        } else if let Some(meant) = protection::in_spec::<S>(spec, parent, name) {
            lost.push(report_lost(object, &field, &meant, problems));
        } else {
            let message = unknown::in_spec::<S>(parent, name);
            problems.warning(object, "unknown_field", &field, message);
        }
    }
    lost
}

/// Fields of [`Spec::LATER`] of which more is to be said than that they have no effect yet: kind, path, how much it
/// matters, the reason, and what follows.
const APART: &[(&str, &str, Severity, &str, &str)] = &[
    (
        "Module",
        "config.lua_scripts",
        Severity::Error,
        "not_supported",
        "is not run, so every request and response goes on without what it does; do that in the services or with the header fields of Mappings, and remove it",
    ),
    (
        "Module",
        "config.admin_port",
        Severity::Notice,
        "no_effect",
        "is a port of Envoy, which nuncio does not run; remove it, and see `--admin` for nuncio's own",
    ),
    (
        "Module",
        "config.envoy_validation_timeout",
        Severity::Notice,
        "no_effect",
        "is about Envoy, which nuncio does not run; remove it",
    ),
];

fn report_later<S: Spec>(object: &Object, path: &str, field: &str, problems: &mut Problems) {
    let apart = APART.iter().find(|apart| apart.0 == S::KIND && apart.1 == path);
    let (severity, reason, follows) = match apart {
        Some((_, _, severity, reason, follows)) => (*severity, *reason, *follows),
        None => (
            Severity::Warning,
            "not_supported_yet",
            "is not supported yet and has no effect; remove it if you can do without",
        ),
    };
    problems.report(severity, object, reason, field, format!("`{field}` {follows}"));
}

/// Reports an unknown field that was meant to protect something, and gives what cannot be read for it.
fn report_lost(
    object: &Object,
    field: &str,
    meant: &protection::Meant,
    problems: &mut Problems,
) -> (String, String) {
    let protection::Meant { path, follows, fix } = meant;
    let message = format!("{} has no field `{field}`, so {follows}; {fix}", object.kind);
    problems.error(object, "unknown_field", field, &*message);
    ((*path).to_owned(), message)
}

/// Whether a field of [`Spec::LATER`] asks for nothing. An empty value is what some tools write for a field that is
/// not set.
fn is_idle<S: Spec>(spec: &Value, path: &str) -> bool {
    let at = |path: &str| spec.pointer(&format!("/{}", path.replace('.', "/")));
    let idle = S::IDLE.iter().filter(|(idle, _)| {
        let rest = idle.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    at(path).is_none_or(Value::is_null)
        || idle.into_iter().any(|(idle, json)| {
            at(idle).is_some_and(|value| serde_json::from_str::<Value>(json).is_ok_and(|idle| idle == *value))
        })
}

fn is_label_selector<S: Spec>(path: &str) -> bool {
    path.to_lowercase().ends_with("selector") && field_names::<S>(path) == ["matchExpressions", "matchLabels"]
}

/// Without what it should say, a selector would select everything.
fn report_unselected(object: &Object, parent: &str, name: &str, problems: &mut Problems) -> (String, String) {
    let field = join("spec", &join(parent, name));
    let fix = match nearest(name, &["matchLabels", "matchExpressions"]) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write the labels under `matchLabels`".to_owned(),
    };
    let message = format!(
        "{} has no field `{field}`, and without labels the selector would select everything, so it selects nothing; {fix}",
        object.kind
    );
    problems.error(object, "unknown_field", &field, &*message);
    (parent.to_owned(), message)
}

/// The name of `known` that `name` was probably meant to be.
pub(crate) fn nearest<'a>(name: &str, known: &'a [impl AsRef<str>]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (slips(name, candidate.as_ref()), candidate.as_ref()))
        .min()
        .filter(|(slips, _)| *slips <= most_distance(name))
        .map(|(_, candidate)| candidate)
}

/// How many slips lie between two names; letter case, hyphens and underscores make no difference.
fn slips(name: &str, candidate: &str) -> usize {
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    strsim::damerau_levenshtein(&plain(name), &plain(candidate))
}

/// The most slips that a name may have.
fn most_distance(name: &str) -> usize {
    (name.replace(['_', '-'], "").chars().count() / 3).max(1)
}

#[cfg(test)]
mod tests {
    use nuncio_crds::{HostSpec, ListenerSpec, MappingSpec, ModuleSpec, TlsContextSpec};
    use nuncio_model::{Problem, Severity};
    use serde_json::json;

    use super::*;

    fn decode<S: Spec + Default>(spec: &Value) -> (Decoded<S>, Vec<Problem>) {
        let document = json!({
            "apiVersion": "getambassador.io/v3alpha1",
            "kind": S::KIND,
            "metadata": {"name": "it"},
            "spec": spec,
        });
        let object = Object::from_document(document, None).unwrap();
        let mut problems = Problems::default();
        let decoded = super::spec(&object, &mut problems);
        (decoded, problems.in_order_of(&[]))
    }

    #[test]
    fn a_wrong_type_is_an_error_with_its_path_and_the_rest_is_read() {
        let spec = json!({"prefix": "/", "timeout_ms": "5s", "headers": {"x.a": 1, "x-b": "2"}, "tls": true});
        let (decoded, problems) = decode::<MappingSpec>(&spec);
        let fields: Vec<_> = problems
            .iter()
            .map(|p| (p.severity, p.field.clone().unwrap()))
            .collect();
        let error = |field: &str| (Severity::Error, field.to_owned());
        assert_eq!(
            fields,
            [
                error("spec.headers.x.a"),
                error("spec.timeout_ms"),
                error("spec.tls")
            ]
        );
        assert_eq!(decoded.spec.prefix.as_deref(), Some("/"));
        assert_eq!(decoded.spec.headers.as_ref().unwrap().len(), 1);
        assert!(decoded.broken(&["headers"]).is_some());
        assert!(decoded.broken(&["prefix"]).is_none());
        assert!(
            problems[2].message.contains("name a TLSContext") && !problems[2].message.contains("quotes"),
            "{}",
            problems[2].message
        );
    }

    /// The field and the message of the only problem.
    fn only<S: Spec + Default>(spec: &Value) -> (String, String) {
        let (_, problems) = decode::<S>(spec);
        assert_eq!(problems.len(), 1, "{spec}: {problems:#?}");
        (problems[0].field.clone().unwrap(), problems[0].message.clone())
    }

    #[test]
    fn advice_on_a_wrong_type_fits_the_field() {
        for (spec, end) in [
            (json!({"rewrite": false}), "to have `prefix` replaced by `/`"),
            (json!({"prefix": 5}), "write one path, which begins with `/`"),
            (
                json!({"service": 8080}),
                "write one, in the form [scheme://]host[:port]",
            ),
            (
                json!({"hostname": ["a"]}),
                "such as a.example.com, or \"*\" for all",
            ),
            (json!({"method": ["GET", "POST"]}), "with `method_regex: true`"),
            (json!({"timeout_ms": "3s"}), "write 3000"),
            (json!({"timeout_ms": "3000"}), "write 3000, without quotes"),
            (json!({"timeout_ms": 2.5}), "write one, without quotes or unit"),
            (json!({"timeout_ms": u64::MAX}), "write a smaller number"),
            (json!({"timeout_ms": 1e30}), "write a smaller number"),
            (json!({"weight": "50%"}), "write one, without quotes or unit"),
            (json!({"grpc": "true"}), "leave out the quotes"),
            (json!({"grpc": "on"}), "write true or false, without quotes"),
            (json!({"headers": {"x-a": true}}), "put it in quotes"),
            (json!({"headers": {"x-a": null}}), "write its value, or remove it"),
            (json!({"headers": ["x-a"]}), "write each entry as `name: value`"),
            (
                json!({"allow_upgrade": "websocket"}),
                "write a list, such as `[websocket]`",
            ),
            (json!({"remove_request_headers": "x-a"}), "put it in brackets"),
            (json!({"regex_rewrite": ["a", "b"]}), "substitution: TEXT}`"),
            (
                json!({"retry_policy": {"per_try_timeout": 5}}),
                "such as 250ms or 1.5s",
            ),
        ] {
            let (_, message) = only::<MappingSpec>(&spec);
            assert!(message.ends_with(end), "{message}");
        }
        let (_, message) = only::<TlsContextSpec>(&json!({"min_tls_version": 1.2}));
        assert_eq!(
            message,
            "`spec.min_tls_version` is the number `1.2` where a string is expected; write v1.2 or v1.3"
        );
        let (_, message) = only::<ListenerSpec>(&json!({"protocol": 5}));
        assert!(message.ends_with("write HTTP or HTTPS"), "{message}");
        let (field, message) = only::<ModuleSpec>(&json!({"config": ["a"]}));
        assert_eq!(
            (&*field, message.contains("is a list")),
            ("spec.config", true),
            "{message}"
        );
    }

    #[test]
    fn a_header_to_add_points_at_its_entry() {
        let added = |header: Value| only::<MappingSpec>(&json!({"add_request_headers": {"x-a": header}}));
        for value in [json!(true), json!(1.5)] {
            let (field, message) = added(value);
            assert_eq!(field, "spec.add_request_headers.x-a");
            assert!(message.ends_with("put it in quotes"), "{message}");
        }
        let (_, message) = added(json!(null));
        assert!(message.ends_with("write its value, or remove it"), "{message}");
        let (field, message) = added(json!({"value": true}));
        assert_eq!(field, "spec.add_request_headers.x-a.value");
        assert!(message.ends_with("put it in quotes"), "{message}");
        let (field, message) = added(json!({"value": "a", "append": "no"}));
        assert_eq!(field, "spec.add_request_headers.x-a.append");
        assert!(
            message.ends_with("write true or false, without quotes"),
            "{message}"
        );
        let (_, message) = added(json!({"valeu": "a"}));
        assert!(
            message.ends_with("has no field `valeu`; did you mean `value`?"),
            "{message}"
        );
        let (_, message) = added(json!({"append": true}));
        assert!(message.ends_with("has no `value`; add it"), "{message}");
    }

    #[test]
    fn a_placeholder_is_named_where_only_names_can_stand() {
        let spec = json!({"service": "https://${HOST}", "rewrite": "/{{x}}/", "headers": {"x-a": "${x}"}});
        let (field, message) = only::<MappingSpec>(&spec);
        assert_eq!(field, "spec.service");
        assert!(
            message.starts_with("`spec.service` holds `${HOST}`, a placeholder"),
            "{message}"
        );
        let (field, _) = only::<TlsContextSpec>(&json!({"hosts": ["a.test", "{{ .Values.host }}"]}));
        assert_eq!(field, "spec.hosts[1]");
        let expression = json!({"host": "((a|b))[.]test", "host_regex": true});
        assert_eq!(decode::<MappingSpec>(&expression).1, []);
    }

    #[test]
    fn a_field_in_a_wrong_place_is_told_its_own() {
        let (_, message) = only::<ModuleSpec>(&json!({"use_remote_address": true}));
        assert!(
            message.ends_with("write it as `spec.config.use_remote_address`"),
            "{message}"
        );
        let (_, message) = only::<ModuleSpec>(&json!({"config": {"add_request_headers": {}}}));
        assert!(
            message.ends_with("write it as `spec.config.defaults.add_request_headers`"),
            "{message}"
        );
        let (_, message) = only::<ModuleSpec>(&json!({"config": {"defaults": {"timeout_ms": 5}}}));
        assert!(
            message.ends_with("write it as `spec.config.cluster_request_timeout_ms`"),
            "{message}"
        );
        let (_, message) = only::<MappingSpec>(&json!({"retry_policy": {"retry_on": "5xx", "retries": 3}}));
        assert!(message.ends_with("did you mean `num_retries`?"), "{message}");
        let (_, message) = only::<MappingSpec>(&json!({"name": "a"}));
        assert!(message.ends_with("write it under `metadata`"), "{message}");
        let (_, message) = only::<TlsContextSpec>(&json!({"client_cert": "a"}));
        assert!(message.ends_with("name that in `secret`"), "{message}");
        // The nearest name would open what was meant to be closed.
        let (_, message) = only::<HostSpec>(&json!({"requestPolicy": {"secure": {"action": "Route"}}}));
        assert!(message.contains("remove it"), "{message}");
        let (_, message) = only::<MappingSpec>(&json!({"path": "/a/"}));
        assert!(message.ends_with("did you mean `prefix`?"), "{message}");
        let (decoded, problems) = decode::<MappingSpec>(&json!({"spec": {"tls": "a"}}));
        assert_eq!(problems[0].severity, Severity::Error);
        assert!(decoded.broken(&["tls"]).is_some());
    }

    #[test]
    fn a_spec_under_metadata_is_not_read_and_loses_nothing_it_protects() {
        let document = json!({
            "apiVersion": "getambassador.io/v3alpha1",
            "kind": "TLSContext",
            "metadata": {"name": "it", "spec": {"ca_secret": "ca"}},
        });
        let object = Object::from_document(document, None).unwrap();
        let mut problems = Problems::default();
        let decoded = super::spec::<TlsContextSpec>(&object, &mut problems);
        assert!(
            decoded
                .any_broken()
                .is_some_and(|message| message.ends_with("indent it less"))
        );
    }

    #[test]
    fn labels_beside_match_labels_select_nothing() {
        for spec in [
            json!({"mappingSelector": {"app": "web"}}),
            json!({"mappingSelector": {"matchLabel": {"app": "web"}}}),
            json!({"selector": {"app": "web"}}),
        ] {
            let (decoded, problems) = decode::<HostSpec>(&spec);
            assert_eq!(problems[0].severity, Severity::Error);
            assert!(
                decoded.broken(&["mappingSelector", "selector"]).is_some(),
                "{spec}"
            );
        }
    }

    #[test]
    fn a_later_field_that_asks_for_nothing_is_no_problem() {
        for provider in [
            json!({"authority": "none"}),
            json!({"authority": "none", "email": "a@b.test"}),
        ] {
            assert_eq!(decode::<HostSpec>(&json!({"acmeProvider": provider})).1, []);
        }
        for provider in [json!({}), json!({"email": "a@b.test"}), json!("none")] {
            assert_eq!(decode::<HostSpec>(&json!({"acmeProvider": provider})).1.len(), 1);
        }
    }

    #[test]
    fn what_will_never_be_supported_says_what_follows() {
        let scripts = json!({"config": {"lua_scripts": "function envoy_on_request(handle) end"}});
        let (_, problems) = decode::<ModuleSpec>(&scripts);
        let [problem] = &*problems else {
            panic!("{problems:?}");
        };
        assert_eq!(problem.severity, Severity::Error);
        assert!(
            problem.message.contains("every request and response goes on"),
            "{problem:?}"
        );
        for none in [json!([]), json!(""), json!(null)] {
            let (_, problems) = decode::<ModuleSpec>(&json!({"config": {"lua_scripts": none}}));
            assert_eq!(problems, [], "{none}");
        }
        let of_envoy = json!({"config": {"admin_port": 8001, "envoy_validation_timeout": 30}});
        let (_, problems) = decode::<ModuleSpec>(&of_envoy);
        assert_eq!(problems.len(), 2);
        assert!(
            problems
                .iter()
                .all(|problem| problem.severity == Severity::Notice),
            "{problems:?}"
        );
    }

    #[test]
    fn an_unknown_field_names_the_nearest_known_one() {
        let (_, problems) = decode::<MappingSpec>(&json!({"prefx": "/", "prefixRegex": true, "zzz": 1}));
        let messages: Vec<_> = problems.iter().map(|p| p.message.clone()).collect();
        assert!(
            messages[0].contains("did you mean `prefix_regex`?"),
            "{messages:?}"
        );
        assert!(messages[1].contains("did you mean `prefix`?"), "{messages:?}");
        assert!(messages[2].ends_with("remove it"), "{messages:?}");
        let (_, problems) = decode::<HostSpec>(&json!({"requestPolicy": {"insecure": {"acton": "Route"}}}));
        assert_eq!(
            problems[0].field.as_deref(),
            Some("spec.requestPolicy.insecure.acton")
        );
        assert!(problems[0].message.contains("did you mean `action`?"));
    }

    #[test]
    fn a_field_without_effect_yet_is_told_unless_it_is_empty() {
        let (_, problems) = decode::<MappingSpec>(&json!({"cors": {"origins": "*"}, "keepalive": null}));
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].message.contains("`spec.cors` is not supported yet"),
            "{}",
            problems[0].message
        );
        let (_, problems) =
            decode::<ModuleSpec>(&json!({"config": {"gzip": {}, "defaults": {"stats_name": "a"}}}));
        assert_eq!(problems.len(), 2);
        assert!(problems.iter().all(|p| p.reason == "not_supported_yet"));
    }

    #[test]
    fn what_the_reference_notes_for_itself_is_no_problem() {
        let (_, problems) = decode::<MappingSpec>(&json!({"v2ExplicitTLS": {"tls": "bool:true"}}));
        assert_eq!(problems, []);
    }

    #[test]
    fn a_spec_that_is_no_object_is_one_error() {
        let (decoded, problems) = decode::<MappingSpec>(&json!([1]));
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].field.as_deref(), Some("spec"));
        assert!(decoded.broken(&["prefix"]).is_some());
    }
}
