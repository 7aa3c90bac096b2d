use std::collections::BTreeSet;

use super::*;

/// Keywords that a structural schema may have in one place, besides those that lead on.
const ALLOWED: &[&str] = &[
    "description",
    "type",
    "format",
    "enum",
    "minimum",
    "maximum",
    "maxLength",
    "required",
    "properties",
    "additionalProperties",
    "items",
    OPEN,
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
];

fn named(kind: &str) -> Value {
    let mut all = definitions().into_iter();
    all.find(|definition| definition["spec"]["names"]["kind"] == kind)
        .unwrap()
}

fn schemas(definition: &Value) -> impl Iterator<Item = &Value> {
    let versions = definition["spec"]["versions"].as_array().unwrap().iter();
    versions.map(|version| &version["schema"]["openAPIV3Schema"])
}

fn served(definition: &Value) -> &Value {
    let versions = definition["spec"]["versions"].as_array().unwrap();
    versions.iter().find(|version| version["served"] == true).unwrap()
}

fn spec_of(kind: &str) -> Value {
    served(&named(kind))["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// The rules of <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>,
/// "Specifying a structural schema".
fn is_structural(schema: &Value, path: &str) {
    let object = schema
        .as_object()
        .unwrap_or_else(|| panic!("{path} is no schema"));
    for key in object.keys() {
        assert!(ALLOWED.contains(&key.as_str()), "{path} has {key}");
    }
    let kind = object.get("type").and_then(Value::as_str);
    assert!(
        kind.is_some() || object.get(OPEN) == Some(&true.into()),
        "{path} has no type and is not open"
    );
    let both = object.contains_key("properties") && object.contains_key("additionalProperties");
    assert!(!both, "{path} has properties and additionalProperties");
    let leads_on = |key: &str| object.contains_key(key);
    if leads_on("properties") || leads_on("additionalProperties") || leads_on("x-kubernetes-validations") {
        assert_eq!(kind, Some("object"), "{path}");
    }
    assert_eq!(leads_on("items"), kind == Some("array"), "{path}");
    for (name, inner) in object
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        is_structural(inner, &format!("{path}.{name}"));
    }
    for key in ["additionalProperties", "items"] {
        if let Some(inner) = object.get(key) {
            is_structural(inner, &format!("{path}[]"));
        }
    }
}

#[test]
fn every_schema_is_structural() {
    for definition in definitions() {
        let name = definition["metadata"]["name"].as_str().unwrap();
        for schema in schemas(&definition) {
            is_structural(schema, name);
        }
    }
}

#[test]
fn every_kind_of_the_reference_has_a_definition() {
    let kinds: BTreeSet<String> = definitions()
        .iter()
        .map(|definition| definition["spec"]["names"]["kind"].as_str().unwrap().to_owned())
        .collect();
    let reference = "AuthService ConsulResolver DevPortal Host KubernetesEndpointResolver \
                     KubernetesServiceResolver Listener LogService Mapping Module RateLimitService TCPMapping \
                     TLSContext TracingService";
    assert_eq!(kinds, reference.split_whitespace().map(str::to_owned).collect());
}

#[test]
fn versions_that_objects_may_be_stored_in_stay_and_are_not_served() {
    for definition in definitions() {
        let versions = definition["spec"]["versions"].as_array().unwrap();
        let told: Vec<_> = versions
            .iter()
            .map(|version| {
                let name = version["name"].as_str().unwrap();
                (name, version["served"] == true, version["storage"] == true)
            })
            .collect();
        let expected = [
            ("v1", false, false),
            ("v2", false, false),
            ("v3alpha1", true, true),
        ];
        assert_eq!(told, expected);
        assert!(versions.iter().all(
            |version| version["schema"]["openAPIV3Schema"][OPEN] == true || version["name"] == "v3alpha1"
        ));
        assert_eq!(definition["spec"]["conversion"]["strategy"], "None");
        assert_eq!(definition["spec"]["preserveUnknownFields"], false);
        assert_eq!(served(&definition)["subresources"], json!({"status": {}}));
    }
}

/// Fields of the reference's v3alpha1, so that none is pruned.
#[test]
fn every_field_of_the_reference_has_a_place() {
    let reference = [
        (
            "Mapping",
            "add_linkerd_headers add_request_headers add_response_headers allow_upgrade ambassador_id \
             auth_context_extensions auto_host_rewrite bypass_auth bypass_error_response_overrides case_sensitive \
             circuit_breakers cluster_idle_timeout_ms cluster_max_connection_lifetime_ms cluster_tag \
             connect_timeout_ms cors dns_type docs enable_ipv4 enable_ipv6 envoy_override error_response_overrides \
             grpc headers health_checks host host_redirect host_regex host_rewrite hostname idle_timeout_ms \
             keepalive labels load_balancer method method_regex modules outlier_detection path_redirect precedence \
             prefix prefix_exact prefix_redirect prefix_regex priority query_parameters redirect_response_code \
             regex_headers regex_query_parameters regex_redirect regex_rewrite remove_request_headers \
             remove_response_headers resolver respect_dns_ttl retry_policy rewrite service shadow stats_name \
             timeout_ms tls use_websocket v2BoolHeaders v2BoolQueryParameters v2ExplicitTLS weight",
        ),
        (
            "TLSContext",
            "alpn_protocols ambassador_id ca_secret cacert_chain_file cert_chain_file cert_required cipher_suites \
             crl_secret ecdh_curves hosts max_tls_version min_tls_version private_key_file redirect_cleartext_from \
             secret secret_namespacing sni",
        ),
        (
            "Host",
            "acmeProvider ambassador_id hostname mappingSelector previewUrl requestPolicy selector tls tlsContext \
             tlsSecret",
        ),
        (
            "Listener",
            "ambassador_id hostBinding http2MaxConcurrentStreams l7Depth port protocol protocolStack securityModel \
             statsPrefix",
        ),
        ("Module", "ambassador_id config"),
        ("KubernetesServiceResolver", "ambassador_id"),
        ("KubernetesEndpointResolver", "ambassador_id"),
    ];
    for (kind, fields) in reference {
        let spec = spec_of(kind);
        for field in fields.split_whitespace() {
            assert!(spec["properties"][field].is_object(), "{kind} has no {field}");
        }
    }
    let retry = &spec_of("Mapping")["properties"]["retry_policy"]["properties"];
    for field in ["retry_on", "num_retries", "per_try_timeout", "retry_back_off"] {
        assert!(retry[field].is_object(), "retry_policy has no {field}");
    }
}

/// A path that leads nowhere would be a rule that is not there.
#[test]
fn restrictions_and_required_fields_name_fields_that_exist() {
    fn check<S: Spec>() {
        let mut spec = structural(schema::<S>().as_value());
        let values = S::VALUES.iter().map(|(path, _)| *path);
        for path in values.chain(S::REQUIRED.iter().copied()) {
            assert!(schema_at(&mut spec, path).is_some(), "{} {path}", S::KIND);
        }
        for rule in S::RULES {
            for field in rule.holds.split("self.").skip(1) {
                let end = field.find(|c: char| !c.is_alphanumeric() && c != '_');
                let field = &field[..end.unwrap_or(field.len())];
                assert!(schema_at(&mut spec, field).is_some(), "{} {field}", S::KIND);
            }
        }
    }
    check::<MappingSpec>();
    check::<TlsContextSpec>();
    check::<HostSpec>();
    check::<ListenerSpec>();
    check::<ModuleSpec>();
}

/// A field without a type is nothing to a rule (it cannot be read there), so each one that a rule reads has one.
#[test]
fn what_rules_read_has_a_type() {
    for kind in ["Mapping", "TLSContext", "Host"] {
        let spec = spec_of(kind);
        let rules = spec["x-kubernetes-validations"].as_array().unwrap();
        for rule in rules {
            for field in rule["rule"].as_str().unwrap().split("self.").skip(1) {
                let end = field.find(|c: char| !c.is_alphanumeric() && c != '_');
                let field = &field[..end.unwrap_or(field.len())];
                assert!(spec["properties"][field]["type"].is_string(), "{kind} {field}");
            }
        }
    }
}

#[test]
fn a_module_keeps_whatever_it_is_given() {
    let config = &spec_of("Module")["properties"]["config"];
    assert_eq!(config[OPEN], true);
    let fields = config["properties"].as_object().unwrap();
    assert!(fields["server_name"]["description"].is_string());
    assert!(
        fields
            .values()
            .all(|field| field.get("type").is_none() && field[OPEN] == true)
    );
}

#[test]
fn columns_are_those_of_the_reference() {
    let mapping = named("Mapping");
    let columns = served(&mapping)["additionalPrinterColumns"].as_array().unwrap();
    let titles: Vec<_> = columns
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        titles,
        ["Source Host", "Source Prefix", "Dest Service", "State", "Reason"]
    );
    assert_eq!(mapping["spec"]["names"]["categories"], json!(["ambassador-crds"]));
}
