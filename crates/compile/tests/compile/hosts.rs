//! Hosts, Listeners, and which objects count at all.

use nuncio_compile::{LastGood, Options};
use nuncio_model::{InsecureAction, SecurityModel, Severity};

use crate::material::{authority, tls_secret};
use crate::world::{World, mapping, object, objects, options, world};

fn host(name: &str, spec: &str) -> String {
    object("Host", name, "default", spec)
}

fn listener(name: &str, spec: &str) -> String {
    object(
        "Listener",
        name,
        "default",
        &format!("securityModel: XFP; {spec}"),
    )
}

const ALL: &str = "hostBinding: {namespace: {from: ALL}}";

fn labelled(manifest: &str, labels: &str) -> String {
    manifest.replacen("spec:", &format!("  labels: {{{labels}}}\nspec:"), 1)
}

/// Hostnames of a port.
fn hostnames(world: &World, port: u16) -> Vec<String> {
    let listener = world
        .output
        .snapshot
        .listeners
        .iter()
        .find(|listener| listener.port == port)
        .expect("it is open");
    listener
        .hosts
        .hosts()
        .iter()
        .map(|host| host.hostname.to_string())
        .collect()
}

#[test]
fn e17_without_hosts_and_listeners_everything_is_served_on_8080() {
    let world = world(&mapping("m", "service: svc")).fine();
    let listener = &world.output.snapshot.listeners[0];
    assert_eq!(
        (listener.port, &*listener.name, listener.security_model),
        (8080, "http-8080", SecurityModel::Xfp)
    );
    let host = &listener.hosts.hosts()[0];
    assert_eq!(
        (&*host.hostname, host.insecure, host.object.is_none()),
        ("*", InsecureAction::Route, true)
    );
    let notices = world.told(Severity::Notice);
    assert!(
        notices.iter().any(|line| line.contains("no Host"))
            && notices.iter().any(|line| line.contains("no Listener"))
    );
}

#[test]
fn e6_without_a_listener_no_port_is_opened_outside_file_mode() {
    let options = Options {
        open_default_listeners: false,
        ..options()
    };
    let world = World::new(&mapping("m", "service: svc"), &options, &LastGood::default());
    assert!(world.output.snapshot.listeners.is_empty());
    world.tells(Severity::Warning, "", "no port is opened");
}

#[test]
fn e17_a_broken_host_is_no_reason_for_a_host_of_our_own() {
    let world = world(&(host("h", "hostname: 5") + &mapping("m", "service: svc")));
    assert!(world.output.snapshot.listeners[0].hosts.hosts().is_empty());
    let foreign =
        self::world(&(host("h", "hostname: a.test; ambassador_id: [other]") + &mapping("m", "service: svc")))
            .fine();
    assert_eq!(hostnames(&foreign, 8080), ["*"]);
}

#[test]
fn hosts_have_their_policy() {
    let policy =
        |action: &str| format!("hostname: a.test; requestPolicy: {{insecure: {{action: {action}}}}}");
    for (spec, action) in [
        ("hostname: a.test".to_owned(), InsecureAction::Redirect),
        (policy("Route"), InsecureAction::Route),
        (policy("Reject"), InsecureAction::Reject),
        (policy("Redirect"), InsecureAction::Redirect),
    ] {
        let world = world(&(host("h", &spec) + &mapping("m", "service: svc"))).fine();
        assert_eq!(
            world.output.snapshot.listeners[0].hosts.hosts()[0].insecure,
            action,
            "{spec}"
        );
    }
    let world = world(&(host("h", &policy("Rout")) + &mapping("m", "service: svc")));
    world.tells(
        Severity::Error,
        "Host h spec.requestPolicy.insecure.action",
        "Redirect, Route or Reject",
    );
}

#[test]
fn e18_names_and_labels_pair_hosts_with_mappings() {
    let hosts = host(
        "any",
        "hostname: a.test; requestPolicy: {insecure: {action: Route}}",
    ) + &host(
        "red",
        "hostname: b.test; mappingSelector: {matchLabels: {colour: red}}",
    ) + &host("all", "hostname: c.test; selector: {matchLabels: {}}");
    let plain = |name: &str, spec: &str| {
        object(
            "Mapping",
            name,
            "default",
            &format!("service: svc; prefix: /{name}; {spec}"),
        )
    };
    let manifests = hosts
        + &plain("star", "hostname: \"*\"")
        + &plain("a", "hostname: a.test")
        + &labelled(&plain("red-star", "hostname: \"*\""), "colour: red")
        + &labelled(&plain("red-a", "hostname: a.test"), "colour: red")
        + &labelled(&plain("red", ""), "colour: red, size: big")
        + &plain("bare", "")
        + &plain("regex", "host: 'x'; host_regex: true");
    let routes = |world: &World| -> Vec<(String, Vec<String>)> {
        let hosts = world.output.snapshot.listeners[0].hosts.hosts().to_vec();
        let names = |host: &nuncio_model::VirtualHost| {
            let mut names: Vec<String> = host
                .routes
                .routes()
                .iter()
                .map(|route| route.targets[0].mapping.name.to_string())
                .collect();
            names.sort();
            names
        };
        hosts
            .iter()
            .map(|host| (host.hostname.to_string(), names(host)))
            .collect()
    };
    let found = world(&manifests);
    let expected = [
        ("a.test", vec!["a", "red-a", "red-star", "regex", "star"]),
        ("c.test", vec!["bare", "red", "red-star", "regex", "star"]),
        ("b.test", vec!["red", "red-star"]),
    ];
    let own = |list: &[(&str, Vec<&str>)]| -> Vec<(String, Vec<String>)> {
        list.iter()
            .map(|(host, names)| (host.to_string(), names.iter().map(ToString::to_string).collect()))
            .collect()
    };
    assert_eq!(
        routes(&found),
        own(&[expected[1].clone(), expected[0].clone(), expected[2].clone()])
    );

    let loose = Options {
        loose_label_selectors: true,
        ..options()
    };
    let found = World::new(&manifests, &loose, &LastGood::default());
    let red = routes(&found)
        .into_iter()
        .find(|(host, _)| host == "b.test")
        .unwrap()
        .1;
    assert_eq!(red, ["red", "red-a", "red-star", "regex", "star"]);
}

#[test]
fn e18_a_wildcard_host_with_a_selector_wants_both() {
    let plain = |name: &str, hostname: &str| {
        let spec = format!("service: svc; prefix: /{name}; hostname: {hostname}");
        labelled(&object("Mapping", name, "default", &spec), "colour: red")
    };
    let manifests = host(
        "h",
        "hostname: '*.a.test'; mappingSelector: {matchLabels: {colour: red}}",
    ) + &plain("inside", "x.a.test")
        + &plain("outside", "x.b.test")
        + &object(
            "Mapping",
            "pale",
            "default",
            "service: svc; prefix: /; hostname: x.a.test",
        );
    assert_eq!(world(&manifests).order(), ["inside"]);
}

#[test]
fn a_mapping_that_no_host_has_is_told() {
    let manifests = host("h", "hostname: a.test")
        + &object(
            "Mapping",
            "m",
            "default",
            "prefix: /; hostname: b.test; service: svc",
        )
        + &object("Mapping", "n", "default", "prefix: /; service: svc");
    let world = world(&manifests);
    world.tells(Severity::Warning, "Mapping m spec.hostname", "write a Host");
    world.tells(
        Severity::Warning,
        "Mapping n spec.hostname",
        "give it a `hostname`",
    );
}

#[test]
fn members_of_a_group_may_belong_to_different_hosts() {
    let plain = |name: &str| {
        object(
            "Mapping",
            name,
            "default",
            "service: svc; prefix: /; hostname: \"*\"",
        )
    };
    let manifests = host(
        "red",
        "hostname: a.test; mappingSelector: {matchLabels: {colour: red}}",
    ) + &host(
        "blue",
        "hostname: b.test; mappingSelector: {matchLabels: {colour: blue}}",
    ) + &host("both", "hostname: c.test")
        + &labelled(&plain("m"), "colour: red")
        + &labelled(&plain("n"), "colour: blue");
    let world = world(&manifests).fine();
    let hosts = world.output.snapshot.listeners[0].hosts.hosts().to_vec();
    let targets = |hostname: &str| -> Vec<(String, u8)> {
        let host = hosts.iter().find(|host| &*host.hostname == hostname).unwrap();
        host.routes.routes()[0]
            .targets
            .iter()
            .map(|t| (t.mapping.name.to_string(), t.share_end))
            .collect()
    };
    let all = |name: &str, end| (name.to_owned(), end);
    assert_eq!(targets("a.test"), [all("m", 100)]);
    assert_eq!(targets("b.test"), [all("n", 100)]);
    assert_eq!(targets("c.test"), [all("m", 50), all("n", 100)]);
}

#[test]
fn hosts_with_equal_routes_share_one_table() {
    let manifests =
        host("a", "hostname: a.test") + &host("b", "hostname: b.test") + &mapping("m", "service: svc");
    let world = world(&manifests).fine();
    let hosts = world.output.snapshot.listeners[0].hosts.hosts().to_vec();
    assert!(std::sync::Arc::ptr_eq(&hosts[0].routes, &hosts[1].routes));
}

#[test]
fn e4_listeners_bind_hosts() {
    let manifests = host("a", "hostname: a.test")
        + &labelled(&host("b", "hostname: b.test"), "public: yes-please")
        + &object("Host", "c", "other", "hostname: c.test")
        + &listener("all", &format!("port: 8001; protocol: HTTP; {ALL}"))
        + &listener(
            "own",
            "port: 8002; protocol: HTTP; hostBinding: {namespace: {from: SELF}}",
        )
        + &listener(
            "labels",
            "port: 8003; protocol: HTTP; l7Depth: 2; hostBinding: {selector: {matchLabels: {public: yes-please}}}",
        )
        + &listener("stack", &format!("port: 8004; protocolStack: [HTTP, TCP]; {ALL}"))
        + &mapping("m", "service: svc");
    let world = world(&manifests).fine();
    assert_eq!(hostnames(&world, 8001), ["a.test", "b.test", "c.test"]);
    assert_eq!(hostnames(&world, 8002), ["a.test", "b.test"]);
    assert_eq!(hostnames(&world, 8003), ["b.test"]);
    assert_eq!(hostnames(&world, 8004).len(), 3);
    assert_eq!(world.output.snapshot.listeners[2].l7_depth, 2);
}

#[test]
fn e3_listeners_that_are_not_opened() {
    for (spec, field) in [
        (format!("protocol: HTTP; {ALL}"), "spec.port"),
        (format!("port: 0; protocol: HTTP; {ALL}"), "spec.port"),
        (format!("port: 70000; protocol: HTTP; {ALL}"), "spec.port"),
        (format!("port: 8001; {ALL}"), "spec.protocol"),
        (format!("port: 8001; protocol: HTTP2; {ALL}"), "spec.protocol"),
        (format!("port: 8001; protocol: TCP; {ALL}"), "spec.protocol"),
        (format!("port: 8001; protocol: HTTPPROXY; {ALL}"), "spec.protocol"),
        (
            format!("port: 8001; protocolStack: [HTTP, UDP]; {ALL}"),
            "spec.protocolStack",
        ),
        ("port: 8001; protocol: HTTP".to_owned(), "spec.hostBinding"),
        (
            "port: 8001; protocol: HTTP; hostBinding: {}".to_owned(),
            "spec.hostBinding",
        ),
        (
            "port: 8001; protocol: HTTP; hostBinding: {namespace: {from: SOME}}".to_owned(),
            "spec.hostBinding.namespace.from",
        ),
        (
            "port: 8001; protocol: HTTP; hostBinding: {selector: {}}".to_owned(),
            "spec.hostBinding.selector",
        ),
        (
            "port: 8001; protocol: HTTP; hostBinding: {selector: {matchLabels: {no: such}}}".to_owned(),
            "spec.hostBinding",
        ),
        (format!("port: x; protocol: HTTP; {ALL}"), "spec.port"),
    ] {
        let world =
            world(&(listener("l", &spec) + &host("h", "hostname: a.test") + &mapping("m", "service: svc")));
        assert!(world.output.snapshot.listeners.is_empty(), "{spec}");
        world.tells(Severity::Error, &format!("Listener l {field}:"), "");
    }
    let model = object(
        "Listener",
        "l",
        "default",
        &format!("port: 8001; protocol: HTTP; securityModel: SAFE; {ALL}"),
    );
    world(&(model + &mapping("m", "service: svc"))).tells(
        Severity::Error,
        "Listener l spec.securityModel",
        "XFP",
    );
}

#[test]
fn e2_an_https_listener_serves_cleartext_and_says_so() {
    let world = world(
        &(listener("l", &format!("port: 8443; protocol: HTTPS; {ALL}")) + &mapping("m", "service: svc")),
    );
    assert_eq!(hostnames(&world, 8443), ["*"]);
    world.tells(Severity::Error, "Listener l spec.protocol", "cleartext only");
}

#[test]
fn a_port_and_a_hostname_are_taken_once() {
    let manifests = listener("a", &format!("port: 8001; protocol: HTTP; {ALL}"))
        + &listener("b", &format!("port: 8001; protocol: HTTP; {ALL}"))
        + &host(
            "one",
            "hostname: A.test; requestPolicy: {insecure: {action: Route}}",
        )
        + &host("two", "hostname: a.test");
    let world = world(&manifests);
    world.tells(
        Severity::Error,
        "Listener b spec.port",
        "taken by Listener a.default",
    );
    world.tells(Severity::Error, "Host two spec.hostname", "Host one.default");
    assert_eq!(hostnames(&world, 8001), ["a.test"]);
    assert_eq!(
        world.output.snapshot.listeners[0].hosts.hosts()[0].insecure,
        InsecureAction::Route
    );
}

#[test]
fn decision_18_a_host_without_its_secret_keeps_its_cleartext_side() {
    let manifests = host("h", "hostname: a.test; tlsSecret: {name: s}") + &mapping("m", "service: svc");
    let world = world(&manifests);
    world.tells(Severity::Error, "Host h spec.tlsSecret", "no TLS side");
    assert_eq!(hostnames(&world, 8080), ["a.test"]);
    let forced = Options {
        force_secret_validation: true,
        ..options()
    };
    let disabled = World::new(&manifests, &forced, &LastGood::default());
    assert!(
        disabled.output.snapshot.listeners[0].hosts.hosts().is_empty(),
        "and no Host of our own stands in"
    );

    let whole =
        self::world(&(tls_secret("s", "default", &authority("ca").leaf("a.test")) + &manifests)).fine();
    assert!(
        whole
            .told(Severity::Notice)
            .iter()
            .any(|line| line.contains("port 8443 is not opened"))
    );
}

#[test]
fn k13_objects_for_another_gateway_do_not_exist() {
    let with_id = |name: &str, id: &str| mapping(name, &format!("service: svc; ambassador_id: {id}"));
    let manifests = with_id("a", "[other]")
        + &with_id("b", "[other, default]")
        + &with_id("c", "default")
        + &with_id("d", "_automatic_")
        + &with_id("e", "[]")
        + &mapping("f", "service: svc; ambassadorId: other")
        + &mapping("g", "service: svc")
        // The same name twice is no duplicate when one of them is not ours.
        + &mapping("a", "service: svc");
    let mut order = world(&manifests).fine().order();
    order.sort();
    assert_eq!(order, ["a", "b", "c", "d", "g"]);

    let other = Options {
        ambassador_id: "other".into(),
        ..options()
    };
    let mut order = World::new(&manifests, &other, &LastGood::default())
        .fine()
        .order();
    order.sort();
    assert_eq!(order, ["a", "b", "d", "f"]);
    let bad = world(&with_id("m", "{a: b}"));
    assert!(bad.routes().is_empty());
    bad.tells(Severity::Error, "Mapping m spec.ambassador_id", "for no gateway");
}

#[test]
fn a27_of_two_objects_with_one_name_the_first_is_kept() {
    let world = world(&(mapping("m", "service: one") + &mapping("m", "service: two")));
    assert_eq!(world.address("m"), "one:80");
    world.tells(Severity::Error, "Mapping m metadata.name", "a second time");
}

#[test]
fn one_namespace_only() {
    let options = Options {
        single_namespace: true,
        ..options()
    };
    let elsewhere = object(
        "Mapping",
        "n",
        "other",
        "hostname: \"*\"; prefix: /; service: svc",
    );
    let world = World::new(
        &(mapping("m", "service: svc") + &elsewhere),
        &options,
        &LastGood::default(),
    )
    .fine();
    assert_eq!(world.order(), ["m"]);
}

#[test]
fn items_of_a_list_are_objects() {
    let list = "
apiVersion: v1
kind: List
items:
- {apiVersion: getambassador.io/v3alpha1, kind: Mapping, metadata: {name: m}, spec: {hostname: '*', prefix: /, service: svc}}
- {apiVersion: v1, kind: Service}
";
    let world = world(list);
    assert_eq!(world.order(), ["m"]);
    world.tells(Severity::Error, "", "metadata.name");
}

#[test]
fn a_document_needs_a_head() {
    use nuncio_compile::Object;
    use serde_json::json;
    for (document, field) in [
        (json!([1]), ""),
        (
            json!({"kind": "Mapping", "metadata": {"name": "a"}}),
            "apiVersion",
        ),
        (json!({"apiVersion": "v1", "metadata": {"name": "a"}}), "kind"),
        (
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}}),
            "metadata.name",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": 5}}),
            "metadata.name",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": 5}}),
            "metadata.namespace",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "labels": {"b": 5}}}),
            "metadata.labels.b",
        ),
    ] {
        let problem = Object::from_document(document, None).unwrap_err();
        assert_eq!(problem.field.as_deref().unwrap_or_default(), field);
    }
    assert_eq!(
        &*objects("{apiVersion: v1, kind: Secret, metadata: {name: a}}").objects[0]
            .reference
            .namespace,
        "default"
    );
}

#[test]
fn problems_stand_in_the_order_of_the_objects() {
    let manifests = mapping("z", "service: svc:443")
        + &mapping("a", "service: svc:443")
        + &mapping("k", "service: svc:443");
    let names: Vec<String> = world(&manifests)
        .problems()
        .iter()
        .filter_map(|problem| Some(problem.object.as_ref()?.name.to_string()))
        .collect();
    assert_eq!(names, ["z", "a", "k"]);
}

/// A Host that is lost to a slip would leave its requests to one for more names, which may serve them.
#[test]
fn a_url_as_hostname_counts_as_its_host() {
    for text in [
        "https://a.test",
        "a.test/",
        "https:/a.test/x",
        "' a.test'",
        "//a.test",
    ] {
        let manifests = host(
            "narrow",
            &format!("hostname: {text}; requestPolicy: {{insecure: {{action: Reject}}}}"),
        ) + &host(
            "wide",
            "hostname: \"*\"; requestPolicy: {insecure: {action: Route}}",
        ) + &mapping("m", "service: https://svc");
        let world = world(&manifests);
        world.tells(Severity::Error, "Host narrow spec.hostname", "counts as `a.test`");
        let listener = &world.output.snapshot.listeners[0];
        let found = listener.hosts.find("a.test").expect("a Host");
        assert_eq!(
            (&*found.hostname, found.insecure),
            ("a.test", InsecureAction::Reject),
            "{text}"
        );
    }
}

#[test]
fn a_mapping_for_a_url_has_no_route() {
    for field in ["hostname", "host"] {
        let manifest = mapping("m", "service: https://svc")
            .replace("hostname: \"*\"", &format!("{field}: https://a.test"));
        let world = world(&manifest);
        world.tells(
            Severity::Error,
            &format!("Mapping m spec.{field}"),
            "write `a.test`",
        );
        assert!(world.order().is_empty());
    }
}

/// Without its hostname it would be for every host, and without its selector for every Mapping.
#[test]
fn a_host_that_loses_what_it_is_for_is_not_served() {
    for spec in [
        "hostnme: a.test",
        "host: a.test",
        "hostname: a.test; mappingSelectr: {matchLabels: {a: b}}",
    ] {
        let manifests = host(
            "h",
            &format!("{spec}; requestPolicy: {{insecure: {{action: Route}}}}"),
        ) + &mapping("m", "service: https://svc");
        let world = world(&manifests);
        assert!(world.order().is_empty(), "{spec}");
        world.tells(Severity::Error, "Host h spec", "the Host is not served");
    }
}
