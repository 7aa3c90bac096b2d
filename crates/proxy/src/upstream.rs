//! Everything on the way to an upstream: addresses, connections, TLS, pools.

mod attempt;
pub(crate) mod connector;
mod dial;
pub(crate) mod dns;
pub(crate) mod failure_log;
pub(crate) mod gate;
mod hello;
pub(crate) mod live;
mod memory;
pub(crate) mod pool;
pub(crate) mod stream;
mod trial;
