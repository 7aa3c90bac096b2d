//! What messages advise, where a field has the right type and still cannot mean what it says.

use nuncio_model::{Reason, Severity};

use crate::material::{authority, tls_secret};
use crate::world::{context, mapping, object, world};

#[test]
fn a_prefix_that_looks_like_an_expression_is_a_warning() {
    for (prefix, says) in [
        ("/a/*", "has `*`, which stands for itself there"),
        ("/users/{id}/", "has `{`, which stands for itself there"),
        ("'/a/ '", "has white space, which no path has"),
        (
            "/{{ .Values.path }}/",
            "holds `{{ .Values.path }}`, a placeholder",
        ),
        ("'^/a/[0-9]+$'", "has `^`, which stands for itself there"),
        ("https://a.test/b/", "write `/b/`, and the host into `hostname`"),
        ("/\u{fc}/", "has `\u{fc}`, which paths have percent-encoded"),
        ("\"/a\\u0007/\"", "has a control character"),
        ("/a/../b/", "has a part `..`, which is resolved"),
        ("${PREFIX}", "holds `${PREFIX}`, a placeholder"),
    ] {
        let spec = format!("service: a; prefix: {prefix}");
        let manifests = mapping("m", &spec).replace("  prefix: /m/\n", "");
        world(&manifests).tells(Severity::Warning, "Mapping m spec.prefix", says);
    }
    for prefix in ["/odata/$metadata", "/a/(b)", "/a~b/c;d=e"] {
        let manifests = mapping("m", &format!("service: a; prefix: {prefix}"));
        world(&manifests.replace("  prefix: /m/\n", "")).fine();
    }
}

#[test]
fn a_host_that_no_request_has_says_what_to_write() {
    for (host, says) in [
        ("(a|b).test", "with `host_regex: true` beside it"),
        ("'.*\\.test'", "with `host_regex: true` beside it"),
        ("a.test,b.test", "a Mapping for each of the others"),
        (".a.test", "write `*.a.test`"),
        ("b\u{fc}cher.test", "write `xn--bcher-kva.test`"),
    ] {
        let manifests = mapping("m", "service: a").replace("hostname: \"*\"", &format!("hostname: {host}"));
        world(&manifests).tells(Severity::Error, "Mapping m spec.hostname", says);
        let host = object("Host", "h", "default", &format!("hostname: {host}"));
        assert_eq!(world(&host).errors().len(), 1, "{host}");
    }
    let expression = mapping("m", "service: a; host: (a|b)[.]test; host_regex: true");
    world(&expression.replace("  hostname: \"*\"\n", "")).fine();
}

#[test]
fn a_server_name_that_is_a_url_names_its_host() {
    for (sni, fix) in [
        ("https://a.test:8443/x", "write `a.test`"),
        ("a.test:443", "write `a.test`"),
        ("'*.a.test'", "write a DNS name"),
    ] {
        let world = world(&context("c", &format!("sni: {sni}")));
        world.tells(Severity::Error, "TLSContext c spec.sni", fix);
    }
    let verified = world(&context(
        "c",
        "verify: {mode: full, names: ['https://a.test/', 'spiffe://a/b']}",
    ));
    assert_eq!(verified.told(Severity::Warning).len(), 1);
    verified.tells(
        Severity::Warning,
        "TLSContext c spec.verify.names",
        "write `a.test`",
    );
}

#[test]
fn a_secret_by_its_path_is_told_the_form_of_names() {
    let told = |secret: &str, fix: &str| {
        let world = world(&context("c", &format!("secret: {secret}")));
        world.tells(Severity::Error, "TLSContext c spec.secret", fix);
    };
    told("other/web", "write `web.other` for a Secret of another namespace");
    told("/etc/certs", "such as `cacert_chain_file`");
}

#[test]
fn a_kind_of_kubernetes_in_another_version_is_a_warning() {
    for (version, kind) in [
        ("v1beta1", "Secret"),
        ("v1", "secrets"),
        ("V1", "Service"),
        ("discovery.k8s.io/v1beta1", "EndpointSlice"),
    ] {
        let world = world(&format!(
            "{{apiVersion: {version}, kind: {kind}, metadata: {{name: s}}}}"
        ));
        world.tells(
            Severity::Warning,
            &format!("{kind} s apiVersion"),
            "so the object is not read; write `kind: ",
        );
    }
    let other = world("{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: s}}");
    assert_eq!(other.fine().told(Severity::Notice).len(), 3);
}

#[test]
fn a_host_rewrite_that_is_no_host_is_refused() {
    for (host, says) in [
        ("a b", "names several hosts in one; write one"),
        ("a|b", "write one host name"),
    ] {
        let world = world(&mapping(
            "m",
            &format!("service: https://svc; host_rewrite: {host}"),
        ));
        world.refuses("m", Reason::ServiceInvalid);
        world.tells(Severity::Error, "Mapping m spec.host_rewrite", says);
    }
    world(&mapping("m", "service: https://svc; host_rewrite: a.test:8080")).fine();
}

#[test]
fn a_url_as_rewrite_is_told_its_path() {
    let world = world(&mapping("m", "service: a; rewrite: 'https://b.test/x/'"));
    world.tells(
        Severity::Warning,
        "Mapping m spec.rewrite",
        "write `/x/`, and the host into `host_rewrite`",
    );
}

#[test]
fn an_item_of_a_list_without_a_name_is_found_by_its_position() {
    let list = "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Secret, metadata: {name: a}}, \
                {apiVersion: v1, kind: Secret, metadata: {name: 5}}]}";
    world(list).tells(Severity::Error, " items[1].metadata.name", "put it in quotes");
}

#[test]
fn a_boolean_in_quotes_is_no_context() {
    let world = world(&mapping("m", "service: a; tls: 'true'"));
    world.tells(
        Severity::Error,
        "Mapping m spec.tls",
        "to encrypt, write `https://`",
    );
}

/// As `kubectl get --raw` prints them, and as exports are joined.
#[test]
fn items_of_a_list_of_one_kind_need_no_head_of_their_own() {
    let item = "{metadata: {name: m}, spec: {hostname: '*', prefix: /m/, service: a}}";
    let list = format!("{{apiVersion: getambassador.io/v3alpha1, kind: MappingList, items: [{item}]}}");
    assert_eq!(world(&list).fine().order(), ["m"]);
    let nested = format!("{{apiVersion: v1, kind: List, items: [{list}]}}");
    assert_eq!(world(&nested).fine().order(), ["m"]);
}

#[test]
fn several_methods_in_one_are_told_their_form() {
    let several = |method: &str| world(&mapping("m", &format!("service: a; method: \"{method}\"")));
    let fix = "write `GET|POST`, with `method_regex: true` beside it";
    let beside = "write `method_regex: true` beside it";
    several("GET|POST").tells(Severity::Warning, "Mapping m spec.method", beside);
    several("GET, POST").tells(Severity::Error, "Mapping m spec.method", fix);
    world(&mapping("m", "service: a; method: GET|POST; method_regex: true")).fine();
}

#[test]
fn a_group_of_another_language_in_a_rewrite_is_a_warning() {
    for substitution in ["/$1", "/${1}"] {
        let spec =
            format!("service: a; regex_rewrite: {{pattern: '/m/(.*)', substitution: '{substitution}'}}");
        world(&mapping("m", &spec)).tells(Severity::Warning, "Mapping m spec.regex_rewrite", "write \\1");
    }
}

#[test]
fn an_alpn_name_that_is_nearly_one_of_http_names_that() {
    for (names, fix) in [
        ("http2", "did you mean `h2`?"),
        ("http1.1", "did you mean `http/1.1`?"),
        ("h2 http/1.1", "put a comma between two names"),
        ("spdy/3", "write h2, http/1.1 or both"),
    ] {
        let world = world(&context("c", &format!("alpn_protocols: {names}")));
        world.tells(Severity::Warning, "TLSContext c spec.alpn_protocols", fix);
    }
}

/// The guide to Istio of the reference asks for the first.
#[test]
fn istio_names_in_alpn_are_no_problem() {
    for names in ["istio", "istio-peer-exchange", "istio-http/1.1", "h2,istio-h2"] {
        world(&context("c", &format!("alpn_protocols: {names}"))).fine();
    }
}

#[test]
fn a_version_that_is_not_read_is_named_as_written() {
    let v3 = "getambassador.io/v3alpha1";
    for version in [
        "ambassador/v0",
        "ambassador/v1",
        "getambassador.io/v0",
        "getambassador.io/v3alpha2",
        "x.getambassador.io/v3alpha1",
        "gateway.getambassador.io/v1alpha1",
        "v1",
        "apps/v1",
        "networking.k8s.io/v1",
    ] {
        let world = world(&mapping("m", "service: a").replace(v3, version));
        let says = format!(
            "no Mapping of `{version}`, so the object is not read and its requests have no route; write `apiVersion: {v3}`"
        );
        world.tells(Severity::Error, "Mapping m apiVersion", &says);
    }
    let renamed = object("AmbassadorMapping", "m", "default", "").replace(v3, &format!("x.{v3}"));
    world(&renamed).tells(
        Severity::Error,
        "AmbassadorMapping m apiVersion",
        "write `kind: Mapping` of",
    );
    for version in ["getambassador.io/v1", "getambassador.io/v2"] {
        let world = world(&mapping("m", "service: a").replace(v3, version));
        world.tells(Severity::Notice, "Mapping m apiVersion", version);
    }
}

/// Its extended key usage is that of servers.
#[test]
fn a_server_certificate_is_judged_only_where_upstreams_see_it() {
    let server = tls_secret("s", "default", &authority("ca").server("a.test"));
    let terminates = context("c", "hosts: [a.test]; secret: s");
    world(&(server.clone() + &terminates)).fine();
    let both = server
        + &terminates
        + &mapping("m", "service: https://a; tls: c")
        + &mapping("n", "service: https://b; tls: c");
    world(&both).tells(
        Severity::Warning,
        "Secret s stringData.tls.crt",
        "lacks clientAuth",
    );
}

#[test]
fn an_external_name_that_dns_cannot_find_is_an_error() {
    let service = |name: &str| {
        world(&format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{type: ExternalName, externalName: {name}}}\n"
        ))
    };
    let field = "Service s spec.externalName";
    service("https://a.test:8443/x").tells(Severity::Error, field, "write `a.test`");
    service("a.test:443").tells(Severity::Error, field, "write a DNS name");
    service("").tells(Severity::Error, field, "is missing");
    service("a.test").fine();
    service("127.0.0.1").fine();
}

#[test]
fn an_id_that_nothing_has_filled_in_is_not_another_gateway() {
    let world = world(&mapping("m", "service: a; ambassador_id: ['${AMBASSADOR_ID}']"));
    world.tells(
        Severity::Error,
        "Mapping m spec.ambassador_id",
        "holds `${AMBASSADOR_ID}`",
    );
    assert!(world.order().is_empty());
}

#[test]
fn a_placeholder_in_a_service_sends_nothing() {
    let world = world(&mapping("m", "service: 'https://{{ .Values.host }}'"));
    world.refuses("m", Reason::ServiceInvalid);
}
