//! `/ambassador/v0/diag/`: with `?json=true`, what scripts written for the reference ask for, under its
//! keys; `&filter=KEY` gives one of them. Without, a page of text.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use nuncio_model::{ObjectRef, Problem, Severity, Snapshot};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Admin;
use crate::answer::Answer;
use crate::health::is_ready;
use crate::pages::{layout, not_configured, paths};
use crate::problems;
use crate::query::Query;
use crate::routes::{PlacedRoute, RouteView, placed};

pub(crate) fn answer(admin: &Admin, query: Query<'_>) -> Answer {
    if !query.is_on("json") {
        return Answer::text(StatusCode::OK, &page(admin));
    }
    let Some(snapshot) = admin.snapshot() else {
        return not_configured();
    };
    let diagnostics = Diagnostics::of(admin, &snapshot);
    match query.value("filter").filter(|key| !key.is_empty()) {
        None => Answer::json(StatusCode::OK, &diagnostics, layout(query)),
        Some(key) => match serde_json::to_value(&diagnostics) {
            Ok(mut all) => Answer::json(StatusCode::OK, &all.get_mut(key).map(Value::take), layout(query)),
            Err(error) => Answer::json_error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        },
    }
}

/// Top-level keys of the reference.
#[derive(Debug, Serialize)]
struct Diagnostics<'a> {
    system: System<'a>,
    /// `[key, text]`
    errors: Vec<(String, String)>,
    notices: Vec<Notice>,
    /// By the key of the first Mapping.
    groups: BTreeMap<String, Group<'a>>,
    tlscontexts: Vec<Context<'a>>,
}

#[derive(Debug, Serialize)]
struct System<'a> {
    version: &'a str,
    hostname: &'a str,
    ambassador_id: &'a str,
    ambassador_namespace: &'a str,
    single_namespace: bool,
    mode: &'a str,
    /// RFC 3339.
    boot_time: String,
    ready: bool,
    revision: u64,
}

#[derive(Debug, Serialize)]
struct Notice {
    /// `NOTICE` or `WARNING`.
    level: &'static str,
    message: String,
}

#[derive(Debug, Serialize)]
struct Group<'a> {
    /// Hostnames of the virtual hosts that serve it.
    hosts: BTreeSet<&'a str>,
    #[serde(flatten)]
    route: RouteView<'a>,
}

#[derive(Debug, Serialize)]
struct Context<'a> {
    name: &'a str,
    namespace: &'a str,
    /// Broken; its last good version serves.
    stale: bool,
    /// That use it.
    upstreams: Vec<&'a str>,
}

impl<'a> Diagnostics<'a> {
    fn of(admin: &'a Admin, snapshot: &'a Snapshot) -> Self {
        let problems = problems::all(admin, snapshot);
        let (errors, notices): (Vec<Problem>, Vec<Problem>) = problems
            .into_iter()
            .partition(|problem| problem.severity == Severity::Error);
        Self {
            system: System::of(admin, snapshot),
            errors: errors
                .into_iter()
                .map(|error| (key_of(error.object.as_ref()), error.message))
                .collect(),
            notices: notices.iter().map(Notice::of).collect(),
            groups: groups(snapshot),
            tlscontexts: contexts(snapshot),
        }
    }
}

/// The reference's key of an object; empty for what belongs to none.
fn key_of(object: Option<&ObjectRef>) -> String {
    object
        .map(|object| format!("{}.1", object.qualified()))
        .unwrap_or_default()
}

impl<'a> System<'a> {
    fn of(admin: &'a Admin, snapshot: &Snapshot) -> Self {
        let about = &admin.about;
        Self {
            version: &about.version,
            hostname: &about.hostname,
            ambassador_id: &about.ambassador_id,
            ambassador_namespace: &about.namespace,
            single_namespace: about.single_namespace,
            mode: about.mode,
            // A clock beyond the year 9999 has no such form.
            boot_time: OffsetDateTime::from(about.started)
                .format(&Rfc3339)
                .unwrap_or_default(),
            ready: is_ready(admin),
            revision: snapshot.revision,
        }
    }
}

impl Notice {
    fn of(problem: &Problem) -> Self {
        let level = if problem.severity == Severity::Warning {
            "WARNING"
        } else {
            "NOTICE"
        };
        let message = match &problem.object {
            Some(object) => format!("{}: {}", key_of(Some(object)), problem.message),
            None => problem.message.clone(),
        };
        Self { level, message }
    }
}

fn groups(snapshot: &Snapshot) -> BTreeMap<String, Group<'_>> {
    let mut groups = BTreeMap::<String, Group<'_>>::new();
    for PlacedRoute { host, route, .. } in placed(snapshot) {
        let key = key_of(route.mappings.first().map(|share| share.mapping));
        let group = groups.entry(key).or_insert_with(|| Group {
            hosts: BTreeSet::new(),
            route,
        });
        group.hosts.insert(host);
    }
    groups
}

/// In the order in which upstreams use them.
fn contexts(snapshot: &Snapshot) -> Vec<Context<'_>> {
    let mut order = Vec::new();
    let mut users = BTreeMap::<&ObjectRef, Context<'_>>::new();
    for upstream in &snapshot.upstreams {
        for origins in upstream.all_origins() {
            let Some(object) = &origins.context else { continue };
            let context = users.entry(object).or_insert_with(|| {
                order.push(object);
                Context {
                    name: &object.name,
                    namespace: &object.namespace,
                    stale: false,
                    upstreams: Vec::new(),
                }
            });
            context.stale |= origins.stale;
            // Its Mappings may have different things to tell of one context.
            if context.upstreams.last() != Some(&&*upstream.name) {
                context.upstreams.push(&upstream.name);
            }
        }
    }
    order
        .into_iter()
        .filter_map(|object| users.remove(object))
        .collect()
}

fn page(admin: &Admin) -> String {
    let about = &admin.about;
    let state = if is_ready(admin) { "ready" } else { "not ready" };
    let problems = match admin.snapshot() {
        None => "no configuration yet".to_owned(),
        Some(snapshot) => {
            let problems = problems::all(admin, &snapshot);
            let count = |severity| {
                problems
                    .iter()
                    .filter(|problem| problem.severity == severity)
                    .count()
            };
            format!(
                "revision {}, errors {}, warnings {}, notices {}",
                snapshot.revision,
                count(Severity::Error),
                count(Severity::Warning),
                count(Severity::Notice)
            )
        }
    };
    let paths: Vec<&str> = paths().collect();
    format!(
        "nuncio {} on {}, {state}\n{problems}\n\nHere to read:\n  {}\n  /ambassador/v0/diag/?json=true",
        about.version,
        about.hostname,
        paths.join("\n  ")
    )
}
