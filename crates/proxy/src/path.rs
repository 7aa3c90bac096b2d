//! Paths as routes see them: without dot segments and other disguises.

use std::borrow::Cow;

/// The path without `.` and `..` segments, written out or percent-encoded, with `\` read as `/` and,
/// if asked for, without empty segments. None where `..` leads above the root.
///
/// Source: RFC 3986 section 5.2.4, and what browsers do with `\` and `%2e`, as Envoy does.
pub fn normalise(path: &str, merge_slashes: bool) -> Cow<'_, str> {
    // `*` of OPTIONS has no segments.
    let Some(mut rest) = path
        .strip_prefix(['/', '\\'])
        .filter(|_| needs_work(path, merge_slashes))
    else {
        return Cow::Borrowed(path);
    };
    let mut segments: Vec<&str> = Vec::new();
    loop {
        let (segment, next) = match rest.find(['/', '\\']) {
            Some(end) => (&rest[..end], Some(&rest[end + 1..])),
            None => (rest, None),
        };
        let is_last = next.is_none();
        match dots(segment) {
            Some(1) => {
                if is_last {
                    segments.push("");
                }
            }
            Some(_) => {
                segments.pop();
                if is_last {
                    segments.push("");
                }
            }
            None if segment.is_empty() && merge_slashes && !is_last => {}
            None => segments.push(segment),
        }
        match next {
            Some(next) => rest = next,
            None => break,
        }
    }
    let mut normal = String::with_capacity(path.len());
    for segment in segments {
        normal.push('/');
        normal.push_str(segment);
    }
    Cow::Owned(normal)
}

/// Whether a segment is `.` or `..` in any spelling.
fn dots(segment: &str) -> Option<usize> {
    let mut rest = segment;
    let mut n = 0;
    while !rest.is_empty() {
        let encoded = rest.get(..3).is_some_and(|text| text.eq_ignore_ascii_case("%2e"));
        rest = if encoded {
            &rest[3..]
        } else {
            rest.strip_prefix('.')?
        };
        n += 1;
    }
    (n == 1 || n == 2).then_some(n)
}

/// Looks for the beginnings of all that `normalise` changes; most paths have none.
fn needs_work(path: &str, merge_slashes: bool) -> bool {
    let bytes = path.as_bytes();
    let mut after_slash = false;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\\' => return true,
            b'/' if after_slash && merge_slashes => return true,
            b'.' if after_slash => return true,
            b'%' if after_slash && bytes.get(at + 1) == Some(&b'2') => return true,
            _ => {}
        }
        after_slash = *byte == b'/';
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(path: &str, expected: &str) {
        assert_eq!(normalise(path, false), expected, "{path}");
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
    }

    #[test]
    fn nothing_stands_above_the_root() {
        same("/..", "/");
        same("/a/../../b", "/b");
        same("/%2e%2e/etc", "/etc");
        same("*", "*");
    }

    #[test]
    fn slashes_are_merged_on_request_only() {
        assert_eq!(normalise("//a///b//", true), "/a/b/");
        assert_eq!(normalise("//a//b", false), "//a//b");
        assert_eq!(normalise("//a/./b", false), "//a/b");
    }
}
