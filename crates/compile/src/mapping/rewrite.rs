//! What becomes of the path (B22 to B24).

use std::sync::Arc;

use nuncio_crds::MappingSpec;
use nuncio_model::{PathMatch, Pattern, Rewrite};

use super::conditions::{REGEX_SIZE_LIMIT, regex_error};
use crate::Object;
use crate::problems::Problems;

/// Reads `regex_rewrite`, else `rewrite`.
///
/// # Errors
/// Why the path cannot be rewritten as asked; it has been reported.
pub(crate) fn read(
    object: &Object,
    spec: &MappingSpec,
    path: &PathMatch,
    problems: &mut Problems,
) -> Result<Rewrite, String> {
    if let Some(regex) = &spec.regex_rewrite {
        if spec.rewrite.as_deref().is_some_and(|rewrite| rewrite != "/") {
            let message =
                "`spec.rewrite` has no effect, because `regex_rewrite` is given as well; keep one of them";
            problems.notice(object, "conflicting_fields", "spec.rewrite", message);
        }
        let (pattern, substitution) = (regex.pattern.as_deref(), regex.substitution.as_deref());
        if let Some(group) = substitution.and_then(dollar_group) {
            const FIELD: &str = "spec.regex_rewrite.substitution";
            let message = format!(
                "`{FIELD}` has `${group}`, which is sent as it stands; write \\{group} for that group"
            );
            problems.warning(object, "bad_value", FIELD, message);
        }
        return by_regex(pattern, substitution.unwrap_or_default()).map_err(|(field, message)| {
            problems.error(object, "bad_regex", field, message.clone());
            message
        });
    }
    let with = spec.rewrite.as_deref().unwrap_or("/");
    if with.is_empty() {
        return Ok(Rewrite::None);
    }
    if !with.starts_with('/') {
        let fix = match with.split_once("://") {
            Some((_, rest)) => {
                let path = rest.find('/').map_or("/", |at| &rest[at..]);
                format!("write `{path}`, and the host into `host_rewrite`")
            }
            None => "put one in front".to_owned(),
        };
        let message =
            format!("`spec.rewrite` is `{with}`, so the path sent upstream begins without a `/`; {fix}");
        problems.warning(object, "bad_value", "spec.rewrite", message);
    }
    let matched = match path {
        PathMatch::Prefix { text, .. } => Some(text.len()),
        PathMatch::Exact { .. } | PathMatch::Regex(_) => None,
    };
    Ok(Rewrite::Prefix {
        matched,
        with: with.into(),
    })
}

fn by_regex(pattern: Option<&str>, substitution: &str) -> Result<Rewrite, (&'static str, String)> {
    const PATTERN: &str = "spec.regex_rewrite.pattern";
    const SUBSTITUTION: &str = "spec.regex_rewrite.substitution";
    let text = pattern.ok_or_else(|| (PATTERN, format!("`{PATTERN}` is missing; add it")))?;
    let pattern = Pattern::partial(text, REGEX_SIZE_LIMIT).map_err(|error| {
        (
            PATTERN,
            format!(
                "`{PATTERN}` is no regular expression ({}); correct it",
                regex_error(&error)
            ),
        )
    })?;
    let groups = pattern.regex().captures_len() - 1;
    let substitution = translate(substitution, groups).map_err(|why| {
        (
            SUBSTITUTION,
            format!("`{SUBSTITUTION}` {why}; write \\1 for the first group and \\\\ for a backslash"),
        )
    })?;
    Ok(Rewrite::Regex {
        pattern,
        substitution,
    })
}

/// The group that is written in the way of another language, `$1` or `${1}`.
fn dollar_group(substitution: &str) -> Option<char> {
    substitution.split('$').skip(1).find_map(|after| {
        let first = after.strip_prefix('{').unwrap_or(after).chars().next()?;
        first.is_ascii_digit().then_some(first)
    })
}

/// From RE2's `\1` to `${1}`; a `$` stands for itself in RE2.
fn translate(substitution: &str, groups: usize) -> Result<Arc<str>, String> {
    let mut translated = String::with_capacity(substitution.len());
    let mut rest = substitution.chars();
    while let Some(next) = rest.next() {
        match next {
            '$' => translated.push_str("$$"),
            '\\' => match rest.next() {
                Some('\\') => translated.push('\\'),
                Some(digit) if digit.is_ascii_digit() => {
                    let group = digit.to_digit(10).map_or(0, |digit| digit as usize);
                    if group > groups {
                        return Err(format!("has \\{digit}, but the pattern has {groups} groups"));
                    }
                    translated.push_str(&format!("${{{digit}}}"));
                }
                _ => {
                    return Err("has a backslash that is followed by neither a digit nor a backslash".into());
                }
            },
            other => translated.push(other),
        }
    }
    Ok(translated.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b23_substitutions_are_translated() {
        for (from, groups, to) in [
            ("/x", 0, Ok("/x")),
            (r"/\1/\2", 2, Ok("/${1}/${2}")),
            (r"/\0", 0, Ok("/${0}")),
            (r"a\\b$c", 0, Ok(r"a\b$$c")),
            (r"\2", 1, Err("has \\2, but the pattern has 1 groups")),
        ] {
            let got = translate(from, groups);
            assert_eq!(got.as_deref().map_err(String::as_str), to, "{from}");
        }
        assert!(translate(r"\x", 1).is_err());
        assert!(translate("\\", 1).is_err());
    }

    /// The translation means the same to the library as the original to RE2.
    #[test]
    fn b23_a_translated_substitution_rewrites() {
        let Ok(Rewrite::Regex {
            pattern,
            substitution,
        }) = by_regex(Some("^/v1/(.*)$"), r"/$x/\1")
        else {
            panic!("no rewrite");
        };
        assert_eq!(pattern.regex().replace_all("/v1/a/b", &*substitution), "/$x/a/b");
    }
}
