//! Rows K: which Secret a name means, and what becomes of it.

mod contents;
mod hidden;
mod watched;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::Value;

use crate::support::certificates::{Certificates, Identity, secret};
use crate::support::peer::{Tls, Upstream};
use crate::support::program::{Gateway, Plan, in_namespace, mapping, object_of, tls_context};
use crate::support::waiting::eventually;

/// What a row says about how soon a change is live.
const SOON: Duration = Duration::from_secs(5);

/// An authority and an upstream that insists on a certificate of it and keeps no connection.
struct World {
    ca: Certificates,
    upstream: Upstream,
}

impl World {
    async fn new() -> Self {
        let ca = Certificates::new();
        let upstream = Tls::with(&ca.server(&["svc"])).client_ca(&ca.pem(), true);
        let upstream = upstream.answer(|_| closing()).start().await;
        Self { ca, upstream }
    }

    /// A gateway with these manifests that reaches the upstream as `svc`.
    fn plan(&self, manifests: impl Into<String>) -> Plan {
        Gateway::with(manifests).resolve("svc:443", self.upstream.address)
    }

    /// Asks for `path`, which works, and says whether the upstream was shown the certificate of `client`.
    async fn assert_shown(&self, gateway: &Gateway, path: &str, client: &Identity) {
        gateway.get(path).await.assert_ok();
        assert!(self.last_shown() == client.chain_der()[0].as_ref(), "{path}");
    }

    /// Asks for `path`, which never fails, until the upstream is shown the certificate of `client`.
    async fn becomes_shown(&self, gateway: &Gateway, path: &str, client: &Identity) {
        eventually("the new certificate", async || {
            gateway.get(path).await.assert_ok();
            (self.last_shown() == client.chain_der()[0].as_ref()).then_some(())
        })
        .await;
    }

    /// The certificate that came with the latest request.
    fn last_shown(&self) -> Vec<u8> {
        let connections = self.upstream.connections();
        let asked = connections.into_iter().rfind(|seen| !seen.requests.is_empty());
        asked.unwrap().session.unwrap().client.unwrap()
    }
}

/// 200 `ok`, and the end of the connection.
fn closing() -> Response<Full<Bytes>> {
    let close = Response::builder().header("connection", "close");
    close.body("ok".into()).unwrap()
}

/// A Mapping at `/name/` to `https://svc` and its TLSContext, both called `name`.
fn originating(name: &str, context: &[&str]) -> String {
    mapping(
        name,
        &format!("/{name}/"),
        "https://svc",
        &[&format!("tls: {name}")],
    ) + &tls_context(name, context)
}

/// A Secret in a namespace.
fn secret_in(namespace: &str, name: &str, identity: &Identity) -> String {
    in_namespace(namespace, &identity.secret(name))
}

#[tokio::test]
async fn k1_the_part_after_the_dot_is_the_namespace() {
    let world = World::new().await;
    let (meant, decoy) = (world.ca.client("meant"), world.ca.client("decoy"));
    let manifests = originating("m", &["secret: a.b", "ca_secret: ca.b", "verify: {mode: full}"])
        + &secret_in("b", "a", &meant)
        + &in_namespace("b", &world.ca.secret("ca"))
        + &decoy.secret("a.b")
        + &decoy.secret("a")
        + &Certificates::new().secret("ca");
    let gateway = world.plan(manifests).start().await;
    world.assert_shown(&gateway, "/m/", &meant).await;
}

#[tokio::test]
async fn k2_the_last_dot_counts() {
    let world = World::new().await;
    let (meant, decoy) = (world.ca.client("meant"), world.ca.client("decoy"));
    let manifests = originating("m", &["secret: a.b.c"])
        + &secret_in("c", "a.b", &meant)
        + &secret_in("b.c", "a", &decoy)
        + &decoy.secret("a.b.c");
    let gateway = world.plan(manifests).start().await;
    world.assert_shown(&gateway, "/m/", &meant).await;
}

#[tokio::test]
async fn k3_without_namespacing_dots_are_part_of_the_name() {
    let world = World::new().await;
    let (meant, decoy) = (world.ca.client("meant"), world.ca.client("decoy"));
    let own = originating("m", &["secret: a.b", "secret_namespacing: false"]) + &meant.secret("a.b");
    let manifests = in_namespace("own", &own) + &secret_in("b", "a", &decoy) + &decoy.secret("a.b");
    let plan = world.plan(manifests);
    let gateway = plan.resolve("svc.own:443", world.upstream.address).start().await;
    world.assert_shown(&gateway, "/m/", &meant).await;
}

#[tokio::test]
async fn k4_a_context_wins_over_the_module() {
    let world = World::new().await;
    let (there, here) = (world.ca.client("there"), world.ca.client("here"));
    let module = "---\napiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata:\n  name: ambassador\n\
                  spec:\n  config:\n    defaults: {tls_secret_namespacing: false}\n";
    let manifests = originating("says", &["secret: a.b", "secret_namespacing: true"])
        + &originating("silent", &["secret: a.b"])
        + &secret_in("b", "a", &there)
        + &here.secret("a.b")
        + module;
    let gateway = world.plan(manifests).start().await;
    world.assert_shown(&gateway, "/says/", &there).await;
    world.assert_shown(&gateway, "/silent/", &here).await;
}

#[tokio::test]
async fn k5_two_secrets_of_one_spelling_are_kept_apart() {
    let world = World::new().await;
    let (there, here) = (world.ca.client("there"), world.ca.client("here"));
    let own = originating("flat", &["secret: foo.bar", "secret_namespacing: false"])
        + &originating("spaced", &["secret: foo.bar", "secret_namespacing: true"])
        + &here.secret("foo.bar");
    let manifests = in_namespace("x", &own) + &secret_in("bar", "foo", &there);
    let plan = world.plan(manifests);
    let gateway = plan.resolve("svc.x:443", world.upstream.address).start().await;
    for _ in 0..2 {
        world.assert_shown(&gateway, "/flat/", &here).await;
        world.assert_shown(&gateway, "/spaced/", &there).await;
    }
}

/// Problems of this object and reason.
async fn count(gateway: &Gateway, object: &str, reason: &str) -> usize {
    let problems = gateway.problems().await;
    let ours = |problem: &&Value| object_of(problem) == object && problem["reason"] == reason;
    problems.iter().filter(ours).count()
}

/// Waits until `m` is stale; all requests meanwhile succeed.
async fn becomes_stale(gateway: &Gateway) {
    eventually("`m` is stale", async || {
        gateway.get("/m/").await.assert_ok();
        (gateway.upstream_of("m").await["stale"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn k7_a_deleted_secret_serves_on_until_a_new_one_is_there() {
    let world = World::new().await;
    let (old, new) = (world.ca.client("old"), world.ca.client("new"));
    let plan = world.plan(originating("m", &["secret: me"]));
    let gateway = plan.file("secret.yaml", &old.secret("me")).start().await;
    world.assert_shown(&gateway, "/m/", &old).await;

    gateway.remove("secret.yaml");
    becomes_stale(&gateway).await;
    world.assert_shown(&gateway, "/m/", &old).await;
    assert_eq!(count(&gateway, "TLSContext m.default", "missing_secret").await, 1);
    assert_eq!(count(&gateway, "TLSContext m.default", "stale").await, 1);

    gateway.write("secret.yaml", &new.secret("me"));
    let written = Instant::now();
    world.becomes_shown(&gateway, "/m/", &new).await;
    assert!(written.elapsed() < SOON);
    assert_eq!(gateway.upstream_of("m").await["stale"], false);
    assert_eq!(count(&gateway, "TLSContext m.default", "stale").await, 0);
}

#[tokio::test]
async fn k8_an_update_in_two_steps_fails_no_request() {
    let world = World::new().await;
    let (old, new) = (world.ca.client("old"), world.ca.client("new"));
    let half = Identity {
        chain: new.chain.clone(),
        key: old.key.clone(),
    };
    let plan = world.plan(originating("m", &["secret: me"]));
    let gateway = plan.file("secret.yaml", &old.secret("me")).start().await;
    world.assert_shown(&gateway, "/m/", &old).await;

    gateway.write("secret.yaml", &half.secret("me"));
    becomes_stale(&gateway).await;
    world.assert_shown(&gateway, "/m/", &old).await;
    // Another update meanwhile tells nothing twice.
    gateway.write(
        "more.yaml",
        &mapping("more", "/more/", "https://svc", &["tls: m"]),
    );
    let more = eventually("one more Mapping", async || {
        Some(gateway.get("/more/").await).filter(|answer| answer.status == 200)
    });
    more.await;
    assert_eq!(count(&gateway, "TLSContext m.default", "key_mismatch").await, 1);
    assert_eq!(count(&gateway, "TLSContext m.default", "stale").await, 1);
    let log = gateway.program.stderr();
    for reason in ["reason=\"key_mismatch\"", "reason=\"stale\""] {
        let told = log.iter().filter(|line| line.contains(reason)).count();
        assert_eq!(told, 1, "{reason} in {log:#?}");
    }

    gateway.write("secret.yaml", &new.secret("me"));
    world.becomes_shown(&gateway, "/m/", &new).await;
    assert_eq!(gateway.upstream_of("m").await["stale"], false);
    assert_eq!(count(&gateway, "TLSContext m.default", "key_mismatch").await, 0);
}

#[tokio::test]
async fn k12_contexts_of_one_name_are_kept_apart_by_namespace() {
    let world = World::new().await;
    let mut manifests = String::new();
    let mut clients = Vec::new();
    for namespace in ["int", "stg"] {
        let client = world.ca.client(namespace);
        let own = mapping(namespace, &format!("/{namespace}/"), "https://svc", &["tls: web"])
            + &tls_context("web", &["secret: me", "sni: svc"])
            + &client.secret("me");
        manifests += &in_namespace(namespace, &own);
        clients.push((namespace, client));
    }
    let mut plan = world.plan(manifests);
    for (namespace, _) in &clients {
        plan = plan.resolve(&format!("svc.{namespace}:443"), world.upstream.address);
    }
    let gateway = plan.start().await;
    for (namespace, client) in &clients {
        let path = format!("/{namespace}/");
        world.assert_shown(&gateway, &path, client).await;
        let context = &gateway.upstream_of(namespace).await["tls"]["context"];
        assert_eq!(context["namespace"], *namespace);
    }
}

#[tokio::test]
async fn k13_objects_of_another_ambassador_id_do_not_exist() {
    let world = World::new().await;
    let (mine, theirs) = (world.ca.client("mine"), world.ca.client("theirs"));
    let other = Tls::with(&world.ca.server(&["svc"])).start().await;
    let foreign = |text: String| text.replace("spec:\n", "spec:\n  ambassador_id: [elsewhere, beyond]\n");
    let manifests = foreign(
        mapping("m", "/m/", "https://other", &["tls: m"])
            + &tls_context("m", &["secret: theirs", "sni: x.test"])
            + &mapping("theirs", "/theirs/", "https://other", &["tls: broken"])
            + &tls_context("broken", &["secret: nosuch", "min_tls_version: nonsense"]),
    ) + &originating("m", &["secret: mine"])
        + &mine.secret("mine")
        + &theirs.secret("theirs");
    let plan = |manifests: &str| world.plan(manifests).resolve("other:443", other.address);

    let gateway = plan(&manifests).start().await;
    world.assert_shown(&gateway, "/m/", &mine).await;
    assert_eq!(gateway.get("/theirs/").await.status, 404);
    other.assert_untouched().await;
    for problem in gateway.problems().await {
        let object = object_of(&problem);
        assert!(
            !object.starts_with("Mapping") && !object.starts_with("TLSContext"),
            "{problem:#}"
        );
    }
    let routes = gateway.admin_json("/api/v1/routes").await.to_string();
    assert!(!routes.contains("theirs"), "{routes}");

    // The other gateway sees the other half.
    let gateway = plan(&for_beyond(&manifests))
        .env("AMBASSADOR_ID", "beyond")
        .start()
        .await;
    gateway.get("/m/").await.assert_ok();
    assert_eq!(other.hello().sni.as_deref(), Some("x.test"));
    let answer = gateway.get("/theirs/").await;
    answer.assert_refused("tls_config_unresolved");
    assert_eq!(count(&gateway, "Mapping m.default", "duplicate").await, 0);
}

/// The manifests and a Listener that is for the gateway `beyond`.
fn for_beyond(manifests: &str) -> String {
    let listener = "---\napiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata:\n  name: beyond\nspec:\n  \
                    ambassador_id: beyond\n  port: $PORT\n  protocol: HTTP\n  securityModel: XFP\n  hostBinding: \
                    {namespace: {from: ALL}}\n";
    format!("{manifests}{listener}")
}

/// What one DER value holds, and what follows it.
fn value(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, at) = match der[1] {
        short @ ..0x80 => (usize::from(short), 2),
        long => {
            let octets = usize::from(long & 0x7f);
            let length = der[2..2 + octets].iter();
            (
                length.fold(0, |sum, octet| sum << 8 | usize::from(*octet)),
                2 + octets,
            )
        }
    };
    der[at..].split_at(length)
}

/// What a PKCS#8 key wraps: a PKCS#1 key of RSA, a SEC1 key of an elliptic curve.
fn unwrapped(key: &rcgen::KeyPair) -> Vec<u8> {
    let (content, _) = value(key.serialized_der());
    let (_version, rest) = value(content);
    let (_algorithm, rest) = value(rest);
    value(rest).0.to_vec()
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).unwrap());
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

fn rsa_8192() -> rcgen::KeyPair {
    let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa8192).unwrap();
    let der = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key).unwrap();
    rcgen::KeyPair::try_from(der.as_ref()).unwrap()
}

#[tokio::test]
async fn k9_every_form_of_key_is_shown_or_told_exactly() {
    let world = World::new().await;
    let generate = |algorithm| rcgen::KeyPair::generate_for(algorithm).unwrap();
    let (ec, p521) = (
        generate(&rcgen::PKCS_ECDSA_P256_SHA256),
        generate(&rcgen::PKCS_ECDSA_P521_SHA512),
    );
    let (ed25519, rsa) = (generate(&rcgen::PKCS_ED25519), rsa_8192());
    // The name of P-256, as openssl ecparam writes it before a key.
    let parameters = pem("EC PARAMETERS", &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
    let sec1 = pem("EC PRIVATE KEY", &unwrapped(&ec));
    let forms = [
        ("pkcs1", &rsa, pem("RSA PRIVATE KEY", &unwrapped(&rsa))),
        ("pkcs8", &ec, ec.serialize_pem()),
        ("sec1", &ec, sec1.clone()),
        ("sec1-parameters", &ec, parameters + &sec1),
        ("ed25519", &ed25519, ed25519.serialize_pem()),
        ("p521", &p521, p521.serialize_pem()),
        ("rsa-8192", &rsa, rsa.serialize_pem()),
    ];
    let encrypted = pem("ENCRYPTED PRIVATE KEY", &[0x30, 3, 2, 1, 0]);
    let mut manifests = originating("encrypted", &["secret: encrypted"])
        + &secret(
            "encrypted",
            &[("tls.crt", &world.ca.client("it").chain), ("tls.key", &encrypted)],
        );
    let mut shown = Vec::new();
    for (name, key, text) in forms {
        let params = crate::support::certificates::leaf(name, &[]);
        let identity = Identity {
            chain: world.ca.issue_for(&params, key).chain,
            key: text,
        };
        manifests += &originating(name, &[&format!("secret: {name}")]);
        manifests += &identity.secret(name);
        shown.push((name, identity));
    }
    let gateway = world.plan(manifests).start().await;
    for (name, identity) in shown {
        world
            .assert_shown(&gateway, &format!("/{name}/"), &identity)
            .await;
    }
    let answer = gateway.get("/encrypted/").await;
    answer.assert_refused("tls_config_unresolved");
    let problem = gateway
        .problem("TLSContext encrypted.default", "encrypted_key")
        .await;
    assert_eq!(problem["field"], "spec.secret", "{problem:#}");
}
