//! Headers to add and to remove (B29, B30).

use std::collections::BTreeMap;
use std::str::FromStr;

use http::{HeaderName, HeaderValue};
use nuncio_crds::AddedHeader;
use nuncio_model::HeaderAddition;

use crate::Object;
use crate::problems::Problems;

/// Headers that frame a message or belong to one connection; the gateway writes them itself.
const OF_THE_CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Reads a map of headers to add. What cannot be added is an error and left out.
pub(crate) fn additions(
    object: &Object,
    field: &str,
    map: &BTreeMap<String, AddedHeader>,
    problems: &mut Problems,
) -> Vec<HeaderAddition> {
    let mut additions = Vec::with_capacity(map.len());
    for (name, header) in map {
        let field = format!("{field}.{name}");
        let Some(name) = header_name(object, &field, name, problems) else {
            continue;
        };
        let Ok(value) = HeaderValue::from_str(header.value()) else {
            let message =
                format!("`{field}` has characters that no header has, so it is not added; correct it");
            problems.error(object, "bad_value", &field, message);
            continue;
        };
        if header.value().contains('%') {
            let message = format!(
                "`{field}` has a `%`, which is sent as it stands; substitutions such as %REQ(name)% are not supported"
            );
            problems.warning(object, "not_supported_yet", &field, message);
        }
        additions.push(HeaderAddition {
            name,
            value,
            append: header.append(),
        });
    }
    additions
}

/// Reads a list of headers to remove. What cannot be removed is an error and left out.
pub(crate) fn removals(
    object: &Object,
    field: &str,
    names: &[String],
    problems: &mut Problems,
) -> Vec<HeaderName> {
    names
        .iter()
        .enumerate()
        .filter_map(|(index, name)| header_name(object, &format!("{field}[{index}]"), name, problems))
        .collect()
}

fn header_name(object: &Object, field: &str, name: &str, problems: &mut Problems) -> Option<HeaderName> {
    let lower = name.to_ascii_lowercase();
    let message = if lower.starts_with(':') || lower == "host" {
        format!(
            "`{field}` is about `{name}`, which is part of the request itself, so it has no effect; use `host_rewrite` or `rewrite`"
        )
    } else if OF_THE_CONNECTION.contains(&lower.as_str()) {
        format!(
            "`{field}` is about `{name}`, which belongs to the connection, so it has no effect; remove it"
        )
    } else if let Ok(name) = HeaderName::from_str(&lower) {
        return Some(name);
    } else {
        format!("`{field}` is about `{name}`, which is no header name, so it has no effect; correct it")
    };
    problems.error(object, "bad_header", field, message);
    None
}
