//! The data plane: accept, route, originate TLS, stream, record.
//!
//! ```text
//! Proxy ── Worker (one a core: its own runtime, sockets, pools and counters)
//!            │
//!            ├─ client::connection   a client's socket, served by hyper or h2 behind a guard of its bytes
//!            ├─ request::handle      the path of a request, top to bottom
//!            ├─ Serving              the snapshot of this moment and the pools of its upstreams
//!            └─ upstream::pool ── dial ── connector ── stream    connections, TLS, bytes
//! ```
//!
//! Workers share only what nobody writes on a request's way: the snapshot, and for each upstream
//! its TLS configuration with the session tickets of its endpoints.

mod access_log;
mod answer;
mod body;
mod client;
mod counter;
mod descriptors;
mod exchange;
mod expectation;
mod failure;
mod frames;
mod framing;
mod headers;
mod http2;
mod incoming;
mod listening;
mod log_queue;
mod login;
mod metrics;
mod path;
mod patience;
mod probe;
mod problems;
mod proxy;
mod request;
mod serving;
mod stats;
mod upgrade;
mod uploads;
mod upstream;
mod worker;

pub use access_log::AccessLog;
pub use log_queue::LogQueue;
pub use path::{PathError, normalise};
pub use probe::{EndpointProbe, ProbeOptions, probe};
pub use proxy::{Proxy, ProxyOptions, StartError};
