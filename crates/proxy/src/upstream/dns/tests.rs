use std::cell::Cell;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use nuncio_model::{Identity, Resolve, UpstreamHost, UpstreamHttp};
use tokio::net::UdpSocket;
use tokio::task::LocalSet;

use super::*;
use crate::upstream::live::{LiveUpstream, Wanted};
use crate::upstream::pool::{Addresses, Limits, Need, Pool, Tried};

/// What the DNS server does with a question for an IPv4 address.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    /// Answers with this address, good for no time at all.
    Says([u8; 4]),
    /// Does not answer.
    Silent,
    /// Answers with this code and nothing else.
    Fails(u8),
}

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// A DNS server on the loopback; it ends with the test's runtime.
struct Server {
    mood: Arc<Mutex<Mood>>,
    asked: Arc<AtomicUsize>,
    port: u16,
}

impl Server {
    async fn start(mood: Mood) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = Self {
            mood: Arc::new(Mutex::new(mood)),
            asked: Arc::default(),
            port: socket.local_addr().unwrap().port(),
        };
        let (mood, asked) = (Arc::clone(&server.mood), Arc::clone(&server.asked));
        tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let question = &packet[..length];
                if type_of(question) == A {
                    asked.fetch_add(1, Ordering::SeqCst);
                }
                let mood = *mood.lock().unwrap();
                if let Some(answer) = answer(question, mood) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        server
    }

    fn turn(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Questions for IPv4 addresses so far.
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// A resolver that asks only here, and gives up after `timeout`.
    fn resolver(&self, timeout: Duration) -> TokioResolver {
        let mut connection = ConnectionConfig::udp();
        connection.port = self.port;
        let mut server = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
        server.connections = vec![connection];
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        options.timeout = timeout;
        options.attempts = 0;
        builder.build().unwrap()
    }

    fn dns(&self, terms: Terms, timeout: Duration) -> Rc<Dns> {
        let dns = Dns::on_terms(terms);
        *dns.resolver.borrow_mut() = Some(self.resolver(timeout));
        Rc::new(dns)
    }
}

const A: u16 = 1;
const HEADER: usize = 12;

/// The question's end: its name ends with an empty label, and type and class follow.
fn question_end(packet: &[u8]) -> usize {
    let name = packet[HEADER..].iter().position(|byte| *byte == 0).unwrap();
    HEADER + name + 5
}

fn type_of(packet: &[u8]) -> u16 {
    let end = question_end(packet);
    u16::from_be_bytes([packet[end - 4], packet[end - 3]])
}

/// The answer of RFC 1035 to a packet with one question.
fn answer(packet: &[u8], mood: Mood) -> Option<Vec<u8>> {
    let (code, address) = match mood {
        Mood::Silent => return None,
        Mood::Fails(code) => (code, None),
        Mood::Says(address) => (0, Some(address).filter(|_| type_of(packet) == A)),
    };
    let mut answer = packet[..2].to_vec();
    answer.extend([
        0x81,
        0x80 | code,
        0,
        1,
        0,
        u8::from(address.is_some()),
        0,
        0,
        0,
        0,
    ]);
    answer.extend(&packet[HEADER..question_end(packet)]);
    if let Some(address) = address {
        // The name of the question, type A, class IN, no time to live, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address);
    }
    Some(answer)
}

const FIRST: [u8; 4] = [127, 0, 0, 2];
const SECOND: [u8; 4] = [127, 0, 0, 3];

/// Every request refreshes what it uses.
const AT_ONCE: Terms = Terms {
    min_ttl: Duration::ZERO,
    max_ttl: Duration::ZERO,
    retry: Duration::ZERO,
    denied: Duration::from_secs(3600),
};

/// Long enough for an answer over the loopback, and short enough to wait for one that does not come.
const BRIEF: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(60);

fn name() -> Arc<str> {
    "a.test.".into()
}

async fn ask(dns: &Rc<Dns>) -> Result<Vec<IpAddr>, Failure> {
    let found = dns.resolve(&name(), Instant::now() + LONG).await;
    found.map(|addresses| addresses.to_vec())
}

/// Uses the name once, and waits until the refresh that this began is over.
async fn ask_and_refresh(dns: &Rc<Dns>) -> Result<Vec<IpAddr>, Failure> {
    let found = ask(dns).await;
    let refreshing = || {
        dns.answers
            .borrow()
            .get(&name())
            .is_some_and(|answer| answer.refreshing)
    };
    while refreshing() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    found
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn addresses(address: [u8; 4]) -> Result<Vec<IpAddr>, Failure> {
    Ok(vec![address.into()])
}

#[test]
fn f12_the_last_good_addresses_outlive_a_dns_that_times_out() {
    run(async {
        let server = Server::start(Mood::Says(FIRST)).await;
        let dns = server.dns(AT_ONCE, BRIEF);
        assert_eq!(ask(&dns).await, addresses(FIRST));

        for mood in [Mood::Silent, Mood::Fails(SERVFAIL)] {
            server.turn(mood);
            for _ in 0..3 {
                let before = server.asked();
                assert_eq!(ask_and_refresh(&dns).await, addresses(FIRST));
                assert!(server.asked() > before, "nothing was asked, so nothing failed");
            }
        }
        assert_eq!(ask(&dns).await, addresses(FIRST));

        server.turn(Mood::Says(SECOND));
        // A busy host may take longer than a lookup may, so this has more than one try.
        let mut found = ask_and_refresh(&dns).await;
        for _ in 0..50 {
            if found == addresses(SECOND) {
                break;
            }
            found = ask_and_refresh(&dns).await;
        }
        assert_eq!(found, addresses(SECOND));
    });
}

#[test]
fn a_name_that_dns_denies_keeps_its_addresses_for_a_while() {
    run(async {
        let server = Server::start(Mood::Says(FIRST)).await;
        let patient = server.dns(AT_ONCE, LONG);
        let denied = Duration::ZERO;
        let impatient = server.dns(Terms { denied, ..AT_ONCE }, LONG);
        for dns in [&patient, &impatient] {
            assert_eq!(ask(dns).await, addresses(FIRST));
        }
        server.turn(Mood::Fails(NXDOMAIN));
        for dns in [&patient, &impatient] {
            assert_eq!(ask_and_refresh(dns).await, addresses(FIRST));
        }
        assert_eq!(ask_and_refresh(&patient).await, addresses(FIRST));
        let failure = ask(&impatient).await.unwrap_err();
        assert_eq!(failure.reason, Reason::DnsFailed);
        assert!(
            failure.message.starts_with("a.test. does not resolve: "),
            "{failure:?}"
        );

        server.turn(Mood::Says(SECOND));
        assert_eq!(ask(&impatient).await, addresses(SECOND));
    });
}

#[test]
fn many_who_want_a_name_are_one_question() {
    run(async {
        let server = Server::start(Mood::Says(FIRST)).await;
        let dns = server.dns(TERMS, LONG);
        let all: Vec<_> = (0..100)
            .map(|_| {
                let dns = Rc::clone(&dns);
                tokio::task::spawn_local(async move { ask(&dns).await })
            })
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap(), addresses(FIRST));
        }
        assert_eq!(server.asked(), 1);
    });
}

#[test]
fn a_name_that_was_never_found_is_not_asked_for_by_every_request() {
    run(async {
        let server = Server::start(Mood::Fails(NXDOMAIN)).await;
        let min_ttl = LONG;
        let dns = server.dns(Terms { min_ttl, ..TERMS }, LONG);
        let failure = ask(&dns).await.unwrap_err();
        let before = server.asked();
        for _ in 0..100 {
            assert_eq!(ask(&dns).await.unwrap_err(), failure);
        }
        assert_eq!(server.asked(), before);
        server.turn(Mood::Says(FIRST));
        let dns = server.dns(AT_ONCE, LONG);
        assert_eq!(ask(&dns).await, addresses(FIRST));
    });
}

/// Of a worker that looks after its pools each second.
#[test]
fn r11_what_is_idle_where_dns_leads_no_more_closes_without_a_request() {
    run(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::from(FIRST), 0))
            .await
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server::start(Mood::Says(FIRST)).await;
        let addresses = Addresses {
            dns: server.dns(AT_ONCE, LONG),
            table: RefCell::default(),
            version: Cell::new(0),
        };
        let pool = pool_of(name(), port);
        let need = Need {
            wanted: Wanted::Configured,
            fresh: false,
            deadline: Instant::now() + LONG,
            limit: LONG,
            limited_by_try: false,
        };
        let lease = pool.lease(&addresses, &need, &Tried::default()).await;
        let (mut peer, _) = listener.accept().await.unwrap();
        lease
            .unwrap_or_else(|error| panic!("{:?}", error.failure))
            .finish();
        while pool.live.connections() != (0, 1) {
            tokio::task::yield_now().await;
        }

        server.turn(Mood::Says(SECOND));
        let looking_after = async {
            loop {
                pool.sweep(Instant::now(), &addresses.dns);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let mut byte = [0];
        tokio::select! {
            _ = tokio::time::timeout(LONG, looking_after) => panic!("it is still open"),
            end = tokio::io::AsyncReadExt::read(&mut peer, &mut byte) => assert_eq!(end.unwrap(), 0),
        }
        assert_eq!(pool.live.connections(), (0, 0));
        // Once nobody uses the old one, it is known no more.
        while !pool
            .live
            .status()
            .endpoints
            .iter()
            .all(|endpoint| endpoint.address.starts_with("127.0.0.3:"))
        {
            pool.sweep(Instant::now(), &addresses.dns);
            tokio::task::yield_now().await;
        }
    });
}

/// A pool of the upstream of this name.
fn pool_of(name: Arc<str>, port: u16) -> Rc<Pool> {
    let live = LiveUpstream::new(Arc::new(Identity {
        host: UpstreamHost::Name(Arc::clone(&name)),
        port,
        resolve: Resolve::Dns(name),
        tls: None,
        http: UpstreamHttp::Http1,
    }));
    let limits = Limits {
        grace: LONG,
        most_idle: 2,
        handshakes: 1,
        header_bytes: 0,
    };
    Rc::new(Pool::new(Arc::new(live), Arc::default(), limits))
}
