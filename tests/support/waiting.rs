//! Waiting for what happens in another process.

use std::time::{Duration, Instant};

/// Long after this a test is stuck, not slow.
pub const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

/// Tries until `attempt` gives something. What another process does has no event to wait for here, so
/// this asks again and again; it fails with `what` when nothing came for a minute.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}
