//! A slip in one field must not weaken what another protects.

use crate::support::certificates::Identity;
use crate::support::peer::Upstream;
use crate::support::program::{Gateway, mapping};

/// Each of these is, read by the letter, cleartext to a host called like a scheme or to `svc` on another port.
#[tokio::test]
async fn a_slip_in_the_scheme_never_sends_cleartext() {
    const SLIPS: [&str; 12] = [
        "https:/svc",
        "https//svc",
        "https/svc",
        "https:8443",
        "https",
        "//svc",
        "https;//svc",
        "htps:/svc",
        "http://https://svc",
        "https:@svc",
        "tls:8443",
        "svc:0",
    ];
    let clear = Upstream::cleartext().await;
    let manifests: String = SLIPS
        .iter()
        .enumerate()
        .map(|(at, service)| {
            mapping(
                &format!("m{at}"),
                &format!("/m{at}/"),
                &format!("\"{service}\""),
                &[],
            )
        })
        .collect();
    let hosts = ["https", "http", "tls", "htps", "svc"];
    let ports = [80, 443, 8443];
    let mut plan = Gateway::with(manifests);
    for host in hosts {
        for port in ports {
            plan = plan.resolve(&format!("{host}:{port}"), clear.address);
        }
    }
    let gateway = plan.start().await;
    for (at, service) in SLIPS.iter().enumerate() {
        gateway
            .get(&format!("/m{at}/"))
            .await
            .assert_refused("service_invalid");
        let object = format!("Mapping m{at}.default");
        let problem = gateway.problem(&object, "service_invalid").await;
        assert_eq!(problem["severity"], "error", "{service}: {problem:#}");
    }
    clear.assert_untouched().await;
}

#[tokio::test]
async fn a_url_as_host_rewrite_is_not_sent() {
    let upstream = Upstream::tls(&Identity::self_signed(&["svc"], false)).await;
    let lines = ["host_rewrite: https://svc"];
    let plan = Gateway::with(mapping("m", "/m/", "https://svc", &lines)).resolve("svc:443", upstream.address);
    let gateway = plan.start().await;
    gateway.get("/m/").await.assert_refused("service_invalid");
    upstream.assert_untouched().await;
}
