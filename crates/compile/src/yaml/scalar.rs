//! What a scalar means, as kubectl reads it: YAML 1.1's words for booleans, Go's spellings of
//! numbers, and text for everything else. Quoted scalars are text whatever they look like.

use saphyr_parser::Tag;
use serde_json::{Number, Value};

/// The value of a scalar that was written plain, or the sentence that says why it has none.
pub(super) fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Ok(Value::Bool(true))
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Ok(Value::Bool(false))
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf"
        | "-.Inf" | "-.INF" => Err(format!(
            "{text} is a number that manifests cannot hold; put it in quotes if text is meant"
        )),
        _ => Ok(number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)),
    }
}

/// The value of a scalar with an explicit tag.
pub(super) fn tagged(text: &str, tag: &Tag) -> Result<Value, String> {
    let wrong = |kind: &str| {
        format!("the value is tagged as {kind} but is none; correct the value or leave out the tag")
    };
    if !tag.is_yaml_core_schema() {
        return match (tag.handle.as_str(), tag.suffix.as_str()) {
            ("" | "!", "" | "!") => Ok(Value::String(text.to_owned())),
            _ => Err(unknown(tag)),
        };
    }
    let resolved = plain(text);
    match (tag.suffix.as_str(), resolved) {
        ("str", _) => Ok(Value::String(text.to_owned())),
        ("null", Ok(Value::Null)) => Ok(Value::Null),
        ("null", _) => Err(wrong("null")),
        ("bool", Ok(Value::Bool(value))) => Ok(Value::Bool(value)),
        ("bool", _) => Err(wrong("a boolean")),
        ("int", Ok(Value::Number(value))) if !value.is_f64() => Ok(Value::Number(value)),
        ("int", _) => Err(wrong("an integer")),
        ("float", Ok(Value::Number(value))) => Ok(Value::Number(value)),
        ("float", _) => Err(wrong("a number")),
        _ => Err(unknown(tag)),
    }
}

/// Whether a list or a mapping may carry this tag.
pub(super) fn collection(tag: &Tag, kind: &str) -> Result<(), String> {
    if tag.is_yaml_core_schema() && tag.suffix == kind {
        return Ok(());
    }
    Err(unknown(tag))
}

fn unknown(tag: &Tag) -> String {
    format!(
        "the tag !{} means nothing in a manifest; leave it out",
        tag.suffix
    )
}

/// A number as Go's YAML reads it: `0x`, `0o`, `0b` and a leading `0` set the base, `_` may stand
/// between digits. Whole floats become integers, as they do on their way through JSON.
fn number(text: &str) -> Option<Number> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let plain = text.replace('_', "");
    integer(&plain).or_else(|| float(&plain))
}

fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, base).ok()?;
    if negative {
        return 0i64.checked_sub_unsigned(magnitude).map(Number::from);
    }
    Some(Number::from(magnitude))
}

fn float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let only_number = unsigned
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if !only_number || !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    /// Integers up to here survive a float unchanged.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within the exact range")]
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_scalars_mean_what_kubectl_reads() {
        let table = [
            ("", json!(null)),
            ("~", json!(null)),
            ("Null", json!(null)),
            ("nULL", json!("nULL")),
            ("true", json!(true)),
            ("yes", json!(true)),
            ("off", json!(false)),
            ("N", json!(false)),
            ("tRue", json!("tRue")),
            ("0", json!(0)),
            ("-0", json!(0)),
            ("42", json!(42)),
            ("+42", json!(42)),
            ("-42", json!(-42)),
            ("0755", json!(493)),
            ("0o755", json!(493)),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("08", json!(8)),
            ("1_000", json!(1000)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("3.0", json!(3)),
            ("1e3", json!(1000)),
            ("1.3", json!(1.3)),
            ("v1.3", json!("v1.3")),
            ("1.2.3", json!("1.2.3")),
            ("1.2.3.4", json!("1.2.3.4")),
            ("-", json!("-")),
            ("0x", json!("0x")),
            ("+-1", json!("+-1")),
            ("2026-01-02", json!("2026-01-02")),
            ("1e", json!("1e")),
            ("infinity", json!("infinity")),
            ("+inf", json!("+inf")),
            ("https://a.test", json!("https://a.test")),
            ("<<", json!("<<")),
        ];
        for (text, expected) in table {
            assert_eq!(plain(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn numbers_that_json_lacks_are_refused() {
        assert_eq!(
            plain(".inf"),
            Err(".inf is a number that manifests cannot hold; put it in quotes if text is meant".to_owned())
        );
    }

    #[test]
    fn tags_decide_or_are_refused() {
        let core = |suffix: &str| Tag {
            handle: "tag:yaml.org,2002:".to_owned(),
            suffix: suffix.to_owned(),
        };
        assert_eq!(tagged("5", &core("str")), Ok(json!("5")));
        assert_eq!(tagged("5", &core("int")), Ok(json!(5)));
        assert_eq!(tagged("5.5", &core("float")), Ok(json!(5.5)));
        assert!(tagged("x", &core("int")).is_err());
        assert!(tagged("eA==", &core("binary")).is_err());
        let own = Tag {
            handle: "!".to_owned(),
            suffix: "vault".to_owned(),
        };
        assert_eq!(
            tagged("x", &own),
            Err("the tag !vault means nothing in a manifest; leave it out".to_owned())
        );
        assert!(collection(&core("map"), "map").is_ok());
        assert!(collection(&core("set"), "map").is_err());
    }
}
