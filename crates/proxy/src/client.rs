//! Clients' connections: accepted, watched, served by hyper.

pub(crate) mod connection;
pub(crate) mod io;
