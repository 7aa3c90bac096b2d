//! One kind of one cluster: listed page by page, then watched, for ever. Every wait has a limit.
//!
//! What is told keeps the truth: a list that breaks off is begun anew, and only one that came to its
//! end may be taken for all there is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::core::Status;
use nuncio_model::Problem;
use tokio::sync::mpsc::Sender;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::doubt::{self, Doubt};
use super::found::{Found, Key};
use super::kinds::Kind;

/// A page of a list has this long.
const LIST_LIMIT: Duration = Duration::from_secs(30);
/// The API server ends a watch after this and up to [`WATCH_SPREAD`] more; it is begun again where it ended.
const WATCH_SECONDS: u32 = 240;
/// Spreads the watches of many replicas that began together.
const WATCH_SPREAD: u32 = 60;
/// A watch that tells nothing for this long has not been ended by the server as it should have been. A dead connection
/// is noticed sooner, by the kernel; that a quiet kind tells nothing, not even bookmarks, is common.
const SILENCE: Duration = Duration::from_secs((WATCH_SECONDS + WATCH_SPREAD + 30) as u64);
/// The head of the answer to a watch has this long.
const WATCH_HEAD: Duration = Duration::from_secs(15);
/// A watch that ends sooner without a word counts as a failure, so that it is not begun in a loop.
const TOO_SHORT: Duration = Duration::from_secs(1);
/// How often a kind is asked for that the cluster does not have or that must not be read.
const ABSENT_PAUSE: Duration = Duration::from_secs(5);
/// What a busy API server is left alone for at least,
const BUSY_LEAST: Duration = Duration::from_secs(1);
/// and at most, whatever it asks for.
const BUSY_MOST: Duration = Duration::from_secs(30);
/// The same of one that starts: it asks for five or ten seconds, and is there much sooner.
const STARTING_MOST: Duration = Duration::from_secs(2);
/// Who waits for the API server to be there again asks within this, once somebody else had an answer.
const SOON: Duration = Duration::from_millis(200);
/// Watches in a row that may fail before the version they go on from is not trusted any more.
const WATCH_FAILURES: u32 = 5;

/// What is heard of one kind.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    /// A list begins.
    Begin,
    /// An object of the list, or one that was added or changed since.
    Object(Arc<Found>),
    /// The same, of an object that cannot be read.
    Unreadable(Key, Box<Problem>),
    /// The list is at its end: what was not in it is gone.
    Complete,
    /// An object is gone.
    Gone(Key),
    /// The watch stands.
    Watching,
    /// It does not.
    Trouble(Trouble),
    /// It is not followed any more: nothing of it counts.
    LetGo,
    /// Any of these, of one namespace alone. Objects come without it.
    Within(Arc<str>, Box<Heard>),
}

/// Why a kind cannot be followed at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The cluster does not know the kind.
    NotInstalled,
    /// RBAC forbids it; the server's words.
    Forbidden(String),
    /// There is no connection to the API server; why.
    Away(String),
    /// Anything else, in words that say what the API server did.
    Failed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled => f.write_str("the cluster does not know the kind"),
            Self::Forbidden(words) => write!(f, "it is forbidden: {words}"),
            Self::Away(words) => write!(f, "the API server cannot be reached: {words}; it is tried again"),
            Self::Failed(words) => write!(f, "{words}; it is tried again"),
        }
    }
}

impl Trouble {
    /// Whether asking again soon will hardly change it.
    pub(crate) fn lasts(&self) -> bool {
        matches!(self, Self::NotInstalled | Self::Forbidden(_))
    }
}

/// Nobody listens any more.
struct Unheard;

enum Stop {
    Unheard,
    /// The resource version is no good any more: list again, at once.
    Expired,
    Trouble(Trouble),
    /// The server asks to be left alone for a while.
    Busy(Trouble, Duration),
}

impl From<Unheard> for Stop {
    fn from(_: Unheard) -> Self {
        Self::Unheard
    }
}

/// Whether the API server can be reached, which all followers of one learn together: where one gets an answer again, the
/// others ask at once.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    is_away: AtomicBool,
    back: Notify,
}

impl Reach {
    fn note_answer(&self) {
        if self.is_away.swap(false, Ordering::Relaxed) {
            self.back.notify_waiters();
        }
    }

    /// Waits before the next try, no longer than until somebody has an answer.
    async fn pause(&self, pause: Duration) {
        self.is_away.store(true, Ordering::Relaxed);
        tokio::select! {
            () = sleep(pause) => {}
            () = self.back.notified() => sleep(SOON.mul_f64(fastrand::f64())).await,
        }
    }
}

/// What is followed, and who is told.
pub(crate) struct Follower {
    pub(crate) api: Api<DynamicObject>,
    pub(crate) kind: &'static Kind,
    pub(crate) number: usize,
    /// The only namespace that `api` reads, where others are read by other followers of the same kind.
    pub(crate) namespace: Option<Arc<str>>,
    pub(crate) labels: Option<String>,
    pub(crate) fields: Option<String>,
    pub(crate) reach: Arc<Reach>,
    /// Asks the API server about itself.
    pub(crate) client: Client,
    pub(crate) ears: Vec<Sender<(usize, Heard)>>,
}

impl Follower {
    /// Follows the kind until it is needed no more.
    pub(crate) async fn follow_until(self, enough: oneshot::Receiver<()>) {
        tokio::select! {
            () = self.follow() => {}
            // Nobody listens any more where this fails.
            _ = enough => drop(self.tell(Heard::LetGo).await),
        }
    }

    /// Lists and watches until nobody listens.
    pub(crate) async fn follow(&self) {
        let mut backoff = Backoff::default();
        let mut version = None;
        // Watches that failed since the last one that went well, or the last list.
        let mut failures = 0;
        let mut doubt = Doubt::default();
        loop {
            let from = version.take();
            let step = match from.clone() {
                None => self.list().await,
                Some(from) => self.watch(from, &mut version).await,
            };
            let stop = match step {
                Ok(next) => {
                    backoff.reset();
                    doubt.end();
                    failures = 0;
                    let was_silent = from.as_ref() == Some(&next);
                    version = Some(next);
                    if was_silent && self.server_is_behind(version.as_deref()).await {
                        version = None;
                    }
                    continue;
                }
                Err(stop) => stop,
            };
            failures += 1;
            if failures >= WATCH_FAILURES || stop.makes_versions_worthless() {
                version = None;
                failures = 0;
            }
            let (trouble, pause) = match stop {
                Stop::Unheard => return,
                Stop::Expired => (None, backoff.next(fastrand::f64()) / 8),
                Stop::Trouble(trouble) if trouble.lasts() && !doubt.believes(&self.client).await => {
                    tracing::debug!(
                        "{} is asked for again before this is believed: {trouble}",
                        self.kind.kind
                    );
                    (None, doubt::PAUSE.mul_f64(0.75 + 0.5 * fastrand::f64()))
                }
                Stop::Trouble(trouble) if trouble.lasts() => {
                    (Some(trouble), ABSENT_PAUSE.mul_f64(0.75 + 0.5 * fastrand::f64()))
                }
                Stop::Trouble(trouble) => (Some(trouble), backoff.next(fastrand::f64())),
                Stop::Busy(trouble, least) => (Some(trouble), backoff.next(fastrand::f64()).max(least)),
            };
            let is_away = matches!(trouble, Some(Trouble::Away(_)));
            if is_away {
                doubt.begin_again();
            }
            if let Some(trouble) = trouble
                && self.tell(Heard::Trouble(trouble)).await.is_err()
            {
                return;
            }
            if is_away {
                self.reach.pause(pause).await;
            } else {
                self.reach.note_answer();
                sleep(pause).await;
            }
        }
    }

    /// Lists everything and gives the version to watch from.
    async fn list(&self) -> Result<String, Stop> {
        self.tell(Heard::Begin).await?;
        let mut params = ListParams {
            limit: Some(self.kind.page),
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            ..ListParams::default()
        };
        loop {
            let page = match timeout(LIST_LIMIT, self.api.list(&params)).await {
                Ok(page) => page.map_err(|error| stop(&error))?,
                Err(_) => return Err(late("a list")),
            };
            self.reach.note_answer();
            for object in page.items {
                self.tell(Found::heard(object, self.kind)).await?;
            }
            let more = page.metadata.continue_.filter(|token| !token.is_empty());
            if more.is_some() && more == params.continue_token {
                let message = "its list goes round in circles: a page leads to itself".to_owned();
                return Err(Stop::Trouble(Trouble::Failed(message)));
            }
            let version = page
                .metadata
                .resource_version
                .filter(|version| !version.is_empty());
            match (more, version) {
                (Some(token), _) => params.continue_token = Some(token),
                (None, Some(version)) => {
                    self.tell(Heard::Complete).await?;
                    return Ok(version);
                }
                (None, None) => {
                    let message = "its list has no resource version to watch from".to_owned();
                    return Err(Stop::Trouble(Trouble::Failed(message)));
                }
            }
        }
    }

    /// Watches from a version until the server ends the watch, and gives the version to go on from.
    /// `reached` is set to it as well when the watch breaks.
    async fn watch(&self, from: String, reached: &mut Option<String>) -> Result<String, Stop> {
        let mut version = from;
        *reached = Some(version.clone());
        let params = WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(WATCH_SECONDS + fastrand::u32(..WATCH_SPREAD)),
            bookmarks: true,
            send_initial_events: false,
        };
        let began = Instant::now();
        let stream = match timeout(WATCH_HEAD, self.api.watch(&params, &version)).await {
            Ok(stream) => stream.map_err(|error| stop(&error))?,
            Err(_) => return Err(late("a watch")),
        };
        self.reach.note_answer();
        self.tell(Heard::Watching).await?;
        let mut stream = std::pin::pin!(stream);
        let mut quiet = true;
        loop {
            let event = match timeout(SILENCE, stream.next()).await {
                Ok(Some(event)) => event.map_err(|error| stop(&error))?,
                Ok(None) if quiet && began.elapsed() < TOO_SHORT => {
                    let message = "the API server ends the watch at once".to_owned();
                    return Err(Stop::Trouble(Trouble::Failed(message)));
                }
                Ok(None) | Err(_) => return Ok(version),
            };
            quiet = false;
            let seen = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let seen = object.metadata.resource_version.clone();
                    self.tell(Found::heard(object, self.kind)).await?;
                    seen
                }
                WatchEvent::Deleted(object) => {
                    let seen = object.metadata.resource_version.clone();
                    self.tell(Heard::Gone(Key::of(&object))).await?;
                    seen
                }
                WatchEvent::Bookmark(bookmark) => Some(bookmark.metadata.resource_version),
                WatchEvent::Error(status) => return Err(refused(&status)),
            };
            if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
                version.clone_from(&seen);
                *reached = Some(seen);
            }
        }
    }

    /// Whether the server has not come to this version. One that was restored from a backup has not, and tells nothing
    /// until it has. Versions of Kubernetes can be compared as numbers; of others nothing is said.
    async fn server_is_behind(&self, version: Option<&str>) -> bool {
        let one = ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            ..ListParams::default().limit(1)
        };
        let number = |text: &str| text.parse::<u64>().ok();
        let Some(ours) = version.and_then(number) else {
            return false;
        };
        let Ok(Ok(page)) = timeout(LIST_LIMIT, self.api.list(&one)).await else {
            return false;
        };
        let theirs = page.metadata.resource_version.as_deref().and_then(number);
        theirs.is_some_and(|theirs| theirs < ours)
    }

    async fn tell(&self, heard: Heard) -> Result<(), Unheard> {
        let Some((last, others)) = self.ears.split_last() else {
            return Err(Unheard);
        };
        let heard = match (&self.namespace, heard) {
            (None, heard) => heard,
            // They say themselves where they are.
            (Some(_), heard @ (Heard::Object(_) | Heard::Unreadable(..) | Heard::Gone(_))) => heard,
            (Some(namespace), heard) => Heard::Within(Arc::clone(namespace), Box::new(heard)),
        };
        for ear in others {
            ear.send((self.number, heard.clone()))
                .await
                .map_err(|_| Unheard)?;
        }
        last.send((self.number, heard)).await.map_err(|_| Unheard)
    }
}

impl Stop {
    /// Whether what comes next must be a list.
    fn makes_versions_worthless(&self) -> bool {
        match self {
            Self::Expired => true,
            Self::Trouble(trouble) => trouble.lasts(),
            Self::Unheard | Self::Busy(..) => false,
        }
    }
}

fn late(what: &str) -> Stop {
    Stop::Trouble(Trouble::Away(format!("it gave {what} no answer in time")))
}

fn stop(error: &kube::Error) -> Stop {
    match error {
        kube::Error::Api(status) => refused(status),
        kube::Error::SerdeError(_) => {
            // What the parser quotes may be a Secret's.
            let message = "the API server's answer cannot be read".to_owned();
            Stop::Trouble(Trouble::Failed(message))
        }
        error => Stop::Trouble(Trouble::Away(unreached(error))),
    }
}

/// Why there is no connection, and what to do about it where that is known.
pub(super) fn unreached(error: &kube::Error) -> String {
    /// What the layers of the client call themselves helps nobody.
    const LAYERS: [&str; 4] = [
        "ServiceError: ",
        "client error (Connect): ",
        "client error (SendRequest): ",
        "Error reading events stream: ",
    ];
    let words = in_words(error);
    let words = LAYERS
        .iter()
        .fold(&*words, |words, layer| words.trim_start_matches(layer));
    let cure = match words.contains("invalid peer certificate") {
        true => "; check the certificate authority in the kubeconfig",
        false => "",
    };
    format!("{words}{cure}")
}

fn refused(status: &Status) -> Stop {
    let failed = || {
        let (code, message) = (status.code, &status.message);
        Trouble::Failed(format!("the API server answers with status {code}: {message}"))
    };
    let details = status.details.as_ref();
    let asked = details.map_or(0, |details| details.retry_after_seconds);
    match status.code {
        410 => Stop::Expired,
        _ if is_of_the_future(status) => Stop::Expired,
        404 => Stop::Trouble(Trouble::NotInstalled),
        403 => Stop::Trouble(Trouble::Forbidden(status.message.clone())),
        429 | 503 | 504 if status.code == 429 || asked > 0 => {
            let most = match status.code {
                429 => BUSY_MOST,
                _ => STARTING_MOST,
            };
            let asked = Duration::from_secs(asked.into()).clamp(BUSY_LEAST, most);
            // Not everybody at once.
            Stop::Busy(failed(), asked.mul_f64(1.0 + 0.25 * fastrand::f64()))
        }
        _ => Stop::Trouble(failed()),
    }
}

/// Whether the server has not come to our version yet. It never will if it was restored from a backup.
fn is_of_the_future(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.message.contains("Too large resource version")
        || causes
            .into_iter()
            .any(|cause| cause.reason == "ResourceVersionTooLarge")
}

/// An error with all its causes, the outer ones first, each once.
pub(super) fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !words.contains(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        cause = inner.source();
    }
    words
}

#[cfg(test)]
mod tests;
