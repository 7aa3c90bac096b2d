//! Material is read once and shared: among upstreams, among Secrets of one content, and from compile to compile.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nuncio_compile::{LastGood, Options};
use nuncio_model::{Severity, TlsSettings};

use crate::material::{Authority, authority, ca_secret, tls_secret};
use crate::world::{World, context, mapping, options, world};

/// The TLS settings of every upstream.
fn settings(world: &World) -> impl Iterator<Item = &Arc<TlsSettings>> {
    let upstreams = world.output.snapshot.upstreams.iter();
    upstreams.filter_map(|upstream| upstream.identity.tls.as_ref())
}

/// Where the values of all upstreams are in memory: one place means that they share one.
fn places<T>(world: &World, of: impl Fn(&TlsSettings) -> Option<&Arc<T>>) -> HashSet<*const T> {
    settings(world)
        .filter_map(|tls| of(tls))
        .map(Arc::as_ptr)
        .collect()
}

fn bundles(world: &World) -> HashSet<*const nuncio_model::TrustBundle> {
    places(world, |tls| tls.verify.roots.bundle.as_ref())
}

fn clients(world: &World) -> HashSet<*const nuncio_model::ClientIdentity> {
    places(world, |tls| tls.client.as_ref())
}

fn lists(world: &World) -> HashSet<*const nuncio_model::CrlSet> {
    places(world, |tls| tls.verify.crls.as_ref())
}

/// Mappings to upstreams of their own, spread over these contexts.
fn mappings(count: usize, contexts: &[&str]) -> String {
    let each = (0..count).map(|number| {
        let context = contexts[number % contexts.len()];
        let spec = format!("service: https://h{number}.test; tls: {context}");
        mapping(&format!("m{number}"), &spec)
    });
    each.collect()
}

#[test]
fn g6_a_bundle_of_five_thousand_upstreams_is_one_whichever_secret_it_stands_in() {
    let cas: Vec<Authority> = (0..150)
        .map(|number| authority(&format!("ca {number}")))
        .collect();
    let bundle: String = cas.iter().map(|ca| ca.pem.as_str()).collect();
    let crl = cas[0].crl(&[1], (2027, 1, 1));
    let names = ["a", "b", "c", "d", "e"];
    let mut manifests = mappings(5_000, &names);
    for name in names {
        manifests += &ca_secret(&format!("ca-{name}"), "ca.crt", &bundle);
        manifests += &ca_secret(&format!("crl-{name}"), "crl.pem", &crl);
        let spec = format!("ca_secret: ca-{name}; crl_secret: crl-{name}");
        manifests += &context(name, &spec);
    }
    let world = world(&manifests).fine();
    assert_eq!(settings(&world).count(), 5_000);
    assert_eq!((bundles(&world).len(), lists(&world).len()), (1, 1));
}

#[test]
fn r7_a_secret_of_two_thousand_mappings_is_read_once_a_rotation() {
    let ca = authority("ca.test");
    let (old, new) = (ca.leaf("old.test"), ca.leaf("new.test"));
    let rest = mappings(2_000, &["ctx"])
        + &ca_secret("ca", "ca.crt", &ca.pem)
        + &ca_secret("crl", "crl.pem", &ca.crl(&[], (2027, 1, 1)))
        + &context("ctx", "secret: s; ca_secret: ca; crl_secret: crl");
    let before = world(&(tls_secret("s", "default", &old) + &rest)).fine();
    assert_eq!(settings(&before).count(), 2_000);
    assert_eq!(clients(&before).len(), 1);

    // An edit of something else: nothing of the old is read again.
    let edit = mapping("more", "service: https://more.test; tls: ctx");
    let edited = before
        .then(&(tls_secret("s", "default", &old) + &rest + &edit))
        .fine();
    assert_eq!(settings(&edited).count(), 2_001);
    let all = |world: &World| (clients(world), bundles(world), lists(world));
    assert_eq!(all(&edited), all(&before));

    let rotated = edited.then(&(tls_secret("s", "default", &new) + &rest)).fine();
    assert_eq!(clients(&rotated).len(), 1);
    assert_ne!(clients(&rotated), clients(&before));
    assert_eq!(
        (bundles(&rotated), lists(&rotated)),
        (bundles(&before), lists(&before))
    );
    // What is no longer configured is not kept for a later compile.
    let gone = std::sync::Weak::clone(&first_client(&edited));
    drop((before, edited));
    assert!(gone.upgrade().is_none());
}

fn first_client(world: &World) -> std::sync::Weak<nuncio_model::ClientIdentity> {
    let client = settings(world).find_map(|tls| tls.client.as_ref());
    Arc::downgrade(client.expect("a client certificate"))
}

/// What is known of a text is used as long as the clock passes none of the moments that it names.
#[test]
fn what_is_told_of_known_material_follows_the_clock() {
    let ca = authority("ca.test");
    let manifests = tls_secret("s", "default", &ca.leaf("client.test"))
        + &ca_secret("ca", "ca.crt", &ca.pem)
        + &ca_secret("crl", "crl.pem", &ca.crl(&[], (2026, 10, 1)))
        + &context("ctx", "secret: s; ca_secret: ca; crl_secret: crl")
        + &mapping("m", "service: https://a.test; tls: ctx");
    let at = |days: u64, last_good: &LastGood| {
        // From the beginning of 2026, as which the certificates of the tests begin to be valid.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + days * 86_400);
        let options = Options { now, ..options() };
        World::new(&manifests, &options, last_good)
    };
    let mut last_good = LastGood::default();
    for days in [10, 20, 300, 400, 20, 400] {
        let known = at(days, &last_good);
        let fresh = at(days, &LastGood::default());
        assert_eq!(known.problems(), fresh.problems(), "day {days}");
        let overdue = known.told(Severity::Warning);
        let overdue = overdue
            .iter()
            .filter(|line| line.contains("followed by the next"));
        assert_eq!(overdue.count() > 0, days >= 300, "day {days}");
        let expired = known
            .problems()
            .iter()
            .filter(|problem| problem.reason == "certificate_expired");
        assert_eq!(expired.count() > 0, days >= 400, "day {days}");
        last_good = known.output.last_good;
    }
}

/// Whoever holds a certificate that ends is told, also where another context has its text as well.
#[test]
fn a_text_of_two_secrets_that_expires_is_told_of_both() {
    let pair = authority("ca.test").leaf("client.test");
    let manifests = tls_secret("s", "default", &pair)
        + &tls_secret("t", "default", &pair)
        + &context("a", "secret: s")
        + &context("b", "secret: t")
        + &mapping("m", "service: https://a.test; tls: a")
        + &mapping("n", "service: https://b.test; tls: b; prefix: /n/");
    let at = |days: u64, last_good: &LastGood| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + days * 86_400);
        World::new(&manifests, &Options { now, ..options() }, last_good)
    };
    let mut last_good = LastGood::default();
    for days in [10, 20, 400, 401, 20] {
        let known = at(days, &last_good);
        let fresh = at(days, &LastGood::default());
        assert_eq!(known.problems(), fresh.problems(), "day {days}");
        last_good = known.output.last_good;
    }
}

/// One of which something is to be told is not kept; that it goes is seen all the same.
#[test]
fn a_context_with_a_notice_that_goes_is_missed() {
    let noisy = context("ctx", "sni: a.test; hosts: [a.test]");
    let to_it = mapping("m", "service: https://a.test; tls: ctx");
    let before = world(&(noisy.clone() + &to_it));
    let again = before.then(&(noisy + &to_it));
    let gone = again.then(&to_it);
    gone.tells(Severity::Error, "Mapping m", "`ctx`, which does not exist");
}
