//! When it is told that a certificate ends: some days ahead, again shortly before, and once it has.
//!
//! One judgement for certificates out of Secrets and files, which compile makes, and for those that upstreams
//! show, which is made whenever problems are read.

use std::sync::Arc;

use crate::{CertificateInfo, EndpointStatus, Upstream, VerifyMode};

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// Reason of the problem about a certificate of ours that ends soon.
pub const CERTIFICATE_EXPIRES: &str = "certificate_expires";

/// Reason of the problem about a certificate of ours that has ended.
pub const CERTIFICATE_EXPIRED: &str = "certificate_expired";

/// Reason of the problem about a certificate that an upstream showed and that ends soon.
pub const UPSTREAM_CERTIFICATE_EXPIRES: &str = "upstream_certificate_expires";

/// Reason of the problem about a certificate that an upstream showed and that has ended.
pub const UPSTREAM_CERTIFICATE_EXPIRED: &str = "upstream_certificate_expired";

/// `certificate_expiry_warning_days`: how long before its end a certificate is warned of.
///
/// A certificate that lives less than three times as long is warned of in the last third of its life
/// instead: one of a day would never be without a warning, and whatever renews it does so by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiryWarnings {
    /// Longest first, none twice, none 0.
    days: Arc<[u16]>,
}

impl Default for ExpiryWarnings {
    fn default() -> Self {
        Self::new([30, 7])
    }
}

/// How far a certificate is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Far enough.
    Fine,
    /// The warning of so many days is due.
    Expires {
        /// Which of the warnings.
        within: u16,
        /// Midnights (UTC) until then.
        midnights: i64,
    },
    /// Past it.
    Expired,
}

impl ExpiryWarnings {
    /// Warnings so many days ahead, in any order; 0 is none.
    pub fn new(days: impl IntoIterator<Item = u16>) -> Self {
        let mut days: Vec<u16> = days.into_iter().filter(|days| *days > 0).collect();
        days.sort_unstable_by_key(|days| std::cmp::Reverse(*days));
        days.dedup();
        Self { days: days.into() }
    }

    /// Longest first; empty where nothing is told ahead.
    pub fn days(&self) -> &[u16] {
        &self.days
    }

    /// How far `certificate` is from its end at `now`, seconds since 1970.
    pub fn stage(&self, certificate: &CertificateInfo, now: i64) -> Stage {
        let end = certificate.not_after_seconds;
        if now > end {
            return Stage::Expired;
        }
        let due = |days: &&u16| warned_from(certificate, **days) <= now;
        match self.days.iter().rev().find(due) {
            Some(&within) => Stage::Expires {
                within,
                midnights: end.div_euclid(DAY) - now.div_euclid(DAY),
            },
            None => Stage::Fine,
        }
    }

    /// The first moment after `now` at which something else is to be told of `certificate`: that it is valid, a
    /// warning, one day less, its end.
    pub fn next(&self, certificate: &CertificateInfo, now: i64) -> Option<i64> {
        let end = certificate.not_after_seconds;
        let midnight = match self.stage(certificate, now) {
            Stage::Expires { midnights: 1.., .. } => Some((now.div_euclid(DAY) + 1).saturating_mul(DAY)),
            _ => None,
        };
        let warnings = self.days.iter().map(|days| warned_from(certificate, *days));
        let bounds = [certificate.not_before_seconds, end.saturating_add(1)];
        let all = warnings.chain(bounds).chain(midnight);
        all.filter(|moment| *moment > now).min()
    }
}

fn warned_from(certificate: &CertificateInfo, days: u16) -> i64 {
    let end = certificate.not_after_seconds;
    let third = end.saturating_sub(certificate.not_before_seconds) / 3;
    end.saturating_sub((i64::from(days) * DAY).min(third))
}

impl Stage {
    /// What is said of `certificate` after its name; nothing while it is fine.
    pub fn said_of(self, certificate: &CertificateInfo) -> Option<String> {
        let end = &certificate.not_after;
        match self {
            Self::Fine => None,
            Self::Expired => Some(format!("expired at {end}")),
            Self::Expires { within, midnights } => {
                let left = match midnights {
                    ..=0 => "today".to_owned(),
                    1 => "tomorrow".to_owned(),
                    days => format!("in {days} days"),
                };
                let unit = if within == 1 { "day" } else { "days" };
                Some(format!("expires within {within} {unit} ({left}, at {end})"))
            }
        }
    }
}

/// A problem with what an upstream shows, for each Mapping that uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerExpiry {
    /// [`UPSTREAM_CERTIFICATE_EXPIRES`] or [`UPSTREAM_CERTIFICATE_EXPIRED`].
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// What is to be told of the certificates that `upstream` showed in the last handshake with each of its
/// endpoints: of the one that ends first. Nothing where any certificate is accepted.
pub fn peer_expiry(
    upstream: &Upstream,
    endpoints: &[EndpointStatus],
    warnings: &ExpiryWarnings,
    now: i64,
) -> Option<PeerExpiry> {
    let mode = upstream.identity.tls.as_ref()?.verify.mode;
    if mode == VerifyMode::None {
        return None;
    }
    let mut ending: Vec<(Stage, &CertificateInfo, &EndpointStatus)> = endpoints
        .iter()
        .filter_map(|endpoint| {
            let peer = &endpoint.last_handshake.as_ref()?.peer;
            let certificate = peer.iter().min_by_key(|info| info.not_after_seconds)?;
            let stage = warnings.stage(certificate, now);
            (stage != Stage::Fine).then_some((stage, certificate, endpoint))
        })
        .collect();
    ending.sort_by_key(|(_, certificate, _)| certificate.not_after_seconds);
    let &(stage, certificate, endpoint) = ending.first()?;
    let said = stage.said_of(certificate)?;
    let others = match ending.len() - 1 {
        0 => String::new(),
        1 => " (likewise 1 more endpoint)".to_owned(),
        more => format!(" (likewise {more} more endpoints)"),
    };
    let (reason, then) = match (stage, mode) {
        (Stage::Expired, VerifyMode::Chain | VerifyMode::Full) => (
            UPSTREAM_CERTIFICATE_EXPIRED,
            ", so new connections are refused as `expired`",
        ),
        (Stage::Expired, _) => (UPSTREAM_CERTIFICATE_EXPIRED, ""),
        _ => (UPSTREAM_CERTIFICATE_EXPIRES, ""),
    };
    Some(PeerExpiry {
        reason,
        message: format!(
            "certificate `{}` that {} showed at endpoint {}{others} {said}{then}; renew it on the upstream",
            certificate.subject, upstream.name, endpoint.address
        ),
    })
}

#[cfg(test)]
mod tests;
