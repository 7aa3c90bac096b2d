//! How well the cluster is heard, for metrics, for the log and for who asks why nothing is served yet.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use nuncio_model::{ClusterState, ClusterWrites, WatchState};

use super::follow::Heard;
use super::kinds::KINDS;
use super::writes::Writes;

/// The state of every watch; read by the metrics, written by the controller.
#[derive(Debug, Default)]
pub struct ClusterHealth {
    watches: Mutex<[Known; KINDS.len()]>,
    /// What was written.
    pub(super) writes: Writes,
}

#[derive(Clone, Debug, Default)]
struct Known {
    begun: bool,
    /// It was listed to the end once.
    listed: bool,
    up: bool,
    /// It is followed in each namespace alone.
    by_namespace: bool,
    /// Its trouble is in the log.
    told: bool,
    heard: Option<SystemTime>,
    /// Why it is not up.
    trouble: Option<String>,
}

impl ClusterHealth {
    /// Takes in what was heard; a sentence for the log where the state of a watch changes.
    pub(super) fn note(&self, kind: usize, heard: &Heard) -> Option<String> {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let known = watches.get_mut(kind)?;
        let name = KINDS[kind].qualified();
        let (was_begun, was_up) = (known.begun, known.up);
        known.begun = true;
        match heard {
            Heard::Begin => return None,
            Heard::Trouble(trouble) => {
                // In all namespaces at once it need not work where it does in each.
                known.up &= known.by_namespace;
                known.trouble = Some(trouble.to_string());
                let first = was_up || !std::mem::replace(&mut known.told, true);
                return first.then(|| format!("{name} cannot be watched: {trouble}"));
            }
            Heard::Within(namespace, heard) => {
                known.by_namespace = true;
                match &**heard {
                    Heard::Trouble(trouble) => {
                        known.up &= trouble.lasts();
                        // It is asked again every few seconds; who needs it is told by a problem.
                        tracing::debug!("{name} of namespace {namespace} cannot be watched: {trouble}");
                        return None;
                    }
                    Heard::Complete | Heard::Watching => {
                        known.up = true;
                        known.listed = true;
                        known.trouble = None;
                    }
                    _ => return None,
                }
            }
            Heard::Object(_) | Heard::Unreadable(..) | Heard::Gone(_) => {}
            Heard::Complete | Heard::Watching => {
                known.up = true;
                known.listed = true;
                known.trouble = None;
                known.by_namespace = false;
            }
        }
        known.heard = Some(SystemTime::now());
        let back = known.up && !was_up && was_begun && std::mem::take(&mut known.told);
        back.then(|| format!("{name} is watched again"))
    }
}

impl ClusterState for ClusterHealth {
    fn writes(&self) -> ClusterWrites {
        self.writes.all()
    }

    fn watches(&self) -> Vec<WatchState> {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = watches.iter().zip(&KINDS).filter(|(known, _)| known.begun);
        begun
            .map(|(known, kind)| WatchState {
                kind: kind.plural,
                up: known.up,
                heard: known.heard,
            })
            .collect()
    }

    fn unlisted(&self) -> Vec<String> {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = watches.iter().zip(&KINDS).filter(|(known, _)| known.begun);
        let unlisted = begun.filter(|(known, _)| !known.listed);
        unlisted
            .map(|(known, kind)| {
                let why = known.trouble.as_deref().unwrap_or("no answer yet");
                format!("{} ({why})", kind.qualified())
            })
            .collect()
    }
}
