//! What a Secret holds, decoded.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use nuncio_crds::Secret;

use crate::placeholder::Placeholder;
use crate::problems::Problems;
use crate::tellable::tellable;
use crate::{Object, decode};

/// Types of Secrets that may hold certificates (D9a).
pub(super) const TYPES: &[&str] = &["Opaque", "kubernetes.io/tls", "istio.io/key-and-cert"];

/// Keys that mean something (D.4, decision 11); others are not looked at.
const KEYS: &[&str] = &[
    "tls.crt",
    "cert-chain.pem",
    "tls.key",
    "key.pem",
    "ca.crt",
    "root-cert.pem",
    "cacert",
    "crl.pem",
    "user.key",
];

/// Bytes of one value that are read, as of a certificate file: more is no certificate of anybody.
const LIMIT: usize = 4 * 1024 * 1024;

/// Decoded values of a Secret by key; empty ones are left out.
pub(super) type Contents = BTreeMap<String, Vec<u8>>;

/// The first of these keys that is there.
pub(super) fn first<'c>(contents: &'c Contents, keys: &[&'static str]) -> Option<(&'static str, &'c [u8])> {
    keys.iter()
        .find_map(|key| contents.get(*key).map(|value| (*key, value.as_slice())))
}

/// `data.tls.crt` or `stringData.tls.crt`, wherever the value stands.
pub(super) fn field_of(object: &Object, key: &str) -> String {
    let document = object.document.value();
    let under = |map: &str| document.get(map).and_then(|map| map.get(key)).is_some();
    let map = if under("stringData") { "stringData" } else { "data" };
    format!("{map}.{key}")
}

/// The values of a Secret.
///
/// # Errors
/// Why it cannot be read, to follow after its name: "which ...".
pub(super) fn read(object: &Object, problems: &mut Problems) -> Result<Contents, String> {
    let secret = decode::document::<Secret>(object, problems).ok_or("which cannot be read")?;
    let kind = secret.kind.as_deref().unwrap_or("Opaque");
    if !TYPES.contains(&kind) {
        return Err(format!(
            "which is of type `{}`; use one of type {}",
            tellable(kind),
            TYPES.join(", ")
        ));
    }
    let mut contents = Contents::new();
    for (key, text) in secret.data.unwrap_or_default() {
        if KEYS.contains(&key.as_str()) {
            let value = unpacked(&key, &text.unwrap_or_default())?;
            contents.insert(key, value);
        }
    }
    for (key, text) in secret.string_data.unwrap_or_default() {
        if KEYS.contains(&key.as_str()) {
            let text = text.unwrap_or_default();
            bounded(&format!("stringData.{key}"), text.len())?;
            contents.insert(key, text.into_bytes());
        }
    }
    contents.retain(|_, value| !value.is_empty());
    Ok(contents)
}

fn unpacked(key: &str, text: &str) -> Result<Vec<u8>, String> {
    let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    bounded(&format!("data.{key}"), packed.len() / 4 * 3)?;
    if Placeholder::in_name(text).is_some() {
        return Err(format!(
            "whose `data.{key}` is a placeholder that nothing has filled in; render the manifests first, or put the value there"
        ));
    }
    BASE64
        .decode(&packed)
        .map_err(|_| format!("whose `data.{key}` is no base64; encode it, or put it under `stringData`"))
}

fn bounded(field: &str, length: usize) -> Result<(), String> {
    if length <= LIMIT {
        return Ok(());
    }
    Err(format!(
        "whose `{field}` is larger than {} MiB; keep only the certificates that are needed",
        LIMIT / 1024 / 1024
    ))
}
