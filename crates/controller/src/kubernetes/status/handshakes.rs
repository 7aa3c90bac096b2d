//! What the upstreams of each TLSContext showed at their last handshakes.

use std::collections::HashMap;
use std::sync::Arc;

use nuncio_model::{Live, ObjectRef, Outcome, Problem, Severity, Snapshot, UpstreamIndex};

use super::Condition;

/// The upstreams of each TLSContext of one snapshot.
#[derive(Debug, Default)]
pub(in crate::kubernetes) struct Upstreams {
    /// In the order of the snapshot.
    of_context: HashMap<ObjectRef, Vec<UpstreamIndex>>,
}

impl Upstreams {
    pub(in crate::kubernetes) fn of(snapshot: &Snapshot) -> Self {
        let mut of_context = HashMap::<ObjectRef, Vec<UpstreamIndex>>::new();
        for (position, upstream) in snapshot.upstreams.iter().enumerate() {
            let Ok(position) = u32::try_from(position) else {
                break;
            };
            let index = UpstreamIndex(position);
            for context in upstream
                .all_origins()
                .filter_map(|origins| origins.context.as_ref())
            {
                let upstreams = match of_context.get_mut(context) {
                    Some(upstreams) => upstreams,
                    None => of_context.entry(context.clone()).or_default(),
                };
                if upstreams.last() != Some(&index) {
                    upstreams.push(index);
                }
            }
        }
        Self { of_context }
    }
}

/// What is known of the handshakes of each TLSContext that is in use.
#[derive(Debug, Default, PartialEq)]
pub(in crate::kubernetes) struct Handshakes {
    of_context: HashMap<ObjectRef, Condition>,
}

impl Handshakes {
    /// Asks the running proxy.
    pub(in crate::kubernetes) fn look(upstreams: &Upstreams, snapshot: &Snapshot, live: &dyn Live) -> Self {
        let contexts = upstreams.of_context.iter();
        let of_context = contexts.filter_map(|(context, upstreams)| {
            let condition = judge(upstreams, snapshot, live)?;
            Some((context.clone(), condition))
        });
        Self {
            of_context: of_context.collect(),
        }
    }

    /// What is known of one; none where no handshake was tried.
    pub(in crate::kubernetes) fn condition(&self, context: &ObjectRef) -> Option<&Condition> {
        self.of_context.get(context)
    }

    /// Those that failed, as problems of their contexts.
    pub(in crate::kubernetes) fn problems(&self) -> impl Iterator<Item = Problem> {
        let failed = self
            .of_context
            .iter()
            .filter(|(_, known)| known.status == "False");
        failed.map(|(context, known)| Problem {
            severity: Severity::Warning,
            reason: known.reason.clone().into(),
            message: known.message.clone(),
            object: Some(context.clone()),
            field: None,
            place: None,
        })
    }
}

/// The first failure in the order of names, so that two that alternate are not told in turns.
fn judge(upstreams: &[UpstreamIndex], snapshot: &Snapshot, live: &dyn Live) -> Option<Condition> {
    let mut failure: Option<(Arc<str>, String, Condition)> = None;
    let mut tried = false;
    for index in upstreams {
        let name = &snapshot.upstream(*index).name;
        for endpoint in live.upstream(snapshot, *index).endpoints {
            let Some(report) = endpoint.last_handshake else {
                continue;
            };
            tried = true;
            let Outcome::Failed(reason) = report.outcome else {
                continue;
            };
            let is_first = failure
                .as_ref()
                .is_none_or(|(first, address, _)| (name, &endpoint.address) < (first, address));
            if is_first {
                let condition = Condition {
                    status: "False",
                    reason: reason.code().to_owned(),
                    message: sentence(name, &endpoint.address, &report.message, &report.remedy),
                };
                failure = Some((Arc::clone(name), endpoint.address, condition));
            }
        }
    }
    let good = || Condition::good("Established", "the last handshake with every endpoint came about");
    match failure {
        Some((_, _, condition)) => Some(condition),
        None => tried.then(good),
    }
}

fn sentence(upstream: &str, address: &str, message: &str, remedy: &str) -> String {
    let mut text = format!("{upstream} at {address}: {message}");
    if !remedy.is_empty() {
        text.push_str("; ");
        text.push_str(remedy);
    }
    text
}
