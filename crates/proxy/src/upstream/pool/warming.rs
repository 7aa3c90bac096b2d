//! Connections for a pool that is about to take the place of another.
//!
//! After a rotation every request would want a new connection at the same moment, and wait for its handshake. So
//! one is opened to each endpoint in use while the old ones still serve. The new configuration waits for them for a
//! moment and no longer: what comes about later is found by requests, as at any new upstream.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::{sleep, timeout_at};

use super::opening::Need;
use super::{Addresses, EndpointPool, Pool};
use crate::serving::Succession;
use crate::upstream::live::Wanted;

/// A new configuration waits so long for its connections, at most.
const WARMING: Duration = Duration::from_millis(100);
/// Connecting has so long as where a Mapping does not say otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The first ticket is waited for so long; there are peers that send none,
const SETTLING: Duration = Duration::from_millis(5);
/// and looked for so often.
const LOOK: Duration = Duration::from_millis(1);
/// Pools that are warmed at a time.
const AT_ONCE: usize = 4;

/// Opens connections for the pools that take over, and gives them back.
pub(crate) async fn warm(successions: Vec<Succession>, addresses: &Addresses) -> Vec<Rc<Pool>> {
    let begun = Instant::now();
    let until = begun + WARMING;
    let need = Need {
        wanted: Wanted::Configured,
        fresh: true,
        deadline: begun + CONNECT_TIMEOUT,
        limit: CONNECT_TIMEOUT,
        limited_by_try: false,
    };
    let pools = successions
        .iter()
        .map(|succession| Rc::clone(&succession.pool))
        .collect();
    let all =
        stream::iter(successions).for_each_concurrent(AT_ONCE, |Succession { before, pool }| async move {
            if pool.update_endpoints(addresses, until).await.is_ok() {
                let endpoints = Rc::clone(&pool.endpoints.borrow());
                let used = endpoints
                    .iter()
                    .filter(|endpoint| before.is_connected_to(endpoint));
                for endpoint in used {
                    pool.warm_endpoint(endpoint, &need).await;
                }
            }
        });
    let _ = timeout_at(until.into(), all).await;
    pools
}

/// Lets the peer come to an end with a handshake that is over for us: under TLS 1.3 it has our certificate to judge
/// yet, and sends tickets when it has. Until then a request would only wait there.
async fn settle(endpoint: &EndpointPool) {
    let until = Instant::now() + SETTLING;
    while !endpoint.live.has_ticket() && Instant::now() < until {
        sleep(LOOK).await;
    }
}

impl Pool {
    /// One connection is enough to begin with: it carries many requests, and brings the ticket with which others
    /// are opened at less cost.
    async fn warm_endpoint(self: &Rc<Self>, endpoint: &Rc<EndpointPool>, need: &Need) {
        let place = Arc::clone(&endpoint.opening).try_acquire_owned().ok();
        match self.open_beside(endpoint, need, place).await {
            Ok(Ok(lease)) => {
                // It is kept also where nobody waits any more.
                let endpoint = Rc::clone(endpoint);
                let settled = tokio::task::spawn_local(async move {
                    settle(&endpoint).await;
                    lease.give_back();
                });
                let _ = settled.await;
            }
            Ok(Err(error)) => self.count_untold(&error),
            Err(_) => {}
        }
    }

    fn is_connected_to(&self, endpoint: &EndpointPool) -> bool {
        let endpoints = self.endpoints.borrow();
        let alike = endpoints
            .iter()
            .find(|own| own.live.address == endpoint.live.address);
        alike.is_some_and(|own| own.is_connected())
    }
}
