//! A route: what a request must look like, and what happens to it then.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use crate::{ObjectRef, Pattern, Unresolved, UpstreamIndex};

/// Condition on the authority that a Mapping itself sets, besides the virtual host it is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AuthorityMatch {
    /// `*`, or none given.
    Any,
    /// This authority; lower case, port included where given.
    Exact(Arc<str>),
    /// `*suffix`; lower case, without the star. The star stands for at least one character.
    Suffix(Arc<str>),
    /// `prefix*`; lower case, without the star. The star stands for at least one character.
    Prefix(Arc<str>),
    /// `host_regex`; full match.
    Regex(Pattern),
}

/// Condition on the normalised path, without query.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// The path begins with the text; no segment boundary is implied.
    Prefix {
        /// As the user wrote it.
        text: Arc<str>,
        /// Whether letter case matters.
        case_sensitive: bool,
    },
    /// The path is the text.
    Exact {
        /// As the user wrote it.
        text: Arc<str>,
        /// Whether letter case matters.
        case_sensitive: bool,
    },
    /// The whole path matches.
    Regex(Pattern),
}

impl PathMatch {
    /// The text of the Mapping's `prefix`.
    pub fn text(&self) -> &str {
        match self {
            Self::Prefix { text, .. } | Self::Exact { text, .. } => text,
            Self::Regex(pattern) => pattern.as_str(),
        }
    }
}

/// Condition on a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ValueMatch<V> {
    /// Present with any value.
    Present,
    /// This value.
    Exact(V),
    /// Full match.
    Regex(Pattern),
}

/// Condition on a header. Several values of one header are compared joined by `,`, as Envoy does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderMatch {
    /// Which header.
    pub name: HeaderName,
    /// What it must be.
    pub value: ValueMatch<HeaderValue>,
}

/// Condition on a query parameter; the first value counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueryMatch {
    /// Which parameter.
    pub name: Arc<str>,
    /// What it must be.
    pub value: ValueMatch<Arc<str>>,
}

/// Condition on the method.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MethodMatch {
    /// This one.
    Exact(Method),
    /// Full match.
    Regex(Pattern),
}

/// All conditions of a route. Equal conditions mean one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteMatch {
    /// Higher comes first, before anything else counts.
    pub precedence: i64,
    /// On the authority.
    pub authority: AuthorityMatch,
    /// On the path.
    pub path: PathMatch,
    /// On the method; none means any.
    pub method: Option<MethodMatch>,
    /// On headers, sorted by name.
    pub headers: Vec<HeaderMatch>,
    /// On query parameters, sorted by name.
    pub query: Vec<QueryMatch>,
}

/// A group of Mappings with equal conditions that share the traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// When it applies.
    pub matches: RouteMatch,
    /// Who gets it; at least one, with ascending `share_end`.
    pub targets: Vec<Target>,
}

impl Route {
    /// The target that gets a request with this draw; none when the shares leave it to the next
    /// matching route. `draw` is uniform in `0..100`.
    pub fn target(&self, draw: u8) -> Option<&Target> {
        self.targets.iter().find(|target| draw < target.share_end)
    }
}

/// One Mapping's part in a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which Mapping.
    pub mapping: ObjectRef,
    /// `name.namespace` of the Mapping; the `mapping` label of metrics and logs.
    pub label: Arc<str>,
    /// Takes the draws from the one before up to here, in percent; 100 takes all that is left.
    pub share_end: u8,
    /// What happens.
    pub action: Action,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to an upstream.
    Forward(Box<Forward>),
    /// It cannot be served, and this is why.
    Unresolved(Unresolved),
}

/// How a request goes to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Where to.
    pub upstream: UpstreamIndex,
    /// What becomes of the path.
    pub rewrite: Rewrite,
    /// Authority that is sent; the client's where absent.
    pub host_rewrite: Option<HeaderValue>,
    /// Which failures and answers have the request sent again; none for none.
    pub retry: Option<RetryPolicy>,
    /// For the whole exchange up to the end of the response; none waits for ever.
    pub timeout: Option<Duration>,
    /// For DNS, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Edits of the request's headers.
    pub request_headers: HeaderEdits,
    /// Edits of the response's headers.
    pub response_headers: HeaderEdits,
    /// Protocols that `Upgrade` may name, lower case, such as `websocket`.
    pub allow_upgrade: Vec<Arc<str>>,
    /// No AuthService and no policy of filters is asked.
    pub bypass_auth: bool,
    /// The client speaks gRPC: failures are also told as `grpc-status`.
    pub grpc: bool,
}

/// When a request is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// What has it sent again.
    pub on: RetryOn,
    /// How often at most, the first time not counted; at least 1.
    pub retries: u32,
    /// From the start of one attempt, or the end of the request where that is later, to the head of its
    /// response; none leaves the whole time to each.
    pub per_try_timeout: Option<Duration>,
}

/// What has a request sent again, with Envoy's meaning of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryOn {
    /// An answer of 500 and above, or none at all.
    ServerError,
    /// An answer of 502, 503 or 504, or none at all.
    GatewayError,
    /// No connection: TCP or TLS failed, so the upstream saw nothing of the request.
    ConnectFailure,
    /// An answer of 409.
    Retriable4xx,
    /// An HTTP/2 stream that the upstream refused before it did anything.
    RefusedStream,
    /// Nothing so far: the codes that it means have no field.
    RetriableStatusCodes,
}

impl RetryOn {
    /// Every value.
    pub const ALL: [Self; 6] = [
        Self::ServerError,
        Self::GatewayError,
        Self::ConnectFailure,
        Self::Retriable4xx,
        Self::RefusedStream,
        Self::RetriableStatusCodes,
    ];

    /// As `retry_on` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerError => "5xx",
            Self::GatewayError => "gateway-error",
            Self::ConnectFailure => "connect-failure",
            Self::Retriable4xx => "retriable-4xx",
            Self::RefusedStream => "refused-stream",
            Self::RetriableStatusCodes => "retriable-status-codes",
        }
    }

    /// Whether an answer with this status has the request sent again.
    pub fn takes_status(self, status: u16) -> bool {
        match self {
            Self::ServerError => status >= 500,
            Self::GatewayError => (502..=504).contains(&status),
            Self::Retriable4xx => status == 409,
            Self::ConnectFailure | Self::RefusedStream | Self::RetriableStatusCodes => false,
        }
    }
}

/// What becomes of the path. The query is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// Sent as it came.
    None,
    /// The part that matched is replaced: the prefix, or the whole path for exact and regex matches.
    Prefix {
        /// Bytes that the match takes off the front; `None` takes the whole path.
        matched: Option<usize>,
        /// What stands there instead.
        with: Arc<str>,
    },
    /// Every match in the path is replaced.
    Regex {
        /// What to look for, unanchored.
        pattern: Pattern,
        /// Replacement in the syntax of the `regex` library (`$1` for a group; compile translates `\1`).
        substitution: Arc<str>,
    },
}

impl Rewrite {
    /// The path that is sent instead of `path`. It begins with a slash, whatever the Mapping says.
    pub fn apply<'a>(&self, path: &'a str) -> Cow<'a, str> {
        match self {
            Self::None => Cow::Borrowed(path),
            Self::Prefix { matched: None, with } => joined(with, ""),
            Self::Prefix {
                matched: Some(matched),
                with,
            } if path.get(..*matched) == Some(&**with) => Cow::Borrowed(path),
            Self::Prefix {
                matched: Some(matched),
                with,
            } => joined(with, path.get(*matched..).unwrap_or_default()),
            Self::Regex {
                pattern,
                substitution,
            } => pattern.regex().replace_all(path, &**substitution),
        }
    }
}

fn joined(with: &str, rest: &str) -> Cow<'static, str> {
    let begins = if with.is_empty() { rest } else { with };
    let slash = if begins.starts_with('/') { "" } else { "/" };
    Cow::Owned(format!("{slash}{with}{rest}"))
}

/// Additions and removals of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Done first.
    pub add: Vec<HeaderAddition>,
    /// Done last.
    pub remove: Vec<HeaderName>,
}

/// One header to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderAddition {
    /// Which.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValue,
    /// Keep a value that is there already and add this one; else this one replaces it.
    pub append: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewrite_replaces_what_matched() {
        let prefix = |matched, with: &str| Rewrite::Prefix {
            matched,
            with: with.into(),
        };
        for (rewrite, path, sent) in [
            (Rewrite::None, "/a/b", "/a/b"),
            (prefix(Some(3), "/"), "/a/b", "/b"),
            (prefix(Some(2), "/"), "/a/b", "//b"),
            (prefix(Some(3), "/c/"), "/a/b", "/c/b"),
            (prefix(Some(2), "/a"), "/a/b", "/a/b"),
            (prefix(Some(2), "/"), "/a", "/"),
            (prefix(Some(3), "c"), "/a/b", "/cb"),
            (prefix(None, "/whole"), "/a/b", "/whole"),
        ] {
            assert_eq!(rewrite.apply(path), sent, "{rewrite:?} of {path}");
        }
        let pattern = Pattern::partial("/v([0-9]+)/", 1 << 16).expect("a regex");
        let regex = Rewrite::Regex {
            pattern,
            substitution: "/version/$1/".into(),
        };
        assert_eq!(regex.apply("/v2/x/v3/"), "/version/2/x/version/3/");
    }
}
