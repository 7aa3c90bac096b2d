//! The whole program from outside: the built binary, real sockets, real certificates.
//!
//! A row of the case table is one test that carries the row's number in its name. What the tests
//! need is in `support`: a gateway on free ports, certificates, upstreams that record what they saw
//! or misbehave on demand, and clients for HTTP/1.1, HTTP/2 and raw bytes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and says why"
)]

mod support;

mod annotations;
mod cluster;
mod commands;
mod documents;
mod echo;
mod edges;
mod gateway;
mod guards;
mod manifests;
mod packaging;
// Needs programs that are not ours: `make test-peers`.
#[cfg(feature = "peers")]
mod peers;
mod rows;
mod slips;
mod surroundings;
mod wire;
