//! Authorities and paths of requests: normal forms are normal, and the indices find what a scan finds.
#![no_main]

use std::sync::{Arc, LazyLock};

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use nuncio_model::{
    Action, AuthorityMatch, HostTable, InsecureAction, ObjectRef, PathMatch, Pattern, Reason, RequestHead,
    Rewrite, Route, RouteMatch, RouteTable, Settings, Target, Unresolved, VirtualHost,
};
use nuncio_proxy::normalise;

const HOSTNAMES: [&str; 8] = [
    "*",
    "a.test",
    "*.a.test",
    "*.test",
    "*b.a.test",
    "a.*",
    "a.te*",
    "a.test:8080",
];

static ROUTES: LazyLock<RouteTable> = LazyLock::new(|| {
    let prefix = |text: &str, case_sensitive| PathMatch::Prefix {
        text: text.into(),
        case_sensitive,
    };
    let exact = |text: &str, case_sensitive| PathMatch::Exact {
        text: text.into(),
        case_sensitive,
    };
    let regex = Pattern::full("/r[0-9]+/.*", 1 << 20).expect("a pattern that stands here");
    let paths = [
        exact("/a/b", true),
        exact("/A/c", false),
        PathMatch::Regex(regex),
        prefix("/a/b/", true),
        prefix("/A/", false),
        prefix("/a", true),
        prefix("/\u{e9}", false),
        prefix("/", true),
    ];
    RouteTable::new(paths.into_iter().map(route).collect())
});

static HOSTS: LazyLock<HostTable> =
    LazyLock::new(|| HostTable::new(HOSTNAMES.iter().map(|hostname| virtual_host(hostname)).collect()));

fuzz_target!(|input: (&str, &str, bool)| {
    let (authority, path, merge_slashes) = input;
    let settings = Settings {
        merge_slashes,
        ..Settings::default()
    };
    let path = format!("/{path}");
    let Ok(normal) = normalise(&path, &settings) else {
        return;
    };
    assert_eq!(
        normalise(&normal, &settings).as_ref(),
        Ok(&normal),
        "normalising twice changes {path:?}"
    );
    assert_eq!(
        PathAndQuery::try_from(&*normal).map(|target| target.to_string()).ok(),
        Some(normal.to_string()),
        "{normal:?} cannot be sent"
    );
    let climbs = |segment: &str| segment == ".." || segment.starts_with("..;");
    assert!(!normal.split(['/', '\\']).any(climbs), "{normal:?} climbs");

    let authority = authority.to_lowercase();
    finds_what_a_scan_finds(&authority, &normal);
    let host = HOSTS.find(&authority).expect("there is a `*`");
    assert!(
        hostname_fits(&host.hostname, &authority),
        "{authority:?} is not of {}",
        host.hostname
    );

    let rewritten = Rewrite::Prefix {
        matched: Some(2.min(normal.len())),
        with: "/x".into(),
    };
    if normal.is_char_boundary(2.min(normal.len())) {
        rewritten.apply(&normal);
    }
});

fn route(path: PathMatch) -> Arc<Route> {
    Arc::new(Route {
        matches: RouteMatch {
            precedence: 0,
            authority: AuthorityMatch::Any,
            path,
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        },
        targets: vec![Target {
            mapping: ObjectRef::new("Mapping", "default", "fuzz"),
            label: "fuzz.default".into(),
            share_end: 100,
            action: Action::Unresolved(Unresolved {
                reason: Reason::NoRoute,
                message: "none".into(),
            }),
        }],
    })
}

fn virtual_host(hostname: &str) -> Arc<VirtualHost> {
    Arc::new(VirtualHost {
        object: None,
        hostname: hostname.into(),
        insecure: InsecureAction::Route,
        routes: Arc::new(RouteTable::new(Vec::new())),
    })
}

fn finds_what_a_scan_finds(authority: &str, path: &str) {
    let headers = HeaderMap::new();
    let head = RequestHead {
        authority,
        path,
        query: None,
        method: &Method::GET,
        headers: &headers,
    };
    let found = ROUTES.find(&head, 0).map(|(route, _)| route);
    let scanned = ROUTES
        .routes()
        .iter()
        .find(|route| path_fits(&route.matches.path, path));
    assert_eq!(found, scanned, "for {path:?}");
}

/// The naive way: letter case counts in ASCII only, as in Envoy.
fn path_fits(condition: &PathMatch, path: &str) -> bool {
    match condition {
        PathMatch::Prefix {
            text,
            case_sensitive: true,
        } => path.starts_with(&**text),
        PathMatch::Prefix {
            text,
            case_sensitive: false,
        } => path
            .as_bytes()
            .get(..text.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes())),
        PathMatch::Exact {
            text,
            case_sensitive: true,
        } => path == &**text,
        PathMatch::Exact {
            text,
            case_sensitive: false,
        } => path.eq_ignore_ascii_case(text),
        PathMatch::Regex(pattern) => pattern.is_match(path),
    }
}

fn hostname_fits(hostname: &str, authority: &str) -> bool {
    match (hostname.strip_prefix('*'), hostname.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(suffix), _) => authority.len() > suffix.len() && authority.ends_with(suffix),
        (None, Some(prefix)) => authority.len() > prefix.len() && authority.starts_with(prefix),
        (None, None) => authority == hostname,
    }
}
