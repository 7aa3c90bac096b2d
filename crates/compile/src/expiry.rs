//! Certificates that end soon or have ended: what is told of them, and when to compile again because something
//! else is to be told.
//!
//! A certificate that ends soon is told on the TLSContext that names it, each once. A Mapping is told once for
//! its client certificate and once for its CA, of the certificate in it that ends first: 2,000 Mappings that
//! share a bundle of 150 certificates are 2,000 problems then, not 300,000. That a certificate has ended is told
//! on its Secret besides, where it was found when it was read.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use nuncio_model::{
    CERTIFICATE_EXPIRED, CERTIFICATE_EXPIRES, CertificateRole, ExpiryWarnings, LoadedCertificate, ObjectRef,
    Origin, Severity, Stage,
};

use crate::Object;
use crate::context::ContextTls;
use crate::last_good::LastGood;
use crate::problems::Problems;

/// Certificates of one bundle that are told one by one on a TLSContext.
const MOST_TOLD: usize = 8;

/// The certificates of one Secret or file, as contexts share them.
pub(crate) type Shared = Arc<[LoadedCertificate]>;

/// What decides about warnings.
pub(crate) struct Expiry<'a> {
    warnings: &'a ExpiryWarnings,
    /// Seconds since 1970.
    now: i64,
}

impl<'a> Expiry<'a> {
    pub(crate) fn new(warnings: &'a ExpiryWarnings, now: SystemTime) -> Self {
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        Self { warnings, now }
    }

    /// Tells of everything that `good` serves with.
    pub(crate) fn tell(
        &self,
        contexts: &[&Object],
        mappings: &[&Object],
        good: &LastGood,
        problems: &mut Problems,
    ) {
        let ending = self.ending(good);
        if ending.is_empty() {
            return;
        }
        for object in contexts {
            let tls = good.contexts.get(&object.reference);
            for (tls, certificates) in tls.iter().flat_map(|tls| bundles(tls)) {
                if let Some(ending) = ending.get(&key(certificates)) {
                    self.tell_context(object, tls, ending, problems);
                }
            }
        }
        let mut for_mappings = HashMap::new();
        for object in mappings {
            let Some(context) = good.readings.context_of(object) else {
                continue;
            };
            let said = for_mappings
                .entry(context)
                .or_insert_with(|| self.for_mappings(context, good, &ending));
            for (severity, reason, message) in said {
                problems.report(*severity, object, reason, "spec.tls", message.as_str());
            }
        }
    }

    /// The bundles of which something is to be told, with what, the first to end first.
    fn ending<'g>(&self, good: &'g LastGood) -> HashMap<usize, Ending<'g>> {
        let mut found = HashMap::new();
        for (_, certificates) in good.contexts.values().flat_map(bundles) {
            found
                .entry(key(certificates))
                .or_insert_with(|| Ending::of(certificates, |one| self.warnings.stage(&one.info, self.now)));
        }
        found.retain(|_, ending| !ending.certificates.is_empty());
        found
    }

    fn tell_context(&self, object: &Object, tls: &ContextTls, ending: &Ending<'_>, problems: &mut Problems) {
        let soon = ending
            .certificates
            .iter()
            .filter(|(stage, _)| *stage != Stage::Expired);
        for (stage, certificate) in soon.take(MOST_TOLD) {
            let Some(said) = stage.said_of(&certificate.info) else {
                continue;
            };
            let message = format!(
                "{} `{}` in {} {said}; {}",
                what(certificate),
                certificate.info.subject,
                certificate.from,
                cure(certificate)
            );
            problems.warning(
                object,
                CERTIFICATE_EXPIRES,
                &field(tls, certificate.role),
                message,
            );
        }
    }

    /// What each Mapping that uses `context` is told.
    fn for_mappings(
        &self,
        context: &ObjectRef,
        good: &LastGood,
        ending: &HashMap<usize, Ending<'_>>,
    ) -> Vec<(Severity, &'static str, String)> {
        let tls = good.contexts.get(context);
        tls.iter()
            .flat_map(|tls| bundles(tls))
            .filter_map(|(_, certificates)| ending.get(&key(certificates))?.for_mappings(context))
            .collect()
    }

    /// When something else is to be told, at the earliest. Revocation lists are overdue at some moment, too.
    pub(crate) fn next<'c>(
        &self,
        good: &'c LastGood,
        others: impl Iterator<Item = &'c Shared>,
    ) -> Option<SystemTime> {
        let mut seen = HashSet::new();
        let of_contexts = good.contexts.values().flat_map(bundles);
        let ends = of_contexts
            .map(|(_, certificates)| certificates)
            .chain(others)
            .filter(|certificates| seen.insert(key(certificates)))
            .flat_map(|certificates| certificates.iter())
            .filter_map(|certificate| self.warnings.next(&certificate.info, self.now));
        let lists = good.contexts.values().filter_map(|tls| tls.crls.as_ref());
        let updates = lists
            .flat_map(|crls| crls.value.lists.iter().filter_map(|list| list.next_update))
            .filter(|update| *update > self.now);
        let seconds = u64::try_from(ends.chain(updates).min()?).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    }
}

/// Certificates of a bundle that end soon or have ended.
struct Ending<'g> {
    /// The first to end first.
    certificates: Vec<(Stage, &'g LoadedCertificate)>,
    /// None of the bundle is valid any more.
    all_expired: bool,
}

impl<'g> Ending<'g> {
    fn of(certificates: &'g Shared, stage: impl Fn(&LoadedCertificate) -> Stage) -> Self {
        let mut ending: Vec<_> = certificates.iter().map(|one| (stage(one), one)).collect();
        let all_expired = ending.iter().all(|(stage, _)| *stage == Stage::Expired);
        ending.retain(|(stage, _)| *stage != Stage::Fine);
        ending.sort_by_key(|(_, one)| one.info.not_after_seconds);
        Self {
            certificates: ending,
            all_expired,
        }
    }

    /// Of what is about to end rather than of what a change of CAs left behind: an expired CA beside others is a
    /// notice (row V5), any other end a warning.
    fn for_mappings(&self, context: &ObjectRef) -> Option<(Severity, &'static str, String)> {
        let harmless = |stage: Stage, one: &LoadedCertificate| {
            one.role == CertificateRole::Ca && stage == Stage::Expired && !self.all_expired
        };
        let serious = self
            .certificates
            .iter()
            .find(|(stage, one)| !harmless(*stage, one));
        let (severity, &(stage, certificate)) = match serious {
            Some(found) => (Severity::Warning, found),
            None => (Severity::Notice, self.certificates.first()?),
        };
        let reason = if stage == Stage::Expired {
            CERTIFICATE_EXPIRED
        } else {
            CERTIFICATE_EXPIRES
        };
        let likewise = self
            .certificates
            .iter()
            .filter(|(other, one)| harmless(*other, one) == (severity == Severity::Notice))
            .count();
        let first = match likewise {
            1 => String::new(),
            all => format!(", the first of {all}"),
        };
        let message = format!(
            "{} `{}` of {context} ({}) {}{first}; {}",
            what(certificate),
            certificate.info.subject,
            certificate.from,
            stage.said_of(&certificate.info)?,
            cure(certificate)
        );
        Some((severity, reason, message))
    }
}

/// Each of a context's bundles, with the context.
fn bundles(tls: &Arc<ContextTls>) -> impl Iterator<Item = (&ContextTls, &Shared)> {
    tls.certificates.iter().map(|certificates| (&**tls, certificates))
}

/// The same for contexts that share a bundle; `LastGood` keeps them all alive meanwhile.
fn key(certificates: &Shared) -> usize {
    certificates.as_ptr().addr()
}

fn what(certificate: &LoadedCertificate) -> &'static str {
    match certificate.role {
        CertificateRole::Client => "client certificate",
        CertificateRole::Ca => "CA certificate",
        CertificateRole::Server | CertificateRole::Peer => "certificate",
    }
}

fn cure(certificate: &LoadedCertificate) -> &'static str {
    match certificate.role {
        CertificateRole::Ca => "put its successor beside it, and take it away once no upstream uses it",
        _ => "put a renewed one in its place",
    }
}

/// The field that names where certificates of this role are from.
fn field(tls: &ContextTls, role: CertificateRole) -> String {
    let origin = match role {
        CertificateRole::Client => tls.client.as_ref().map(|client| &client.origin),
        _ => tls.bundle.as_ref().map(|bundle| &bundle.origin),
    };
    match origin {
        Some(Origin::Field { field, .. }) => field.to_string(),
        _ => String::new(),
    }
}
