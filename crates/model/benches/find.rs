//! What a search for a route costs with 1, 100 and 10,000 Mappings: `cargo bench -p nuncio-model`.
//!
//! Each line is a way in which the Mappings differ; the requests ask for Mappings all over the table.
//! Printed is the best of many rounds, as a busy machine can only add to it.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for developers, on fixed input"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use nuncio_model::{
    Action, AuthorityMatch, HeaderMatch, MethodMatch, ObjectRef, PathMatch, Pattern, Reason, RequestHead,
    Route, RouteMatch, RouteTable, Target, Unresolved, ValueMatch,
};

/// The conditions of the `n`th Mapping, and a request for it.
type Differ = fn(usize) -> (RouteMatch, Request);

const SIZES: [usize; 3] = [1, 100, 10_000];
const REQUESTS: usize = 512;

struct Request {
    authority: String,
    path: String,
    method: Method,
    headers: HeaderMap,
}

fn main() {
    // Without `--bench` we are run as a test: once is enough to see that every route is found.
    let rounds = if std::env::args().any(|argument| argument == "--bench") {
        300
    } else {
        1
    };
    println!(
        "{:<28}{:>9}{:>9}{:>9}{:>8}{:>12}{:>10}",
        "10,000 Mappings differ in", "1", "100", "10,000", "ratio", "build", "memory"
    );
    for (what, differ) in PATTERNS {
        let measured = SIZES.map(|size| measure(differ, size, rounds));
        let [one, hundred, (many, build, memory)] = measured;
        println!(
            "{what:<28}{:>6.0} ns{:>6.0} ns{many:>6.0} ns{:>8.1}{:>9.1} ms{:>7.1} MB",
            one.0,
            hundred.0,
            many / one.0,
            build.as_secs_f64() * 1e3,
            memory / 1e6,
        );
    }
}

const PATTERNS: [(&str, Differ); 11] = [
    ("prefix", |n| {
        (
            on_path(&format!("/service-{n}/")),
            request(&format!("/service-{n}/api/v1/items")),
        )
    }),
    ("prefix, nested", |n| {
        let path = format!("/{}/{n:05}{}", "a/".repeat(n % 100), "b".repeat(n % 7));
        (on_path(&path), request(&path))
    }),
    ("path expression", |n| {
        let expression = PathMatch::Regex(pattern(&format!("/service-{n}/[^/]+/items")));
        (
            RouteMatch {
                path: expression,
                ..on_path("/")
            },
            request(&format!("/service-{n}/x/items")),
        )
    }),
    ("hostname", |n| {
        let name = format!("host-{n}.example.com");
        let matches = RouteMatch {
            authority: AuthorityMatch::Exact((&*name).into()),
            ..on_path("/")
        };
        (
            matches,
            Request {
                authority: name,
                ..request("/api/v1/items")
            },
        )
    }),
    ("hostname *.suffix", |n| {
        let suffix = format!(".host-{n}.example.com");
        let matches = RouteMatch {
            authority: AuthorityMatch::Suffix((&*suffix).into()),
            ..on_path("/")
        };
        (
            matches,
            Request {
                authority: format!("www{suffix}"),
                ..request("/api/v1/items")
            },
        )
    }),
    ("hostname expression", |n| {
        let expression = AuthorityMatch::Regex(pattern(&format!("(www|api)\\.host-{n}\\.example\\.com")));
        let matches = RouteMatch {
            authority: expression,
            ..on_path("/")
        };
        (
            matches,
            Request {
                authority: format!("api.host-{n}.example.com"),
                ..request("/api/v1/items")
            },
        )
    }),
    ("header value", |n| {
        with_headers(&[("x-tenant", &format!("tenant-{n}"))])
    }),
    ("two header values", |n| {
        with_headers(&[
            ("x-team", &format!("team-{}", n / 100)),
            ("x-tenant", &format!("tenant-{}", n % 100)),
        ])
    }),
    ("header name", |n| {
        with_headers(&[(&format!("x-tenant-{n}"), "1")])
    }),
    ("method", |n| {
        let method: Method = format!("M{n}").parse().unwrap();
        let matches = RouteMatch {
            method: Some(MethodMatch::Exact(method.clone())),
            ..on_path("/")
        };
        (
            matches,
            Request {
                method,
                ..request("/api/v1/items")
            },
        )
    }),
    ("prefix, case-insensitive", |n| {
        let path = PathMatch::Prefix {
            text: format!("/Service-{n}/").into(),
            case_sensitive: false,
        };
        (
            RouteMatch { path, ..on_path("/") },
            request(&format!("/SERVICE-{n}/api/v1/items")),
        )
    }),
];

fn on_path(prefix: &str) -> RouteMatch {
    RouteMatch {
        precedence: 0,
        authority: AuthorityMatch::Any,
        path: PathMatch::Prefix {
            text: prefix.into(),
            case_sensitive: true,
        },
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    }
}

fn pattern(text: &str) -> Pattern {
    Pattern::full(text, 1 << 20).unwrap()
}

/// A request as a browser's library sends it.
fn request(path: &str) -> Request {
    let headers = [
        ("host", "www.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br"),
        ("accept-language", "en-GB,en;q=0.9"),
        ("authorization", "Bearer 0123456789abcdef"),
        ("cookie", "session=0123456789abcdef"),
        ("x-request-id", "d0c1a8f2-6d3c-4d8b-9a57-2f1d5c0e7b11"),
    ];
    let headers =
        headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    Request {
        authority: "www.example.com".into(),
        path: path.into(),
        method: Method::GET,
        headers: headers.into_iter().collect(),
    }
}

fn with_headers(conditions: &[(&str, &str)]) -> (RouteMatch, Request) {
    let mut matches = on_path("/");
    let mut request = request("/api/v1/items");
    for (name, value) in conditions {
        let (name, value): (HeaderName, HeaderValue) = (name.parse().unwrap(), value.parse().unwrap());
        matches.headers.push(HeaderMatch {
            name: name.clone(),
            value: ValueMatch::Exact(value.clone()),
        });
        request.headers.insert(name, value);
    }
    (matches, request)
}

/// Nanoseconds per search, and what the index took: time and bytes.
fn measure(differ: Differ, size: usize, rounds: u32) -> (f64, Duration, f64) {
    let (routes, requests): (Vec<_>, Vec<_>) = (0..size)
        .map(differ)
        .map(|(matches, request)| {
            (
                Arc::new(Route {
                    matches,
                    targets: vec![target()],
                }),
                request,
            )
        })
        .unzip();
    let asked: Vec<&Request> = requests.iter().step_by(size.div_ceil(REQUESTS)).collect();

    let (before, start) = (resident(), Instant::now());
    let table = RouteTable::new(routes);
    let (build, memory) = (start.elapsed(), resident() - before);

    let searches = REQUESTS.max(asked.len()) / asked.len() * asked.len();
    let mut best = Duration::MAX;
    for _ in 0..rounds {
        let start = Instant::now();
        for request in asked.iter().cycle().take(searches) {
            let head = RequestHead {
                authority: &request.authority,
                path: &request.path,
                query: None,
                method: &request.method,
                headers: &request.headers,
            };
            assert!(black_box(table.find(black_box(&head), 0)).is_some());
        }
        best = best.min(start.elapsed());
    }
    // Kept, so that the next table cannot hide in memory that was given back.
    std::mem::forget((table, requests));
    (best.as_secs_f64() * 1e9 / searches as f64, build, memory)
}

fn target() -> Target {
    Target {
        mapping: ObjectRef::new("Mapping", "default", "m"),
        label: "m.default".into(),
        share_end: 100,
        action: Action::Unresolved(Unresolved {
            reason: Reason::ServiceInvalid,
            message: "".into(),
        }),
    }
}

/// Resident bytes of this process; 0 where the system does not tell.
fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<f64>().ok())
        .unwrap_or_default()
        * 4096.0
}
