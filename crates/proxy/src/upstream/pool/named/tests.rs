use std::time::Duration;

use nuncio_model::{
    Reason, Resolve, Roots, TlsSettings, TlsVersion, UpstreamHost, UpstreamHttp, Verify, VerifyMode,
    VerifyName,
};
use nuncio_tls::Selected;

use super::super::{Limits, speaks_http2};
use super::*;
use crate::counter::Codes;
use crate::upstream::live::Wanted;

fn pool() -> Pool {
    let tls = TlsSettings {
        sni: None,
        auto_sni: AutoSni::SentAndVerified,
        verify: Verify {
            mode: VerifyMode::None,
            names: [VerifyName::Dns("svc.test".into())].into(),
            roots: Roots {
                bundle: None,
                system: false,
            },
            crls: None,
            pins: [].into(),
        },
        client: None,
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: [].into(),
        groups: [].into(),
        alpn: [].into(),
        foreign_alpn: [].into(),
    };
    let identity = Identity {
        host: UpstreamHost::Name("svc.test".into()),
        port: 443,
        resolve: Resolve::Fixed([([127, 0, 0, 1], 443).into()].into()),
        tls: Some(Arc::new(tls)),
        http: UpstreamHttp::Negotiated,
    };
    let limits = Limits {
        grace: Duration::ZERO,
        most_idle: 1,
        handshakes: 1,
        header_bytes: 0,
    };
    let live = Arc::new(LiveUpstream::new(Arc::new(identity)));
    Pool::new(live, Arc::new(Codes::default()), limits).for_upstream()
}

fn named(pool: &Pool, authority: &str) -> Rc<Pool> {
    let named = pool.of_authority(authority.as_bytes()).expect("it is on");
    named.unwrap_or_else(|failure| panic!("{authority}: {}", failure.message))
}

fn sni(pool: &Pool) -> Option<String> {
    let tls = pool.live.identity.tls.as_ref()?;
    tls.sni.as_deref().map(str::to_owned)
}

#[test]
fn s16_a_name_has_one_pool_however_it_is_written() {
    let pool = pool();
    let a = named(&pool, "a.test");
    assert_eq!(sni(&a).as_deref(), Some("a.test"));
    for same in ["a.test:443", "A.TEST", "a.test."] {
        assert!(Rc::ptr_eq(&a, &named(&pool, same)), "{same}");
    }
    for other in ["b.test", "10.0.0.5", "", "sub.a.test"] {
        let other = named(&pool, other);
        assert!(!Rc::ptr_eq(&a, &other));
        assert!(!Arc::ptr_eq(&a.live, &other.live));
    }
    assert!(
        Rc::ptr_eq(&named(&pool, "x.2"), &named(&pool, "_ _")),
        "no name is one"
    );
}

#[test]
fn s16_workers_share_what_is_known_of_a_name() {
    let one = pool();
    let other = Pool::new(
        Arc::clone(&one.live),
        Arc::clone(&one.codes.borrow()),
        one.limits.get(),
    )
    .for_upstream();
    assert!(Arc::ptr_eq(
        &named(&one, "a.test").live,
        &named(&other, "a.test").live
    ));
}

#[test]
fn s16_the_name_that_was_used_longest_ago_makes_room() {
    let pool = pool();
    let kept = |name: &str| {
        pool.named
            .as_ref()
            .is_some_and(|named| named.pools.borrow().contains_key(name))
    };
    let in_use = named(&pool, "used.test");
    for number in 1..MOST_NAMES {
        named(&pool, &format!("{number}.test"));
    }
    named(&pool, "1.test");
    named(&pool, "new.test");
    assert!(kept("used.test") && kept("1.test") && kept("new.test"));
    assert!(!kept("2.test"));
    assert!(Rc::ptr_eq(&in_use, &named(&pool, "used.test")));
    // The one that went is retired, and gone with its sessions.
    let gone = lock(&pool.live.of_names).get("2.test").and_then(Weak::upgrade);
    assert!(gone.is_none());
}

#[test]
fn s16_names_in_use_are_never_closed_for_another() {
    let pool = pool();
    let mut held: Vec<_> = (0..MOST_NAMES)
        .map(|number| named(&pool, &format!("{number}.test")))
        .collect();
    let Some(Err(failure)) = pool.of_authority(b"new.test") else {
        panic!("there is no room");
    };
    assert_eq!(failure.reason, Reason::Overflow);
    named(&pool, "7.test");
    held.pop();
    named(&pool, "new.test");
}

#[test]
fn without_auto_sni_one_pool_is_for_all() {
    let mut plain = pool();
    plain.named = None;
    assert!(plain.of_authority(b"a.test").is_none());
}

/// What the peer selected is spoken, or nothing is.
#[test]
fn a_peer_that_selects_no_http_is_not_spoken_to() {
    let mut identity = (*pool().live.identity).clone();
    for http in [UpstreamHttp::Http1, UpstreamHttp::Http2, UpstreamHttp::Negotiated] {
        identity.http = http;
        let spoken = |selected: &Selected| speaks_http2(&identity, Wanted::Configured, selected);
        let failure = spoken(&Selected::Foreign("acme".to_owned())).expect_err("it is no HTTP");
        assert_eq!(failure.reason, Reason::AlpnMismatch);
        assert!(failure.message.contains("acme"), "{}", failure.message);
        let undecided = spoken(&Selected::Undecided).map_err(|failure| failure.message);
        assert_eq!(undecided, Ok(http == UpstreamHttp::Http2));
    }
}
