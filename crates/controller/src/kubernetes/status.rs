//! What the cluster's objects are told about themselves: a pure core.
//!
//! A Mapping gets the `state` and `reason` that the reference gives it, and only where that is asked for;
//! TLSContext, Host, Listener and Module get conditions. What is compared is what the API server has, so
//! another gateway that takes over writes nothing that is there already.

mod handshakes;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use nuncio_model::{Action, Covers, Guard, ObjectRef, Problem, Severity, Snapshot};
use serde_json::{Map, Value, json};

pub(super) use handshakes::{Handshakes, Upstreams};

/// Most of a condition's message: what the API has room for.
const MESSAGE: usize = 32_768;

/// Fields by which an object refers to others. The rest of a path may follow.
const REFERENCES: [&str; 12] = [
    "spec.secret",
    "spec.ca_secret",
    "spec.crl_secret",
    "spec.cert_chain_file",
    "spec.private_key_file",
    "spec.cacert_chain_file",
    "spec.crl_file",
    "spec.tlsSecret",
    "spec.tlsContext",
    "spec.tls.ca_secret",
    "spec.tls.caSecret",
    "spec.tls.crl_secret",
];

/// What kind of status a kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `state` and `reason`.
    State,
    /// Conditions of these types.
    Conditions(&'static [&'static str]),
}

/// The status of a Mapping that serves, as [`seen`] has it.
const RUNNING: &str = r#"{"state":"Running"}"#;

const ACCEPTED: &str = "Accepted";
const RESOLVED: &str = "ResolvedRefs";
const UPSTREAM: &str = "UpstreamTLS";

fn form_of(kind: &str) -> Option<Form> {
    Some(match kind {
        "Mapping" => Form::State,
        "TLSContext" => Form::Conditions(&[ACCEPTED, RESOLVED, UPSTREAM]),
        "Host" => Form::Conditions(&[ACCEPTED, RESOLVED]),
        "Listener" | "Module" => Form::Conditions(&[ACCEPTED]),
        _ => return None,
    })
}

/// Whether objects of a kind are told anything.
pub(super) fn has_status(kind: &str, mappings_too: bool) -> bool {
    match form_of(kind) {
        Some(Form::State) => mappings_too,
        Some(Form::Conditions(_)) => true,
        None => false,
    }
}

/// What of a status is compared with ours, as compact text; nothing where there is none of it.
pub(super) fn seen(kind: &str, status: &Value) -> Option<Box<str>> {
    let mut ours = Map::new();
    match form_of(kind)? {
        Form::State => {
            for field in ["state", "reason"] {
                let text = status[field].as_str().filter(|text| !text.is_empty());
                if let Some(text) = text {
                    ours.insert(field.to_owned(), text.into());
                }
            }
        }
        Form::Conditions(types) => {
            let conditions = status["conditions"].as_array()?;
            let known = conditions
                .iter()
                .filter(|condition| types.iter().any(|known| condition["type"] == *known));
            ours.insert("conditions".to_owned(), known.cloned().collect());
        }
    }
    (!ours.is_empty()).then(|| Value::from(ours).to_string().into())
}

/// One condition, but for when it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// `True`, `False` or `Unknown`.
    pub(super) status: &'static str,
    /// For machines.
    pub(super) reason: String,
    /// For people.
    pub(super) message: String,
}

impl Condition {
    fn good(reason: &str, message: &str) -> Self {
        Self {
            status: "True",
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    fn of(problems: &[&Problem]) -> Option<Self> {
        let first = first(problems)?;
        Some(Self {
            status: "False",
            reason: first.reason.to_string(),
            message: sentence(problems)?,
        })
    }
}

/// An object and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) kind: &'a str,
    /// Of what was compiled last.
    pub(super) generation: i64,
    /// Its errors; other problems say nothing about whether it serves.
    pub(super) errors: &'a [&'a Problem],
    /// What [`seen`] gave of the status that it has.
    pub(super) has: Option<&'a str>,
}

/// Errors of an object among its problems.
pub(super) fn is_error(problem: &Problem) -> bool {
    problem.severity == Severity::Error
}

/// What guards say of the Mappings of which they let no request pass. Those of which a rule guards some paths serve.
pub(super) fn guarded(snapshot: &Snapshot) -> Vec<Problem> {
    let guards = snapshot.guards.all();
    if guards.is_empty() {
        return Vec::new();
    }
    let hosts = snapshot
        .listeners
        .iter()
        .flat_map(|listener| listener.hosts.hosts());
    let routes = hosts.flat_map(|host| host.routes.routes());
    let targets = routes.flat_map(|route| &route.targets);
    let mut guarded = BTreeMap::new();
    for target in targets {
        let Action::Forward(forward) = &target.action else {
            continue;
        };
        let stands_before = |guard: &&Guard| match guard.covers {
            Covers::Every => true,
            Covers::Forwarded => !forward.bypass_auth,
            Covers::Rules(_) => false,
        };
        if let Some(guard) = guards.iter().find(stands_before) {
            guarded.entry(&target.mapping).or_insert(guard);
        }
    }
    let problem = |(mapping, guard): (&ObjectRef, &Guard)| Problem {
        severity: Severity::Error,
        reason: guard.unresolved.reason.code().into(),
        message: format!("its requests are answered 503: {}", guard.unresolved.message),
        object: Some(mapping.clone()),
        field: None,
        place: None,
    };
    guarded.into_iter().map(problem).collect()
}

/// The status that an object should have; none where it has it already. `handshakes` is what its upstreams
/// showed, for a TLSContext.
pub(super) fn wanted(subject: &Subject<'_>, handshakes: Option<&Condition>, now: &str) -> Option<Value> {
    match form_of(subject.kind)? {
        Form::State => wanted_state(subject),
        Form::Conditions(types) => {
            let has: Value = subject
                .has
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or_default();
            wanted_conditions(subject, types, &has["conditions"], handshakes, now)
        }
    }
}

fn wanted_state(subject: &Subject<'_>) -> Option<Value> {
    // What nearly all of them are, looked at each time.
    if subject.errors.is_empty() && subject.has == Some(RUNNING) {
        return None;
    }
    let mut status = match sentence(subject.errors) {
        None => json!({"state": "Running"}),
        Some(reason) => json!({"state": "Inactive", "reason": reason}),
    };
    if subject.has == Some(&*status.to_string()) {
        return None;
    }
    // Somebody else's word would stay beside ours.
    if subject.errors.is_empty() && subject.has.is_some_and(|has| has.contains("\"reason\"")) {
        status["reason"] = "".into();
    }
    Some(status)
}

fn wanted_conditions(
    subject: &Subject<'_>,
    types: &[&'static str],
    has: &Value,
    handshakes: Option<&Condition>,
    now: &str,
) -> Option<Value> {
    let mut same = true;
    let mut conditions = Vec::with_capacity(types.len());
    for kind in types {
        let known = has
            .as_array()
            .and_then(|all| all.iter().find(|known| known["type"] == *kind));
        let condition = match *kind {
            ACCEPTED => accepted(subject),
            RESOLVED => resolved(subject),
            _ => {
                // A gateway that has sent nothing yet knows nothing better than what another saw.
                if let Some(known) = known
                    && handshakes.is_none()
                    && known["observedGeneration"] == subject.generation
                {
                    conditions.push(known.clone());
                    continue;
                }
                handshakes.cloned().unwrap_or_else(not_tried)
            }
        };
        let mut document = json!({
            "type": kind, "status": condition.status, "reason": condition.reason,
            "message": shortened(&condition.message, MESSAGE), "observedGeneration": subject.generation,
        });
        let since = known.filter(|known| known["status"] == condition.status);
        let since = since.and_then(|known| known["lastTransitionTime"].as_str());
        document["lastTransitionTime"] = since.unwrap_or(now).into();
        same &= known == Some(&document);
        conditions.push(document);
    }
    (!same).then(|| json!({"conditions": conditions}))
}

fn accepted(subject: &Subject<'_>) -> Condition {
    Condition::of(subject.errors).unwrap_or_else(|| Condition::good("Accepted", "it is in force"))
}

fn resolved(subject: &Subject<'_>) -> Condition {
    let refers = |problem: &&&Problem| {
        let field = problem.field.as_deref().unwrap_or_default();
        REFERENCES.iter().any(|reference| {
            field
                .strip_prefix(reference)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
        })
    };
    let unresolved: Vec<_> = subject.errors.iter().filter(refers).copied().collect();
    Condition::of(&unresolved)
        .unwrap_or_else(|| Condition::good("Resolved", "everything that it names is there and can be used"))
}

fn not_tried() -> Condition {
    Condition {
        status: "Unknown",
        reason: "NotTried".to_owned(),
        message: "no handshake with these settings was needed yet".to_owned(),
    }
}

/// The cause, not that the last good version serves on because of it.
fn first<'a>(problems: &[&'a Problem]) -> Option<&'a Problem> {
    let cause = problems.iter().find(|problem| problem.reason != "stale");
    cause.or_else(|| problems.first()).copied()
}

/// The first error, and that there are more, as the reference writes it.
fn sentence(problems: &[&Problem]) -> Option<String> {
    let first = first(problems)?;
    let more = if problems.len() > 1 { " (and more)" } else { "" };
    Some(format!("{}{more}", first.message))
}

/// A text of at most so many bytes.
pub(super) fn shortened(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// What tells one status from another, whenever its conditions came about.
pub(super) fn fingerprint(status: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    match status["conditions"].as_array() {
        None => status.to_string().hash(&mut hasher),
        Some(conditions) => {
            for condition in conditions {
                for field in ["type", "status", "reason", "message"] {
                    condition[field].as_str().hash(&mut hasher);
                }
                condition["observedGeneration"].as_i64().hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
