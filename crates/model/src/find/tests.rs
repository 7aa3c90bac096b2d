//! Tables for routes; those for hosts are in `host`, the comparison with a plain scan in `oracle`.

mod host;
mod oracle;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::{
    Action, AuthorityMatch, HeaderMatch, MethodMatch, ObjectRef, PathMatch, Pattern, QueryMatch, Reason,
    RequestHead, Route, RouteMatch, RouteTable, Target, Unresolved, ValueMatch,
};

fn pattern(text: &str) -> Pattern {
    Pattern::full(text, 1 << 20).unwrap()
}

fn prefix(text: &str) -> PathMatch {
    PathMatch::Prefix {
        text: text.into(),
        case_sensitive: true,
    }
}

fn exact(text: &str) -> PathMatch {
    PathMatch::Exact {
        text: text.into(),
        case_sensitive: true,
    }
}

fn on(path: PathMatch) -> RouteMatch {
    RouteMatch {
        precedence: 0,
        authority: AuthorityMatch::Any,
        path,
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    }
}

fn header(name: &str, value: ValueMatch<&str>) -> HeaderMatch {
    let value = match value {
        ValueMatch::Present => ValueMatch::Present,
        ValueMatch::Exact(text) => ValueMatch::Exact(HeaderValue::from_str(text).unwrap()),
        ValueMatch::Regex(pattern) => ValueMatch::Regex(pattern),
    };
    HeaderMatch {
        name: name.parse().unwrap(),
        value,
    }
}

fn target(name: &str, share_end: u8) -> Target {
    let unresolved = Unresolved {
        reason: Reason::ServiceInvalid,
        message: name.into(),
    };
    Target {
        mapping: ObjectRef::new("Mapping", "default", name),
        label: name.into(),
        share_end,
        action: Action::Unresolved(unresolved),
    }
}

fn route(name: &str, matches: RouteMatch) -> Arc<Route> {
    Arc::new(Route {
        matches,
        targets: vec![target(name, 100)],
    })
}

/// A request in words; `found` names the Mapping that takes it.
#[derive(Clone, Debug)]
struct Request {
    authority: String,
    path: String,
    query: Option<String>,
    method: Method,
    headers: HeaderMap,
}

impl Request {
    fn get(path: &str) -> Self {
        let (path, query) = path
            .split_once('?')
            .map_or((path, None), |(path, query)| (path, Some(query)));
        Self {
            authority: "a.test".into(),
            path: path.into(),
            query: query.map(Into::into),
            method: Method::GET,
            headers: HeaderMap::new(),
        }
    }

    fn at(mut self, authority: &str) -> Self {
        self.authority = authority.into();
        self
    }

    fn by(mut self, method: &str) -> Self {
        self.method = method.parse().unwrap();
        self
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers
            .append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        self
    }

    fn head(&self) -> RequestHead<'_> {
        RequestHead {
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            method: &self.method,
            headers: &self.headers,
        }
    }
}

fn found<'t>(table: &'t RouteTable, request: &Request) -> &'t str {
    table
        .find(&request.head(), 0)
        .map_or("-", |(_, target)| &target.label)
}

/// Asks each route in a table of its own and in one among many that do not match, so that both the scan
/// of few and the index of many are seen.
fn check(matches: &RouteMatch, cases: &[(Request, bool)]) {
    let wanted = route("wanted", matches.clone());
    let others = (0..40).map(|n| {
        let other = RouteMatch {
            path: exact(&format!("/other-{n}")),
            ..matches.clone()
        };
        route("other", other)
    });
    let alone = RouteTable::new(vec![Arc::clone(&wanted)]);
    let crowded = RouteTable::new(others.chain([wanted]).collect());
    for (request, expected) in cases {
        let expected = if *expected { "wanted" } else { "-" };
        assert_eq!(
            found(&alone, request),
            expected,
            "alone, {matches:?}, {request:?}"
        );
        assert_eq!(
            found(&crowded, request),
            expected,
            "crowded, {matches:?}, {request:?}"
        );
    }
}

#[test]
fn b4_a_prefix_is_plain_text() {
    let cases = [
        ("/foo", true),
        ("/foobar", true),
        ("/foo/", true),
        ("/fo", false),
        ("/FOO", false),
        ("/", false),
    ];
    check(
        &on(prefix("/foo")),
        &cases.map(|(path, hit)| (Request::get(path), hit)),
    );
    let cases = [
        ("/foo", false),
        ("/foo/", true),
        ("/foo/x?/y", true),
        ("/x/foo/", false),
    ];
    check(
        &on(prefix("/foo/")),
        &cases.map(|(path, hit)| (Request::get(path), hit)),
    );
}

#[test]
fn an_exact_path_is_the_whole_path() {
    let cases = [
        ("/foo", true),
        ("/foo?q=1", true),
        ("/foo/", false),
        ("/fo", false),
        ("/Foo", false),
    ];
    check(
        &on(exact("/foo")),
        &cases.map(|(path, hit)| (Request::get(path), hit)),
    );
}

#[test]
fn letter_case_counts_unless_it_is_said_not_to() {
    let caseless = PathMatch::Prefix {
        text: "/Foo/é".into(),
        case_sensitive: false,
    };
    let cases = [
        ("/foo/é", true),
        ("/FOO/éx", true),
        ("/foo/É", false),
        ("/foo/", false),
    ];
    check(&on(caseless), &cases.map(|(path, hit)| (Request::get(path), hit)));
    let caseless = PathMatch::Exact {
        text: "/Foo".into(),
        case_sensitive: false,
    };
    let cases = [("/foo", true), ("/fOO", true), ("/foox", false)];
    check(&on(caseless), &cases.map(|(path, hit)| (Request::get(path), hit)));
}

#[test]
fn b7_an_expression_sees_the_whole_path_and_no_query() {
    let cases = [
        ("/v1/x", true),
        ("/v2/x?y", true),
        ("/v1/xy", false),
        ("/av1/x", false),
        ("/v3/x", false),
    ];
    check(
        &on(PathMatch::Regex(pattern("/v[12]/x"))),
        &cases.map(|(path, hit)| (Request::get(path), hit)),
    );
    let cases = [("/anything", true), ("/a/end", true)];
    check(
        &on(PathMatch::Regex(pattern(".*"))),
        &cases.map(|(path, hit)| (Request::get(path), hit)),
    );
    let cases = [("/AbC", true), ("/abcd", false)];
    check(
        &on(PathMatch::Regex(pattern("(?i)/abc"))),
        &cases.map(|(path, hit)| (Request::get(path), hit)),
    );
}

#[test]
fn b10_b11_a_star_stands_for_at_least_one_character() {
    let hits = |authority, cases: &[(&str, bool)]| {
        let matches = RouteMatch {
            authority,
            ..on(prefix("/"))
        };
        let cases: Vec<_> = cases
            .iter()
            .map(|(at, hit)| (Request::get("/").at(at), *hit))
            .collect();
        check(&matches, &cases);
    };
    hits(AuthorityMatch::Any, &[("a.test", true), ("", true)]);
    hits(
        AuthorityMatch::Exact("a.test".into()),
        &[("a.test", true), ("b.test", false), ("a.test:80", false)],
    );
    hits(
        AuthorityMatch::Suffix(".foo.com".into()),
        &[
            ("b.foo.com", true),
            ("a.b.foo.com", true),
            (".foo.com", false),
            ("foo.com", false),
            ("b.foo.com:8080", false),
        ],
    );
    hits(
        AuthorityMatch::Prefix("foo.".into()),
        &[("foo.com", true), ("foo.com:8080", true), ("foo.", false)],
    );
    hits(
        AuthorityMatch::Regex(pattern("[ab]\\.test")),
        &[
            ("a.test", true),
            ("b.test", true),
            ("c.test", false),
            ("a.test:80", false),
        ],
    );
}

#[test]
fn a_header_must_be_what_is_asked_for() {
    let hits = |value, cases: &[(Request, bool)]| {
        check(
            &RouteMatch {
                headers: vec![header("x-a", value)],
                ..on(prefix("/"))
            },
            cases,
        );
    };
    let none = Request::get("/");
    let one = none.clone().with("x-a", "1");
    let two = one.clone().with("X-A", "2");
    let empty = none.clone().with("x-a", "");
    let bytes = {
        let mut request = none.clone();
        request
            .headers
            .insert("x-a", HeaderValue::from_bytes(b"\xff").unwrap());
        request
    };
    let cases = |expected: [bool; 5]| {
        [
            none.clone(),
            one.clone(),
            two.clone(),
            empty.clone(),
            bytes.clone(),
        ]
        .into_iter()
        .zip(expected)
        .collect::<Vec<_>>()
    };
    hits(ValueMatch::Present, &cases([false, true, true, true, true]));
    hits(ValueMatch::Exact("1"), &cases([false, true, false, false, false]));
    hits(
        ValueMatch::Exact("1,2"),
        &cases([false, false, true, false, false]),
    );
    hits(ValueMatch::Exact(""), &cases([false, false, false, true, false]));
    hits(
        ValueMatch::Regex(pattern("1|1,2")),
        &cases([false, true, true, false, false]),
    );
    hits(
        ValueMatch::Regex(pattern(".*")),
        &cases([false, true, true, true, false]),
    );
}

#[test]
fn a_condition_on_host_is_one_on_the_authority() {
    let matches = RouteMatch {
        headers: vec![header("host", ValueMatch::Exact("a.test"))],
        ..on(prefix("/"))
    };
    let request = Request::get("/");
    check(
        &matches,
        &[
            (request.clone().at("a.test"), true),
            (request.at("b.test").with("host", "a.test"), false),
        ],
    );
}

#[test]
fn a_parameter_is_the_first_of_its_name_and_not_decoded() {
    let hits = |value, cases: &[(&str, bool)]| {
        let matches = RouteMatch {
            query: vec![QueryMatch {
                name: "q".into(),
                value,
            }],
            ..on(prefix("/"))
        };
        check(
            &matches,
            &cases
                .iter()
                .map(|(path, hit)| (Request::get(path), *hit))
                .collect::<Vec<_>>(),
        );
    };
    hits(
        ValueMatch::Present,
        &[
            ("/", false),
            ("/?", false),
            ("/?q", true),
            ("/?x=q", false),
            ("/?x=1&q=", true),
        ],
    );
    hits(
        ValueMatch::Exact("a b".into()),
        &[
            ("/?q=a b", true),
            ("/?q=a%20b", false),
            ("/?q=x&q=a b", false),
            ("/?q=a b&q=x", true),
        ],
    );
    hits(
        ValueMatch::Exact("".into()),
        &[("/?q", true), ("/?q=", true), ("/?q=1", false), ("/?x", false)],
    );
    hits(
        ValueMatch::Regex(pattern("[0-9]=?")),
        &[("/?q=1", true), ("/?q=1=", true), ("/?q=12", false)],
    );
}

#[test]
fn a_method_may_be_any_token() {
    let hits = |method, cases: [(&str, bool); 3]| {
        let matches = RouteMatch {
            method: Some(method),
            ..on(prefix("/"))
        };
        check(
            &matches,
            &cases.map(|(method, hit)| (Request::get("/").by(method), hit)),
        );
    };
    hits(
        MethodMatch::Exact(Method::GET),
        [("GET", true), ("HEAD", false), ("GETX", false)],
    );
    hits(
        MethodMatch::Exact("PURGE".parse().unwrap()),
        [("PURGE", true), ("purge", false), ("GET", false)],
    );
    hits(
        MethodMatch::Regex(pattern("GET|PUT")),
        [("GET", true), ("PUT", true), ("PUTS", false)],
    );
}

/// The order that was observed for one Host (B18), and what each request then gets.
#[test]
fn b18_the_first_in_order_wins() {
    let first = RouteMatch {
        precedence: 1,
        method: Some(MethodMatch::Exact(Method::TRACE)),
        ..on(prefix("/"))
    };
    let by_method = RouteMatch {
        method: Some(MethodMatch::Exact(Method::GET)),
        ..on(prefix("/a/"))
    };
    let by_header = RouteMatch {
        headers: vec![header("x-foo", ValueMatch::Exact("bar"))],
        ..on(prefix("/a/"))
    };
    let by_query = QueryMatch {
        name: "q".into(),
        value: ValueMatch::Exact("v".into()),
    };
    let by_query = RouteMatch {
        query: vec![by_query],
        ..on(prefix("/a/"))
    };
    let table = RouteTable::new(vec![
        route("precedence", first),
        route("ab", on(prefix("/ab/"))),
        route("method", by_method),
        route("header", by_header),
        route("query", by_query),
        route("plain", on(prefix("/a/"))),
    ]);
    for (request, expected) in [
        (Request::get("/ab/").by("TRACE"), "precedence"),
        (Request::get("/ab/x"), "ab"),
        (Request::get("/a/?q=v").with("x-foo", "bar"), "method"),
        (Request::get("/a/?q=v").by("PUT").with("x-foo", "bar"), "header"),
        (Request::get("/a/?q=v").by("PUT"), "query"),
        (Request::get("/a/").by("PUT"), "plain"),
        (Request::get("/a").by("PUT"), "-"),
    ] {
        assert_eq!(found(&table, &request), expected, "{request:?}");
    }
}

#[test]
fn b18_a_short_prefix_of_high_precedence_shadows_all_below() {
    let mut routes = vec![route(
        "top",
        RouteMatch {
            precedence: 1,
            ..on(prefix("/"))
        },
    )];
    routes.extend((0..50).map(|n| route("below", on(prefix(&format!("/{n}/"))))));
    assert_eq!(found(&RouteTable::new(routes), &Request::get("/7/")), "top");
}

#[test]
fn b20_b21_shares_are_cumulative_and_the_rest_falls_through() {
    let shared = Route {
        matches: on(prefix("/a/")),
        targets: vec![target("ten", 10), target("thirty", 40)],
    };
    let mut routes = vec![Arc::new(shared), route("rest", on(prefix("/a")))];
    for crowd in [0, 50] {
        routes.extend((0..crowd).map(|n| route("other", on(prefix(&format!("/a/{n}"))))));
        let table = RouteTable::new(routes.clone());
        let request = Request::get("/a/x");
        let labels = [0, 9, 10, 39, 40, 99].map(|draw| {
            let (route, target) = table.find(&request.head(), draw).unwrap();
            assert!(route.targets.contains(target));
            &*target.label
        });
        assert_eq!(labels, ["ten", "ten", "thirty", "thirty", "rest", "rest"]);
    }
}

#[test]
fn an_empty_table_finds_nothing() {
    let table = RouteTable::new(Vec::new());
    assert_eq!(found(&table, &Request::get("/")), "-");
}

/// Asks many routes that differ in one thing only, each of which must be found by it.
fn each_is_found(differ: impl Fn(usize) -> (RouteMatch, Request)) {
    let (routes, requests): (Vec<_>, Vec<_>) = (0..300)
        .map(|n| {
            let (matches, request) = differ(n);
            (route(&n.to_string(), matches), request)
        })
        .unzip();
    let table = RouteTable::new(routes);
    for (n, request) in requests.iter().enumerate() {
        assert_eq!(found(&table, request), n.to_string(), "{request:?}");
    }
}

#[test]
fn each_of_many_paths_is_found() {
    each_is_found(|n| (on(prefix(&format!("/s{n}/"))), Request::get(&format!("/s{n}/x"))));
    each_is_found(|n| (on(exact(&format!("/s{n}"))), Request::get(&format!("/s{n}"))));
    each_is_found(|n| {
        let nested = format!("/{}", "a".repeat(300 - n));
        (on(prefix(&nested)), Request::get(&nested))
    });
    each_is_found(|n| {
        (
            on(PathMatch::Regex(pattern(&format!("/s{n}/.*")))),
            Request::get(&format!("/s{n}/x")),
        )
    });
    each_is_found(|n| {
        (
            on(PathMatch::Regex(pattern(&format!("/[^/]+/s{n}")))),
            Request::get(&format!("/x/s{n}")),
        )
    });
}

#[test]
fn each_of_many_authorities_is_found() {
    let for_host = |authority| RouteMatch {
        authority,
        ..on(prefix("/"))
    };
    each_is_found(|n| {
        let name = format!("h{n}.test");
        (
            for_host(AuthorityMatch::Exact((&*name).into())),
            Request::get("/").at(&name),
        )
    });
    each_is_found(|n| {
        let suffix = format!(".h{n}.test");
        (
            for_host(AuthorityMatch::Suffix((&*suffix).into())),
            Request::get("/").at(&format!("x{suffix}")),
        )
    });
    each_is_found(|n| {
        let prefix = format!("h{n}.");
        (
            for_host(AuthorityMatch::Prefix((&*prefix).into())),
            Request::get("/").at(&format!("{prefix}x")),
        )
    });
    each_is_found(|n| {
        let regex = AuthorityMatch::Regex(pattern(&format!("[a-z]+\\.h{n}\\.test")));
        (for_host(regex), Request::get("/").at(&format!("x.h{n}.test")))
    });
}

#[test]
fn each_of_many_methods_and_headers_is_found() {
    let by_headers = |headers| RouteMatch {
        headers,
        ..on(prefix("/"))
    };
    each_is_found(|n| {
        let method = format!("M{n}");
        let condition = MethodMatch::Exact(method.parse().unwrap());
        (
            RouteMatch {
                method: Some(condition),
                ..on(prefix("/"))
            },
            Request::get("/").by(&method),
        )
    });
    each_is_found(|n| {
        let value = format!("v{n}");
        let headers = vec![header("x-a", ValueMatch::Exact(&value))];
        (by_headers(headers), Request::get("/").with("x-a", &value))
    });
    each_is_found(|n| {
        let name = format!("x-{n}");
        let headers = vec![
            header(&name, ValueMatch::Present),
            header("x-a", ValueMatch::Present),
        ];
        (
            by_headers(headers),
            Request::get("/").with("x-a", "1").with(&name, "1"),
        )
    });
    // `host` is not among the headers of an HTTP/2 request.
    each_is_found(|n| {
        let (host, name) = (format!("h{n}"), format!("x-{n}"));
        let headers = vec![
            header("host", ValueMatch::Exact(&host)),
            header(&name, ValueMatch::Present),
        ];
        (
            by_headers(if n % 2 == 0 {
                headers
            } else {
                headers[..1].to_vec()
            }),
            Request::get("/").at(&host).with(&name, "1"),
        )
    });
}

#[test]
fn tables_are_equal_when_what_they_hold_is() {
    let table =
        |names: &[&str]| RouteTable::new(names.iter().map(|name| route(name, on(prefix("/")))).collect());
    assert_eq!(table(&["a", "b"]), table(&["a", "b"]));
    assert_ne!(table(&["a", "b"]), table(&["b", "a"]));
}
