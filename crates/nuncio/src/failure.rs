//! Why a command ended early: one sentence for the user, and an exit status.

use std::fmt;
use std::process::ExitCode;

/// A sentence for standard error and the status to exit with.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    status: u8,
}

impl Failure {
    /// The thing looked for was found wrong: status 1.
    pub(crate) fn wrong(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status: 1,
        }
    }

    /// What was asked for cannot be done as it was asked: status 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status: 2,
        }
    }

    /// A port that was asked for cannot be opened: status 3.
    pub(crate) fn port(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status: 3,
        }
    }

    /// The status to exit with.
    pub(crate) fn status(&self) -> ExitCode {
        ExitCode::from(self.status)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
