//! What guards requests and cannot be asked, and objects that are not read.

use nuncio_compile::{LastGood, Options};
use nuncio_model::Severity::{self, Error, Notice, Warning};
use nuncio_model::{Covers, Guard, Reason};

use crate::world::{World, mapping, object, options, world};

fn plain(api_version: &str, kind: &str, name: &str, spec: &str) -> String {
    format!("---\n{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: {name}}}, spec: {spec}}}\n")
}

fn guards(world: &World) -> &[Guard] {
    world.output.snapshot.guards.all()
}

/// Whether a request of a Mapping of [`world`] reaches its upstream.
fn passes(world: &World, mapping: &str, authority: &str, path: &str) -> bool {
    let guards = &world.output.snapshot.guards;
    guards.before(&world.forward(mapping), authority, path).is_none()
}

fn two_mappings() -> String {
    mapping("m", "service: svc") + &mapping("open", "service: svc; bypass_auth: true")
}

#[test]
fn an_auth_service_guards_every_mapping_without_bypass() {
    let world = world(&(two_mappings() + &object("AuthService", "auth", "other", "auth_service: auth")));
    assert!(!passes(&world, "m", "a.test", "/m/"));
    assert!(passes(&world, "open", "a.test", "/open/"));
    world.tells(Severity::Error, "AuthService auth", "are answered 503");
    let unresolved = &guards(&world)[0].unresolved;
    assert_eq!(unresolved.reason, Reason::FilterUnresolved);
    assert_eq!(
        world.errors(),
        [format!("AuthService auth : {}", unresolved.message)]
    );
    // What is redirected, or matches nothing, is not asked about.
    assert!(world.output.snapshot.guards.before_all().is_none());
}

#[test]
fn without_guards_every_request_passes() {
    let world = world(&two_mappings()).fine();
    assert!(guards(&world).is_empty() && passes(&world, "m", "a.test", "/m/"));
}

#[test]
fn an_older_or_annotated_auth_service_guards_as_well() {
    let annotated = "---\n{apiVersion: v1, kind: Service, metadata: {name: s, annotations: {getambassador.io/config: \
        \"{apiVersion: ambassador/v1, kind: AuthService, name: a, auth_service: auth}\"}}, spec: {clusterIP: None}}\n";
    for manifest in [
        plain("getambassador.io/v2", "AuthService", "a", "{auth_service: auth}"),
        plain(
            "getambassador.io/v1",
            "Module",
            "authentication",
            "{config: {auth_service: auth}}",
        ),
        annotated.to_owned(),
    ] {
        let world = world(&(two_mappings() + &manifest));
        assert!(!passes(&world, "m", "a.test", "/m/"), "{manifest}");
        assert_eq!(world.errors().len(), 1, "{:#?}", world.problems());
    }
}

#[test]
fn a_slip_in_kind_or_version_loses_no_guard() {
    for (version, kind, hint) in [
        (
            "getambassador.io/v3alpha1",
            "AuthServce",
            "did you mean `AuthService`?",
        ),
        (
            "getambassador.io/v3alpha1",
            "authservice",
            "did you mean `AuthService`?",
        ),
        (
            "getambassador.io/v3alpha2",
            "AuthService",
            "write `apiVersion: getambassador.io/v3alpha1`",
        ),
        (
            "getambasador.io/v3alpha1",
            "AuthService",
            "write `apiVersion: getambassador.io/v3alpha1`",
        ),
        (
            "ambassador/v0",
            "AuthService",
            "no AuthService of `ambassador/v0`",
        ),
        (
            "v3alpha1",
            "AuthService",
            "write `apiVersion: getambassador.io/v3alpha1`",
        ),
        (
            "getambassador.io/v3alpha1",
            "FilterPolcy",
            "did you mean `FilterPolicy`?",
        ),
        (
            "getambassador.io/v3alpha9",
            "FilterPolicy",
            "write `apiVersion: getambassador.io/v3alpha1`",
        ),
    ] {
        let world = world(&(two_mappings() + &plain(version, kind, "a", "{auth_service: auth}")));
        assert!(!passes(&world, "m", "a.test", "/m/"), "{version} {kind}");
        world.tells(Severity::Error, &format!("{kind} a"), hint);
    }
}

#[test]
fn a_slip_in_the_version_loses_no_guard_of_an_annotation() {
    for version in ["ambassador/v0", "getambassador.io/v3alpha2"] {
        let manifest = format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: s, annotations: {{getambassador.io/config: \
             \"{{apiVersion: {version}, kind: AuthService, name: a, auth_service: auth}}\"}}}}, \
             spec: {{clusterIP: None}}}}\n"
        );
        let world = world(&(two_mappings() + &manifest));
        assert!(!passes(&world, "m", "a.test", "/m/"), "{version}");
        world.tells(
            Severity::Error,
            "Service s",
            &format!("no AuthService of `{version}`"),
        );
    }
}

#[test]
fn another_gateways_guard_is_none_of_ours() {
    for kind in ["AuthService", "FilterPolicy", "TCPMapping", "AuthServce"] {
        let theirs = world(&(two_mappings() + &object(kind, "a", "default", "ambassador_id: [other]")));
        theirs.fine();
        let both =
            world(&(two_mappings() + &object(kind, "a", "default", "ambassador_id: [default, other]")));
        assert!(!both.problems().is_empty(), "{kind}");
    }
    // An id that cannot be read may be ours.
    let world = world(&(two_mappings() + &object("AuthService", "a", "default", "ambassador_id: 5")));
    assert!(!passes(&world, "m", "a.test", "/m/"));
}

#[test]
fn in_a_single_namespace_only_its_own_guards_count() {
    let options = Options {
        single_namespace: true,
        ..options()
    };
    for (namespace, passed) in [("other", true), ("default", false)] {
        let manifests = two_mappings() + &object("AuthService", "a", namespace, "auth_service: auth");
        let world = World::new(&manifests, &options, &LastGood::default());
        assert_eq!(passes(&world, "m", "a.test", "/m/"), passed, "{namespace}");
    }
}

#[test]
fn a_filter_policy_guards_what_its_rules_name() {
    const POLICY: &str = "{rules: [{host: a.test, path: /m/open/*, filters: []}, {host: a.test, path: /m/*, filters: [{name: jwt}]}]}";
    for version in [
        "getambassador.io/v3alpha1",
        "getambassador.io/v2",
        "gateway.getambassador.io/v1alpha1",
    ] {
        let world = world(&(two_mappings() + &plain(version, "FilterPolicy", "p", POLICY)));
        world.tells(Severity::Error, "FilterPolicy p", "is not supported yet");
        assert!(!passes(&world, "m", "a.test", "/m/x"));
        assert!(!passes(&world, "m", "a.test:8080", "/m/x"));
        assert!(passes(&world, "m", "a.test", "/m/open/x"));
        assert!(passes(&world, "m", "b.test", "/m/x"));
        assert!(passes(&world, "open", "a.test", "/m/x"));
    }
}

#[test]
fn a_filter_policy_without_filters_guards_nothing() {
    let policy = plain(
        "getambassador.io/v3alpha1",
        "FilterPolicy",
        "p",
        "{rules: [{host: '*', path: '*', filters: null}]}",
    );
    let world = world(&(two_mappings() + &policy)).fine();
    assert!(guards(&world).is_empty());
    world.tells(Severity::Notice, "FilterPolicy p", "it guards nothing");
}

fn module(config: &str) -> String {
    plain(
        "getambassador.io/v3alpha1",
        "Module",
        "ambassador",
        &format!("{{config: {config}}}"),
    )
}

#[test]
fn address_lists_guard_every_request() {
    for (config, field) in [
        ("{ip_allow: [{peer: 127.0.0.1}]}", "spec.config.ip_allow"),
        ("{ip_alow: [{peer: 127.0.0.1}]}", "spec.config.ip_alow"),
        ("{ipDeny: [{peer: 127.0.0.1}]}", "spec.config.ipDeny"),
        ("{ip_whitelist: [127.0.0.1]}", "spec.config.ip_whitelist"),
        (
            "{defaults: {ip_allow: [127.0.0.1]}}",
            "spec.config.defaults.ip_allow",
        ),
        ("{ip_allow: []}", "spec.config.ip_allow"),
        ("{ip_allow: 127.0.0.1}", "spec.config.ip_allow"),
        ("{ip_deny: [{remote: 10.0.0.0/8}]}", "spec.config.ip_deny"),
    ] {
        let world = world(&(two_mappings() + &module(config)));
        let guard = world.output.snapshot.guards.before_all().expect(config);
        assert_eq!(
            (&guard.covers, guard.unresolved.reason),
            (&Covers::Every, Reason::FilterUnresolved)
        );
        world.tells(
            Severity::Error,
            &format!("Module ambassador {field}"),
            "every request is answered 503",
        );
        assert!(!passes(&world, "open", "a.test", "/open/"));
    }
    for config in ["{ip_allow: null}", "{ip_deny: []}", "{}"] {
        let world = world(&(two_mappings() + &module(config))).fine();
        assert!(guards(&world).is_empty(), "{config}");
    }
}

#[test]
fn address_lists_are_not_lost_with_what_is_around_them() {
    for manifest in [
        plain(
            "getambassador.io/v3alpha1",
            "Module",
            "ambasador",
            "{config: {ip_allow: [{peer: 127.0.0.1}]}}",
        ),
        plain(
            "getambassador.io/v3alpha1",
            "Module",
            "Ambassador",
            "{config: {ip_deny: [{peer: 127.0.0.1}]}}",
        ),
        plain(
            "getambassador.io/v3alpha1",
            "Module",
            "ambassador",
            "{config: [{ip_allow: [{peer: 127.0.0.1}]}]}",
        ),
    ] {
        let world = world(&(two_mappings() + &manifest));
        assert!(world.output.snapshot.guards.before_all().is_some(), "{manifest}");
        assert!(!world.errors().is_empty());
    }
}

/// No Host at all has one for every hostname stand in, which serves cleartext.
#[test]
fn a_host_that_is_lost_to_a_slip_is_not_replaced() {
    for (version, kind) in [
        ("getambassador.io/v3alpha1", "Hostt"),
        ("getambassador.io/v3alpha2", "Host"),
        ("getambasador.io/v3alpha1", "Host"),
    ] {
        let world = world(&(two_mappings() + &plain(version, kind, "h", "{hostname: a.test}")));
        assert!(world.routes().is_empty(), "{version} {kind}");
        world.tells(Severity::Error, &format!("{kind} h"), "no other stands in for it");
    }
    assert_eq!(world(&two_mappings()).order(), ["open", "m"]);
}

const OURS: &str = "getambassador.io/v3alpha1";

/// Version, kind and name, and what is said of it.
const UNREAD: &[(&str, &str, &str, Severity, &str)] = &[
    (
        OURS,
        "TCPMapping",
        "a",
        Warning,
        "so its port is not opened; keep what serves it now",
    ),
    (
        OURS,
        "Filter",
        "a",
        Warning,
        "requests that a FilterPolicy sends through it are answered 503",
    ),
    (
        OURS,
        "RateLimitService",
        "a",
        Error,
        "no request is refused for being one too many",
    ),
    (OURS, "LogService", "a", Warning, "no access log is sent to it"),
    (OURS, "TracingService", "a", Warning, "no trace is sent to it"),
    (OURS, "DevPortal", "a", Notice, "catalogue"),
    (
        OURS,
        "Module",
        "tls",
        Warning,
        "write a TLSContext for each block",
    ),
    (OURS, "Module", "ambasador", Error, "did you mean `ambassador`?"),
    (
        OURS,
        "Module",
        "other",
        Notice,
        "only the one named `ambassador` is",
    ),
    (OURS, "Mappping", "a", Error, "did you mean `Mapping`?"),
    (
        OURS,
        "TLSContxt",
        "a",
        Error,
        "Mappings that name it are answered 503; did you mean `TLSContext`?",
    ),
    (OURS, "Project", "a", Warning, "is no kind that nuncio knows"),
    (
        "getambassador.io/v3alpha2",
        "Mapping",
        "a",
        Error,
        "no Mapping of `getambassador.io/v3alpha2`",
    ),
    (
        "x.getambassador.io/v3alpha1",
        "Mapping",
        "a",
        Error,
        "write `apiVersion: getambassador.io/v3alpha1`",
    ),
    (
        "ambassador/v0",
        "Mapping",
        "a",
        Error,
        "no Mapping of `ambassador/v0`",
    ),
    ("v1", "Mapping", "a", Error, "no Mapping of `v1`"),
    (
        "apps/v1",
        "Deployment",
        "a",
        Notice,
        "Deployment of apps/v1 is not read by nuncio",
    ),
    (
        "serving.knative.dev/v1",
        "Service",
        "a",
        Notice,
        "is not read by nuncio",
    ),
    (
        "networking.k8s.io/v1",
        "Ingress",
        "a",
        Notice,
        "is not read by nuncio",
    ),
];

#[test]
fn what_is_not_read_is_said_with_what_follows() {
    for &(version, kind, name, severity, text) in UNREAD {
        let world = world(&plain(version, kind, name, "{}"));
        world.tells(severity, &format!("{kind} {name}"), text);
    }
}

#[test]
fn an_ingress_of_ours_is_a_warning() {
    let ingress = |annotations: &str, class: &str| {
        format!(
            "---\n{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: i, annotations: {{{annotations}}}}}, spec: {{ingressClassName: {class}}}}}\n"
        )
    };
    let class = "---\n{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: edge}, spec: {controller: getambassador.io/ingress-controller}}\n";
    const CLASS: &str = "kubernetes.io/ingress.class: ambassador";
    for manifests in [
        ingress(CLASS, "null"),
        ingress("", "ambassador"),
        ingress("", "edge") + class,
    ] {
        world(&manifests).tells(
            Severity::Warning,
            "Ingress i",
            "their requests are answered 404; write a Host",
        );
    }
    for manifests in [
        ingress("", "nginx"),
        ingress("", "edge"),
        ingress(&format!("{CLASS}, getambassador.io/ambassador-id: other"), "null"),
    ] {
        assert_eq!(
            world(&manifests).told(Severity::Warning),
            [] as [String; 0],
            "{manifests}"
        );
    }
}

#[test]
fn many_objects_of_other_kinds_are_one_line_with_counts() {
    let object = |version: &str, kind: &str, name: usize| {
        format!("---\n{{apiVersion: {version}, kind: {kind}, metadata: {{name: x{name}}}}}\n")
    };
    let mut manifests: String = (0..12)
        .map(|name| object("apps/v1", "Deployment", name))
        .collect();
    manifests += &object("v1", "ConfigMap", 0);
    manifests += &object("networking.k8s.io/v1", "Ingress", 0);
    let world = world(&manifests);
    let told = world.told(Notice);
    let not_read: Vec<_> = told.iter().filter(|line| line.contains("not read")).collect();
    assert_eq!(
        not_read,
        [" : 14 objects are of kinds that nuncio does not read: 12 Deployment, 1 ConfigMap, 1 Ingress"]
    );
}
