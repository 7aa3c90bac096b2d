//! Whether a request meets the conditions of a route. This alone decides; the index around it only
//! keeps the number of routes small that are asked.

use std::borrow::Cow;

use http::Method;
use http::header::{self, HeaderName, HeaderValue};

use crate::{
    AuthorityMatch, HeaderMatch, MethodMatch, PathMatch, QueryMatch, RequestHead, RouteMatch, ValueMatch,
};

impl RouteMatch {
    /// Whether a request with this head meets every condition.
    pub fn accepts(&self, head: &RequestHead<'_>) -> bool {
        self.path.accepts(head.path)
            && self
                .method
                .as_ref()
                .is_none_or(|method| method.accepts(head.method))
            && self.authority.accepts(head.authority)
            && self.headers.iter().all(|header| header.accepts(head))
            && self.query.iter().all(|parameter| parameter.accepts(head.query))
    }
}

impl AuthorityMatch {
    /// Whether this authority (lower case) is meant. A star stands for at least one character.
    pub fn accepts(&self, authority: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(text) => authority == &**text,
            Self::Suffix(suffix) => authority.len() > suffix.len() && authority.ends_with(&**suffix),
            Self::Prefix(prefix) => authority.len() > prefix.len() && authority.starts_with(&**prefix),
            Self::Regex(pattern) => pattern.is_match(authority),
        }
    }
}

impl PathMatch {
    /// Whether this path is meant. Where case does not matter, that is said of ASCII letters only.
    pub fn accepts(&self, path: &str) -> bool {
        let bytes = path.as_bytes();
        match self {
            Self::Prefix {
                text,
                case_sensitive: true,
            } => bytes.starts_with(text.as_bytes()),
            Self::Prefix {
                text,
                case_sensitive: false,
            } => bytes
                .get(..text.len())
                .is_some_and(|front| front.eq_ignore_ascii_case(text.as_bytes())),
            Self::Exact {
                text,
                case_sensitive: true,
            } => path == &**text,
            Self::Exact {
                text,
                case_sensitive: false,
            } => path.eq_ignore_ascii_case(text),
            Self::Regex(pattern) => pattern.is_match(path),
        }
    }
}

impl MethodMatch {
    /// Whether this method is meant.
    pub fn accepts(&self, method: &Method) -> bool {
        match self {
            Self::Exact(wanted) => wanted == method,
            Self::Regex(pattern) => pattern.is_match(method.as_str()),
        }
    }
}

impl HeaderMatch {
    fn accepts(&self, head: &RequestHead<'_>) -> bool {
        let values = HeaderText::of(head, &self.name);
        match &self.value {
            ValueMatch::Present => values.is_present(),
            ValueMatch::Exact(wanted) => values.is(wanted.as_bytes()),
            ValueMatch::Regex(pattern) => values.text().is_some_and(|text| pattern.is_match(&text)),
        }
    }
}

impl QueryMatch {
    fn accepts(&self, query: Option<&str>) -> bool {
        parameter(query, &self.name).is_some_and(|value| match &self.value {
            ValueMatch::Present => true,
            ValueMatch::Exact(wanted) => value == &**wanted,
            ValueMatch::Regex(pattern) => pattern.is_match(value),
        })
    }
}

/// What a request says under one header name: its values joined by `,`, joined only when read.
///
/// `host` means the authority, whichever HTTP version the request came in, as it does in Envoy.
pub(super) enum HeaderText<'a> {
    Authority(&'a str),
    Values(header::GetAll<'a, HeaderValue>),
}

impl<'a> HeaderText<'a> {
    pub(super) fn of(head: &RequestHead<'a>, name: &HeaderName) -> Self {
        if name == header::HOST {
            Self::Authority(head.authority)
        } else {
            Self::Values(head.headers.get_all(name))
        }
    }

    /// The values one by one; none where the header is absent.
    pub(super) fn values(&self) -> impl Iterator<Item = &'a [u8]> + use<'_, 'a> {
        let (authority, values) = match self {
            Self::Authority(text) => ((!text.is_empty()).then_some(text.as_bytes()), None),
            Self::Values(values) => (None, Some(values.iter())),
        };
        authority
            .into_iter()
            .chain(values.into_iter().flatten().map(HeaderValue::as_bytes))
    }

    fn is_present(&self) -> bool {
        self.values().next().is_some()
    }

    fn is(&self, wanted: &[u8]) -> bool {
        let mut values = self.values();
        let first = values.next().and_then(|value| wanted.strip_prefix(value));
        let rest = values.fold(first, |rest, value| rest?.strip_prefix(b",")?.strip_prefix(value));
        rest.is_some_and(<[u8]>::is_empty)
    }

    /// The joined text; none where the header is absent or is not UTF-8, which no expression matches.
    fn text(&self) -> Option<Cow<'a, str>> {
        let mut values = self.values();
        let first = values.next()?;
        let Some(second) = values.next() else {
            return std::str::from_utf8(first).ok().map(Cow::Borrowed);
        };
        let mut all = [first, b",", second].concat();
        for value in values {
            all.push(b',');
            all.extend_from_slice(value);
        }
        String::from_utf8(all).ok().map(Cow::Owned)
    }
}

/// The first value of a query parameter, as it stands: nothing is decoded, as in Envoy. A parameter
/// without `=` has an empty value.
pub(super) fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}
