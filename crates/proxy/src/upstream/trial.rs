//! The memory of an endpoint's failing handshakes, as those meet it who want one.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use nuncio_model::{Failure, HandshakeReport, RememberedFailure};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::live::{LiveEndpoint, Wanted, lock};
use super::memory::{Memory, Turn};

impl LiveEndpoint {
    /// What is told instead of a handshake, where one failed lately and will again.
    pub(crate) fn recall(&self, wanted: Wanted) -> Option<Remembered> {
        lock(self.memory(wanted)).recall(Instant::now())
    }

    /// Lets a handshake begin unless it is remembered how it will end.
    pub(crate) fn begin(&self, wanted: Wanted) -> Result<Trial<'_>, Remembered> {
        let memory = self.memory(wanted);
        let turn = lock(memory).begin(Instant::now())?;
        Ok(Trial {
            memory,
            turn: Some(turn),
        })
    }

    /// What is remembered now, to be shown: of connections as configured, else of those for upgrades.
    pub(super) fn remembered_failure(&self) -> Option<RememberedFailure> {
        let known = self.recall(Wanted::Configured);
        let known = known.or_else(|| self.recall(Wanted::Http1))?;
        Some(RememberedFailure {
            reason: known.failure.reason.code(),
            until: known.until.format(&Rfc3339).unwrap_or_default(),
        })
    }

    fn memory(&self, wanted: Wanted) -> &Mutex<Memory<Remembered>> {
        let [configured, http1] = &self.remembered;
        match wanted {
            Wanted::Configured => configured,
            Wanted::Http1 => http1,
        }
    }
}

/// What is told instead of a handshake that would fail again.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub(crate) failure: Arc<Failure>,
    /// Of the handshake that failed.
    pub(crate) report: Option<Arc<HandshakeReport>>,
    /// In whole milliseconds.
    until: OffsetDateTime,
}

/// The right to one handshake with an endpoint. Dropped before its outcome is told, it counts for nothing.
pub(crate) struct Trial<'a> {
    memory: &'a Mutex<Memory<Remembered>>,
    /// None once its outcome was told.
    turn: Option<Turn>,
}

impl Trial<'_> {
    pub(crate) fn succeeded(mut self) {
        self.turn = None;
        lock(self.memory).succeeded();
    }

    /// It failed. What repeats is remembered, and what may be another the next time where TLS had begun and it
    /// never ends.
    pub(crate) fn failed(mut self, failure: &Failure, report: Option<&Arc<HandshakeReport>>) {
        let Some(turn) = self.turn.take() else { return };
        let mut memory = lock(self.memory);
        let (now, random) = (Instant::now(), fastrand::f64());
        let told = |pause| Remembered::new(failure, report, pause);
        if failure.reason.repeats() {
            memory.failed(turn, now, random, told);
        } else if report.is_some() {
            memory.failed_otherwise(turn, now, random, told);
        } else if turn == Turn::Trial {
            // It comes to no handshake any more, so what was remembered is over.
            memory.succeeded();
        }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.turn {
            lock(self.memory).gave_up(turn);
        }
    }
}

impl Remembered {
    fn new(failure: &Failure, report: Option<&Arc<HandshakeReport>>, pause: Duration) -> Self {
        let until = OffsetDateTime::from(SystemTime::now() + pause).truncate_to_millisecond();
        let mut failure = failure.clone();
        failure.message += &format!(
            "; this is remembered, and the next handshake is not before {:02}:{:02}:{:02}.{:03} UTC",
            until.hour(),
            until.minute(),
            until.second(),
            until.millisecond()
        );
        Self {
            failure: Arc::new(failure),
            report: report.cloned(),
            until,
        }
    }
}
