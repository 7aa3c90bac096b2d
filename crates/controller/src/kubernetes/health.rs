//! How well the cluster is heard, for metrics.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use nuncio_model::{ClusterState, WatchState};

use super::follow::Heard;
use super::kinds::KINDS;

/// The state of every watch; read by the metrics, written by the controller.
#[derive(Debug, Default)]
pub struct ClusterHealth {
    watches: Mutex<[Known; KINDS.len()]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    begun: bool,
    up: bool,
    /// Its trouble is in the log.
    told: bool,
    heard: Option<SystemTime>,
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
                known.up = false;
                let first = was_up || !std::mem::replace(&mut known.told, true);
                return first.then(|| format!("{name} cannot be watched: {trouble}"));
            }
            Heard::Object(_) | Heard::Unreadable(..) | Heard::Gone(_) => {}
            Heard::Complete | Heard::Watching => known.up = true,
        }
        known.heard = Some(SystemTime::now());
        let back = known.up && !was_up && was_begun && std::mem::take(&mut known.told);
        back.then(|| format!("{name} is watched again"))
    }
}

impl ClusterState for ClusterHealth {
    fn watches(&self) -> Vec<WatchState> {
        let watches = *self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = watches.iter().zip(&KINDS).filter(|(known, _)| known.begun);
        begun
            .map(|(known, kind)| WatchState {
                kind: kind.plural,
                up: known.up,
                heard: known.heard,
            })
            .collect()
    }
}
