//! The program's own log, on standard error; standard output belongs to the access log.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use nuncio_proxy::LogQueue;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

use crate::failure::Failure;
use crate::settings::LogSettings;

/// Starts the log. Nobody who logs waits for its reader, and a reader that is gone ends nothing.
pub(crate) fn start(settings: LogSettings) -> Result<LogQueue, Failure> {
    let queue = open().map_err(|error| Failure::wrong(format!("cannot start the log: {error}")))?;
    // Of ours alone: what libraries log may be an answer of the API server, which may be a Secret.
    let ours = Targets::new().with_target("nuncio", settings.level);
    let builder = tracing_subscriber::fmt()
        .with_writer(Lines(queue.clone()))
        .log_internal_errors(false)
        .with_max_level(settings.level);
    if settings.json {
        builder.json().finish().with(ours).init();
    } else {
        builder
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .finish()
            .with(ours)
            .init();
    }
    log_panics(queue.clone());
    Ok(queue)
}

fn open() -> io::Result<LogQueue> {
    let out = io::stderr().as_fd().try_clone_to_owned()?;
    LogQueue::start("log", File::from(out))
}

/// A panic is an error of the log. The default hook would write to standard error itself, and wait for its
/// reader.
fn log_panics(queue: LogQueue) {
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("{panic}; please report it");
        queue.flush();
    }));
}

/// Gives each event of the log to the queue.
struct Lines(LogQueue);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Write for &Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.send(event.to_vec());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
