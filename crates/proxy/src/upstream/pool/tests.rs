use nuncio_model::UpstreamHttp;
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::timeout_at;

use super::*;
use crate::upstream::live::Wanted;

/// Runs on what workers run on.
pub(super) fn on_a_worker(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.expect("a runtime").block_on(test);
}

pub(super) fn live() -> Arc<LiveUpstream> {
    let address = SocketAddr::from(([127, 0, 0, 1], 80));
    Arc::new(LiveUpstream::new(Arc::new(nuncio_model::Identity {
        host: nuncio_model::UpstreamHost::Ip(address.ip()),
        port: address.port(),
        resolve: Resolve::Fixed([address].into()),
        tls: None,
        http: UpstreamHttp::Http1,
    })))
}

async fn give_back(endpoint: &EndpointPool, permit: ConnectionPermit) {
    let (io, far) = tokio::io::duplex(1024);
    let io = hyper_util::rt::TokioIo::new(io);
    let (sender, connection) = http1::handshake(io).await.expect("no bytes are needed");
    tokio::task::spawn_local(async move {
        let _far = far;
        let _ = connection.await;
    });
    let facts = Facts {
        cause: Arc::default(),
        tls: None,
        verdict: Verdict::default(),
        line: Arc::default(),
        binding: OnceCell::new(),
        _permit: Rc::new(permit),
    };
    endpoint.keep(sender, Rc::new(facts), IDLE_TIMEOUT);
}

#[test]
fn a_worker_keeps_no_more_than_its_share() {
    on_a_worker(async {
        let live = live();
        let limits = Limits {
            grace: Duration::ZERO,
            most_idle: 2,
            handshakes: 1,
            header_bytes: 0,
        };
        let endpoint = EndpointPool::new(live.endpoint(([127, 0, 0, 1], 80).into()), limits);
        for kept in [1, 2, 2] {
            give_back(&endpoint, live.connection_permit().expect("room")).await;
            assert_eq!(endpoint.idle.borrow().len(), kept);
            assert_eq!(live.connections(), (0, kept as u64));
        }
        endpoint.retire(Instant::now());
        assert_eq!(live.connections(), (0, 0));
    });
}

#[test]
fn the_limit_counts_what_is_open() {
    let live = live();
    let held: Vec<_> = (0..super::super::live::MAX_CONNECTIONS)
        .map_while(|_| live.connection_permit())
        .collect();
    assert_eq!(held.len(), super::super::live::MAX_CONNECTIONS);
    assert!(live.connection_permit().is_none());
    assert!(live.connection_permit().is_none(), "a refusal takes no place");
    drop(held);
    assert!(live.connection_permit().is_some());
}

/// A pool of a Service with these pods.
fn pool(pods: &[SocketAddr]) -> (Rc<Pool>, Addresses) {
    let key = nuncio_model::ServiceKey {
        namespace: "default".into(),
        name: "svc".into(),
        port: 80,
    };
    let live = Arc::new(LiveUpstream::new(Arc::new(nuncio_model::Identity {
        host: nuncio_model::UpstreamHost::Name("svc".into()),
        port: 80,
        resolve: Resolve::Service(key.clone()),
        tls: None,
        http: UpstreamHttp::Http1,
    })));
    let limits = Limits {
        grace: Duration::ZERO,
        most_idle: 2,
        handshakes: 1,
        header_bytes: 0,
    };
    let addresses = Addresses {
        dns: Rc::new(Dns::new()),
        table: RefCell::new(Arc::new(EndpointTable {
            services: [(key, pods.into())].into(),
        })),
        version: Cell::new(0),
    };
    (Rc::new(Pool::new(live, Arc::default(), limits)), addresses)
}

/// A request that began before its upstream was retired may still open a connection: with a pod that came
/// later, or because it waited for its addresses.
#[test]
fn what_a_retired_pool_opens_is_not_kept() {
    on_a_worker(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let (pool, addresses) = pool(&[listener.local_addr().expect("bound")]);
        pool.retire();
        let limit = Duration::from_secs(60);
        let need = Need {
            wanted: Wanted::Configured,
            fresh: false,
            deadline: Instant::now() + limit,
            limit,
            limited_by_try: false,
        };
        let lease = pool
            .lease(&addresses, &need, &Tried::default())
            .await
            .unwrap_or_else(|error| panic!("{}", error.failure.message));
        let (mut peer, _) = listener.accept().await.expect("a connection");
        // Its time was over before it began, so it is cut although the request has not ended.
        let mut byte = [0];
        let end = timeout_at(
            (Instant::now() + limit).into(),
            tokio::io::AsyncReadExt::read(&mut peer, &mut byte),
        );
        let end = end.await.expect("it is kept");
        assert_eq!(end.expect("an end and no reset"), 0);
        lease.finish();
        assert_eq!(pool.live.connections(), (0, 0));
    });
}

/// Of endpoints that fail from memory each is passed over once, and the turn goes on behind the one that serves.
#[test]
fn endpoints_come_in_turn_and_those_that_were_tried_not_at_all() {
    on_a_worker(async {
        let pods: Vec<SocketAddr> = (1..=3).map(|n| ([127, 0, 0, n], 80).into()).collect();
        let (pool, addresses) = pool(&pods);
        pool.set_endpoints(addresses.table.borrow().addresses(service_of(&pool)));
        let endpoints = Rc::clone(&pool.endpoints.borrow());
        let turn = |next, tried: &Tried| -> Vec<u8> {
            let last_byte = |endpoint: &Rc<EndpointPool>| match endpoint.live.address.ip() {
                IpAddr::V4(ip) => ip.octets()[3],
                IpAddr::V6(_) => 0,
            };
            opening::in_turn(&endpoints, next, tried).map(last_byte).collect()
        };
        let mut tried = Tried::default();
        assert_eq!(turn(0, &tried), [1, 2, 3]);
        assert_eq!(turn(usize::MAX, &tried), [1, 2, 3]);
        assert_eq!(turn(4, &tried), [2, 3, 1]);
        tried.note(pods[1]);
        assert_eq!(turn(4, &tried), [3, 1]);
        tried.note(pods[0]);
        tried.note(pods[2]);
        assert_eq!(
            turn(4, &tried),
            [2],
            "where there is no other, the one whose turn it is"
        );
        assert_eq!(opening::in_turn(&[], 4, &tried).count(), 0);
    });
}

fn service_of(pool: &Pool) -> &nuncio_model::ServiceKey {
    match &pool.live.identity.resolve {
        Resolve::Service(key) => key,
        other => panic!("{other:?}"),
    }
}
