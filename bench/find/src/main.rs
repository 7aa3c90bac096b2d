//! What it costs to find a route among 1, 100 and 10,000, as one line of JSON per table.
//!
//! Each shape of table is asked for paths all over it, so that no single branch stays warm, and each answer is
//! checked once before the clock starts.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use nuncio_model::{
    Action, AuthorityMatch, HeaderMatch, HostTable, InsecureAction, ObjectRef, PathMatch, Reason,
    RequestHead, Route, RouteMatch, RouteTable, Target, Unresolved, ValueMatch, VirtualHost,
};

const SIZES: [usize; 3] = [1, 100, 10_000];
/// Different requests that are asked in turn.
const ASKED: usize = 1_024;
/// How long one repeat lasts.
const REPEAT: Duration = Duration::from_millis(200);
/// The median of these is what counts.
const REPEATS: usize = 5;

/// How the routes of a table differ from each other.
#[derive(Clone, Copy)]
enum Shape {
    /// `/route-N/`, asked below each.
    Prefix,
    /// `/route-N`, asked exactly.
    Exact,
    /// One prefix, told apart by the value of a header.
    Header,
    /// `/`, told apart by the Mapping's own hostname within one virtual host.
    Authority,
    /// `/route-N/`, asked for what no route has.
    Miss,
}

impl Shape {
    const ALL: [(Self, &str); 5] = [
        (Self::Prefix, "prefix"),
        (Self::Exact, "exact path"),
        (Self::Header, "same prefix, header value"),
        (Self::Authority, "same prefix, hostname"),
        (Self::Miss, "no match"),
    ];

    fn route(self, number: usize) -> Route {
        let header = HeaderMatch {
            name: HeaderName::from_static("x-tenant"),
            value: ValueMatch::Exact(value(number)),
        };
        let path = match self {
            Self::Prefix | Self::Miss => prefix(&format!("/route-{number}/")),
            Self::Exact => PathMatch::Exact {
                text: format!("/route-{number}").into(),
                case_sensitive: true,
            },
            Self::Header | Self::Authority => prefix("/"),
        };
        let authority = match self {
            Self::Authority => AuthorityMatch::Exact(format!("tenant-{number}.test").into()),
            _ => AuthorityMatch::Any,
        };
        Route {
            matches: RouteMatch {
                precedence: 0,
                authority,
                path,
                method: None,
                headers: if matches!(self, Self::Header) {
                    vec![header]
                } else {
                    Vec::new()
                },
                query: Vec::new(),
            },
            targets: vec![target(number)],
        }
    }

    fn question(self, number: usize) -> Question {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_static("bench"));
        headers.insert("x-tenant", value(number));
        Question {
            authority: format!("tenant-{number}.test"),
            path: match self {
                Self::Prefix => format!("/route-{number}/things/17"),
                Self::Exact => format!("/route-{number}"),
                Self::Header | Self::Authority => "/things/17".to_owned(),
                Self::Miss => format!("/other-{number}/things/17"),
            },
            headers,
        }
    }
}

/// A request to ask for.
struct Question {
    authority: String,
    path: String,
    headers: HeaderMap,
}

impl Question {
    fn head(&self) -> RequestHead<'_> {
        RequestHead {
            authority: &self.authority,
            path: &self.path,
            query: None,
            method: &Method::GET,
            headers: &self.headers,
        }
    }
}

fn value(number: usize) -> HeaderValue {
    HeaderValue::try_from(format!("tenant-{number}")).expect("letters and digits make a header value")
}

fn prefix(text: &str) -> PathMatch {
    PathMatch::Prefix {
        text: text.into(),
        case_sensitive: true,
    }
}

fn target(number: usize) -> Target {
    let name = format!("mapping-{number}");
    Target {
        mapping: ObjectRef::new("Mapping", "default", &name),
        label: format!("{name}.default").into(),
        share_end: 100,
        action: Action::Unresolved(Unresolved {
            reason: Reason::ServiceInvalid,
            message: "a benchmark sends nothing".into(),
        }),
    }
}

/// Numbers all over `0..size`, the same ones in every run.
fn asked(size: usize) -> impl Iterator<Item = usize> {
    (0..ASKED).map(move |turn| turn.wrapping_mul(2_654_435_761) % size)
}

/// Nanoseconds for one call of `look_up`, which is given a turn below [`ASKED`].
fn time(mut look_up: impl FnMut(usize)) -> f64 {
    let mut found: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let (started, mut calls) = (Instant::now(), 0);
            while started.elapsed() < REPEAT {
                (0..ASKED).for_each(&mut look_up);
                calls += ASKED;
            }
            started.elapsed().as_secs_f64() * 1e9 / calls as f64
        })
        .collect();
    found.sort_by(f64::total_cmp);
    found[REPEATS / 2]
}

fn routes(shape: Shape, size: usize) -> f64 {
    let table = RouteTable::new((0..size).map(|number| Arc::new(shape.route(number))).collect());
    let questions: Vec<(usize, Question)> = asked(size)
        .map(|number| (number, shape.question(number)))
        .collect();
    for (number, question) in &questions {
        let found = table
            .find(&question.head(), 50)
            .map(|(_, target)| target.label.to_string());
        let right = (!matches!(shape, Shape::Miss)).then(|| format!("mapping-{number}.default"));
        assert_eq!(found, right, "find gave the wrong route");
    }
    time(|turn| {
        black_box(table.find(&black_box(&questions[turn].1).head(), 50));
    })
}

fn hosts(size: usize) -> f64 {
    let routes = Arc::new(RouteTable::new(Vec::new()));
    let table = HostTable::new(
        (0..size)
            .map(|number| {
                Arc::new(VirtualHost {
                    object: None,
                    hostname: format!("*.tenant-{number}.test").into(),
                    insecure: InsecureAction::Route,
                    routes: Arc::clone(&routes),
                })
            })
            .collect(),
    );
    let names: Vec<String> = asked(size)
        .map(|number| format!("www.tenant-{number}.test"))
        .collect();
    for name in &names {
        let found = table.find(name).map(|host| host.hostname.to_string());
        assert_eq!(
            found.as_deref(),
            name.strip_prefix("www").map(|rest| format!("*{rest}")).as_deref()
        );
    }
    time(|turn| {
        black_box(table.find(black_box(&names[turn])));
    })
}

fn main() {
    for size in SIZES {
        for (shape, label) in Shape::ALL {
            println!(
                r#"{{"table":"{label}","size":{size},"ns":{:.1}}}"#,
                routes(shape, size)
            );
        }
        println!(
            r#"{{"table":"virtual hosts, *.suffix","size":{size},"ns":{:.1}}}"#,
            hosts(size)
        );
    }
}
