//! Rows G: many objects, and one mistake among them.
//!
//! Here are G1, G2, G7 and G8 as far as they can be seen from outside and without a clock. How long a start or an edit
//! takes is measured by `make bench`. G3 is a test of nuncio-controller, G4 and G5 come with Kubernetes, and G6 is a test
//! of nuncio-tls and a figure of `make bench`.

use std::path::Path;

use http::{Method, StatusCode};

use crate::support::certificates::{Certificates, Identity, secret};
use crate::support::client::{Client, request};
use crate::support::peer::{Connection, Upstream};
use crate::support::program::{
    Gateway, Plan, Running, free_port, listener, mapping, nuncio, object_of, tls_context,
};
use crate::support::waiting::eventually;

/// A Mapping `name` at `/name/` with a TLSContext of that name, which has a server name of its own and so shares no
/// connection with another.
fn apart(name: &str, context: &[&str]) -> String {
    let sni = format!("sni: {name}.test");
    let mut lines = vec![sni.as_str()];
    lines.extend(context);
    let tls = format!("tls: {name}");
    mapping(name, &format!("/{name}/"), "https://svc", &[&tls]) + &tls_context(name, &lines)
}

/// Asks for each path in turn on one connection.
async fn statuses(gateway: &Gateway, names: &[String]) -> Vec<StatusCode> {
    let mut client = Client::http1(gateway.address).await;
    let mut statuses = Vec::new();
    for name in names {
        let path = format!("/{name}/");
        let request = request(Method::GET, &gateway.authority(), &path, "");
        statuses.push(client.send(request).await.unwrap().status);
    }
    statuses
}

/// All of them answer 200.
async fn assert_serve(gateway: &Gateway, names: &[String]) {
    for (name, status) in names.iter().zip(statuses(gateway, names).await) {
        assert_eq!(status, StatusCode::OK, "{name}");
    }
}

/// How many Mappings there are, counted with those that are broken.
const MANY: usize = 500;

/// One mistake.
struct Mistake {
    name: &'static str,
    /// Of the TLSContext, or of the Mapping.
    object: &'static str,
    reason: &'static str,
    /// What is asked for is refused with this while nothing of it ever worked.
    refused: &'static str,
    /// Manifests with and without it.
    bad: String,
    good: String,
}

impl Mistake {
    fn file(&self) -> String {
        format!("{}.yaml", self.name)
    }

    /// The kind of object whose problem it is.
    fn owner(&self) -> String {
        format!("{} {}.default", self.object, self.name)
    }
}

/// One of each kind that there is: Secret, CA, revocation list, cipher suite, version and port.
fn mistakes(ca: &Certificates) -> Vec<Mistake> {
    let client = ca.client("web");
    let strange = Identity {
        key: ca.client("other").key,
        ..client.clone()
    };
    let context = |name, lines: &[&str], secrets: String| apart(name, lines) + &secrets;
    let field = |name, reason, bad: (&[&str], String), good: (&[&str], String)| Mistake {
        name,
        object: "TLSContext",
        reason,
        refused: "tls_config_unresolved",
        bad: context(name, bad.0, bad.1),
        good: context(name, good.0, good.1),
    };
    let list = super::c::crl(ca, &[]);
    let crl: &[&str] = &["ca_secret: ca", "crl_secret: own-crl"];
    let port = |service: &str| mapping("port", "/port/", service, &["tls: shared"]);
    vec![
        field(
            "secret",
            "key_mismatch",
            (&["secret: own"], strange.secret("own")),
            (&["secret: own"], client.secret("own")),
        ),
        field(
            "ca",
            "no_certificate",
            (&["ca_secret: own-ca"], secret("own-ca", &[("ca.crt", "none")])),
            (&["ca_secret: own-ca"], ca.secret("own-ca")),
        ),
        field(
            "crl",
            "no_crl",
            (crl, secret("own-crl", &[("crl.pem", "none")])),
            (crl, secret("own-crl", &[("crl.pem", &list)])),
        ),
        field(
            "cipher",
            "no_cipher_suite",
            (&["cipher_suites: [NO-SUCH-SUITE]"], String::new()),
            (&["cipher_suites: [ECDHE-ECDSA-AES128-GCM-SHA256]"], String::new()),
        ),
        field(
            "version",
            "bad_value",
            (&["min_tls_version: \"1.3\""], String::new()),
            (&["min_tls_version: v1.3"], String::new()),
        ),
        Mistake {
            name: "port",
            object: "Mapping",
            reason: "service_invalid",
            refused: "service_invalid",
            bad: port("https://svc:99999"),
            good: port("https://svc"),
        },
    ]
}

/// A gateway for [`MANY`] Mappings less the mistakes, each of which stands in a file of its own.
fn crowd(ca: &Certificates, upstream: &Upstream, mistakes: &[Mistake]) -> (Plan, Vec<String>) {
    let names: Vec<String> = (mistakes.len()..MANY)
        .map(|number| format!("m{number}"))
        .collect();
    let shared = ["secret: me", "ca_secret: ca", "crl_secret: crl"];
    let mut manifests = ca.client("shared").secret("me")
        + &ca.secret("ca")
        + &secret("crl", &[("crl.pem", &super::c::crl(ca, &[]))])
        + &tls_context("shared", &shared);
    for name in &names {
        manifests += &apart(name, &shared);
    }
    (
        Gateway::with(manifests).resolve("svc:443", upstream.address),
        names,
    )
}

/// Waits until the mistake is told.
async fn becomes_told(gateway: &Gateway, mistake: &Mistake) {
    eventually(mistake.name, async || {
        let problems = gateway.problems().await;
        let told = problems
            .iter()
            .any(|problem| object_of(problem) == mistake.owner() && problem["reason"] == mistake.reason);
        told.then_some(())
    })
    .await;
}

#[tokio::test]
async fn g7_one_mistake_of_each_kind_among_hundreds_is_nobody_elses() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["svc"])).await;
    let mistakes = mistakes(&ca);
    let (mut plan, names) = crowd(&ca, &upstream, &mistakes);
    for mistake in &mistakes {
        plan = plan.file(&mistake.file(), &mistake.bad);
    }
    let gateway = plan.start().await;

    // Cold: nothing of them ever worked.
    assert_serve(&gateway, &names).await;
    let connected = upstream.look(<[_]>::len);
    assert_eq!(connected, names.len(), "a connection for each server name");
    for mistake in &mistakes {
        becomes_told(&gateway, mistake).await;
        let answer = gateway.get(&format!("/{}/", mistake.name)).await;
        answer.assert_refused(mistake.refused);
    }
    let problems = gateway.problems().await;
    for problem in problems.iter().filter(|problem| problem["severity"] == "error") {
        let mistaken = mistakes
            .iter()
            .any(|mistake| problem["object"]["name"] == mistake.name);
        assert!(mistaken, "{problem:#}");
    }

    // Mended, and made again while everything is warm.
    for mistake in &mistakes {
        gateway.write(&mistake.file(), &mistake.good);
        let path = format!("/{}/", mistake.name);
        gateway.get_until(&path, |answer| answer.status == 200).await;
    }
    let connected = upstream.look(<[_]>::len);
    for mistake in &mistakes {
        gateway.write(&mistake.file(), &mistake.bad);
        becomes_told(&gateway, mistake).await;
        let answer = gateway.get(&format!("/{}/", mistake.name)).await;
        match mistake.object {
            // Its last good version serves on; a Mapping has none.
            "TLSContext" => answer.assert_ok(),
            _ => answer.assert_refused(mistake.refused),
        }
    }
    assert_serve(&gateway, &names).await;
    assert_eq!(upstream.look(<[_]>::len), connected, "nobody connected anew");
}

#[tokio::test]
async fn g2_edit_of_one_mapping_is_live_and_touches_no_other() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["svc"])).await;
    let names: Vec<String> = (0..200).map(|number| format!("m{number}")).collect();
    let mut manifests = ca.secret("ca");
    for name in &names {
        manifests += &apart(name, &["ca_secret: ca"]);
    }
    // More that only stand there.
    for number in 0..1000 {
        manifests += &mapping(
            &format!("idle{number}"),
            &format!("/idle{number}/"),
            "https://svc",
            &["tls: m0"],
        );
    }
    let edited = |host: &str| {
        mapping(
            "edited",
            "/edited/",
            "https://svc",
            &["tls: m0", &format!("host_rewrite: {host}")],
        )
    };
    let plan = Gateway::with(manifests).resolve("svc:443", upstream.address);
    let gateway = plan.file("edited.yaml", &edited("before.test")).start().await;
    assert_serve(&gateway, &names).await;
    let connected = upstream.look(<[_]>::len);

    gateway.write("edited.yaml", &edited("after.test"));
    eventually("the edit is live", async || {
        gateway.get("/edited/").await.assert_ok();
        let is_new = |connections: &[Connection]| {
            let mut requests = connections.iter().flat_map(|connection| &connection.requests);
            requests.any(|request| request.authority() == "after.test")
        };
        upstream.look(is_new).then_some(())
    })
    .await;
    assert_serve(&gateway, &names).await;
    // The server name is that of the context, so not even the edited Mapping needs another connection.
    assert_eq!(upstream.look(<[_]>::len), connected, "nobody connected anew");
}

#[tokio::test]
async fn g8_services_that_begin_alike_are_never_mixed() {
    let ca = Certificates::new();
    let begin = "a-service-with-a-name-that-goes-on-and-on";
    assert!(begin.len() >= 40);
    let mut manifests = String::new();
    let mut upstreams = Vec::new();
    for service in [format!("{begin}-one"), format!("{begin}-two")] {
        for namespace in ["first", "second"] {
            let host = format!("{service}.{namespace}");
            let name = format!("{}-{namespace}", &service[begin.len() + 1..]);
            let upstream = Upstream::tls(&ca.server(&[&host])).await;
            let context = ["ca_secret: ca.default", "verify: {mode: full}"];
            let own = mapping(
                "m",
                &format!("/{name}/"),
                &format!("https://{service}"),
                &["tls: ctx"],
            );
            let own = own.replace("name: m\n", &format!("name: m-{}\n", &service[begin.len() + 1..]));
            manifests += &crate::support::program::in_namespace(namespace, &own);
            if service.ends_with("one") {
                let context = tls_context("ctx", &context);
                manifests += &crate::support::program::in_namespace(namespace, &context);
            }
            upstreams.push((name, host, upstream));
        }
    }
    manifests += &ca.secret("ca");
    let mut plan = Gateway::with(manifests);
    for (_, host, upstream) in &upstreams {
        plan = plan.resolve(&format!("{host}:443"), upstream.address);
    }
    let gateway = plan.start().await;
    for _ in 0..2 {
        for (name, ..) in &upstreams {
            gateway.get(&format!("/{name}/")).await.assert_ok();
        }
    }
    for (name, host, upstream) in &upstreams {
        let requests = upstream.requests();
        assert_eq!(requests.len(), 2, "{name}");
        for request in requests {
            assert_eq!(request.uri.path(), "/", "{name}: prefixes are rewritten");
        }
        assert_eq!(upstream.hello().sni.as_deref(), Some(host.as_str()));
    }
    let all = gateway.admin_json("/api/v1/upstreams").await;
    assert_eq!(all["upstreams"].as_array().unwrap().len(), 4, "{all:#}");
}

/// Of 10,000 Mappings, 1,000 TLSContexts and as many Secrets, in ten files.
fn ten_thousand(folder: &Path, ca: &Certificates, port: u16) {
    for file in 0..10 {
        let mut text = format!("---\n{}", listener(port));
        if file > 0 {
            text.clear();
        }
        for context in 0..100 {
            let name = format!("c{file}-{context}");
            text += &ca.client(&name).secret(&name);
            text += &tls_context(&name, &[&format!("secret: {name}"), &format!("sni: {name}.test")]);
            for number in 0..10 {
                let (mapping_name, tls) = (format!("m{file}-{context}-{number}"), format!("tls: {name}"));
                text += &mapping(
                    &mapping_name,
                    &format!("/{mapping_name}/"),
                    "https://svc",
                    &[&tls],
                );
            }
        }
        std::fs::write(folder.join(format!("{file}.yaml")), text).unwrap();
    }
    std::fs::write(folder.join("ca.yaml"), ca.secret("ca")).unwrap();
}

#[tokio::test]
async fn g1_ready_means_that_all_of_ten_thousand_mappings_are_loaded() {
    let ca = Certificates::new();
    let upstream = crate::support::peer::Tls::with(&ca.server(&["svc"])).client_ca(&ca.pem(), true);
    let upstream = upstream.start().await;
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    ten_thousand(folder.path(), &ca, port);
    let resolve = format!("svc:443:127.0.0.1:{}", upstream.address.port());
    let mut command = nuncio([
        "run",
        "--admin",
        "127.0.0.1:0",
        "--bind",
        "127.0.0.1",
        "--workers",
        "1",
    ]);
    command
        .args(["--access-log", "off", "--resolve", &resolve, "--config"])
        .arg(folder.path());
    let program = Running::start(command);
    let admin = eventually("the admin interface", async || {
        let log = program.stderr();
        let line = log
            .iter()
            .find_map(|line| line.split_once("admin interface on http://"))?
            .1
            .trim()
            .to_owned();
        Some(line)
    });
    let admin: std::net::SocketAddr = admin.await.parse().unwrap();
    // Nothing serves until everything does.
    let mut before = 0;
    eventually("readiness", async || {
        let answer = Client::http1(admin)
            .await
            .get(&admin.to_string(), "/ambassador/v0/check_ready")
            .await;
        if answer.status == StatusCode::OK {
            return Some(());
        }
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        before += 1;
        None
    })
    .await;
    assert!(
        before > 0,
        "the admin interface answers while the manifests are read"
    );

    let mut client = Client::http1((std::net::Ipv4Addr::LOCALHOST, port).into()).await;
    for (file, context, number) in [(0, 0, 0), (3, 33, 3), (5, 0, 9), (9, 99, 9)] {
        let path = format!("/m{file}-{context}-{number}/");
        client.get("gateway.test", &path).await.assert_ok();
        assert_eq!(upstream.hello().sni, Some(format!("c{file}-{context}.test")));
    }
    let list = async |path: &str, key: &str| {
        let answer = Client::http1(admin).await.get(&admin.to_string(), path).await;
        answer.json()[key].as_array().unwrap().clone()
    };
    assert_eq!(list("/api/v1/routes", "routes").await.len(), 10_000);
    assert_eq!(list("/api/v1/upstreams", "upstreams").await.len(), 1000);
    let certificates = list("/api/v1/certificates", "certificates").await;
    let ours = certificates
        .iter()
        .filter(|certificate| certificate["role"] == "client");
    assert_eq!(ours.count(), 1000);
}
