//! What PEM texts hold, found out once for each text however many Secrets and files have it and however often
//! everything is compiled (rows G6 and R7): to read a key and to check that it belongs to its certificate is
//! most of the work of a compile.
//!
//! Each compile hands what it used to the next, and no more, so this never holds more than the configuration
//! does. A text that cannot be used is read again each time.

use std::hash::Hash;
use std::sync::Arc;
use std::time::SystemTime;

use foldhash::{HashMap, HashMapExt};
use nuncio_model::{CertificateInfo, ClientIdentity, CrlSet, Digest, Roots, TrustBundle};
use nuncio_tls::{
    Finding, MaterialError, client_identity, content_digest, crl_set, describe, trust_bundle, unix_seconds,
    validity_moments,
};

/// A text that was read.
#[derive(Debug)]
pub(crate) struct Read<T> {
    pub(crate) value: Arc<T>,
    pub(crate) findings: Vec<Finding>,
    /// Its certificates in words.
    pub(super) certificates: Vec<Arc<CertificateInfo>>,
    /// When it was read, in seconds since 1970, and the moments at which the findings may be others.
    at: i64,
    moments: Vec<i64>,
}

/// Revocation lists are checked against the roots that they are used with: their bundle, and whether the
/// system's are among them.
type ListsKey = (Digest, Option<Digest>, bool);

/// Texts by the digest of their content.
#[derive(Clone, Default)]
pub(crate) struct Known {
    identities: Table<Digest, ClientIdentity>,
    bundles: Table<Digest, TrustBundle>,
    lists: Table<ListsKey, CrlSet>,
}

/// A text that something was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// Certificate and key.
    Identity(Digest),
    /// A CA.
    Bundle(Digest),
}

/// What is known from before, and what of it is in use.
struct Table<K, T> {
    before: Arc<HashMap<K, Arc<Read<T>>>>,
    used: HashMap<K, Arc<Read<T>>>,
}

impl Known {
    /// For the next compile: what this one used.
    pub(crate) fn next(self) -> Self {
        Self {
            identities: self.identities.next(),
            bundles: self.bundles.next(),
            lists: self.lists.next(),
        }
    }

    /// Whether a text is known, and nothing is to be told of it now as then; it is in use then.
    pub(super) fn keep(&mut self, text: Text, now: SystemTime) -> bool {
        match text {
            Text::Identity(digest) => self.identities.keep(&digest, now),
            Text::Bundle(digest) => self.bundles.keep(&digest, now),
        }
    }

    /// As [`client_identity`] reads them.
    pub(super) fn identity(
        &mut self,
        chain: &[u8],
        key: &[u8],
        now: SystemTime,
    ) -> Result<(Text, Arc<Read<ClientIdentity>>), MaterialError> {
        let digest = content_digest(&[chain, key]);
        let read = self.identities.get(digest, now, || {
            let (identity, findings) = client_identity(chain, key, now)?;
            let (certificates, moments) = in_words(&identity.chain);
            Ok((identity, findings, certificates, moments))
        })?;
        Ok((Text::Identity(digest), read))
    }

    /// As [`trust_bundle`] reads it.
    pub(super) fn bundle(
        &mut self,
        pem: &[u8],
        now: SystemTime,
    ) -> Result<(Text, Arc<Read<TrustBundle>>), MaterialError> {
        let digest = content_digest(&[pem]);
        let read = self.bundles.get(digest, now, || {
            let (bundle, findings) = trust_bundle(pem, now)?;
            let (certificates, moments) = in_words(&bundle.anchors);
            Ok((bundle, findings, certificates, moments))
        })?;
        Ok((Text::Bundle(digest), read))
    }

    /// As [`crl_set`] reads them.
    pub(super) fn lists(
        &mut self,
        pem: &[u8],
        roots: &Roots,
        now: SystemTime,
    ) -> Result<Arc<Read<CrlSet>>, MaterialError> {
        let bundle = roots.bundle.as_ref().map(|bundle| bundle.digest);
        let key = (content_digest(&[pem]), bundle, roots.system);
        self.lists.get(key, now, || {
            let (set, findings) = crl_set(pem, roots, now)?;
            let moments = set.lists.iter().filter_map(|list| list.next_update).collect();
            Ok((set, findings, Vec::new(), moments))
        })
    }
}

type Parts<T> = (T, Vec<Finding>, Vec<Arc<CertificateInfo>>, Vec<i64>);

impl<K: Hash + Eq + Copy, T> Table<K, T> {
    fn keep(&mut self, key: &K, now: SystemTime) -> bool {
        let known = self.used.get(key).or_else(|| self.before.get(key));
        let now = unix_seconds(now);
        let silent = known.filter(|known| known.holds_at(now) && known.findings.is_empty());
        let Some(known) = silent.map(Arc::clone) else {
            return false;
        };
        self.used.insert(*key, known);
        true
    }

    fn next(self) -> Self {
        Self {
            before: Arc::new(self.used),
            used: HashMap::new(),
        }
    }

    fn get(
        &mut self,
        key: K,
        now: SystemTime,
        read: impl FnOnce() -> Result<Parts<T>, MaterialError>,
    ) -> Result<Arc<Read<T>>, MaterialError> {
        let known = self.used.get(&key).or_else(|| self.before.get(&key));
        let now = unix_seconds(now);
        if let Some(known) = known.filter(|known| known.holds_at(now)) {
            let known = Arc::clone(known);
            self.used.insert(key, Arc::clone(&known));
            return Ok(known);
        }
        let (value, findings, certificates, moments) = read()?;
        let read = Arc::new(Read {
            value: Arc::new(value),
            findings,
            certificates,
            at: now,
            moments,
        });
        self.used.insert(key, Arc::clone(&read));
        Ok(read)
    }
}

impl<T> Read<T> {
    /// Whether nothing has changed between then and `now`: every moment is on the same side of both.
    fn holds_at(&self, now: i64) -> bool {
        self.moments
            .iter()
            .all(|moment| moment.cmp(&self.at) == moment.cmp(&now))
    }
}

impl<K, T> Default for Table<K, T> {
    fn default() -> Self {
        Self {
            before: Arc::default(),
            used: HashMap::new(),
        }
    }
}

impl<K: Clone, T> Clone for Table<K, T> {
    fn clone(&self) -> Self {
        Self {
            before: Arc::clone(&self.before),
            used: self.used.clone(),
        }
    }
}

/// Certificates as `/api/v1/certificates` tells them, and when something about them changes.
fn in_words(chain: &[Vec<u8>]) -> (Vec<Arc<CertificateInfo>>, Vec<i64>) {
    let described = chain.iter().filter_map(|der| describe(der).ok());
    (described.map(Arc::new).collect(), validity_moments(chain))
}
