//! The line that a problem points to, safe to print.

use std::ops::Range;

use nuncio_model::Place;

/// What stands in for a value that must not be shown.
const HIDDEN: &str = "(hidden)";

/// One line and what of it is meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// Without line break.
    pub(super) text: String,
    /// Bytes of `text`.
    pub(super) span: Range<usize>,
}

/// The lines of a file; made once, however many problems point to it.
pub(super) struct Source<'a> {
    /// Each line, and whether its document may hold what nobody should read.
    lines: Vec<(&'a str, bool)>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut lines: Vec<(&str, bool)> = Vec::new();
        let mut first = 0;
        let mut secret = false;
        for line in text.lines() {
            if begins_document(line) {
                mark(&mut lines[first..], secret);
                (first, secret) = (lines.len(), false);
            }
            secret |= is_telltale(line);
            lines.push((line.trim_end(), false));
        }
        mark(&mut lines[first..], secret);
        Self { lines }
    }

    /// None when there is no such line.
    pub(super) fn excerpt(&self, place: &Place) -> Option<Excerpt> {
        let at = usize::try_from(place.line).ok()?.checked_sub(1)?;
        let (line, secret) = *self.lines.get(at)?;
        let line = line.strip_prefix('\u{feff}').unwrap_or(line);
        let start = offset(line, place.column);
        let span = start..start + token(&line[start..]);
        if secret {
            return Some(hide(line, span));
        }
        Some(Excerpt {
            text: line.to_owned(),
            span,
        })
    }
}

fn mark(lines: &mut [(&str, bool)], secret: bool) {
    for (_, hidden) in lines {
        *hidden = secret;
    }
}

fn begins_document(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

/// How a PEM block begins in base64.
const BEGINNING: &str = "LS0tLS1CRUdJTi";

/// A line that makes its document one of a Secret, or of something as delicate.
fn is_telltale(line: &str) -> bool {
    const KEYS: [&str; 4] = ["PRIVATE KEY", "tls.key", "key.pem", BEGINNING];
    (line.contains("kind") && line.contains("Secret"))
        || KEYS.iter().any(|key| line.contains(key))
        || holds_encoded(line)
}

/// Letters of base64 in one line of PEM; a name or a digest has fewer.
const LINE: usize = 64;

/// Whether something stands there that can only be base64, such as a key that was pasted where the name of a Secret
/// belongs.
fn holds_encoded(line: &str) -> bool {
    let is_path = |part: &str| part.starts_with('/');
    let is_encoded = |part: &str| {
        part.len() >= LINE && !is_path(part) && part.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    line.split(|c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c)))
        .any(is_encoded)
}

/// Byte of a column, which counts characters from 1.
fn offset(line: &str, column: u32) -> usize {
    let wanted = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
    line.char_indices().nth(wanted).map_or(line.len(), |(at, _)| at)
}

/// Bytes of the key or value that `rest` begins with.
fn token(rest: &str) -> usize {
    let mut chars = rest.char_indices();
    let quote = match chars.next() {
        None => return 0,
        Some((_, first @ ('"' | '\''))) => first,
        Some((_, '[' | '{')) => return closing(rest),
        Some(_) => {
            let end = rest.find([',', ']', '}']).unwrap_or(rest.len());
            let end = rest[..end]
                .find(": ")
                .or_else(|| rest[..end].find(" #"))
                .unwrap_or(end);
            return rest[..end].trim_end().trim_end_matches(':').len().max(1);
        }
    };
    chars
        .find(|(_, c)| *c == quote)
        .map_or(rest.len(), |(at, _)| at + 1)
}

/// Bytes up to the bracket that closes the first one, on this line.
fn closing(rest: &str) -> usize {
    let mut open = 0;
    for (at, c) in rest.char_indices() {
        match c {
            '[' | '{' => open += 1,
            ']' | '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return at + 1;
        }
    }
    rest.len()
}

/// The line without its value, unless that is plainly harmless.
fn hide(line: &str, span: Range<usize>) -> Excerpt {
    if is_harmless(line) {
        return Excerpt {
            text: line.to_owned(),
            span,
        };
    }
    let indent = line.len() - line.trim_start().len();
    let key = match line.split_once(": ") {
        Some((key, _)) if is_plain(key[indent..].trim_start_matches("- ")) => key,
        _ if line.ends_with(':')
            && is_plain(line[indent..].trim_start_matches("- ").trim_end_matches(':')) =>
        {
            let span = span.start.min(line.len())..span.end.min(line.len());
            return Excerpt {
                text: line.to_owned(),
                span,
            };
        }
        _ => {
            let text = format!("{}{HIDDEN}", &line[..indent]);
            let span = indent..text.len();
            return Excerpt { text, span };
        }
    };
    let text = format!("{key}: {HIDDEN}");
    let span = if span.end <= key.len() {
        span
    } else {
        key.len() + 2..text.len()
    };
    Excerpt { text, span }
}

/// Lines that every Secret has.
fn is_harmless(line: &str) -> bool {
    let line = line.trim_start().trim_start_matches("- ");
    let Some((key, value)) = line.split_once(": ") else {
        return false;
    };
    matches!(key, "apiVersion" | "kind" | "name" | "namespace" | "type") && is_plain(value.trim())
}

/// Short, and of letters that names are made of.
fn is_plain(text: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '"' | '\'');
    text.len() <= 63 && !text.is_empty() && text.chars().all(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, line: u32, column: u32) -> (String, String) {
        let place = Place {
            file: "m.yaml".into(),
            line,
            column,
        };
        let excerpt = Source::new(text).excerpt(&place).unwrap();
        let meant = excerpt.text[excerpt.span.clone()].to_owned();
        (excerpt.text, meant)
    }

    #[test]
    fn the_caret_covers_the_key_or_value() {
        let table = [
            ("  prefx: /", 3, "prefx"),
            ("  prefix: /a b # c", 11, "/a b"),
            ("  service: https://a.test:443", 12, "https://a.test:443"),
            ("a: [x, y, z]", 8, "y"),
            ("a: [x, [y], z] # c", 4, "[x, [y], z]"),
            ("a: {b: 'c d', e: f}", 8, "'c d'"),
            ("a: {b: \"c", 8, "\"c"),
            ("spec:", 1, "spec"),
            ("é: ü", 4, "ü"),
            ("a: 1", 5, ""),
            ("a: 1", 99, ""),
            ("- x", 1, "- x"),
        ];
        for (line, column, meant) in table {
            assert_eq!(of(line, 1, column).1, meant, "{line}");
        }
    }

    #[test]
    fn what_can_only_be_a_key_is_hidden_wherever_it_was_pasted() {
        let key = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAAAAAAAAAAAAAAAA";
        let (shown, _) = of(&format!("spec:\n  secret: {key}\n"), 2, 11);
        assert_eq!(shown, format!("  secret: {HIDDEN}"));
        for value in [
            "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "/A/path/that/goes/on/and/on/until/nobody/knows/where/it/will/End.pem",
        ] {
            let line = format!("  secret: {value}");
            assert_eq!(of(&line, 1, 11).0, line);
        }
    }

    #[test]
    fn a_line_that_is_not_there_has_no_excerpt() {
        let place = Place {
            file: "m.yaml".into(),
            line: 2,
            column: 1,
        };
        assert_eq!(Source::new("a: 1\n").excerpt(&place), None);
    }

    #[test]
    fn values_in_a_secret_are_hidden() {
        let text = "kind: Mapping\nspec: {a: b}\n---\nkind: Secret\nmetadata:\n  name: web\ndata:\n  tls.key: TUlJRX\nstringData:\n  k: |\n    MIIEpAIBAAKC\n---\nkind: Host\nspec: {c: d}\n";
        let table = [
            (2, 7, "spec: {a: b}", "{a: b}"),
            (4, 7, "kind: Secret", "Secret"),
            (6, 9, "  name: web", "web"),
            (7, 1, "data:", "data"),
            (8, 12, "  tls.key: (hidden)", "(hidden)"),
            (8, 3, "  tls.key: (hidden)", "tls.key"),
            (10, 3, "  k: (hidden)", "k"),
            (11, 5, "    (hidden)", "(hidden)"),
            (14, 7, "spec: {c: d}", "{c: d}"),
        ];
        for (line, column, shown, meant) in table {
            assert_eq!(
                of(text, line, column),
                (shown.to_owned(), meant.to_owned()),
                "line {line}"
            );
        }
        for one_line in [
            "{\"kind\": \"Secret\", \"data\": {\"tls.key\": \"TUlJRX\"}}",
            "{kind: Secret, data: {tls.key: TUlJRX}}",
            "a: -----BEGIN PRIVATE KEY----- TUlJRX",
        ] {
            assert!(!of(one_line, 1, 20).0.contains("TUlJRX"));
        }
    }
}
