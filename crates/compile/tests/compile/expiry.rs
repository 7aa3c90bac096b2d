//! Warnings before certificates end, and when to compile again for the next.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use nuncio_compile::{LastGood, Options};
use nuncio_model::{CertificateRole, Problem, Severity};

use crate::material::{authority, authority_until, ca_secret, secret, tls_secret};
use crate::world::{World, context, mapping, object, options};

const DAY: u64 = 24 * 60 * 60;

/// The end of the certificates of the tests, 2027-01-01, but so many days and seconds.
fn before_the_end(days: u64, seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600 - days * DAY - seconds)
}

fn at(now: SystemTime) -> Options {
    Options { now, ..options() }
}

fn compiled(manifests: &str, now: SystemTime) -> World {
    World::new(manifests, &at(now), &LastGood::default())
}

/// Every problem about a certificate's end as `severity reason object field`.
fn told(world: &World) -> Vec<String> {
    let about = |problem: &&Problem| problem.reason.starts_with("certificate_");
    let line = |problem: &Problem| {
        let object = problem.object.as_ref().expect("each is about an object");
        format!(
            "{} {} {} {} {}",
            problem.severity.as_str(),
            problem.reason,
            object.kind,
            object.name,
            problem.field.as_deref().unwrap_or_default()
        )
    };
    world.problems().iter().filter(about).map(line).collect()
}

/// Mapping `m` with context `ctx` of a client certificate and a CA.
fn mutual() -> String {
    let ca = authority("ca.test");
    tls_secret("s", "default", &ca.leaf("client.test"))
        + &ca_secret("ca", "ca.crt", &ca.pem)
        + &context("ctx", "secret: s; ca_secret: ca")
        + &mapping("m", "service: https://a.test; tls: ctx")
}

fn module(days: &str) -> String {
    object(
        "Module",
        "ambassador",
        "default",
        &format!("config: {{certificate_expiry_warning_days: {days}}}"),
    )
}

#[test]
fn each_warning_is_on_the_context_and_on_its_mappings() {
    let manifests = mutual();
    let ctx = |field| format!("warning certificate_expires TLSContext ctx {field}");
    let m = "warning certificate_expires Mapping m spec.tls".to_owned();
    let all = vec![ctx("spec.secret"), ctx("spec.ca_secret"), m.clone(), m];

    assert_eq!(told(&compiled(&manifests, before_the_end(30, 1))), [""; 0]);
    let first = compiled(&manifests, before_the_end(30, 0));
    assert_eq!(told(&first), all);
    let within = "expires within 30 days (in 30 days, at 2027-01-01T00:00:00Z)";
    first.tells(
        Severity::Warning,
        "Mapping m spec.tls",
        &format!(
            "client certificate `CN=client.test` of TLSContext ctx.default (Secret s.default, tls.crt) {within}; \
             put a renewed one in its place"
        ),
    );
    first.tells(
        Severity::Warning,
        "Mapping m spec.tls",
        &format!(
            "CA certificate `CN=ca.test` of TLSContext ctx.default (Secret ca.default, ca.crt) {within}; put its \
             successor beside it, and take it away once no upstream uses it"
        ),
    );
    first.tells(
        Severity::Warning,
        "TLSContext ctx spec.secret",
        &format!("client certificate `CN=client.test` in Secret s.default, tls.crt {within}; put"),
    );

    let second = compiled(&manifests, before_the_end(7, 0));
    assert_eq!(told(&second), all);
    let within = "expires within 7 days (in 7 days, at 2027-01-01T00:00:00Z)";
    second.tells(
        Severity::Warning,
        "Mapping m ",
        &format!("client.test` of TLSContext ctx.default (Secret s.default, tls.crt) {within}"),
    );
}

#[test]
fn an_end_is_on_the_secret_and_on_the_mappings() {
    let world = compiled(&mutual(), before_the_end(0, 0) + Duration::from_secs(1));
    assert_eq!(
        told(&world),
        [
            "warning certificate_expired Secret s stringData.tls.crt",
            "notice certificate_expired Secret ca stringData.ca.crt",
            "warning certificate_expired Mapping m spec.tls",
            "warning certificate_expired Mapping m spec.tls",
        ]
    );
    world.tells(
        Severity::Warning,
        "Mapping m ",
        "(Secret s.default, tls.crt) expired at 2027-01-01T00:00:00Z; put a renewed one in its place",
    );
}

/// Row V5: what a change of CAs leaves behind is harmless, what is about to end is not.
#[test]
fn a_bundle_is_told_once_a_mapping_of_what_matters_in_it() {
    let members = [
        authority_until("old.test", (2026, 2, 1)),
        authority_until("late.test", (2026, 6, 30)),
        authority_until("soon.test", (2026, 6, 25)),
        authority("good.test"),
    ];
    let bundle = |which: std::ops::Range<usize>| -> String {
        members[which].iter().map(|ca| ca.pem.clone()).collect()
    };
    let manifests = |bundle: &str| {
        ca_secret("ca", "ca.crt", bundle)
            + &context("ctx", "ca_secret: ca")
            + &mapping("m", "service: https://a.test; tls: ctx")
    };
    let now = options().now;
    let world = compiled(&manifests(&bundle(0..4)), now);
    assert_eq!(
        told(&world),
        [
            "notice certificate_expired Secret ca stringData.ca.crt",
            "warning certificate_expires TLSContext ctx spec.ca_secret",
            "warning certificate_expires TLSContext ctx spec.ca_secret",
            "warning certificate_expires Mapping m spec.tls",
        ]
    );
    world.tells(
        Severity::Warning,
        "Mapping m ",
        "`CN=soon.test` of TLSContext ctx.default (Secret ca.default, ca.crt) expires within 7 days (in 4 days, at \
         2026-06-25T00:00:00Z), the first of 2; ",
    );
    let beside_a_good_one = bundle(0..1) + &bundle(3..4);
    let world = compiled(&manifests(&beside_a_good_one), now);
    assert_eq!(
        told(&world)[1..],
        ["notice certificate_expired Mapping m spec.tls"]
    );
    let world = compiled(&manifests(&bundle(0..1)), now);
    assert_eq!(
        told(&world)[1..],
        ["warning certificate_expired Mapping m spec.tls"]
    );
}

#[test]
fn two_thousand_mappings_with_one_bundle_are_two_thousand_problems() {
    let many: String = (0..150).map(|n| authority(&format!("ca-{n}.test")).pem).collect();
    let mut manifests = ca_secret("ca", "ca.crt", &many) + &context("ctx", "ca_secret: ca");
    for n in 0..2000 {
        let _ = write!(
            manifests,
            "{}",
            mapping(&format!("m{n}"), "service: https://a.test; tls: ctx")
        );
    }
    let told = told(&compiled(&manifests, before_the_end(3, 0)));
    let count = |object: &str| told.iter().filter(|line| line.contains(object)).count();
    assert_eq!((count(" TLSContext ctx "), count(" Mapping ")), (8, 2000));
}

#[test]
fn a_mapping_whose_context_serves_on_is_warned_of_what_it_serves() {
    let good = compiled(&mutual(), before_the_end(100, 0));
    let gone = mapping("m", "service: https://a.test; tls: ctx");
    let world = World::new(&gone, &at(before_the_end(7, 0)), &good.output.last_good);
    let m = "warning certificate_expires Mapping m spec.tls";
    assert_eq!(told(&world), [m, m]);
}

#[test]
fn the_days_can_be_set_and_turned_off() {
    let days = |days: &str, now| told(&compiled(&(module(days) + &mutual()), now)).len();
    assert_eq!(days("90", before_the_end(90, 0)), 4);
    assert_eq!(days("90", before_the_end(90, 1)), 0);
    assert_eq!(days("[14, 60]", before_the_end(60, 0)), 4);
    for off in ["0", "[]"] {
        assert_eq!(days(off, before_the_end(1, 0)), 0, "{off}");
        let over = before_the_end(0, 0) + Duration::from_secs(1);
        assert_eq!(days(off, over), 4, "an end is told in any case");
    }
    let fine = compiled(&(module("[60, 14]") + &mutual()), before_the_end(61, 0)).fine();
    let warnings = &fine.output.snapshot.settings.certificate_expiry_warnings;
    assert_eq!(warnings.days(), [60, 14]);
}

#[test]
fn days_that_are_none_are_refused_and_the_default_counts() {
    for (days, flaw) in [
        ("-7", "has -7, so the default of 30 and 7 is used"),
        ("[30, 0]", "has 0, so"),
        ("4000", "has 4000, so"),
        ("[1, 2, 3, 4, 5, 6, 7, 8, 9]", "has 9 numbers, so"),
        ("weekly", "expected a whole number or a list of whole numbers"),
        ("[1.5]", "expected a whole number or a list of whole numbers"),
    ] {
        let world = compiled(&(module(days) + &mutual()), before_the_end(30, 0));
        let object = "Module ambassador spec.config.certificate_expiry_warning_days";
        let flaw = flaw.replace("expected", "it must be");
        world.tells(Severity::Error, object, &flaw);
        assert_eq!(told(&world).len(), 4, "{days}");
    }
}

/// Compiles at each moment that the compile before announced, up to the last.
#[test]
fn the_next_moment_is_when_something_else_is_told() {
    let manifests = mutual();
    let mut now = before_the_end(400, 0);
    let mut story = Vec::new();
    while let Some(next) = compiled(&manifests, now).output.next_event {
        assert!(next > now);
        now = next;
        let world = compiled(&manifests, now);
        let message = |problem: &Problem| problem.message.split(" (").next().map(str::to_owned);
        let told = world
            .problems()
            .iter()
            .find(|problem| problem.reason.starts_with("certificate_"));
        story.push((now, told.and_then(message).unwrap_or_default()));
    }
    let days = |n| before_the_end(n, 0);
    assert_eq!(story.len(), 1 + 31 + 1);
    assert_eq!(story[0], (days(365), String::new()), "they become valid");
    assert_eq!(story[1].0, days(30));
    assert!(story[1].1.ends_with("expires within 30 days"), "{}", story[1].1);
    assert_eq!(story[24].0, days(7));
    assert!(story[24].1.ends_with("expires within 7 days"), "{}", story[24].1);
    assert_eq!(story[32].0, days(0) + Duration::from_secs(1));
    assert!(story[32].1.contains("expired at"), "{}", story[32].1);
}

#[test]
fn the_next_moment_may_be_that_of_a_revocation_list() {
    let ca = authority("ca.test");
    let manifests = ca_secret("ca", "ca.crt", &ca.pem)
        + &secret(
            "crl",
            "default",
            "Opaque",
            &[("crl.pem", &ca.crl(&[], (2026, 7, 1)))],
        )
        + &context("ctx", "ca_secret: ca; crl_secret: crl")
        + &mapping("m", "service: https://a.test; tls: ctx");
    let world = compiled(&manifests, options().now).fine();
    let next = world
        .output
        .next_event
        .expect("the list is to be followed by another");
    assert_eq!(next, SystemTime::UNIX_EPOCH + Duration::from_secs(1_782_864_000));
    let world = compiled(&manifests, next);
    world.tells(
        Severity::Warning,
        "TLSContext ctx spec.crl_secret",
        "2026-07-01T00:00:00Z",
    );
    assert_eq!(world.output.next_event, Some(before_the_end(30, 0)));
}

#[test]
fn nothing_that_ends_means_no_next_moment() {
    let world = compiled(&mapping("m", "service: https://a.test"), options().now);
    assert_eq!(world.output.next_event, None);
}

#[test]
fn certificates_of_hosts_are_listed_and_watched() {
    let manifests = tls_secret("h", "default", &authority("ca.test").leaf("h.test"))
        + &object("Host", "h", "default", "hostname: h.test; tlsSecret: {name: h}");
    let world = compiled(&manifests, before_the_end(31, 0));
    let listed = &world.output.snapshot.certificates;
    let roles: Vec<_> = listed
        .iter()
        .map(|one| (one.role, &*one.info.subject, &*one.from))
        .collect();
    assert_eq!(
        roles,
        [(CertificateRole::Server, "CN=h.test", "Secret h.default, tls.crt")]
    );
    let end = before_the_end(0, 0) + Duration::from_secs(1);
    let mut now = before_the_end(31, 0);
    while let Some(next) = compiled(&manifests, now).output.next_event {
        now = next;
    }
    assert_eq!(now, end, "the last thing to be told of it is its end");
    assert_eq!(
        told(&compiled(&manifests, end)),
        ["warning certificate_expired Secret h stringData.tls.crt"]
    );
}
