//! `find` compared with the plainest reading of the rules: look at every route, in order. Alphabets are
//! tiny, so that conditions often agree, nest and collide.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::host::hosts;
use super::{Request, pattern, target};
use crate::{
    AuthorityMatch, HeaderMatch, MethodMatch, PathMatch, QueryMatch, Route, RouteMatch, RouteTable,
    ValueMatch,
};

mod plain {
    //! The rules, written down once more without any regard to speed.

    use super::*;

    pub(super) fn find<'r>(
        routes: &'r [Arc<Route>],
        request: &Request,
        draw: u8,
    ) -> Option<(usize, &'r str)> {
        routes.iter().enumerate().find_map(|(rank, route)| {
            let share = route.targets.iter().find(|target| target.share_end > draw)?;
            holds(&route.matches, request).then_some((rank, &*share.label))
        })
    }

    fn holds(matches: &RouteMatch, request: &Request) -> bool {
        authority(&matches.authority, &request.authority)
            && path(&matches.path, &request.path)
            && match &matches.method {
                None => true,
                Some(MethodMatch::Exact(method)) => request.method.as_str() == method.as_str(),
                Some(MethodMatch::Regex(regex)) => regex.is_match(request.method.as_str()),
            }
            && matches.headers.iter().all(|condition| {
                let lines: Vec<&str> = request
                    .headers
                    .get_all(&condition.name)
                    .iter()
                    .map(|v| v.to_str().unwrap())
                    .collect();
                let joined = lines.join(",");
                !lines.is_empty()
                    && match &condition.value {
                        ValueMatch::Present => true,
                        ValueMatch::Exact(value) => joined == value.to_str().unwrap(),
                        ValueMatch::Regex(regex) => regex.is_match(&joined),
                    }
            })
            && matches.query.iter().all(|condition| {
                let pairs: Vec<(&str, &str)> = request
                    .query
                    .as_deref()
                    .map(|query| {
                        query
                            .split('&')
                            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                            .collect()
                    })
                    .unwrap_or_default();
                let first = pairs.iter().find(|(name, _)| *name == &*condition.name);
                first.is_some_and(|(_, found)| match &condition.value {
                    ValueMatch::Present => true,
                    ValueMatch::Exact(value) => *found == &**value,
                    ValueMatch::Regex(regex) => regex.is_match(found),
                })
            })
    }

    fn authority(condition: &AuthorityMatch, authority: &str) -> bool {
        match condition {
            AuthorityMatch::Any => true,
            AuthorityMatch::Exact(text) => authority == &**text,
            AuthorityMatch::Suffix(text) => authority
                .strip_suffix(&**text)
                .is_some_and(|star| !star.is_empty()),
            AuthorityMatch::Prefix(text) => authority
                .strip_prefix(&**text)
                .is_some_and(|star| !star.is_empty()),
            AuthorityMatch::Regex(regex) => regex.is_match(authority),
        }
    }

    fn path(condition: &PathMatch, path: &str) -> bool {
        let cased = |text: &str, matters: bool| {
            if matters {
                text.to_owned()
            } else {
                text.to_ascii_lowercase()
            }
        };
        match condition {
            PathMatch::Prefix { text, case_sensitive } => {
                cased(path, *case_sensitive).starts_with(&cased(text, *case_sensitive))
            }
            PathMatch::Exact { text, case_sensitive } => {
                cased(path, *case_sensitive) == cased(text, *case_sensitive)
            }
            PathMatch::Regex(regex) => regex.is_match(path),
        }
    }

    /// Position of the hostname that fits best.
    pub(super) fn host(names: &[String], authority: &str) -> Option<usize> {
        let fit = |name: &str| -> Option<(u8, usize)> {
            let name = name.to_lowercase();
            if name == "*" {
                return Some((0, 0));
            }
            if let Some(text) = name.strip_prefix('*') {
                let star = authority.strip_suffix(text)?;
                return (!star.is_empty()).then_some((2, text.len()));
            }
            if let Some(text) = name.strip_suffix('*') {
                let star = authority.strip_prefix(text)?;
                return (!star.is_empty()).then_some((1, text.len()));
            }
            (name == authority).then_some((3, 0))
        };
        let fits = names
            .iter()
            .enumerate()
            .filter_map(|(n, name)| fit(name).map(|fit| (n, fit)));
        fits.reduce(|best, other| if other.1 > best.1 { other } else { best })
            .map(|(n, _)| n)
    }
}

fn text(alphabet: &'static str, longest: usize) -> impl Strategy<Value = String> {
    let letters: Vec<char> = alphabet.chars().collect();
    vec(select(letters), 0..=longest).prop_map(|letters| letters.into_iter().collect())
}

fn authority_match() -> impl Strategy<Value = AuthorityMatch> {
    prop_oneof![
        3 => Just(AuthorityMatch::Any),
        4 => text("ab", 3).prop_map(|text| AuthorityMatch::Exact(text.into())),
        3 => text("ab", 2).prop_map(|text| AuthorityMatch::Suffix(text.into())),
        3 => text("ab", 2).prop_map(|text| AuthorityMatch::Prefix(text.into())),
        2 => expression("ab").prop_map(|text| AuthorityMatch::Regex(pattern(&text))),
    ]
}

/// Expressions with a literal start, a literal end, both, neither, several of each.
fn expression(alphabet: &'static str) -> impl Strategy<Value = String> {
    let middle = select(vec!["", ".*", ".+", "[ab]", "b?", "(a|bb|)", "(?i:a)"]);
    (
        text(alphabet, 2),
        middle,
        text(alphabet, 2),
        option::weighted(0.2, text(alphabet, 3)),
    )
        .prop_map(|(start, middle, end, other)| match other {
            Some(other) => format!("{start}{middle}{end}|{other}"),
            None => format!("{start}{middle}{end}"),
        })
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    let path = || text("/aAb", 4).prop_map(Arc::<str>::from);
    prop_oneof![
        4 => (path(), prop::bool::weighted(0.7))
            .prop_map(|(text, case_sensitive)| PathMatch::Prefix { text, case_sensitive }),
        3 => (path(), prop::bool::weighted(0.7))
            .prop_map(|(text, case_sensitive)| PathMatch::Exact { text, case_sensitive }),
        3 => expression("/aAb").prop_map(|text| PathMatch::Regex(pattern(&text))),
    ]
}

fn few_paths() -> impl Strategy<Value = PathMatch> {
    let prefix = |text: &str, case_sensitive| PathMatch::Prefix {
        text: text.into(),
        case_sensitive,
    };
    let regex = PathMatch::Regex(pattern("/.*"));
    let exact = PathMatch::Exact {
        text: "/".into(),
        case_sensitive: true,
    };
    select(vec![
        prefix("/", true),
        prefix("/", true),
        prefix("/a", true),
        prefix("/A", false),
        exact,
        regex,
    ])
}

fn method() -> impl Strategy<Value = Method> {
    select(vec![Method::GET, Method::PUT, Method::from_bytes(b"X").unwrap()])
}

fn method_match() -> impl Strategy<Value = MethodMatch> {
    prop_oneof![
        3 => method().prop_map(MethodMatch::Exact),
        1 => select(vec!["GET|PUT", "[A-Z]", "P.*"]).prop_map(|text| MethodMatch::Regex(pattern(text))),
    ]
}

fn value_match() -> impl Strategy<Value = ValueMatch<String>> {
    prop_oneof![
        1 => Just(ValueMatch::Present),
        5 => text("ab,", 2).prop_map(ValueMatch::Exact),
        1 => select(vec!["a.*", "[ab]", ".*,b"]).prop_map(|text| ValueMatch::Regex(pattern(text))),
    ]
}

const HEADERS: [&str; 12] = [
    "x-a",
    "x-b",
    "x-c",
    "x-d",
    "x-e",
    "x-f",
    "x-g",
    "x-h",
    "x-i",
    "x-j",
    "accept",
    "user-agent",
];

fn header_match() -> impl Strategy<Value = HeaderMatch> {
    (select(&HEADERS[..]), value_match()).prop_map(|(name, value)| HeaderMatch {
        name: HeaderName::from_static(name),
        value: match value {
            ValueMatch::Present => ValueMatch::Present,
            ValueMatch::Exact(text) => ValueMatch::Exact(HeaderValue::from_str(&text).unwrap()),
            ValueMatch::Regex(pattern) => ValueMatch::Regex(pattern),
        },
    })
}

fn query_match() -> impl Strategy<Value = QueryMatch> {
    (text("pq", 1), value_match()).prop_map(|(name, value)| QueryMatch {
        name: name.into(),
        value: match value {
            ValueMatch::Present => ValueMatch::Present,
            ValueMatch::Exact(text) => ValueMatch::Exact(text.into()),
            ValueMatch::Regex(pattern) => ValueMatch::Regex(pattern),
        },
    })
}

/// Conditions of every kind; `narrow` keeps to few authorities and paths, so that the rest decides.
fn route_match(narrow: bool) -> impl Strategy<Value = RouteMatch> {
    let authority = if narrow {
        select(vec![
            AuthorityMatch::Any,
            AuthorityMatch::Any,
            AuthorityMatch::Suffix("a".into()),
        ])
        .boxed()
    } else {
        authority_match().boxed()
    };
    let path = if narrow {
        few_paths().boxed()
    } else {
        path_match().boxed()
    };
    let most = if narrow { 3 } else { 1 };
    let others = (
        option::weighted(0.3, method_match()),
        vec(header_match(), 0..=most),
        vec(query_match(), 0..=most),
    );
    (authority, path, others).prop_map(|(authority, path, (method, mut headers, mut query))| {
        headers.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        query.sort_by(|a, b| a.name.cmp(&b.name));
        RouteMatch {
            precedence: 0,
            authority,
            path,
            method,
            headers,
            query,
        }
    })
}

fn routes(narrow: bool) -> impl Strategy<Value = Vec<Arc<Route>>> {
    let shares = vec(select(vec![10_u8, 50, 90]), 0..3);
    let one = (route_match(narrow), shares, prop::bool::weighted(0.8));
    vec(one, 0..90).prop_map(|routes| {
        let named = routes
            .into_iter()
            .enumerate()
            .map(|(n, (matches, mut shares, complete))| {
                shares.sort_unstable();
                shares.extend((complete || shares.is_empty()).then_some(100));
                let targets = (0..)
                    .zip(&shares)
                    .map(|(m, end): (usize, _)| target(&format!("{n}-{m}"), *end));
                Arc::new(Route {
                    matches,
                    targets: targets.collect(),
                })
            });
        named.collect()
    })
}

fn request() -> impl Strategy<Value = Request> {
    let path = prop_oneof![Just("/".to_owned()), text("/aAb", 5)];
    let parameters = vec((text("pq", 1), option::of(text("ab,", 2))), 0..4).prop_map(|parameters| {
        let pairs = parameters.into_iter().map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => name,
        });
        pairs.collect::<Vec<_>>().join("&")
    });
    let headers = vec((select(&HEADERS[..]), text("ab,", 2)), 0..8).prop_map(|headers| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_str(&value).unwrap());
        }
        map
    });
    (text("ab", 4), path, option::of(parameters), method(), headers).prop_map(
        |(authority, path, query, method, headers)| Request {
            authority,
            path,
            query,
            method,
            headers,
        },
    )
}

fn agree(routes: Vec<Arc<Route>>, requests: &[Request], draw: u8) -> Result<(), TestCaseError> {
    let table = RouteTable::new(routes);
    for request in requests {
        let found = table.find(&request.head(), draw).map(|(route, target)| {
            let rank = table
                .routes()
                .iter()
                .position(|other| Arc::ptr_eq(other, route))
                .unwrap();
            (rank, &*target.label)
        });
        prop_assert_eq!(found, plain::find(table.routes(), request, draw), "{:?}", request);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn find_is_the_first_that_holds(routes in routes(false), requests in vec(request(), 20), draw in 0..100_u8) {
        agree(routes, &requests, draw)?;
    }

    #[test]
    fn find_is_the_first_that_holds_where_authorities_and_paths_are_few(
        routes in routes(true),
        requests in vec(request(), 20),
        draw in 0..100_u8,
    ) {
        agree(routes, &requests, draw)?;
    }

    #[test]
    fn the_host_is_the_one_that_fits_best(
        names in vec(
            prop_oneof![
                text("abA", 3),
                Just("*".to_owned()),
                text("ab", 2).prop_map(|text| format!("*{text}")),
                text("ab", 2).prop_map(|text| format!("{text}*")),
            ],
            0..20,
        ),
        authorities in vec(text("ab*", 4), 20),
    ) {
        let table = hosts(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for authority in &authorities {
            let found = table.find(authority).map(|host| {
                table.hosts().iter().position(|other| Arc::ptr_eq(other, host)).unwrap()
            });
            prop_assert_eq!(found, plain::host(&names, authority), "{}", authority);
        }
    }
}
