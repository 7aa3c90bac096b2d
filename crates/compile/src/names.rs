//! Host names as the wire wants them, and the globs of Hosts and Mappings.

use std::borrow::Cow;
use std::net::IpAddr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use rustls_pki_types::DnsName;

/// A DNS name as an A-label in lower case; a trailing dot is kept.
///
/// # Errors
/// What is wrong with the name, to follow after its text.
pub(crate) fn dns_name(text: &str) -> Result<Cow<'_, str>, &'static str> {
    let name = if text.is_ascii() {
        ascii_lower(text)
    } else {
        Uts46::new()
            .to_ascii(
                text.as_bytes(),
                AsciiDenyList::URL,
                Hyphens::Allow,
                DnsLength::Ignore,
            )
            .map_err(|_| "is no valid internationalised name")?
    };
    check_labels(name.strip_suffix('.').unwrap_or(&name))?;
    Ok(name)
}

fn ascii_lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// RFC 1035 lengths; letters, digits, hyphens and the underscore that service names may have.
fn check_labels(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("is empty");
    }
    if name.len() > 253 {
        return Err("is longer than the 253 characters of a DNS name");
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err("has an empty part between two dots");
        }
        if label.len() > 63 {
            return Err("has a part of more than 63 characters");
        }
        if !label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        {
            return Err("has a character that no host name has");
        }
    }
    Ok(())
}

/// Whether a name as [`dns_name`] gives it, without trailing dot, can be sent as a server name. That
/// takes more than a look-up does: no hyphen at the edge of a part, and no number as the last part.
pub(crate) fn is_server_name(name: &str) -> bool {
    DnsName::try_from(name).is_ok()
}

/// An authority without its `:port`. Brackets of an IPv6 address go as well.
pub(crate) fn without_port(authority: &str) -> &str {
    if let Some(inner) = authority.strip_prefix('[') {
        return inner.split_once(']').map_or(authority, |(address, _)| address);
    }
    match authority.split_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// An address, with or without the brackets of IPv6.
pub(crate) fn ip(text: &str) -> Option<IpAddr> {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    inner.parse().ok()
}

/// Whether two host globs can mean one host (B11): a star counts only as the first or the last
/// character and stands for at least one, and a pattern that begins with a dot matches nothing.
pub(crate) fn globs_meet(a: &str, b: &str) -> bool {
    if a == "*" || b == "*" {
        return true;
    }
    if a.starts_with('.') || b.starts_with('.') {
        return false;
    }
    if a == b {
        return true;
    }
    match (Glob::of(a), Glob::of(b)) {
        (Glob::Exact(_), Glob::Exact(_)) => false,
        (Glob::Suffix(a), Glob::Suffix(b)) => a.ends_with(b) || b.ends_with(a),
        (Glob::Prefix(a), Glob::Prefix(b)) => a.starts_with(b) || b.starts_with(a),
        (Glob::Suffix(_), Glob::Prefix(_)) | (Glob::Prefix(_), Glob::Suffix(_)) => true,
        (Glob::Suffix(end), Glob::Exact(name)) | (Glob::Exact(name), Glob::Suffix(end)) => {
            name.len() > end.len() && name.ends_with(end)
        }
        (Glob::Prefix(start), Glob::Exact(name)) | (Glob::Exact(name), Glob::Prefix(start)) => {
            name.len() > start.len() && name.starts_with(start)
        }
    }
}

/// What keeps a host that a Mapping or Host asks for from being that of any request, and what to write: for one that
/// looks like an expression `expression`, for several in one `several`.
pub(crate) fn impossible_host(text: &str, expression: &str, several: &str) -> Option<(String, String)> {
    const OF_EXPRESSIONS: &str = "()|^$+?{}\\";
    let may_stand = |c: char| c.is_ascii_alphanumeric() || "-_.:*".contains(c);
    // An address of IPv6.
    if text.starts_with('[') {
        return None;
    }
    if text.contains(|c| OF_EXPRESSIONS.contains(c)) {
        let what = "looks like a regular expression, which it is not read as";
        return Some((what.to_owned(), expression.to_owned()));
    }
    if text
        .trim()
        .contains(|c: char| c == ',' || c == ';' || c.is_whitespace())
    {
        return Some(("names several hosts in one".to_owned(), several.to_owned()));
    }
    if !text.is_ascii() {
        let name = text.trim_matches('*').trim_matches('.');
        let fix = dns_name(name).map_or("correct it".to_owned(), |encoded| {
            format!("write `{}`", text.replace(name, &encoded))
        });
        return Some(("has letters that no request has in its host".to_owned(), fix));
    }
    if let Some(odd) = text.chars().find(|c| !may_stand(*c)) {
        return Some((
            format!("has `{}`, which no host has", odd.escape_debug()),
            "correct it".to_owned(),
        ));
    }
    let bare = text.strip_prefix('.').filter(|bare| !bare.is_empty())?;
    Some((
        "begins with a dot, which no host does".to_owned(),
        format!("write `*.{bare}`"),
    ))
}

/// A host glob taken apart (B10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Glob<'a> {
    /// `a.test`
    Exact(&'a str),
    /// `*.a.test`, without the star.
    Suffix(&'a str),
    /// `a.*`, without the star.
    Prefix(&'a str),
}

impl<'a> Glob<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        if let Some(suffix) = text.strip_prefix('*') {
            Self::Suffix(suffix)
        } else if let Some(prefix) = text.strip_suffix('*') {
            Self::Prefix(prefix)
        } else {
            Self::Exact(text)
        }
    }

    /// Whether a star stands where it is an ordinary character, which no host name has.
    pub(crate) fn has_dead_star(self) -> bool {
        let (Self::Exact(text) | Self::Suffix(text) | Self::Prefix(text)) = self;
        text.contains('*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s6_s7_names_become_lower_case_a_labels() {
        assert_eq!(dns_name("A.Test").unwrap(), "a.test");
        assert_eq!(dns_name("bücher.test").unwrap(), "xn--bcher-kva.test");
        assert_eq!(dns_name("BÜCHER.test.").unwrap(), "xn--bcher-kva.test.");
        assert_eq!(dns_name("my_svc").unwrap(), "my_svc");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("{}.test", "a".repeat(64));
        let longer = [
            "a".repeat(60),
            "b".repeat(60),
            "c".repeat(60),
            "d".repeat(60),
            "e".repeat(60),
        ]
        .join(".");
        for text in [
            "",
            ".",
            "a..b",
            "a b",
            "a%20",
            "*.a",
            "a/b",
            "ü b",
            long.as_str(),
            longer.as_str(),
        ] {
            assert!(dns_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports_come_off_authorities() {
        for (authority, host) in [
            ("a.test", "a.test"),
            ("a.test:8443", "a.test"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("a.test:x", "a.test:x"),
            ("[::1", "[::1"),
        ] {
            assert_eq!(without_port(authority), host);
        }
    }

    #[test]
    fn hosts_that_no_request_has_say_what_to_write() {
        for (text, fix) in [
            ("(a|b).test", "EXPRESSION"),
            (".*\\.test", "EXPRESSION"),
            ("a.test,b.test", "SEVERAL"),
            ("a.test b.test", "SEVERAL"),
            ("*.b\u{fc}cher.test", "write `*.xn--bcher-kva.test`"),
            (".a.test", "write `*.a.test`"),
            ("a.test!", "correct it"),
            ("\u{201c}*\u{201d}", "correct it"),
        ] {
            let found = impossible_host(text, "EXPRESSION", "SEVERAL").map(|(_, fix)| fix);
            assert_eq!(found.as_deref(), Some(fix), "{text}");
        }
        for text in [
            "*",
            "*.a.test",
            "a.*",
            "A_b.test:8080",
            "[::1]:80",
            "10.0.0.1",
            ".",
        ] {
            assert_eq!(impossible_host(text, "", ""), None, "{text}");
        }
    }

    /// B11, every rule in both directions.
    #[test]
    fn b11_globs_that_meet() {
        for (a, b, meet) in [
            ("a.test", "a.test", true),
            ("a.test", "b.test", false),
            ("*", "a.test", true),
            ("*", "*.test", true),
            ("*", ".test", true),
            (".test", ".test", false),
            (".test", "*.test", false),
            ("*.foo.com", "b.foo.com", true),
            ("*.foo.com", "a.b.foo.com", true),
            ("*.foo.com", ".foo.com", false),
            ("*.foo.com", "foo.com", false),
            ("*foo.com", "foo.com", false),
            ("*foo.com", "xfoo.com", true),
            ("*.foo.com", "*.b.foo.com", true),
            ("*.foo.com", "*.bar.com", false),
            ("a.*", "a.com", true),
            ("a.*", "a.", false),
            ("a.*", "a.b.*", true),
            ("a.*", "b.*", false),
            ("*.com", "a.*", true),
            ("a*b.com", "acb.com", false),
            ("a*b.com", "a*b.com", true),
            ("*.foo.com", "b.foo.com:8080", false),
            ("foo.com:8080", "foo.com:8080", true),
        ] {
            assert_eq!(globs_meet(a, b), meet, "{a} {b}");
            assert_eq!(globs_meet(b, a), meet, "{b} {a}");
        }
    }
}
