//! `/api/v1/problems`, in the shape of `nuncio check --format json`.

use nuncio_model::{Problem, Snapshot};
use serde::Serialize;

use crate::Admin;

/// Every problem: first those of the manifests, then those that only running shows.
#[derive(Debug, Serialize)]
pub(crate) struct Problems {
    problems: Vec<Problem>,
}

impl Problems {
    pub(crate) fn of(admin: &Admin, snapshot: &Snapshot) -> Self {
        Self {
            problems: all(admin, snapshot),
        }
    }
}

pub(crate) fn all(admin: &Admin, snapshot: &Snapshot) -> Vec<Problem> {
    let mut problems = snapshot.problems.to_vec();
    problems.extend(admin.live.problems(snapshot));
    problems
}
