//! What users wrote, as messages may repeat it.
//!
//! Keys get pasted where a name belongs: `secret: "-----BEGIN PRIVATE KEY-----..."`. A message that quotes the
//! name would then put the key into logs and answers (row K16), so only what may be a name is quoted.

use std::borrow::Cow;

/// The longest name that Kubernetes takes.
const LONGEST_NAME: usize = 253;

/// Fewer letters than this are no key.
const SHORT: usize = 40;

/// `text` itself where it may be a name or a path, else a few words about it.
pub(crate) fn tellable(text: &str) -> Cow<'_, str> {
    let is_plain = !text.contains("-----BEGIN") && !text.chars().any(char::is_control);
    let is_name = text.len() <= LONGEST_NAME && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    let is_path = text.starts_with(['/', '.']);
    if is_plain && (text.len() < SHORT || is_name || is_path) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("(a text of {} bytes that is no name)", text.len()))
}

/// A dotted path of which each part is [`tellable`].
pub(crate) fn tellable_path(path: &str) -> String {
    let parts: Vec<Cow<'_, str>> = path.split('.').map(tellable).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k16_names_and_paths_are_repeated_and_keys_are_not() {
        for name in [
            "",
            "web-tls",
            "Web_TLS",
            "/etc/Certificates/Of The Gateway/and-some-more/Client.pem",
            "a-name-that-goes-on-for-more-than-forty-letters.and-dots",
        ] {
            assert_eq!(tellable(name), name);
        }
        let body = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";
        for key in [
            body,
            "-----BEGIN PRIVATE KEY-----",
            "/-----BEGIN PRIVATE KEY-----\n",
            "a\nb",
        ] {
            assert_eq!(
                tellable(key),
                format!("(a text of {} bytes that is no name)", key.len())
            );
        }
        let path = tellable_path(&format!("data.{body}"));
        assert_eq!(path, "data.(a text of 48 bytes that is no name)");
        assert_eq!(tellable_path("data.tls.key"), "data.tls.key");
    }
}
