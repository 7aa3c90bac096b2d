//! Clients' connections: accepted, watched, served by hyper.

pub(crate) mod connection;
pub(crate) mod interim;
pub(crate) mod io;
pub(crate) mod offence;
