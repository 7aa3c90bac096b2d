//! Whether a request is sent again, and when: decisions without I/O.

use std::time::{Duration, Instant};

use http::Method;
use nuncio_model::{Reason, RetryOn, RetryPolicy};

use crate::failure::{Fault, ProxyError};

/// Pause before the first retry at most; it doubles, and is drawn by lot so that many do not come at once.
/// Envoy's defaults.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// At once, on a connection that carried nothing before.
    Fresh,
    /// After a pause, at another endpoint where there is one.
    After(Duration),
}

/// The retries that one request may still have.
pub(super) struct Retries<'a> {
    policy: Option<&'a RetryPolicy>,
    /// How many of the policy's were used.
    used: u32,
    /// The one for a connection that was just being closed, which needs no policy, was used.
    fresh_used: bool,
    /// No retry is begun that could not end by then.
    until: Option<Instant>,
}

impl<'a> Retries<'a> {
    pub(super) fn new(policy: Option<&'a RetryPolicy>, until: Option<Instant>) -> Self {
        Self {
            policy,
            used: 0,
            fresh_used: false,
            until,
        }
    }

    /// For each attempt.
    pub(super) fn per_try_timeout(&self) -> Option<Duration> {
        self.policy?.per_try_timeout
    }

    /// When the present attempt must end because it is not the first; none for the first.
    pub(super) fn end(&self) -> Option<Instant> {
        self.until.filter(|_| self.used > 0)
    }

    /// Whether a copy of a request without body, about to be sent on a connection that was or was not in
    /// use before, may be of use. Copies cost something.
    pub(super) fn wants_copy(&self, reused: bool, method: &Method) -> bool {
        let fresh = reused && !self.fresh_used && method.is_idempotent();
        fresh
            || self
                .next()
                .is_some_and(|policy| policy.on != RetryOn::ConnectFailure)
    }

    /// After an answer with this status, to a request that can or cannot be sent again.
    pub(super) fn after_answer(&mut self, status: u16, can_be_sent: bool) -> Option<Again> {
        let wanted = self.next()?.on.takes_status(status);
        (wanted && can_be_sent).then(|| self.pause()).flatten()
    }

    /// After a failure. `stale`: the connection was in use before and was just being closed, and the request
    /// does no harm twice.
    pub(super) fn after_failure(
        &mut self,
        error: &ProxyError,
        stale: bool,
        can_be_sent: bool,
    ) -> Option<Again> {
        if !can_be_sent {
            return None;
        }
        if stale && !self.fresh_used {
            self.fresh_used = true;
            return Some(Again::Fresh);
        }
        let wanted = takes_failure(self.next()?.on, error);
        wanted.then(|| self.pause()).flatten()
    }

    /// The policy, if it allows one more.
    fn next(&self) -> Option<&'a RetryPolicy> {
        self.policy.filter(|policy| self.used < policy.retries)
    }

    /// Uses up one more, if its pause is over in time.
    fn pause(&mut self) -> Option<Again> {
        let pause = pause(self.used, fastrand::f64());
        let in_time = self.until.is_none_or(|until| Instant::now() + pause < until);
        self.used += 1;
        in_time.then_some(Again::After(pause))
    }
}

/// Whether Envoy takes such a failure for a reason to retry. What no other attempt can change is none, nor
/// is what more attempts would make worse.
fn takes_failure(on: RetryOn, error: &ProxyError) -> bool {
    let no_connection = error.fault == Fault::Connect
        && !matches!(
            error.failure.reason,
            Reason::Overflow | Reason::NoEndpoints | Reason::DnsFailed | Reason::TlsConfigUnresolved
        );
    let no_answer = matches!(
        error.fault,
        Fault::Upstream | Fault::StaleConnection | Fault::RefusedStream
    );
    match on {
        RetryOn::ServerError | RetryOn::GatewayError => no_connection || no_answer,
        RetryOn::ConnectFailure => no_connection,
        RetryOn::RefusedStream => error.fault == Fault::RefusedStream,
        RetryOn::Retriable4xx | RetryOn::RetriableStatusCodes => false,
    }
}

/// The pause after `used` retries: a part, drawn from `0.0..1.0`, of one that doubles with each.
fn pause(used: u32, draw: f64) -> Duration {
    let doublings = 2_u32.saturating_pow(used.saturating_add(1)).saturating_sub(1);
    FIRST_PAUSE
        .saturating_mul(doublings)
        .min(LONGEST_PAUSE)
        .mul_f64(draw)
}

#[cfg(test)]
mod tests {
    use nuncio_model::Failure;

    use super::*;

    fn policy(on: RetryOn, retries: u32) -> RetryPolicy {
        RetryPolicy {
            on,
            retries,
            per_try_timeout: None,
        }
    }

    fn error(fault: Fault, reason: Reason) -> ProxyError {
        let failure = Failure {
            reason,
            message: String::new(),
            remedy: String::new(),
        };
        ProxyError { fault, failure }
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let longest: Vec<u128> = (0..6).map(|used| pause(used, 1.0).as_millis()).collect();
        assert_eq!(longest, [25, 75, 175, 250, 250, 250]);
        assert_eq!(pause(u32::MAX, 1.0), LONGEST_PAUSE);
        assert_eq!(pause(3, 0.0), Duration::ZERO);
    }

    #[test]
    fn failures_that_each_value_takes() {
        use RetryOn::*;
        for (fault, reason, takers) in [
            (
                Fault::Connect,
                Reason::ResetDuringHandshake,
                &[ServerError, GatewayError, ConnectFailure][..],
            ),
            (
                Fault::Connect,
                Reason::NameMismatch,
                &[ServerError, GatewayError, ConnectFailure],
            ),
            (Fault::Connect, Reason::Overflow, &[]),
            (Fault::Connect, Reason::NoEndpoints, &[]),
            (
                Fault::Upstream,
                Reason::ResetBeforeResponse,
                &[ServerError, GatewayError],
            ),
            (
                Fault::Upstream,
                Reason::ResponseTimeout,
                &[ServerError, GatewayError],
            ),
            (
                Fault::RefusedStream,
                Reason::ResetBeforeResponse,
                &[ServerError, GatewayError, RefusedStream],
            ),
            (Fault::Client, Reason::ResetBeforeResponse, &[]),
            (Fault::Configuration, Reason::TlsConfigUnresolved, &[]),
        ] {
            let taken: Vec<_> = RetryOn::ALL
                .into_iter()
                .filter(|on| takes_failure(*on, &error(fault, reason)))
                .collect();
            assert_eq!(taken, takers, "{fault:?} {reason}");
        }
    }

    #[test]
    fn answers_that_each_value_takes() {
        use RetryOn::*;
        for (status, takers) in [
            (200, &[][..]),
            (404, &[]),
            (409, &[Retriable4xx]),
            (500, &[ServerError]),
            (502, &[ServerError, GatewayError]),
            (504, &[ServerError, GatewayError]),
            (505, &[ServerError]),
        ] {
            let taken: Vec<_> = RetryOn::ALL
                .into_iter()
                .filter(|on| on.takes_status(status))
                .collect();
            assert_eq!(taken, takers, "{status}");
        }
    }

    #[test]
    fn a_policy_ends_and_its_end_is_the_end_of_the_time() {
        let twice = policy(RetryOn::ServerError, 2);
        let mut retries = Retries::new(Some(&twice), None);
        for expected in [true, true, false] {
            assert_eq!(retries.after_answer(503, true).is_some(), expected);
        }
        let mut retries = Retries::new(Some(&twice), Some(Instant::now()));
        assert_eq!(retries.after_answer(503, true), None);
        let mut retries = Retries::new(Some(&twice), None);
        assert_eq!(retries.after_answer(503, false), None, "its body is gone");
    }

    #[test]
    fn a_closing_connection_needs_no_policy_and_uses_none_up() {
        let gone = error(Fault::StaleConnection, Reason::ResetBeforeResponse);
        let mut retries = Retries::new(None, None);
        assert_eq!(retries.after_failure(&gone, true, true), Some(Again::Fresh));
        assert_eq!(retries.after_failure(&gone, true, true), None);
        let once = policy(RetryOn::ServerError, 1);
        let mut retries = Retries::new(Some(&once), None);
        assert_eq!(retries.after_failure(&gone, true, true), Some(Again::Fresh));
        assert!(matches!(
            retries.after_failure(&gone, true, true),
            Some(Again::After(_))
        ));
        assert_eq!(retries.after_failure(&gone, true, true), None);
    }
}
