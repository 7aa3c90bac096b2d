//! Everything on the way to an upstream: addresses, connections, TLS, pools.

pub(crate) mod connector;
mod dial;
pub(crate) mod dns;
pub(crate) mod gate;
pub(crate) mod live;
pub(crate) mod pool;
pub(crate) mod stream;
