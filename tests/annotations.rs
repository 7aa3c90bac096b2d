//! Documents of older versions, in files and in annotations of Services.

use crate::support::certificates::Certificates;
use crate::support::peer::{Tls, Upstream};
use crate::support::program::{Gateway, Plan};
use crate::support::waiting::eventually;

/// A Service with these documents in its annotation.
fn service(documents: &str) -> String {
    let lines: String = documents.lines().map(|line| format!("      {line}\n")).collect();
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: holder\n  annotations:\n    \
         getambassador.io/config: |\n{lines}"
    )
}

async fn upstream() -> Upstream {
    let ca = Certificates::new();
    Tls::with(&ca.server(&["a.test"])).start().await
}

fn plan(manifests: String, upstream: &Upstream) -> Plan {
    Gateway::with(manifests).resolve("a.test:443", upstream.address)
}

const OLD: &str = "apiVersion: ambassador/v1\nkind: Mapping\nname: old\nprefix: /old/\n\
                   service: http://a.test\ntls: true\nheaders:\n  x-beta: true\n";

#[tokio::test]
async fn an_annotation_is_served_and_its_edits_are_followed() {
    let upstream = upstream().await;
    let gateway = plan(service(OLD), &upstream).start().await;
    let with_header = async |path: &str| {
        let request = http::Request::get(path)
            .header("host", gateway.authority())
            .header("x-beta", "whatever")
            .body(bytes::Bytes::new().into())
            .unwrap();
        gateway.send(request).await
    };
    with_header("/old/x").await.assert_ok();
    // `tls: true` is spoken though the service says http://.
    assert_eq!(upstream.last().bytes[0], 0x16);
    assert_eq!(gateway.get("/old/x").await.status, 404);
    let notice = gateway.problem("Service holder.default", "old_version").await;
    assert_eq!(
        notice["field"],
        "metadata.annotations.getambassador.io/config[0].apiVersion"
    );
    let message = notice["message"].as_str().unwrap();
    assert!(
        message.starts_with("document 1, Mapping `old`: ambassador/v1 is"),
        "{message}"
    );

    let edited = OLD.replace("/old/", "/new/") + "---\nkind: [\n---\njust a text\n";
    gateway.write(
        "manifests.yaml",
        &(gateway.manifests() + "\n").replace(&service(OLD), &service(&edited)),
    );
    eventually("the edit is served", async || {
        (with_header("/new/x").await.status == 200).then_some(())
    })
    .await;
    let problems = gateway.problems().await;
    let numbered: Vec<_> = problems
        .iter()
        .filter(|problem| problem["reason"] == "bad_annotation")
        .map(|problem| {
            problem["message"]
                .as_str()
                .unwrap()
                .split(" of the")
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(numbered, ["document 2", "document 3"]);
}

#[tokio::test]
async fn a_v2_document_means_what_it_meant() {
    let upstream = upstream().await;
    let old = "---\napiVersion: getambassador.io/v2\nkind: Mapping\nmetadata: {name: old}\n\
               spec: {prefix: /old/, service: a.test, tls: true, ambassador_id: default}\n";
    let gateway = plan(old.to_owned(), &upstream).start().await;
    gateway.get("/old/").await.assert_ok();
    assert_eq!(upstream.last().bytes[0], 0x16);
    gateway.problem("Mapping old.default", "old_version").await;
}
