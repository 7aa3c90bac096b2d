//! One reading of a path: what routes match, what is sent upstream and what the upstream understands.

use std::borrow::Cow;
use std::fmt;

use nuncio_model::Settings;

/// Why a request target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It begins with no `/`.
    NoSlash,
    /// It has a byte above 0x7f that is not percent-encoded.
    NotAscii,
    /// It has `%00`.
    Nul,
    /// It has `%2F` or `%5C`, and the Module refuses them.
    EscapedSlash,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PathError {
    /// One sentence without an end.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSlash => "the path of the request does not begin with `/`",
            Self::NotAscii => {
                "the request target has a byte that is not ASCII and not percent-encoded (RFC 3986)"
            }
            Self::Nul => "the path of the request has the NUL byte, `%00`",
            Self::EscapedSlash => {
                "the path of the request has `%2F` or `%5C`, which reject_requests_with_escaped_slashes refuses"
            }
        }
    }
}

/// The normal form of a path, without its query:
///
/// 1. `\` is read as `/`, percent-encoded letters, digits and `-._~` are decoded, and characters that a path
///    may not have are percent-encoded. Other escapes, and a `%` that begins none, stay as they are.
/// 2. Segments `.` and `..`, with parameters (`..;x`) or without, are resolved; `..` at the root has no effect.
/// 3. Empty segments are dropped where the Module sets `merge_slashes`.
///
/// Normalising a normal path changes nothing. `*` is normal.
///
/// Source: RFC 3986 section 6.2.2 and what Envoy's `normalize_path` does. Envoy looks for `..;` before it
/// decodes; here `%2e%2e;` counts as well, because a servlet container behind us resolves it.
///
/// # Errors
/// The path cannot be read in one way, or the Module refuses it.
pub fn normalise<'a>(path: &'a str, settings: &Settings) -> Result<Cow<'a, str>, PathError> {
    if path == "*" {
        return Ok(Cow::Borrowed(path));
    }
    if !path.starts_with(['/', '\\']) {
        return Err(PathError::NoSlash);
    }
    if is_normal(path.as_bytes(), settings)? {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(path.as_bytes());
    let mut normal = without_dot_segments(&decoded);
    if settings.merge_slashes {
        merge_slashes(&mut normal);
    }
    Ok(Cow::Owned(normal))
}

/// Whether a segment of a path that is to be sent would lead the upstream to another path.
pub(crate) fn has_dot_segments(path: &str) -> bool {
    let may_have = path.contains("/.") || path.contains(['%', '\\']);
    may_have
        && decode(path.as_bytes())
            .split('/')
            .any(|segment| dots(segment.as_bytes()).is_some())
}

/// How a byte stands in a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// As it is, and percent-encoding it changes nothing: RFC 3986 section 2.3.
    Unreserved,
    /// As it is; percent-encoded it may mean something else.
    Reserved,
    /// Percent-encoded.
    Escaped,
    /// Percent-encoded only.
    NotAscii,
}

const CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut classes = [Class::Escaped; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => Class::Unreserved,
            b'!' | b'$' | b'&'..=b',' | b'/' | b':' | b';' | b'=' | b'@' | b'[' | b']' | b'%' => {
                Class::Reserved
            }
            0x80.. => Class::NotAscii,
            _ => Class::Escaped,
        };
        byte += 1;
    }
    classes
}

/// Whether there is nothing to normalise, as in most paths.
fn is_normal(path: &[u8], settings: &Settings) -> Result<bool, PathError> {
    let mut normal = true;
    let mut after_slash = false;
    for (at, byte) in path.iter().enumerate() {
        match byte {
            0 => return Err(PathError::Nul),
            b'.' if after_slash => normal &= dots(&path[at..]).is_none(),
            b'/' => normal &= !(after_slash && settings.merge_slashes),
            b'%' => match escaped(&path[at..]) {
                Some(0) => return Err(PathError::Nul),
                Some(b'/' | b'\\') if settings.reject_escaped_slashes => return Err(PathError::EscapedSlash),
                Some(byte) => normal &= CLASSES[usize::from(byte)] != Class::Unreserved,
                None => {}
            },
            _ => match CLASSES[usize::from(*byte)] {
                Class::Unreserved | Class::Reserved => {}
                Class::Escaped => normal = false,
                Class::NotAscii => return Err(PathError::NotAscii),
            },
        }
        after_slash = *byte == b'/';
    }
    Ok(normal)
}

/// The byte that `%XX` at the beginning stands for.
fn escaped(text: &[u8]) -> Option<u8> {
    let &[b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Whether a segment, which ends at the next slash, is `.` or `..`, with parameters or without; its dots.
fn dots(segment: &[u8]) -> Option<usize> {
    let dots = segment.iter().take_while(|byte| **byte == b'.').count();
    let ends = matches!(segment.get(dots), None | Some(b'/' | b'\\' | b';'));
    (ends && (dots == 1 || dots == 2)).then_some(dots)
}

/// Step 1: one byte after the other, each escape once.
fn decode(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    let mut lone_percent = None;
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        at += 1;
        match byte {
            b'\\' => text.push('/'),
            b'%' => match escaped(&path[at - 1..]) {
                Some(byte) => {
                    if CLASSES[usize::from(byte)] == Class::Unreserved {
                        text.push(char::from(byte));
                    } else {
                        text.extend(path[at - 1..at + 2].iter().copied().map(char::from));
                    }
                    at += 2;
                }
                None => {
                    lone_percent = Some(text.len());
                    text.push('%');
                }
            },
            _ => match CLASSES[usize::from(byte)] {
                Class::Unreserved | Class::Reserved => text.push(char::from(byte)),
                Class::Escaped | Class::NotAscii => text.push_str(&format!("%{byte:02X}")),
            },
        }
        if let Some(percent) = lone_percent
            && text.len() == percent + 3
            && escaped(&text.as_bytes()[percent..]).is_some()
        {
            // It began no escape in `%%32%65`, and must not begin one now that its digits are decoded.
            text.insert_str(percent + 1, "25");
            lone_percent = None;
        }
    }
    text
}

/// Step 2.
fn without_dot_segments(path: &str) -> String {
    let mut resolved = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match dots(segment.as_bytes()) {
            None => {
                resolved.push('/');
                resolved.push_str(segment);
                continue;
            }
            Some(1) => {}
            Some(_) => resolved.truncate(resolved.rfind('/').unwrap_or(0)),
        }
        if segments.peek().is_none() {
            resolved.push('/');
        }
    }
    resolved
}

/// Step 3.
fn merge_slashes(path: &mut String) {
    let mut after_slash = false;
    path.retain(|c| {
        let again = after_slash && c == '/';
        after_slash = c == '/';
        !again
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(path: &str, expected: &str) {
        let settings = Settings::default();
        let normal = normalise(path, &settings).unwrap();
        assert_eq!(normal, expected, "{path}");
        assert_eq!(normalise(&normal, &settings).unwrap(), normal, "{path} twice");
    }

    fn refused(path: &str, settings: &Settings) -> PathError {
        normalise(path, settings).unwrap_err()
    }

    #[test]
    fn dot_segments_are_resolved() {
        same("/", "/");
        same("/a/b", "/a/b");
        same("/a/./b", "/a/b");
        same("/a/../b", "/b");
        same("/a/b/..", "/a/");
        same("/a/.", "/a/");
        same("/a/%2E%2e/b", "/b");
        same("/a/.%2e/b", "/b");
        same("/a\\..\\b", "/b");
        same("/.hidden/a..b/...", "/.hidden/a..b/...");
        same("/%20/%2f", "/%20/%2f");
        same("//a", "//a");
        same("//../a", "/a");
        same("/a//..", "/a/");
    }

    #[test]
    fn nothing_stands_above_the_root() {
        same("/..", "/");
        same("/a/../../b", "/b");
        same("/%2e%2e/etc", "/etc");
        same("*", "*");
    }

    #[test]
    fn dot_segments_may_have_parameters() {
        same("/x/..;/a", "/a");
        same("/x/..;y=1/a", "/a");
        same("/x/.;y/a", "/x/a");
        same("/x/..;", "/");
        same("/x/%2e%2e;/a", "/a");
        same("/x/..;\\a", "/a");
        same("/x/;../a", "/x/;../a");
        same("/x;a/..b;/c", "/x;a/..b;/c");
        same("/x/..%3b/a", "/x/..%3b/a");
    }

    #[test]
    fn unreserved_characters_are_decoded() {
        same("/%61dmi%6E", "/admin");
        same("/%41%7a%30%2D%2e%5f%7E", "/Az0-._~");
        same("/%2F%5c%3b%25%e9", "/%2F%5c%3b%25%e9");
    }

    #[test]
    fn nothing_is_decoded_twice() {
        same("/%252e%252e/a", "/%252e%252e/a");
        same("/%2%65%2%65/a", "/%252e%252e/a");
        same("/%%32%65", "/%252e");
        same("/%%32e", "/%252e");
        same("/%%35%63", "/%255c");
        same("/%%4%31", "/%%2541");
    }

    #[test]
    fn what_is_no_escape_stays() {
        for path in ["/%", "/%z", "/%zz/%4", "/%u0041", "/100%"] {
            same(path, path);
        }
        same("/%%41", "/%A");
        same("/%2e%", "/.%");
    }

    #[test]
    fn what_a_path_may_not_have_is_encoded() {
        same("/a\"b^c{d|e}f", "/a%22b%5Ec%7Bd%7Ce%7Df");
        same("/!$&'()*+,:=@[]", "/!$&'()*+,:=@[]");
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        let settings = Settings::default();
        assert_eq!(refused("/a%00b", &settings), PathError::Nul);
        assert_eq!(refused("/a\0b", &settings), PathError::Nul);
        assert_eq!(refused("/a%00/../b", &settings), PathError::Nul);
        assert_eq!(refused("/caf\u{e9}", &settings), PathError::NotAscii);
        for path in ["", "a", "%2fa", "..", "*/"] {
            assert_eq!(refused(path, &settings), PathError::NoSlash, "{path}");
        }
    }

    #[test]
    fn escaped_slashes_are_refused_on_request_only() {
        let settings = Settings {
            reject_escaped_slashes: true,
            ..Settings::default()
        };
        for path in ["/a%2fb", "/a%2F", "/%5cb", "/a%5C"] {
            assert_eq!(refused(path, &settings), PathError::EscapedSlash, "{path}");
            same(path, path);
        }
        assert_eq!(normalise("/a%252f", &settings).unwrap(), "/a%252f");
    }

    #[test]
    fn slashes_are_merged_on_request_only() {
        let merging = Settings {
            merge_slashes: true,
            ..Settings::default()
        };
        let merged = |path| normalise(path, &merging).unwrap().into_owned();
        assert_eq!(merged("//a///b//"), "/a/b/");
        assert_eq!(merged("//a/./b"), "/a/b");
        // As in Envoy, which merges after it has resolved.
        assert_eq!(merged("/a//../b"), "/a/b");
        same("//a//b", "//a//b");
        same("//a/./b", "//a/b");
    }

    #[test]
    fn a_normal_path_is_not_copied() {
        for path in ["/", "/a/b.c/%20/.well-known/~x;y=z", "/a//b", "/%2Fx%"] {
            let normal = normalise(path, &Settings::default());
            assert!(matches!(normal, Ok(Cow::Borrowed(_))), "{path}");
        }
    }

    #[test]
    fn dot_segments_are_found_in_any_spelling() {
        for path in ["/a/../b", "/%2e%2E", "/a/..;x", "/x\\.", "/.%2e/"] {
            assert!(has_dot_segments(path), "{path}");
        }
        for path in ["/a/..b", "/%20/...", "/a.", "/.a/%252e"] {
            assert!(!has_dot_segments(path), "{path}");
        }
    }
}
