//! The life of file mode: listen, hold off, read, compile, publish.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nuncio_compile::{LastGood, Options, Output};
use nuncio_model::{Compiled, EndpointTable};
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};

use crate::agenda::{Agenda, Clock};
use crate::compiler::Compiler;
use crate::error::ControllerError;
use crate::hold_off::HoldOff;
use crate::loaded::{Changes, Loaded};
use crate::manifest::Manifest;
use crate::publish::{Extent, Publisher, Publishing};
use crate::watch::{self as folder_watch, FolderWatch};

/// How often files are looked at although nothing was heard, since not every file system tells; and how often the
/// clock is, which sleeping until a moment would not notice being set.
const POLL: Duration = Duration::from_secs(2);

/// Serves the manifests at `paths`, and their changes, until `stop` is ready. The path `-` is standard input, which is
/// read once.
///
/// # Errors
/// A path that does not exist at the start. Everything else that is wrong with a file is a problem
/// of the snapshot, and what was served before goes on.
pub async fn run_files(
    paths: Vec<PathBuf>,
    options: Options,
    publisher: Publisher,
    stop: impl Future<Output = ()>,
) -> Result<(), ControllerError> {
    run_by(Arc::new(SystemTime::now), POLL, paths, options, publisher, stop).await
}

async fn run_by(
    clock: Arc<Clock>,
    poll: Duration,
    paths: Vec<PathBuf>,
    options: Options,
    publisher: Publisher,
    stop: impl Future<Output = ()>,
) -> Result<(), ControllerError> {
    let (standard_input, paths): (Vec<PathBuf>, Vec<PathBuf>) =
        paths.into_iter().partition(|path| path.as_os_str() == "-");
    if standard_input.is_empty() || !paths.is_empty() {
        check_paths(&paths)?;
    }
    tokio::pin!(stop);
    let piped = match standard_input.is_empty() {
        true => None,
        false => tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            piped = from_standard_input() => piped,
        },
    };
    let (watch, mut ear) = folder_watch::start();
    let mut mode = FileMode::new(&paths, watch, clock, options, publisher)?;
    if let Some(piped) = piped {
        mode.at_desk(|desk| desk.loaded.add(piped)).await?;
    }
    let mut hold_off = HoldOff::default();
    mode.update(HashSet::new(), Cause::Event).await?;
    let mut poll = every(poll);
    loop {
        let due = hold_off.due();
        let wait = async {
            match due {
                Some(due) => sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            sign = ear.next() => hold_off.note(sign, Instant::now()),
            () = wait => {
                if let Some(writing) = hold_off.fire(Instant::now()) {
                    mode.update(writing, Cause::Event).await?;
                }
            }
            _ = poll.tick() => {
                mode.update(hold_off.writing(), Cause::Poll).await?;
                mode.keep_agenda().await?;
            }
        }
    }
}

/// Reads standard input to its end, which a terminal may never send: on a thread that nobody waits for.
async fn from_standard_input() -> Option<(Arc<str>, Manifest)> {
    tracing::info!("reading manifests from standard input");
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let read = move || {
        let _ = sender.send(Manifest::from_standard_input());
    };
    std::thread::Builder::new()
        .name("standard-input".into())
        .spawn(read)
        .ok()?;
    receiver.await.ok()
}

fn check_paths(paths: &[PathBuf]) -> Result<(), ControllerError> {
    if paths.is_empty() {
        return Err(ControllerError::NoPath);
    }
    let missing = |path: &&PathBuf| {
        let seen = std::fs::symlink_metadata(path);
        seen.is_err_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            )
        })
    };
    match paths.iter().find(missing) {
        Some(path) => Err(ControllerError::PathMissing(path.clone())),
        None => Ok(()),
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Why files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Something was heard: folders may be others, so listen anew before looking.
    Event,
    /// The clock.
    Poll,
}

struct FileMode {
    /// Worked on by one blocking thread at a time.
    desk: Arc<Mutex<Desk>>,
    compiler: Compiler,
    publishing: Publishing,
    clock: Arc<Clock>,
    /// Of the latest compile.
    agenda: Option<Agenda>,
}

/// Everything that reading and compiling needs.
struct Desk {
    loaded: Loaded,
    watch: FolderWatch,
    options: Options,
    last_good: LastGood,
}

impl FileMode {
    fn new(
        paths: &[PathBuf],
        watch: FolderWatch,
        clock: Arc<Clock>,
        options: Options,
        publisher: Publisher,
    ) -> Result<Self, ControllerError> {
        let desk = Desk {
            loaded: Loaded::of(paths, &options),
            watch,
            options,
            last_good: LastGood::default(),
        };
        Ok(Self {
            desk: Arc::new(Mutex::new(desk)),
            compiler: Compiler::new()?,
            publishing: Publishing::new(publisher),
            clock,
            agenda: None,
        })
    }

    /// Reads what changed and publishes what comes of it. Addresses alone do not wait for the compile.
    async fn update(&mut self, writing: HashSet<PathBuf>, cause: Cause) -> Result<(), ControllerError> {
        let (changes, addresses) = self.at_desk(move |desk| desk.refresh(&writing, cause)).await?;
        if let Some(addresses) = addresses {
            self.publishing.endpoints(addresses);
        }
        let first = self.publishing.revision() == 0;
        if first && self.at_desk(|desk| desk.loaded.file_count() == 0).await? {
            if cause == Cause::Event {
                tracing::warn!("the folders hold no manifest: nothing is served until there is one");
            }
            return Ok(());
        }
        if changes.any || first {
            self.compile().await?;
        }
        Ok(())
    }

    /// Compiles what is there already, where time alone gives it another meaning.
    async fn keep_agenda(&mut self) -> Result<(), ControllerError> {
        if self.agenda.is_some_and(|agenda| agenda.is_due((self.clock)())) {
            self.compile().await?;
        }
        Ok(())
    }

    async fn compile(&mut self) -> Result<(), ControllerError> {
        let begun = Instant::now();
        let (revision, now) = (self.publishing.revision() + 1, (self.clock)());
        let (output, files) = self
            .at_desk(move |desk| (desk.compile(revision, now), desk.loaded.file_count()))
            .await?;
        self.agenda = Some(Agenda::new(now, output.next_event));
        self.publishing.all(output, Extent::Files(files), begun);
        Ok(())
    }

    async fn at_desk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Desk) -> T + Send + 'static,
    ) -> Result<T, ControllerError> {
        let desk = Arc::clone(&self.desk);
        let work = move || work(&mut desk.lock().unwrap_or_else(PoisonError::into_inner));
        let done = self.compiler.run(work);
        Ok(done.await?)
    }
}

impl Desk {
    fn refresh(&mut self, writing: &HashSet<PathBuf>, cause: Cause) -> (Changes, Option<EndpointTable>) {
        if cause == Cause::Event {
            self.watch.follow(self.loaded.watched());
        }
        let changes = self.loaded.refresh(&|path: &Path| writing.contains(path));
        if changes.any {
            self.watch.follow(self.loaded.watched());
        }
        let addresses = (changes.any && changes.only_addresses)
            .then(|| nuncio_compile::endpoints(&self.loaded.objects, &self.options));
        (changes, addresses)
    }

    fn compile(&mut self, revision: u64, now: SystemTime) -> Output {
        self.options.revision = revision;
        self.options.now = now;
        let begun = Instant::now();
        let mut output = crate::compile(&self.loaded, &self.options, &self.last_good);
        self.last_good = output.last_good.clone();
        output.snapshot.compiled = Some(Compiled {
            at: SystemTime::now(),
            took: begun.elapsed(),
        });
        output
    }
}

#[cfg(test)]
mod tests;
