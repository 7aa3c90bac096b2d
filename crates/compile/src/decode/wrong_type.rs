//! Values of a wrong type, in plain words.

use nuncio_crds::{Spec, Values, field_names};
use serde_json::Value;

use super::{join, nearest};
use crate::placeholder::Placeholder;

/// What keeps a field from being read.
pub(super) struct Flaw {
    pub(super) reason: &'static str,
    /// From `spec`.
    pub(super) path: String,
    pub(super) message: String,
}

impl Flaw {
    /// The first flaw that a reader of the type would not see.
    pub(super) fn unseen<S: Spec>(spec: &Value) -> Option<Self> {
        let at = |path: &str| path.split('.').try_fold(spec, |value, step| value.get(step));
        let listed = S::OBJECTS
            .iter()
            .find(|path| at(path).is_some_and(Value::is_array));
        if let Some(path) = listed {
            return Some(Self::of_type::<S>(
                path,
                "invalid type: sequence, expected struct",
            ));
        }
        S::NAMES.iter().find_map(|path| {
            let value = at(path)?;
            let left = |value: &Value| Some(Placeholder::in_name(value.as_str()?)?.message());
            let (message, path) = match value.as_array() {
                Some(values) => {
                    let mut values = values.iter().enumerate();
                    values.find_map(|(index, value)| Some((left(value)?, format!("{path}[{index}]"))))?
                }
                None => (left(value)?, (*path).to_owned()),
            };
            // An expression may hold what looks like one.
            if at(&format!("{path}_regex")) == Some(&Value::Bool(true)) {
                return None;
            }
            Some(Self {
                reason: "template",
                message: format!("`{}` {message}", join("spec", &path)),
                path,
            })
        })
    }

    /// What serde says of the value at a path.
    pub(super) fn of_type<S: Spec>(path: &str, detail: &str) -> Self {
        let is_unknown = detail.starts_with("unknown field");
        Self {
            reason: if is_unknown { "unknown_field" } else { "wrong_type" },
            path: path.to_owned(),
            message: message::<S>(path, detail),
        }
    }
}

fn message<S: Spec>(path: &str, detail: &str) -> String {
    let field = join("spec", path);
    if let Some(name) = in_backticks(detail, "unknown field ") {
        let known: Vec<String> = detail.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        let parent = field.strip_suffix(&format!(".{name}")).unwrap_or(&field);
        let fix = match nearest(name, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "remove it".to_owned(),
        };
        return format!("`{parent}` has no field `{name}`; {fix}");
    }
    if let Some(name) = in_backticks(detail, "missing field ") {
        return format!("`{field}` has no `{name}`; add it");
    }
    let Some((is, wants)) = parts(detail) else {
        let wants = detail.strip_prefix("expected ").unwrap_or(detail);
        return format!("`{field}` cannot be read; it must be {wants}");
    };
    let fix = form::<S>(path).unwrap_or_else(|| fix::<S>(path, is, wants));
    let (is, wants) = (shown(is), wanted(path, wants));
    format!("`{field}` is {is} where {wants} is expected; {fix}")
}

/// What stands in the first backticks after `before`.
fn in_backticks<'a>(detail: &'a str, before: &str) -> Option<&'a str> {
    detail.strip_prefix(before)?.split('`').nth(1)
}

/// What there is, and what is expected, in serde's words.
fn parts(detail: &str) -> Option<(&str, &str)> {
    let rest = detail
        .strip_prefix("invalid type: ")
        .or_else(|| detail.strip_prefix("invalid value: "))?;
    rest.split_once(", expected ")
}

/// A value of a document that is not ours and may be secret: its type alone.
pub(super) fn type_alone(detail: &str) -> Option<String> {
    let (is, wants) = parts(detail)?;
    let is = match shown(is) {
        shown if shown.starts_with("the string") => "a string".to_owned(),
        shown if shown.starts_with("the number") && wants == "u16" => "a number out of range".to_owned(),
        shown if shown.starts_with("the number") => "a number".to_owned(),
        shown if shown.starts_with("the boolean") => "a boolean".to_owned(),
        shown => shown,
    };
    Some(format!("is {is} where {} is expected", wanted("", wants)))
}

fn shown(is: &str) -> String {
    match is {
        "sequence" => "a list".to_owned(),
        "map" => "an object".to_owned(),
        "null" | "unit value" => "null".to_owned(),
        other => other
            .replacen("string ", "the string ", 1)
            .replacen("boolean ", "the boolean ", 1)
            .replacen("floating point ", "the number ", 1)
            .replacen("integer ", "the number ", 1),
    }
}

fn wanted(path: &str, wants: &str) -> String {
    let milliseconds = path.ends_with("_ms");
    match wants {
        "a boolean" => "true or false".to_owned(),
        // The long form of a header is for few.
        long if long.starts_with("a string, or an object") => "a string".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        other if other.starts_with("struct") => "an object".to_owned(),
        "i64" if milliseconds => "a whole number of milliseconds".to_owned(),
        "i64" => "a whole number".to_owned(),
        "u16" => "a number between 1 and 65535".to_owned(),
        other => other.to_owned(),
    }
}

/// What to do about a field that has its own form, or a set of values.
fn form<S: Spec>(path: &str) -> Option<String> {
    let form = S::FORMS.iter().find(|(known, _)| *known == path);
    if let Some((_, fix)) = form {
        return Some((*fix).to_owned());
    }
    let any_index = match path.split_once('[') {
        Some((list, _)) => format!("{list}[0]"),
        None => path.to_owned(),
    };
    S::VALUES
        .iter()
        .find(|(known, _)| *known == any_index)
        .and_then(|(_, values)| match values {
            Values::OneOf([only]) => Some(format!("write {only}")),
            Values::OneOf(names) => Some(format!("write one of {}", names.join(", "))),
            _ => None,
        })
}

fn fix<S: Spec>(path: &str, is: &str, wants: &str) -> String {
    let of_text = is
        .strip_prefix("string \"")
        .and_then(|text| text.strip_suffix('"'));
    match wants {
        // Values of headers, labels and the like: YAML took for something else what was meant as a string.
        wants if wants.starts_with("a string") => match is {
            "null" | "unit value" => "write its value, or remove it".to_owned(),
            "sequence" => "write one value, without brackets".to_owned(),
            "map" => "write one value in place of the fields".to_owned(),
            _ => "put it in quotes".to_owned(),
        },
        "a boolean" => match of_text {
            Some("true" | "false") => "leave out the quotes".to_owned(),
            _ => "write true or false, without quotes".to_owned(),
        },
        "i64" => match of_text {
            Some(number) if number.parse::<i64>().is_ok() => format!("write {number}, without quotes"),
            Some(text) if path.ends_with("_ms") => match milliseconds(text) {
                Some(number) => format!("write {number}"),
                None => "write one, without quotes or unit".to_owned(),
            },
            None if is.starts_with("integer") || is.contains("e+") => "write a smaller number".to_owned(),
            _ => "write one, without quotes or unit".to_owned(),
        },
        "a sequence" => match of_text {
            Some(_) => "put it in brackets".to_owned(),
            None => "write a list".to_owned(),
        },
        "a map" => "write each entry as `name: value`".to_owned(),
        other if other.starts_with("struct") => {
            let names = field_names::<S>(path);
            match names.is_empty() {
                true => "write each entry as `name: value`".to_owned(),
                false => format!("write it with its fields, which are {}", names.join(", ")),
            }
        }
        _ => "correct it".to_owned(),
    }
}

/// A duration as people write it, where it is whole milliseconds.
fn milliseconds(text: &str) -> Option<i64> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let factor = match unit.trim() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(factor)
}
