//! SIGTERM and SIGINT.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Hears the signals that ask a program to end.
pub(crate) struct Termination {
    interrupt: Signal,
    terminate: Signal,
}

impl Termination {
    /// From here on the signals no longer kill the process.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::wrong(format!("cannot handle signals: {error}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one and tells its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// As [`Termination::next`], but signals that come before `pause` is over are passed over.
    pub(crate) async fn next_after(&mut self, pause: Duration) -> &'static str {
        let begin = Instant::now() + pause;
        loop {
            let name = self.next().await;
            if Instant::now() >= begin {
                return name;
            }
        }
    }
}
