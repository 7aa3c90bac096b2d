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
    /// Its trouble was of the kind that lasts.
    lasting: bool,
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
                // Trouble that lasts is told after trouble that passes, too.
                let is_news = trouble.lasts() && !std::mem::replace(&mut known.lasting, trouble.lasts());
                if is_news || known.log != Log::Told {
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
        // A list alone, or Secrets of some namespaces, are not what was missed.
        if matches!(heard, Heard::Watching) {
            known.lasting = false;
            if std::mem::take(&mut known.log) == Log::Told {
                tracing::info!("{name} can be watched again");
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::kinds::number_of;

    fn failed(words: &str) -> Heard {
        Heard::Trouble(Trouble::Failed(words.into()))
    }

    fn forbidden() -> Heard {
        Heard::Trouble(Trouble::Forbidden("no".into()))
    }

    fn log(health: &ClusterHealth, kind: usize) -> Log {
        health.all.lock().unwrap().watches[kind].log
    }

    #[test]
    fn what_is_said_of_every_kind_is_told_of_one_and_what_lasts_of_each() {
        let health = ClusterHealth::default();
        let kinds = [number_of("Mapping"), number_of("Host"), number_of("Listener")];
        for kind in kinds {
            health.note(kind, &failed("it starts"));
        }
        let logs = kinds.map(|kind| log(&health, kind));
        assert_eq!(logs, [Log::Told, Log::Elsewhere, Log::Elsewhere]);
        health.note(kinds[1], &forbidden());
        assert_eq!(log(&health, kinds[1]), Log::Told);
        // Other words are told, and the same once the kind was watched in between.
        health.note(kinds[2], &failed("it is ill"));
        assert_eq!(log(&health, kinds[2]), Log::Told);
        for kind in kinds {
            health.note(kind, &Heard::Complete);
            assert_eq!(log(&health, kind), Log::Told, "a list is not a watch");
            health.note(kind, &Heard::Watching);
            assert_eq!(log(&health, kind), Log::Nothing);
        }
    }

    #[test]
    fn that_there_is_no_connection_is_told_once_for_all_kinds() {
        let health = ClusterHealth::default();
        for kind in 0..KINDS.len() {
            health.note(kind, &Heard::Trouble(Trouble::Away("refused".into())));
            assert_eq!(log(&health, kind), Log::Nothing);
        }
        assert!(health.all.lock().unwrap().told_away);
        // Whoever answers is there, whatever it says.
        health.note(0, &forbidden());
        assert!(!health.all.lock().unwrap().told_away);
    }

    /// With Secrets of some namespaces alone, those of all are refused for good: that is no news each time.
    #[test]
    fn secrets_of_some_namespaces_are_not_secrets_that_can_be_watched_again() {
        let (health, secrets) = (ClusterHealth::default(), number_of("Secret"));
        health.note(secrets, &forbidden());
        let within = |heard| Heard::Within("shop".into(), Box::new(heard));
        for heard in [Heard::Complete, Heard::Watching] {
            health.note(secrets, &within(heard));
            health.note(secrets, &forbidden());
            assert_eq!(log(&health, secrets), Log::Told);
        }
        assert!(health.all.lock().unwrap().watches[secrets].up);
    }
}
