//! What happens inside of rustls while it processes messages.
//!
//! The verifier and the certificate resolver are shared by all connections of a `ClientTls` (resumption
//! depends on that, see `session`), so they cannot hold what they saw of one connection. They write it
//! here, on the thread that drives the connection, and whoever drives it takes it along.

use std::cell::RefCell;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use crate::verify::{Flaw, Judgement};

/// What was seen while messages were processed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The peer asked for a client certificate.
    pub(crate) requested: bool,
    /// It was given one.
    pub(crate) sent: bool,
    /// The peer's own, leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// What was found out about it.
    pub(crate) judgement: Option<Arc<Judgement>>,
    /// What it is refused for.
    pub(crate) flaw: Option<Flaw>,
}

thread_local! {
    static OBSERVED: RefCell<Observed> = RefCell::default();
}

/// Runs `process`, and gives back what was seen meanwhile.
pub(crate) fn observe<T>(process: impl FnOnce() -> T) -> (T, Observed) {
    OBSERVED.take();
    let outcome = process();
    (outcome, OBSERVED.take())
}

/// Adds to what is seen of the connection that this thread drives.
pub(crate) fn note(add: impl FnOnce(&mut Observed)) {
    OBSERVED.with_borrow_mut(add);
}
