//! How well the cluster is heard, for metrics, for the log and for who asks why nothing is served yet.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nuncio_model::{ClusterState, ClusterWrites, WatchState};

use super::follow::{Heard, Trouble};
use super::kinds::KINDS;
use super::writes::Writes;

/// An API server that comes and goes is told of so often at most, and so is what it says of one kind after the other.
const TELL: Duration = Duration::from_secs(10);

/// The state of every watch; read by the metrics, written by the controller.
#[derive(Debug, Default)]
pub struct ClusterHealth {
    all: Mutex<All>,
    /// What was written.
    pub(super) writes: Writes,
}

#[derive(Debug, Default)]
struct All {
    watches: [Known; KINDS.len()],
    /// That there is no connection is in the log: once, not once a kind.
    told_away: bool,
    told_away_at: Option<Instant>,
    /// What went wrong with a kind last, and when that was told.
    told: Option<(String, Instant)>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    begun: bool,
    /// It was listed to the end once.
    listed: bool,
    up: bool,
    /// It is followed in each namespace alone.
    by_namespace: bool,
    log: Log,
    heard: Option<SystemTime>,
    /// Why it is not up.
    trouble: Option<String>,
}

/// What the log has of the trouble with a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Log {
    #[default]
    Nothing,
    /// It had the same words about another kind, a moment ago.
    Elsewhere,
    Told,
}

impl ClusterHealth {
    /// Takes in what was heard, and logs where that changes how well the cluster is heard.
    pub(super) fn note(&self, kind: usize, heard: &Heard) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = all.watches.get_mut(kind) else {
            return;
        };
        known.begun = true;
        let name = KINDS[kind].qualified();
        match heard {
            Heard::Begin => return,
            Heard::LetGo => {
                *known = Known::default();
                return;
            }
            Heard::Trouble(trouble) => {
                // In all namespaces at once it need not work where it does in each.
                known.up &= known.by_namespace;
                known.trouble = Some(trouble.to_string());
                if matches!(trouble, Trouble::Away(_)) {
                    all.tell_away(trouble);
                    return;
                }
                if known.log == Log::Nothing {
                    all.watches[kind].log = all.tell(&name, trouble);
                }
                all.tell_back();
                return;
            }
            Heard::Within(namespace, heard) => {
                known.by_namespace = true;
                match &**heard {
                    Heard::Trouble(trouble) => {
                        known.up &= trouble.lasts();
                        // It is asked again every few seconds; who needs it is told by a problem.
                        tracing::debug!("{name} of namespace {namespace} cannot be watched: {trouble}");
                        return;
                    }
                    Heard::Complete | Heard::Watching => known.is_watched(),
                    _ => return,
                }
            }
            Heard::Object(_) | Heard::Unreadable(..) | Heard::Gone(_) => {}
            Heard::Complete | Heard::Watching => {
                known.is_watched();
                known.by_namespace = false;
            }
        }
        known.heard = Some(SystemTime::now());
        if known.up && std::mem::take(&mut known.log) == Log::Told {
            tracing::info!("{name} can be watched again");
        }
        all.tell_back();
    }
}

impl Known {
    fn is_watched(&mut self) {
        self.up = true;
        self.listed = true;
        self.trouble = None;
    }
}

impl All {
    /// Says what is wrong with a kind. What passes, such as a server that starts, mostly concerns them all.
    fn tell(&mut self, name: &str, trouble: &Trouble) -> Log {
        let words = trouble.to_string();
        let was_told = |(told, at): &(String, Instant)| *told == words && at.elapsed() < TELL;
        if !trouble.lasts() && self.told.as_ref().is_some_and(was_told) {
            return Log::Elsewhere;
        }
        tracing::warn!("{name} cannot be watched: {words}");
        self.told = Some((words, Instant::now()));
        Log::Told
    }

    fn tell_away(&mut self, trouble: &Trouble) {
        let is_due = self.told_away_at.is_none_or(|at| at.elapsed() >= TELL);
        if self.told_away || !is_due {
            return;
        }
        self.told_away = true;
        self.told_away_at = Some(Instant::now());
        let serves = match self.watches.iter().any(|known| known.listed) {
            true => "; what it told last is served on",
            false => "",
        };
        tracing::warn!("{trouble}{serves}");
    }

    fn tell_back(&mut self) {
        if std::mem::take(&mut self.told_away) {
            let seconds = self.told_away_at.map_or(0, |at| at.elapsed().as_secs());
            tracing::info!("the API server answers again, after {seconds} s");
        }
    }
}

impl ClusterState for ClusterHealth {
    fn writes(&self) -> ClusterWrites {
        self.writes.all()
    }

    fn watches(&self) -> Vec<WatchState> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = all.watches.iter().zip(&KINDS).filter(|(known, _)| known.begun);
        begun
            .map(|(known, kind)| WatchState {
                kind: kind.plural,
                up: known.up,
                heard: known.heard,
            })
            .collect()
    }

    fn unlisted(&self) -> Vec<String> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = all.watches.iter().zip(&KINDS).filter(|(known, _)| known.begun);
        let unlisted = begun.filter(|(known, _)| !known.listed);
        unlisted
            .map(|(known, kind)| {
                let why = known.trouble.as_deref().unwrap_or("no answer yet");
                format!("{} ({why})", kind.qualified())
            })
            .collect()
    }
}
