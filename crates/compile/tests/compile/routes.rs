//! Conditions, order, groups, headers and rewrites of Mappings.

use nuncio_model::{AuthorityMatch, MethodMatch, PathMatch, Reason, Rewrite, Severity};

use crate::world::{World, mapping, object, world};

/// A Mapping whose whole spec is given, beside `service`.
fn raw(name: &str, spec: &str) -> String {
    object("Mapping", name, "default", &format!("service: svc; {spec}"))
}

fn one(spec: &str) -> World {
    world(&raw("m", spec))
}

#[test]
fn b18_order_of_conditions() {
    let manifests = [
        raw("plain", "hostname: \"*\"; prefix: /a/"),
        raw("query", "hostname: \"*\"; prefix: /a/; query_parameters: {q: v}"),
        raw("header", "hostname: \"*\"; prefix: /a/; headers: {x-foo: bar}"),
        raw("method", "hostname: \"*\"; prefix: /a/; method: GET"),
        raw("long", "hostname: \"*\"; prefix: /ab/"),
        raw("first", "hostname: \"*\"; prefix: /; precedence: 1"),
        raw("b", "hostname: \"*\"; prefix: /b/"),
    ];
    let expected = ["first", "long", "method", "header", "query", "b", "plain"];
    assert_eq!(world(&manifests.concat()).fine().order()[..4], expected[..4]);
    // Query parameters count after headers, and the prefix as text after both.
    assert_eq!(world(&manifests.concat()).order(), expected);
}

#[test]
fn b17_a_longer_hostname_comes_first() {
    let manifests = raw("any", "hostname: \"*\"; prefix: /a")
        + &raw("wild", "hostname: \"*.test\"; prefix: /a")
        + &raw("exact", "hostname: a.b.test; prefix: /a");
    let order = world(&manifests).fine().order();
    assert_eq!(order, ["exact", "wild", "any"]);
}

#[test]
fn decision_22_exact_regex_and_prefix_are_groups_of_their_own() {
    let manifests = raw("prefix", "hostname: \"*\"; prefix: /a")
        + &raw("exact", "hostname: \"*\"; prefix: /a; prefix_exact: true")
        + &raw(
            "regex",
            "hostname: \"*\"; prefix: /a; prefix_regex: true; prefix_exact: true",
        )
        + &raw("any-case", "hostname: \"*\"; prefix: /a; case_sensitive: false");
    let world = world(&manifests).fine();
    assert_eq!(world.order(), ["exact", "regex", "any-case", "prefix"]);
    let path = |name: &str| {
        world
            .routes()
            .iter()
            .find(|r| &*r.targets[0].mapping.name == name)
            .unwrap()
            .matches
            .path
            .clone()
    };
    assert!(matches!(
        path("exact"),
        PathMatch::Exact {
            case_sensitive: true,
            ..
        }
    ));
    assert!(matches!(path("regex"), PathMatch::Regex(_)));
    assert!(matches!(
        path("any-case"),
        PathMatch::Prefix {
            case_sensitive: false,
            ..
        }
    ));
}

#[test]
fn b8_b10_what_is_said_about_the_host() {
    let authority = |spec: &str| {
        one(&format!("prefix: /; {spec}")).routes()[0]
            .matches
            .authority
            .clone()
    };
    assert_eq!(authority("hostname: \"*\""), AuthorityMatch::Any);
    assert_eq!(
        authority("hostname: A.Test:8080"),
        AuthorityMatch::Exact("a.test:8080".into())
    );
    assert_eq!(
        authority("hostname: \"*.A.test\""),
        AuthorityMatch::Suffix(".a.test".into())
    );
    assert_eq!(
        authority("hostname: \"a.*\""),
        AuthorityMatch::Prefix("a.".into())
    );
    assert_eq!(authority("host: a.test"), AuthorityMatch::Exact("a.test".into()));
    assert_eq!(
        authority("headers: {\":authority\": a.test}"),
        AuthorityMatch::Exact("a.test".into())
    );
    assert!(matches!(
        authority("host: 'a|b'; host_regex: true"),
        AuthorityMatch::Regex(_)
    ));
    assert!(matches!(
        authority("regex_headers: {\":authority\": a.*}"),
        AuthorityMatch::Regex(_)
    ));

    let both = one("prefix: /; hostname: a.test; host: b.test");
    assert_eq!(
        both.routes()[0].matches.authority,
        AuthorityMatch::Exact("a.test".into())
    );
    both.tells(Severity::Warning, "Mapping m spec.host:", "keep one of them");
}

#[test]
fn b9_what_can_match_nothing_has_no_route_and_says_so() {
    for (spec, field) in [
        ("prefix: /; host: \"*.test\"", "spec.host:"),
        ("prefix: /; headers: {\":authority\": \"*\"}", "spec.headers:"),
        ("prefix: /; hostname: a*b", "spec.hostname:"),
        (
            "hostname: \"*\"; prefix: \"/(\"; prefix_regex: true",
            "spec.prefix:",
        ),
        (
            "hostname: \"*\"; prefix: /; method: \"G(\"; method_regex: true",
            "spec.method:",
        ),
        ("hostname: \"*\"; prefix: /; method: \"G T\"", "spec.method:"),
        (
            "hostname: \"*\"; prefix: /; regex_headers: {x: \"(\"}",
            "spec.regex_headers.x:",
        ),
        (
            "hostname: \"*\"; prefix: /; headers: {\"x y\": \"1\"}",
            "spec.headers.x y:",
        ),
        (
            "hostname: \"*\"; prefix: /; regex_query_parameters: {x: \"(\"}",
            "spec.regex_query_parameters.x:",
        ),
        ("hostname: \"*\"", "spec.prefix:"),
    ] {
        let world = one(spec);
        assert!(world.routes().is_empty(), "{spec}");
        world.tells(Severity::Error, &format!("Mapping m {field}"), "no route");
    }
    // A wrong type among the conditions leaves nothing to match either.
    assert!(one("hostname: 5; prefix: /").routes().is_empty());
    assert!(
        one("hostname: \"*\"; prefix: /; headers: {x: 1}")
            .routes()
            .is_empty(),
        "it would match more than was meant"
    );
}

#[test]
fn what_matches_nothing_usual_is_a_warning() {
    one("hostname: \"*\"; prefix: a/").tells(
        Severity::Warning,
        "Mapping m spec.prefix",
        "put a `/` in front",
    );
    one("hostname: \"*\"; prefix: /a?b").tells(
        Severity::Warning,
        "Mapping m spec.prefix",
        "query_parameters",
    );
    let world = one("hostname: \"*\"; prefix: /; method: get");
    world.tells(Severity::Warning, "Mapping m spec.method", "write GET");
    assert_eq!(
        world.routes()[0].matches.method,
        Some(MethodMatch::Exact("get".parse().unwrap()))
    );
}

#[test]
fn b15_a_group_has_one_connect_timeout() {
    let manifests = raw("a", "hostname: \"*\"; prefix: /; connect_timeout_ms: 3000")
        + &raw("b", "hostname: \"*\"; prefix: /")
        + &raw("c", "hostname: \"*\"; prefix: /; connect_timeout_ms: 500");
    let world = world(&manifests);
    assert_eq!(world.order(), ["a+b"]);
    world.tells(Severity::Error, "Mapping c spec.connect_timeout_ms", "not routed");
    assert_eq!(world.output.snapshot.upstreams[0].mappings.len(), 2);
}

#[test]
fn b21_weights_come_first_in_the_order_of_loading() {
    let manifests = raw("c", "hostname: \"*\"; prefix: /; weight: 10")
        + &raw("a", "hostname: \"*\"; prefix: /")
        + &raw("b", "hostname: \"*\"; prefix: /; weight: 30");
    let world = world(&manifests).fine();
    assert_eq!(world.order(), ["b+c+a"]);
    let ends = ["b", "c", "a"].map(|name| world.target(name).share_end);
    assert_eq!(ends, [30, 40, 100]);
}

#[test]
fn b21_bad_weights_are_told() {
    let member =
        |name: &str, weight: &str| raw(name, &format!("hostname: \"*\"; prefix: /; weight: {weight}"));
    let world = world(&(member("a", "60") + &member("b", "60")));
    world.tells(Severity::Error, "Mapping a spec.weight", "add up to 120");
    world.tells(Severity::Error, "Mapping b spec.weight", "add up to 120");
    assert_eq!(
        (world.target("a").share_end, world.target("b").share_end),
        (60, 100)
    );
    let alone = one("hostname: \"*\"; prefix: /; weight: 101");
    alone.tells(Severity::Error, "Mapping m spec.weight", "between 0 and 100");
    assert_eq!(alone.target("m").share_end, 100);
}

#[test]
fn b16_what_a_group_has_in_common() {
    let manifests = raw(
        "a",
        "hostname: \"*\"; prefix: /; add_request_headers: {x-a: '1', x-both: a}; allow_upgrade: [websocket]; rewrite: /a/",
    ) + &raw(
        "b",
        "hostname: \"*\"; prefix: /; add_request_headers: {x-both: b}; remove_response_headers: [x-c]; rewrite: /b/",
    );
    let world = world(&manifests).fine();
    for name in ["a", "b"] {
        let forward = world.forward(name);
        let added: Vec<(&str, &str)> = forward
            .request_headers
            .add
            .iter()
            .map(|h| (h.name.as_str(), h.value.to_str().unwrap()))
            .collect();
        assert_eq!(added, [("x-a", "1"), ("x-both", "b")], "{name}");
        assert_eq!(forward.response_headers.remove, ["x-c"]);
        assert_eq!(forward.allow_upgrade, ["websocket".into()]);
        let with = format!("/{name}/");
        assert!(
            matches!(&forward.rewrite, Rewrite::Prefix { with: w, .. } if **w == *with),
            "rewrite is each one's own"
        );
    }
}

#[test]
fn b22_rewrites() {
    let rewrite = |spec: &str| {
        one(&format!("hostname: \"*\"; {spec}"))
            .fine()
            .forward("m")
            .rewrite
    };
    let prefix = |matched, with: &str| Rewrite::Prefix {
        matched,
        with: with.into(),
    };
    assert_eq!(rewrite("prefix: /ab/"), prefix(Some(4), "/"));
    assert_eq!(rewrite("prefix: /ab/; rewrite: /x"), prefix(Some(4), "/x"));
    assert_eq!(rewrite("prefix: /ab/; rewrite: \"\""), Rewrite::None);
    assert_eq!(rewrite("prefix: /ab; prefix_exact: true"), prefix(None, "/"));
    assert_eq!(rewrite("prefix: /ab.*; prefix_regex: true"), prefix(None, "/"));
    let regex = rewrite("prefix: /; regex_rewrite: {pattern: '/(.*)', substitution: '/v/\\1'}");
    assert!(matches!(regex, Rewrite::Regex { substitution, .. } if &*substitution == "/v/${1}"));

    let both =
        one("hostname: \"*\"; prefix: /; rewrite: /x; regex_rewrite: {pattern: a, substitution: b}").fine();
    both.tells(Severity::Notice, "Mapping m spec.rewrite", "no effect");
    for pattern in [
        "{pattern: '(', substitution: b}",
        "{pattern: a, substitution: '\\1'}",
        "{substitution: b}",
    ] {
        one(&format!("hostname: \"*\"; prefix: /; regex_rewrite: {pattern}"))
            .refuses("m", Reason::ServiceInvalid);
    }
}

#[test]
fn b29_headers_to_add_and_remove() {
    let spec = "hostname: \"*\"; prefix: /; add_request_headers: {X-A: one, x-b: {value: two, append: false}}; remove_request_headers: [X-C]";
    let forward = one(spec).fine().forward("m");
    let added: Vec<(String, bool)> = forward
        .request_headers
        .add
        .iter()
        .map(|h| (h.name.to_string(), h.append))
        .collect();
    assert_eq!(added, [("x-a".to_owned(), true), ("x-b".to_owned(), false)]);
    assert_eq!(forward.request_headers.remove, ["x-c"]);

    for name in [
        "Host",
        "\":path\"",
        "Connection",
        "transfer-encoding",
        "content-length",
        "te",
        "\"a b\"",
    ] {
        let world = one(&format!(
            "hostname: \"*\"; prefix: /; add_request_headers: {{{name}: x}}"
        ));
        world.tells(Severity::Error, "Mapping m spec.add_request_headers", "no effect");
        assert!(world.forward("m").request_headers.add.is_empty(), "{name}");
    }
    let literal = one("hostname: \"*\"; prefix: /; add_response_headers: {x: '%REQ(a)%'}");
    literal.tells(
        Severity::Warning,
        "Mapping m spec.add_response_headers.x",
        "as it stands",
    );
    assert_eq!(literal.forward("m").response_headers.add[0].value, "%REQ(a)%");
}

#[test]
fn a33_b30_defaults_of_the_module() {
    let module = object(
        "Module",
        "ambassador",
        "default",
        "config:\n    cluster_request_timeout_ms: 7000\n    defaults:\n      add_request_headers: {x-all: '1'}\n      \
         remove_response_headers: [server-secret]\n      httpmapping: {add_request_headers: {x-mapping: '2'}}",
    );
    let manifests = module
        + &mapping("m", "service: svc")
        + &mapping(
            "n",
            "service: svc; timeout_ms: 0; add_request_headers: {}; remove_response_headers: []",
        );
    let world = world(&manifests).fine();
    let (m, n) = (world.forward("m"), world.forward("n"));
    assert_eq!(m.request_headers.add[0].name, "x-mapping");
    assert_eq!(m.response_headers.remove, ["server-secret"]);
    assert_eq!(m.timeout.unwrap().as_millis(), 7000);
    assert_eq!(
        (
            n.request_headers.add.len(),
            n.response_headers.remove.len(),
            n.timeout
        ),
        (0, 0, None)
    );
}

#[test]
fn timeouts() {
    let plain = one("hostname: \"*\"; prefix: /").fine().forward("m");
    assert_eq!(
        (
            plain.timeout.unwrap().as_millis(),
            plain.connect_timeout.as_millis()
        ),
        (3000, 3000)
    );
    let negative = one("hostname: \"*\"; prefix: /; timeout_ms: -1; connect_timeout_ms: 0");
    negative.tells(Severity::Error, "Mapping m spec.timeout_ms", "default");
    negative.tells(Severity::Error, "Mapping m spec.connect_timeout_ms", "default");
    let forward = negative.forward("m");
    assert_eq!(
        (
            forward.timeout.unwrap().as_millis(),
            forward.connect_timeout.as_millis()
        ),
        (3000, 3000)
    );
}

#[test]
fn what_would_send_traffic_astray_is_refused_until_it_is_supported() {
    one("hostname: \"*\"; prefix: /; host_redirect: true").refuses("m", Reason::ServiceInvalid);
    let shadow = one("hostname: \"*\"; prefix: /; shadow: true");
    shadow.tells(Severity::Error, "Mapping m spec.shadow", "no route");
    assert!(shadow.routes().is_empty());
    one("hostname: \"*\"; prefix: /; resolver: consul").refuses("m", Reason::ServiceInvalid);
    one("hostname: \"*\"; prefix: /; resolver: mine").refuses("m", Reason::ServiceInvalid);
    let later = one("hostname: \"*\"; prefix: /; cors: {origins: '*'}; keepalive: {time: 5}");
    assert_eq!(later.told(Severity::Warning).len(), 2);
    later.forward("m");
}

#[test]
fn a_wrong_type_beside_the_conditions_answers_503() {
    let world = one("hostname: \"*\"; prefix: /; timeout_ms: 5s");
    world.refuses("m", Reason::ServiceInvalid);
    world.tells(Severity::Error, "Mapping m spec.timeout_ms", "is expected");
}
