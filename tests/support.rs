//! What the tests of the whole program stand on.

pub mod certificates;
pub mod client;
pub mod peer;
pub mod program;
pub mod refusal;
pub mod scene;
pub mod sealed;
pub mod tls_bytes;
pub mod waiting;
