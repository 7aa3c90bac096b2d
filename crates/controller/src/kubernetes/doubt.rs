//! Whether a refusal is believed.
//!
//! An API server that starts answers 403 before it has read its roles and 404 before it has read its definitions.
//! A gateway that believes it is ready without a configuration. A refusal of a kind that never had another answer
//! therefore counts only once it repeats while the API server says that it is ready.

use std::time::Duration;

use kube::Client;
use tokio::time::{Instant, timeout};

/// A refusal repeats for so long before it counts, from when the API server first says that it is ready,
const SETTLED: Duration = Duration::from_secs(2);
/// or from the first refusal, where `/readyz` is refused as well.
const SETTLED_UNSEEN: Duration = Duration::from_secs(15);
/// How often a kind is asked for meanwhile.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
/// What `/readyz` has for its answer.
const LIMIT: Duration = Duration::from_secs(5);

/// What the API server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Ready,
    NotReady,
    /// It does not say.
    Unknown,
}

/// The refusals of one kind, from its first request to its first answer.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Since when it refuses although it is ready.
    while_ready: Option<Instant>,
    /// Since when it refuses without a word about itself.
    while_unknown: Option<Instant>,
    is_over: bool,
}

impl Doubt {
    /// The kind was answered, or a refusal of it was believed.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// The API server was not reached, so what it said before says nothing about what it will.
    pub(super) fn begin_again(&mut self) {
        (self.while_ready, self.while_unknown) = (None, None);
    }

    /// Whether a refusal that was just heard counts.
    pub(super) async fn believes(&mut self, client: &Client) -> bool {
        if !self.is_over {
            let readiness = readiness(client).await;
            self.is_over = self.note(readiness, Instant::now());
        }
        self.is_over
    }

    fn note(&mut self, readiness: Readiness, now: Instant) -> bool {
        let (since, least) = match readiness {
            Readiness::Ready => (self.while_ready.get_or_insert(now), SETTLED),
            Readiness::Unknown => (self.while_unknown.get_or_insert(now), SETTLED_UNSEEN),
            Readiness::NotReady => {
                self.begin_again();
                return false;
            }
        };
        now.duration_since(*since) >= least
    }
}

async fn readiness(client: &Client) -> Readiness {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else {
        return Readiness::Unknown;
    };
    match timeout(LIMIT, client.request_text(request)).await {
        Ok(Ok(_)) => Readiness::Ready,
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403 | 404) => Readiness::Unknown,
        Ok(Err(_)) | Err(_) => Readiness::NotReady,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_once_it_lasts_while_the_server_is_ready() {
        let mut doubt = Doubt::default();
        let begun = Instant::now();
        assert!(!doubt.note(Readiness::NotReady, begun));
        assert!(!doubt.note(Readiness::Ready, begun + SETTLED));
        assert!(!doubt.note(Readiness::Ready, begun + 2 * SETTLED - PAUSE));
        assert!(doubt.note(Readiness::Ready, begun + 2 * SETTLED));
    }

    #[test]
    fn a_server_that_is_not_ready_again_is_not_believed() {
        let mut doubt = Doubt::default();
        let begun = Instant::now();
        assert!(!doubt.note(Readiness::Ready, begun));
        assert!(!doubt.note(Readiness::NotReady, begun + SETTLED));
        assert!(!doubt.note(Readiness::Ready, begun + 2 * SETTLED));
    }

    #[test]
    fn a_server_that_does_not_say_is_believed_later() {
        let mut doubt = Doubt::default();
        let begun = Instant::now();
        assert!(!doubt.note(Readiness::Unknown, begun));
        assert!(!doubt.note(Readiness::Unknown, begun + SETTLED));
        assert!(doubt.note(Readiness::Unknown, begun + SETTLED_UNSEEN));
    }
}
