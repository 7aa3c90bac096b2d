//! Over real manifests, as a user would ask.

use std::fs;

use tempfile::TempDir;

use super::*;

/// Two Mappings that share `/`, one that wants POST, one with rewrites; no Host.
const SHOP: &str = r#"---
apiVersion: getambassador.io/v3alpha1
kind: TLSContext
metadata: {name: strict}
spec:
  min_tls_version: v1.3
  sni: inner.test
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: canary}
spec:
  hostname: "*"
  prefix: /shop/
  service: https://new.test
  weight: 20
  tls: strict
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: shop}
spec:
  hostname: "*"
  prefix: /shop/
  service: http://old.test:8080
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: orders}
spec:
  hostname: "*"
  prefix: /orders/
  method: POST
  headers: {x-version: "2"}
  rewrite: /v2/
  host_rewrite: orders.internal
  service: http://10.0.0.5
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: broken}
spec:
  hostname: "*"
  prefix: /broken/
  service: https://a.test
  tls: nosuch
"#;

struct Asked {
    _folder: TempDir,
    paths: Vec<PathBuf>,
}

impl Asked {
    fn of(manifest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.yaml");
        fs::write(&path, manifest).unwrap();
        Self {
            _folder: folder,
            paths: vec![path],
        }
    }

    fn ask(&self, url: &str, method: &str, headers: &[&str], format: Format) -> (u8, String) {
        let args = ExplainArgs {
            url: url.to_owned(),
            config: self.paths.clone(),
            method: method.to_owned(),
            headers: headers.iter().map(|&header| header.to_owned()).collect(),
            format,
        };
        let options = Options {
            open_default_listeners: true,
            ..Options::default()
        };
        let mut out = Vec::new();
        let status = run(&Question::read(&args).unwrap(), &options, &mut out).unwrap();
        (status, String::from_utf8(out).unwrap())
    }

    /// What a plain GET is told.
    fn get(&self, url: &str) -> (u8, String) {
        self.ask(url, "GET", &[], Format::Text)
    }
}

const BY_REQUEST: &str = "
apiVersion: getambassador.io/v3alpha1
kind: TLSContext
metadata: {name: any}
spec: {auto_sni: true}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: any}
spec:
  hostname: \"*\"
  prefix: /
  service: https://edge.test
  tls: any
  retry_policy: {retry_on: connect-failure, num_retries: 2, per_try_timeout: 0.5s}
";

#[test]
fn the_server_name_of_a_request_is_told_where_requests_decide_it() {
    let manifests = Asked::of(BY_REQUEST);
    let (status, text) = manifests.get("http://Shop.test:8080/");
    assert_eq!(status, 0, "{text}");
    for line in [
        "sent again              2 times on connect-failure, each within 500 ms",
        "sni                 shop.test, from the Host header [TLSContext any.default, spec.auto_sni]",
        "verify names        shop.test            [TLSContext any.default, spec.auto_sni]",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let (_, text) = manifests.get("http://10.0.0.5:8080/");
    assert!(
        text.contains("none is sent: the Host header has no name"),
        "{text}"
    );
    let (_, json) = manifests.ask("http://b.test/", "GET", &[], Format::Json);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mapping = &json["mappings"][0];
    assert_eq!(mapping["upstream"]["tls"]["sni"]["value"], "b.test", "{json:#}");
    assert_eq!(mapping["retry_policy"]["per_try_timeout_ms"], 500, "{json:#}");
}

/// The last line: why no upstream is reached.
fn why(text: &str) -> String {
    text.rsplit("\n\n").next().unwrap().trim().replace('\n', " ")
}

#[test]
fn shares_and_tls_settings_are_told_with_their_origins() {
    let (status, text) = Asked::of(SHOP).get("http://a.test/shop/x?y=1");
    let expected = "\
GET http://a.test/shop/x?y=1
  Listener                  http-8080, port 8080 (the URL names none)
  Host                      * (made by default, as no Host exists)
  Mapping                   canary.default, 20 % of such requests
    matches                 prefix /shop/
    path                    /x?y=1
    Host header             a.test
    upstream                https://new.test:443 (strict.default)
      address               by DNS, new.test
      protocol              HTTP/1.1
      TLS                   [Mapping canary.default, spec.service]
        sni                 inner.test           [TLSContext strict.default, spec.sni]
        verify mode         report               [built-in default]
        verify names        inner.test           [TLSContext strict.default, spec.sni]
        roots               the system's         [built-in default]
        crl                 none                 [built-in default]
        pins                none                 [built-in default]
        client certificate  none                 [built-in default]
        min version         TLSv1.3              [TLSContext strict.default, spec.min_tls_version]
        max version         TLSv1.3              [built-in default]
        cipher suites       TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384,
                            TLS_CHACHA20_POLY1305_SHA256
                            [built-in default]
        groups              X25519MLKEM768, X25519, secp256r1, secp384r1 [built-in default]
        alpn                http/1.1             [built-in default]
  Mapping                   shop.default, 80 % of such requests
    matches                 prefix /shop/
    path                    /x?y=1
    Host header             a.test
    upstream                http://old.test:8080
      address               by DNS, old.test
      protocol              HTTP/1.1
      TLS                   none, cleartext is sent
";
    assert_eq!(text, expected);
    assert_eq!(status, 0);
}

#[test]
fn rewrites_and_conditions_are_applied() {
    let asked = Asked::of(SHOP);
    let (status, text) = asked.ask(
        "http://a.test:8080/orders/7",
        "POST",
        &["X-Version: 2"],
        Format::Text,
    );
    for line in [
        "  Listener                  http-8080, port 8080\n",
        "  Mapping                   orders.default\n",
        "    path                    /v2/7\n",
        "    Host header             orders.internal\n",
        "      address               10.0.0.5:80\n",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert_eq!(status, 0);
}

#[test]
fn a_condition_that_fails_is_named() {
    let asked = Asked::of(SHOP);
    let (status, text) = asked.get("http://a.test/orders/");
    let expected = "no Mapping matches, though 1 would take the path: orders.default wants method POST and another header x-version";
    assert_eq!(why(&text), expected);
    assert_eq!(status, 1);
    let (_, text) = asked.ask("http://a.test/orders/", "POST", &["x-version: 1"], Format::Text);
    assert!(
        why(&text).ends_with("orders.default wants another header x-version"),
        "{text}"
    );
}

#[test]
fn the_nearest_paths_are_named() {
    let (status, text) = Asked::of(SHOP).get("http://a.test/order");
    assert!(
        why(&text).starts_with("no Mapping takes the path /order: the nearest are prefix /orders/, "),
        "{text}"
    );
    assert_eq!(status, 1);
}

#[test]
fn a_mapping_that_cannot_be_served_says_so() {
    let (status, text) = Asked::of(SHOP).get("http://a.test/broken/");
    assert!(
        text.contains("    answers                 503 tls_config_unresolved\n"),
        "{text}"
    );
    assert!(text.contains("`nosuch`"), "{text}");
    assert_eq!(status, 1);
}

#[test]
fn a_port_that_nobody_serves_says_so() {
    let (status, text) = Asked::of(SHOP).get("http://a.test:99/shop/");
    assert_eq!(why(&text), "nothing listens on port 99: Listeners exist for 8080");
    assert_eq!(status, 1);
}

fn with_host(action: &str) -> Asked {
    Asked::of(&format!(
        "{SHOP}---\napiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {{name: a}}\nspec:\n  hostname: a.test\n  requestPolicy: {{insecure: {{action: {action}}}}}\n"
    ))
}

#[test]
fn an_unknown_host_names_those_that_exist() {
    let (status, text) = with_host("Route").get("http://b.test/shop/");
    assert_eq!(
        why(&text),
        "no Host is called b.test: Listener http-8080 knows a.test"
    );
    assert_eq!(status, 1);
    let (status, text) =
        with_host("Route").ask("http://b.test/shop/", "GET", &["Host: a.test"], Format::Text);
    assert!(
        text.contains("  Host                      a.default, hostname a.test\n"),
        "{text}"
    );
    assert_eq!(status, 0);
}

#[test]
fn a_host_that_turns_insecure_requests_away_says_so() {
    let cure = "ask by https, or set spec.requestPolicy.insecure.action: Route";
    for (action, does) in [("Redirect", "redirects it to https"), ("Reject", "answers 404")] {
        let (status, text) = with_host(action).get("http://a.test/shop/");
        assert_eq!(
            why(&text),
            format!("the request is insecure and Host a.default {does}: {cure}")
        );
        assert_eq!(status, 1);
        let (status, _) = with_host(action).get("https://a.test/shop/");
        assert_eq!(status, 0);
    }
}

#[test]
fn json_tells_the_same() {
    let (status, text) = Asked::of(SHOP).ask("http://a.test/shop/", "GET", &[], Format::Json);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 0);
    assert_eq!(answer["problem"], Value::Null);
    assert_eq!(answer["listener"]["port"], 8080);
    let canary = &answer["mappings"][0];
    assert_eq!(canary["share_percent"], 20);
    assert_eq!(
        canary["mapping"],
        json!({"kind": "Mapping", "namespace": "default", "name": "canary"})
    );
    let sni = &canary["upstream"]["tls"]["sni"];
    assert_eq!(sni["value"], "inner.test");
    assert_eq!(sni["origin"]["field"]["field"], "spec.sni");
    assert_eq!(canary["upstream"]["tls"]["min_version"]["value"], "TLSv1.3");
    assert_eq!(answer["mappings"][1]["upstream"]["tls"], Value::Null);
    let (_, text) = Asked::of(SHOP).ask("http://a.test/broken/", "GET", &[], Format::Json);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        answer["mappings"][0]["unresolved"]["reason"],
        "tls_config_unresolved"
    );
}

#[test]
fn a_mapping_that_shares_an_upstream_is_told_its_own_fields() {
    let twin = "---\napiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {name: NAME}\nspec: {hostname: \"*\", prefix: /NAME/, service: \"https://a.test\"}\n";
    let manifests = twin.replace("NAME", "one") + &twin.replace("NAME", "two");
    for name in ["one", "two"] {
        let said = Asked::of(&manifests).get(&format!("http://x.test/{name}/")).1;
        assert!(
            said.contains(&format!("[Mapping {name}.default, spec.service]")),
            "{said}"
        );
    }
}
