//! From a document to the typed `spec` of its kind, with a problem for everything that does not fit.

mod protection;

use nuncio_crds::{Spec, field_names};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Object;
use crate::problems::Problems;
use crate::tellable::tellable_path;

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
        return decoded;
    };
    if !value.is_object() {
        let message = "`spec` must be an object, so nothing of it is read; give it fields".to_owned();
        problems.error(object, "wrong_type", "spec", message.clone());
        decoded.broken.push((String::new(), message));
        return decoded;
    }
    let mut mended = None;
    while decoded.broken.len() < MOST_WRONG_TYPES {
        let value = mended.as_ref().unwrap_or(value);
        match attempt::<S>(value) {
            Ok((spec, ignored)) => {
                let lost = report_ignored_fields::<S>(object, value, &ignored, problems);
                decoded.broken.extend(lost);
                decoded.spec = spec;
                return decoded;
            }
            Err(wrong) => {
                let field = join("spec", &wrong.path);
                let message = wrong_type_message(&field, &wrong.message);
                problems.error(object, "wrong_type", &field, message.clone());
                let cut = wrong.path.split('[').next().unwrap_or_default().to_owned();
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
        Err(_) => {
            let path = tellable_path(&dotted(&track.path()));
            let message = format!(
                "`{path}` has the wrong type, so this {} is not used; correct it",
                object.kind
            );
            problems.error(object, "wrong_type", &path, message);
            None
        }
    }
}

struct WrongType {
    path: String,
    message: String,
}

type Ignored = Vec<(String, String)>;

/// One pass over `value`; gives unknown fields as parent path and name.
fn attempt<S: DeserializeOwned>(value: &Value) -> Result<(S, Ignored), WrongType> {
    let mut ignored = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let result = serde_ignored::deserialize(deserializer, |path: serde_ignored::Path<'_>| {
        ignored.extend(parent_and_name(&path));
    });
    match result {
        Ok(spec) => Ok((spec, ignored)),
        Err(error) => Err(WrongType {
            path: dotted(&track.path()),
            message: error.to_string(),
        }),
    }
}

/// In plain words what serde says in those of its own.
fn wrong_type_message(field: &str, detail: &str) -> String {
    let Some((is, wants)) = detail
        .strip_prefix("invalid type: ")
        .and_then(|rest| rest.split_once(", expected "))
    else {
        let detail = detail
            .strip_prefix("expected ")
            .map_or(detail.to_owned(), |wants| format!("it must be {wants}"));
        return format!("`{field}` cannot be read: {detail}");
    };
    if field == "spec.tls" && is.starts_with("boolean") {
        return "`spec.tls` is true or false where the name of a TLSContext is expected; to encrypt, write `https://` before \
                the host in `spec.service` or name a TLSContext, else remove it"
            .to_owned();
    }
    let is = is
        .replace("string ", "the text ")
        .replace("floating point ", "the number ")
        .replace("integer ", "the number ");
    let (wants, cure) = match wants {
        "a string" => ("a text", "put it in quotes"),
        "a boolean" => ("true or false", "write one of these, without quotes"),
        "a sequence" => ("a list", "put it in brackets"),
        "a map" => ("an object", "give it fields"),
        other if other.starts_with("struct ") => ("an object", "give it fields"),
        "i64" | "u16" => ("a whole number", "write one, without quotes or unit"),
        other => (other, "correct it"),
    };
    format!("`{field}` is {is} where {wants} is expected; {cure}")
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
                let message = unknown_message(&object.kind, field, field, &known);
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
            if !spec
                .pointer(&format!("/{}", path.replace('.', "/")))
                .is_some_and(Value::is_null)
            {
                let message = format!(
                    "`{field}` is not supported yet and has no effect; remove it if you can do without"
                );
                problems.warning(object, "not_supported_yet", &field, message);
            }
        } else if let Some(meant) = protection::in_spec::<S>(parent, name) {
            lost.push(report_lost(object, &field, &meant, problems));
        } else {
            let message = unknown_message(S::KIND, &field, name, &field_names::<S>(parent));
            problems.warning(object, "unknown_field", &field, message);
        }
    }
    lost
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

fn unknown_message(kind: &str, field: &str, name: &str, known: &[String]) -> String {
    match nearest(name, known) {
        Some(near) => format!("{kind} has no field `{field}`, so it has no effect; did you mean `{near}`?"),
        None => format!("{kind} has no field `{field}`, so it has no effect; remove it"),
    }
}

/// The name of `known` that `name` was probably meant to be.
pub(crate) fn nearest<'a>(name: &str, known: &'a [impl AsRef<str>]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (distance(name, candidate.as_ref()), candidate.as_ref()))
        .min()
        .filter(|(distance, _)| *distance <= most_distance(name))
        .map(|(_, candidate)| candidate)
}

/// How many slips lie between two names; letter case, hyphens and underscores make no difference.
fn distance(name: &str, candidate: &str) -> usize {
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    strsim::damerau_levenshtein(&plain(name), &plain(candidate))
}

/// The most slips that a name may have.
fn most_distance(name: &str) -> usize {
    (name.replace(['_', '-'], "").chars().count() / 3).max(1)
}

#[cfg(test)]
mod tests {
    use nuncio_crds::{HostSpec, MappingSpec, ModuleSpec};
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
