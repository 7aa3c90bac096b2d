//! Clients' connections: accepted, watched, served by hyper (HTTP/1.1) and h2 (HTTP/2).

pub(crate) mod connection;
mod http2;
pub(crate) mod interim;
pub(crate) mod io;
pub(crate) mod offence;
