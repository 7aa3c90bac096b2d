use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nuncio_model::Failure;

use super::super::tests::{live, on_a_worker};
use super::super::verdict::Verdict;
use super::*;
use crate::upstream::live::{LiveUpstream, Wanted};

const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 80);

fn pool(live: &Arc<LiveUpstream>) -> Rc<Pool> {
    let limits = Limits {
        grace: Duration::ZERO,
        most_idle: 4,
        handshakes: 1,
        header_bytes: 0,
    };
    let pool = Rc::new(Pool::new(Arc::clone(live), Arc::default(), limits));
    pool.set_endpoints(&[SocketAddr::from(ADDRESS)]);
    pool
}

/// A connection with a request on it.
async fn open(pool: &Pool) -> Lease {
    let (io, far) = tokio::io::duplex(1024);
    let io = hyper_util::rt::TokioIo::new(io);
    let (mut sender, connection) = http1::handshake(io).await.expect("no bytes are needed");
    tokio::task::spawn_local(async move {
        let _far = far;
        let _ = connection.await;
    });
    sender.ready().await.expect("it is open");
    let endpoint = Rc::clone(&pool.endpoints.borrow()[0]);
    endpoint.counts.active.add(1);
    let facts = Rc::new(Facts {
        cause: Arc::default(),
        tls: None,
        verdict: Verdict::default(),
        line: Arc::default(),
        binding: std::cell::OnceCell::new(),
        _permit: Rc::new(pool.live.connection_permit().expect("room")),
    });
    Lease::Http1(Http1Lease {
        sender: Some(sender),
        facts,
        endpoint,
        reused: false,
        stay: Stay::Open,
        unwanted: None,
    })
}

fn need(limit: Duration) -> Need {
    Need {
        wanted: Wanted::Configured,
        fresh: false,
        deadline: Instant::now() + limit,
        limit,
        limited_by_try: false,
    }
}

async fn own(pool: &Pool, owner: &Owner) -> Result<Option<Lease>, Failure> {
    let need = need(Duration::from_secs(60));
    pool.lease_bound(owner, &need)
        .await
        .map_err(|error| error.failure)
}

#[test]
fn what_belongs_to_a_client_is_for_nobody_else() {
    on_a_worker(async {
        let live = live();
        let pool = pool(&live);
        let (alice, bob) = (Owner::new(1), Owner::new(2));
        let lease = open(&pool).await;
        pool.bind(&lease, &alice);
        lease.finish();
        assert_eq!(live.connections(), (0, 1));
        assert!(
            pool.endpoints.borrow()[0].idle.borrow().is_empty(),
            "nobody finds it"
        );
        assert!(own(&pool, &bob).await.expect("no wait").is_none());
        let again = own(&pool, &alice).await.expect("no wait").expect("it is hers");
        assert!(again.reused());
        assert_eq!(live.connections(), (1, 0));
        again.finish();
        alice.release();
        assert_eq!(live.connections(), (0, 0), "it closed with its client");
    });
}

#[test]
fn a_connection_closes_after_its_client_is_gone() {
    on_a_worker(async {
        let live = live();
        let pool = pool(&live);
        let alice = Owner::new(1);
        let lease = open(&pool).await;
        pool.bind(&lease, &alice);
        alice.release();
        lease.finish();
        let late = open(&pool).await;
        pool.bind(&late, &alice);
        late.finish();
        assert_eq!(live.connections(), (0, 0));
    });
}

#[test]
fn a_client_has_one_connection_and_waits_for_it() {
    on_a_worker(async {
        let live = live();
        let pool = pool(&live);
        let alice = Owner::new(1);
        let (first, second) = (open(&pool).await, open(&pool).await);
        pool.bind(&first, &alice);
        pool.bind(&second, &alice);
        second.finish();
        assert_eq!(live.connections(), (1, 0), "a second one is not kept");

        let short = need(Duration::from_millis(1));
        let refused = pool.lease_bound(&alice, &short).await.err();
        assert_eq!(refused.map(|error| error.failure.reason), Some(Reason::Overflow));

        let (waited, ()) = tokio::join!(own(&pool, &alice), async { first.finish() });
        let waited = waited.expect("it came free").expect("it is hers");
        // Dropped in the middle of an answer, it is lost, and a waiting request goes without.
        let (none, ()) = tokio::join!(own(&pool, &alice), async { drop(waited) });
        assert!(none.expect("no error").is_none());
        assert_eq!(live.connections(), (0, 0));
    });
}

#[test]
fn what_waits_for_clients_has_a_limit() {
    on_a_worker(async {
        let live = live();
        let pool = pool(&live);
        let owners: Vec<Owner> = (0..5).map(Owner::new).collect();
        for owner in &owners {
            let lease = open(&pool).await;
            pool.bind(&lease, owner);
            lease.finish();
        }
        assert_eq!(live.connections(), (0, 2), "half of what may be idle");
        assert!(own(&pool, &owners[0]).await.expect("no wait").is_none());
        assert!(own(&pool, &owners[4]).await.expect("no wait").is_some());
    });
}

#[test]
fn what_waits_for_clients_closes_with_its_pool() {
    on_a_worker(async {
        let live = live();
        let pool = pool(&live);
        let (alice, bob) = (Owner::new(1), Owner::new(2));
        let (idle, busy) = (open(&pool).await, open(&pool).await);
        pool.bind(&idle, &alice);
        pool.bind(&busy, &bob);
        idle.finish();
        pool.retire();
        assert_eq!(live.connections(), (1, 0));
        busy.finish();
        assert_eq!(live.connections(), (0, 0));
    });
}
