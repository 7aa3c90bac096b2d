//! When a Mapping applies: its conditions, and how early they are tried.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use nuncio_crds::MappingSpec;
use nuncio_model::{
    AuthorityMatch, HeaderMatch, MethodMatch, PathMatch, Pattern, QueryMatch, RouteMatch, ValueMatch,
};

use crate::Object;
use crate::hashed::Hashed;
use crate::names::{self, Glob};
use crate::placeholder::Placeholder;
use crate::problems::Problems;
use crate::service;

/// Most bytes that a compiled regular expression may take.
pub(crate) const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// Characters of globs and expressions that paths seldom have.
const OF_EXPRESSIONS: &str = "*^\\|[]{}";

fn is_of_expressions(c: char) -> bool {
    OF_EXPRESSIONS.contains(c)
}

fn shown_character(c: char) -> String {
    if c.is_whitespace() {
        "white space".to_owned()
    } else if c.is_control() {
        "a control character".to_owned()
    } else {
        format!("a `{c}`")
    }
}

/// What a Mapping says about the authority, for pairing it with Hosts (E18).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HostCondition {
    /// Nothing: only a Host that selects it by labels has it.
    None,
    /// A glob, lower case.
    Glob(Arc<str>),
    /// A regular expression: every Host may have it (B12).
    Regex,
}

/// Order of groups (B17): the greater is tried first. Fields count in their order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    precedence: i64,
    prefix_length: usize,
    header_size: usize,
    query_size: usize,
    prefix: Arc<str>,
    header_keys: Vec<String>,
    query_keys: Vec<String>,
    /// Exact before regex before prefix, where the reference knows no difference (decision 22).
    path_kind: u8,
}

/// All that decides whether a request is for a Mapping.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    pub(crate) matches: Hashed<RouteMatch>,
    pub(crate) host: HostCondition,
    pub(crate) rank: Rank,
}

/// Fields of a Mapping that are read here. A broken one leaves nothing that could be matched.
pub(crate) const FIELDS: &[&str] = &[
    "prefix",
    "prefix_regex",
    "prefix_exact",
    "case_sensitive",
    "hostname",
    "host",
    "host_regex",
    "method",
    "method_regex",
    "headers",
    "regex_headers",
    "query_parameters",
    "regex_query_parameters",
    "precedence",
];

/// Reads the conditions. Nothing where they can match no request at all; that has been reported then,
/// as a Mapping without a route is the one thing that no answer can tell.
pub(crate) fn read(object: &Object, spec: &MappingSpec, problems: &mut Problems) -> Option<Conditions> {
    let mut reader = Reader {
        object,
        problems,
        impossible: false,
        header_size: 0,
        header_keys: Vec::new(),
    };
    let path = reader.path(spec);
    let headers = reader.headers(spec);
    let (authority, host) = reader.authority(spec);
    let method = reader.method(spec);
    let (query, query_size, query_keys) = reader.query(spec);
    let Reader {
        impossible,
        header_size,
        header_keys,
        ..
    } = reader;
    let path = path.filter(|_| !impossible)?;
    let prefix: Arc<str> = match &path {
        PathMatch::Prefix { text, .. } | PathMatch::Exact { text, .. } => Arc::clone(text),
        PathMatch::Regex(pattern) => pattern.as_str().into(),
    };
    let precedence = spec.precedence.unwrap_or(0);
    let rank = Rank {
        precedence,
        prefix_length: prefix.chars().count(),
        header_size,
        query_size,
        prefix,
        header_keys,
        query_keys,
        path_kind: match &path {
            PathMatch::Prefix { .. } => 0,
            PathMatch::Regex(_) => 1,
            PathMatch::Exact { .. } => 2,
        },
    };
    Some(Conditions {
        matches: Hashed::new(Arc::new(RouteMatch {
            precedence,
            authority,
            path,
            method,
            headers,
            query,
        })),
        host,
        rank,
    })
}

struct Reader<'r> {
    object: &'r Object,
    problems: &'r mut Problems,
    impossible: bool,
    header_size: usize,
    header_keys: Vec<String>,
}

impl Reader<'_> {
    /// Reports what no request can ever match.
    fn impossible(&mut self, reason: &'static str, field: &str, message: String) {
        self.problems.error(self.object, reason, field, message);
        self.impossible = true;
    }

    fn pattern(&mut self, field: &str, text: &str) -> Option<Pattern> {
        match Pattern::full(text, REGEX_SIZE_LIMIT) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let why = regex_error(&error);
                self.impossible("bad_regex", field, format!("`{field}` is no regular expression ({why}), so this Mapping can match nothing and has no route; correct it"));
                None
            }
        }
    }

    /// A regular expression wins over an exact path, that over a prefix (B3).
    fn path(&mut self, spec: &MappingSpec) -> Option<PathMatch> {
        const FIELD: &str = "spec.prefix";
        let Some(text) = spec.prefix.as_deref() else {
            self.impossible(
                "missing_field",
                FIELD,
                "the Mapping has no `spec.prefix`, so it has no route; add it".into(),
            );
            return None;
        };
        if spec.prefix_regex == Some(true) {
            return self.pattern(FIELD, text).map(PathMatch::Regex);
        }
        if let Some(left) = Placeholder::in_path(text) {
            let message = format!("`{FIELD}` {}", left.message());
            self.problems.warning(self.object, "template", FIELD, message);
        } else if let Some((_, rest)) = text.split_once("://") {
            let path = rest.find('/').map_or("/", |at| &rest[at..]);
            let message = format!(
                "`{FIELD}` is a URL, which no path begins with; write `{path}`, and the host into `hostname`"
            );
            self.problems
                .warning(self.object, "matches_nothing", FIELD, message);
        } else if !text.is_empty() && !text.starts_with('/') && !text.contains(is_of_expressions) {
            let message = format!("`{FIELD}` is `{text}`, which no path begins with; put a `/` in front");
            self.problems
                .warning(self.object, "matches_nothing", FIELD, message);
        } else if text.contains('?') {
            let message =
                format!("`{FIELD}` has a `?`, but the query is no part of the path; use `query_parameters`");
            self.problems
                .warning(self.object, "matches_nothing", FIELD, message);
        } else if let Some(odd) = text.chars().find(|c| !c.is_ascii()) {
            let message = format!("`{FIELD}` has `{odd}`, which paths have percent-encoded; write it so");
            self.problems
                .warning(self.object, "matches_nothing", FIELD, message);
        } else if let Some(odd) = text
            .chars()
            .find(|c| c.is_whitespace() || c.is_control() || *c == '#')
        {
            let message = format!(
                "`{FIELD}` has {}, which no path has; remove it",
                shown_character(odd)
            );
            self.problems
                .warning(self.object, "matches_nothing", FIELD, message);
        } else if let Some(dots) = text.split('/').find(|part| matches!(*part, "." | "..")) {
            let message = format!(
                "`{FIELD}` has a part `{dots}`, which is resolved before a path is matched; write what is left then"
            );
            self.problems
                .warning(self.object, "matches_nothing", FIELD, message);
        } else if let Some(odd) = text.chars().find(|c| is_of_expressions(*c)) {
            let message = format!(
                "`{FIELD}` has `{odd}`, which stands for itself there; write only what the paths begin with, or an expression with `prefix_regex: true`"
            );
            self.problems.warning(self.object, "bad_value", FIELD, message);
        }
        let (text, case_sensitive) = (text.into(), spec.case_sensitive.unwrap_or(true));
        Some(if spec.prefix_exact == Some(true) {
            PathMatch::Exact { text, case_sensitive }
        } else {
            PathMatch::Prefix { text, case_sensitive }
        })
    }

    /// `hostname`, else `host`, else `:authority` among the headers (B8).
    fn authority(&mut self, spec: &MappingSpec) -> (AuthorityMatch, HostCondition) {
        let written = |text: &'_ Option<String>| text.clone().filter(|text| !text.is_empty());
        let pseudo = |map: &Option<BTreeMap<String, String>>| {
            map.iter()
                .flatten()
                .find(|(name, _)| is_authority(name))
                .map(|(_, value)| value.clone())
        };
        let (hostname, host) = (written(&spec.hostname), written(&spec.host));
        let (exact, regex) = (pseudo(&spec.headers), pseudo(&spec.regex_headers));
        if let Some(hostname) = hostname {
            for (field, other) in [
                ("spec.host", host.is_some()),
                ("spec.headers", exact.is_some()),
                ("spec.regex_headers", regex.is_some()),
            ] {
                if other {
                    let message = format!(
                        "what `{field}` says about the host has no effect, because `hostname` is given as well; keep one of them"
                    );
                    self.problems
                        .warning(self.object, "conflicting_fields", field, message);
                }
            }
            return self.glob(&hostname);
        }
        match (host, spec.host_regex == Some(true), exact, regex) {
            (Some(host), true, _, _) => self.authority_regex("spec.host", &host),
            (Some(host), false, _, _) => self.exact_authority("spec.host", &host),
            (None, _, Some(exact), _) => self.exact_authority("spec.headers", &exact),
            (None, _, None, Some(regex)) => self.authority_regex("spec.regex_headers", &regex),
            (None, _, None, None) => (AuthorityMatch::Any, HostCondition::None),
        }
    }

    fn glob(&mut self, hostname: &str) -> (AuthorityMatch, HostCondition) {
        self.count_header(":authority", hostname, false);
        let is_refused = self.refuse_host("spec.hostname", hostname);
        let text = hostname.to_lowercase();
        let glob = Glob::of(&text);
        if glob.has_dead_star() && !is_refused {
            let message = format!(
                "`spec.hostname` is `{hostname}`, whose star is neither first nor last, so it can match nothing and the Mapping has no route; move the star"
            );
            self.impossible("matches_nothing", "spec.hostname", message);
        }
        let authority = match glob {
            _ if text == "*" => AuthorityMatch::Any,
            Glob::Exact(name) => AuthorityMatch::Exact(name.into()),
            Glob::Suffix(suffix) => AuthorityMatch::Suffix(suffix.into()),
            Glob::Prefix(prefix) => AuthorityMatch::Prefix(prefix.into()),
        };
        (authority, HostCondition::Glob(text.into()))
    }

    /// Whether no request has such a host.
    fn refuse_host(&mut self, field: &str, text: &str) -> bool {
        const EXPRESSION: &str =
            "write it into `host`, with `host_regex: true` beside it and without `hostname`";
        const SEVERAL: &str = "write one, and a Mapping for each of the others";
        let nothing = "so the Mapping can match nothing and has no route";
        let is_url = !text.contains("\\.");
        let host = service::host_in_url(text).filter(|_| is_url);
        let message = match (host, names::impossible_host(text, EXPRESSION, SEVERAL)) {
            (Some(host), _) => {
                let shown = service::without_credentials(text);
                format!(
                    "`{field}` asks for the host `{shown}`, which no request has, {nothing}; write `{host}`"
                )
            }
            (None, Some((what, fix))) => format!("`{field}` is `{text}`, which {what}, {nothing}; {fix}"),
            (None, None) => return false,
        };
        self.impossible("matches_nothing", field, message);
        true
    }

    /// Here a star is an ordinary character, which no host has (B9).
    fn exact_authority(&mut self, field: &str, host: &str) -> (AuthorityMatch, HostCondition) {
        self.count_header(":authority", host, false);
        let is_refused = self.refuse_host(field, host);
        if host.contains('*') && !is_refused {
            let message = format!(
                "`{field}` asks for the host `{host}`, whose `*` is no wildcard there, so the Mapping can match nothing and has no route; use `hostname`"
            );
            self.impossible("matches_nothing", field, message);
        }
        let text: Arc<str> = host.to_lowercase().into();
        (
            AuthorityMatch::Exact(Arc::clone(&text)),
            HostCondition::Glob(text),
        )
    }

    fn authority_regex(&mut self, field: &str, text: &str) -> (AuthorityMatch, HostCondition) {
        self.count_header(":authority", text, true);
        let authority = self
            .pattern(field, text)
            .map_or(AuthorityMatch::Any, AuthorityMatch::Regex);
        (authority, HostCondition::Regex)
    }

    fn method(&mut self, spec: &MappingSpec) -> Option<MethodMatch> {
        const FIELD: &str = "spec.method";
        let text = spec.method.as_deref().filter(|text| !text.is_empty())?;
        let is_regex = spec.method_regex == Some(true);
        self.count_header(":method", text, is_regex);
        if is_regex {
            return self.pattern(FIELD, text).map(MethodMatch::Regex);
        }
        if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let message = format!(
                "`{FIELD}` is `{text}`, but methods are upper case on the wire, so this matches nothing usual; write {}",
                text.to_uppercase()
            );
            self.problems
                .warning(self.object, "matches_nothing", FIELD, message);
        }
        let several: Vec<&str> = text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .filter(|method| !method.is_empty())
            .collect();
        let fix = match several.len() {
            0 | 1 => "write one such as GET".to_owned(),
            _ if several.join("|") == text => {
                "write `method_regex: true` beside it to match several".to_owned()
            }
            _ => format!(
                "write `{}`, with `method_regex: true` beside it",
                several.join("|")
            ),
        };
        match Method::from_str(text) {
            Ok(method) => {
                if several.len() > 1 {
                    let message =
                        format!("`{FIELD}` is `{text}`, which is read as one method of that name; {fix}");
                    self.problems
                        .warning(self.object, "matches_nothing", FIELD, message);
                }
                Some(MethodMatch::Exact(method))
            }
            Err(_) => {
                let message = format!(
                    "`{FIELD}` is `{text}`, which is no method, so the Mapping can match nothing and has no route; {fix}"
                );
                self.impossible("bad_value", FIELD, message);
                None
            }
        }
    }

    fn headers(&mut self, spec: &MappingSpec) -> Vec<HeaderMatch> {
        let mut matches = Vec::new();
        for (field, map, is_regex) in [
            ("spec.headers", &spec.headers, false),
            ("spec.regex_headers", &spec.regex_headers, true),
        ] {
            for (name, value) in map.iter().flatten().filter(|(name, _)| !is_authority(name)) {
                self.count_header(name, value, is_regex);
                matches.extend(self.header(&format!("{field}.{name}"), name, value, is_regex));
            }
        }
        // The sort is stable, so exact conditions on a header come before regular expressions.
        matches.sort_by(|a: &HeaderMatch, b| a.name.as_str().cmp(b.name.as_str()));
        matches
    }

    fn header(&mut self, field: &str, name: &str, value: &str, is_regex: bool) -> Option<HeaderMatch> {
        let Ok(name) = HeaderName::from_str(name) else {
            let message = format!(
                "`{field}` is about `{name}`, which is no header name, so the Mapping can match nothing and has no route; correct it"
            );
            self.impossible("bad_value", field, message);
            return None;
        };
        if is_regex {
            let pattern = self.pattern(field, value)?;
            return Some(HeaderMatch {
                name,
                value: ValueMatch::Regex(pattern),
            });
        }
        match HeaderValue::from_str(value) {
            Ok(value) => Some(HeaderMatch {
                name,
                value: ValueMatch::Exact(value),
            }),
            Err(_) => {
                let message = format!(
                    "`{field}` has characters that no header has, so the Mapping can match nothing and has no route; correct it"
                );
                self.impossible("bad_value", field, message);
                None
            }
        }
    }

    fn query(&mut self, spec: &MappingSpec) -> (Vec<QueryMatch>, usize, Vec<String>) {
        let (mut matches, mut size, mut keys) = (Vec::new(), 0, Vec::new());
        for (field, map, is_regex) in [
            ("spec.query_parameters", &spec.query_parameters, false),
            ("spec.regex_query_parameters", &spec.regex_query_parameters, true),
        ] {
            for (name, value) in map.iter().flatten() {
                size += size_of_condition(name, value, is_regex);
                keys.push(format!("{name}-{value}"));
                let value = if is_regex {
                    match self.pattern(&format!("{field}.{name}"), value) {
                        Some(pattern) => ValueMatch::Regex(pattern),
                        None => continue,
                    }
                } else {
                    ValueMatch::Exact(value.as_str().into())
                };
                matches.push(QueryMatch {
                    name: name.as_str().into(),
                    value,
                });
            }
        }
        matches.sort_by(|a: &QueryMatch, b| a.name.cmp(&b.name));
        (matches, size, keys)
    }

    fn count_header(&mut self, name: &str, value: &str, is_regex: bool) {
        self.header_size += size_of_condition(name, value, is_regex);
        self.header_keys.push(format!("{name}-{value}"));
    }
}

fn size_of_condition(name: &str, value: &str, is_regex: bool) -> usize {
    name.chars().count() + value.chars().count() + usize::from(is_regex)
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// The last line of what the library says; the lines before it draw the expression.
pub(crate) fn regex_error(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}
