//! What the gateway should do, as plain values.
//!
//! ```text
//! Snapshot ── listeners ── virtual hosts ── RouteTable ── Route ── Target ── Action ──▶ UpstreamIndex
//!     └────── upstreams ── Identity (address, TLS settings, protocol: all that reaches the wire)
//! ```
//!
//! Everything here is immutable once built, compares by value and does no I/O. Compile builds it,
//! the proxy serves it, the admin interface and the command line read it. [`RouteTable::find`] is
//! the only algorithm; the rest is vocabulary.

mod cluster;
mod credential;
mod endpoints;
mod expiry;
mod find;
mod guard;
mod handshake;
mod live;
mod object;
mod pattern;
mod problem;
mod reason;
mod route;
mod snapshot;
mod tls;
mod upstream;

pub use cluster::*;
pub use credential::*;
pub use endpoints::*;
pub use expiry::*;
pub use find::*;
pub use guard::*;
pub use handshake::*;
pub use live::*;
pub use object::*;
pub use pattern::*;
pub use problem::*;
pub use reason::*;
pub use route::*;
pub use snapshot::*;
pub use tls::*;
pub use upstream::*;
