//! The TLS of nuncio: what users may write about it, what it becomes, and why it failed.
//!
//! ```text
//! Secrets, files ──▶ material ──▶ ClientIdentity, TrustBundle, CrlSet ─┐
//! names of suites, groups, versions ──▶ names ─────────────────────────┼──▶ TlsSettings (in nuncio-model)
//!                                                              │
//! ClientTls (one per settings) ◀───────────────────────────────────────┘
//!     └─ EndpointTls (one per endpoint: session tickets)
//!          └─ Handshake (one per connection) ──▶ Established, or a Failure with its remedy
//! ```
//!
//! There are no sockets here: whoever drives a [`Handshake`] moves its bytes.

mod breach;
mod by_request;
mod client;
mod constraints;
mod crl;
mod describe;
mod evidence;
mod explanation;
mod failure;
#[cfg(test)]
mod fixture;
mod foreign;
mod gap;
mod handshake;
mod interned;
mod issuer;
mod key;
mod list;
mod material;
mod names;
mod observe;
mod path;
mod pem;
mod pin;
mod remedy;
mod revocation;
mod roots;
mod server;
mod session;
mod signed;
mod verifier;
mod verify;

pub use by_request::RequestName;
pub use client::{ClientTls, EndpointTls, provider};
pub use crl::{check_revocation_lists, crl_set};
pub use describe::{describe, unix_seconds};
pub use evidence::{Evidence, judging_roots, offer};
pub use failure::{Seen, alpn_mismatch, failure_of};
pub use handshake::{
    Closed, Established, Handshake, Selected, ended_at_once, ended_in_silence, process_established,
};
pub use key::check_private_key;
pub use material::{
    Finding, MaterialError, certificates, client_identity, digest_of as content_digest, holds_pem, is_ca,
    some_certificates, trust_bundle, validity_moments,
};
pub use names::{
    CipherSuites, UnknownName, VersionBound, alpn_protocol, cipher_suite, cipher_suites, group, version,
};
pub use pin::pin;
pub use server::server_config;
