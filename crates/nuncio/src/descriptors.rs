//! How many files the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a process may have as a rule, where the system does not say.
const USUAL: usize = 1024;

/// Raises the soft limit to the hard one, as far as the system lets it, and says what it is then. The soft one
/// is low for the sake of programs that use `select`.
pub(crate) fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum {
        // Where it cannot be raised, connections keep to the one that there is.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(USUAL))
}
