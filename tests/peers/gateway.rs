//! The real binary, between curl and a server.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;

use crate::Result;
use crate::curl::{Answer, curl};
use crate::files::{Files, NAME};
use crate::process::{Process, free_port};

const PROGRAM: &str = env!("CARGO_BIN_EXE_nuncio");

/// A running gateway with one Mapping, on `/`, to one upstream.
pub(crate) struct Gateway {
    /// Where it listens, cleartext.
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    _process: Process,
}

/// What the Mapping and its TLSContext say besides the least: lines of YAML.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spec<'a> {
    /// Of the TLSContext.
    pub(crate) tls: &'a str,
    /// Of the Mapping.
    pub(crate) mapping: &'a str,
}

impl Gateway {
    /// Starts it in front of the server at `upstream`, which is called [`NAME`], and waits until it serves.
    pub(crate) fn start(files: &Files, upstream: SocketAddr, spec: Spec<'_>) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let manifests = files.write("gateway.yaml", &manifests(address.port(), upstream.port(), spec))?;
        let resolve = format!("{NAME}:{}:{}", upstream.port(), upstream.ip());
        let arguments = [
            "run",
            "--config",
            &manifests.display().to_string(),
            "--bind",
            "127.0.0.1",
            "--admin",
            &admin.to_string(),
            "--workers",
            "1",
            "--expose-reasons",
            "--resolve",
            &resolve,
        ];
        let mut process = Process::start(PROGRAM, &arguments, &[])?;
        let ready = format!("http://{admin}/ambassador/v0/check_ready");
        process.wait_for("readiness", |_| {
            curl(&[&ready]).ok().filter(|answer| answer.status == 200)
        })?;
        Ok(Self {
            address,
            admin,
            _process: process,
        })
    }

    /// The URL of a path on the gateway.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// One request by curl.
    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        curl(&["--http1.1", &self.url(path)])
    }

    /// The report of the last handshake with the upstream, from the admin interface.
    pub(crate) fn last_handshake(&self) -> Result<Value> {
        let answer = curl(&[&format!("http://{}/api/v1/upstreams", self.admin)])?;
        let upstreams: Value = serde_json::from_str(&answer.body)?;
        upstreams
            .pointer("/upstreams/0/endpoints/0/last_handshake")
            .filter(|report| !report.is_null())
            .cloned()
            .ok_or_else(|| format!("no last handshake: {upstreams:#}").into())
    }

    /// The sum of the counters `name` of the metrics whose labels contain every one of `labels`.
    pub(crate) fn counter(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let answer = curl(&[&format!("http://{}/metrics", self.admin)])?;
        let lines = answer.body.lines().filter(|line| {
            line.split(['{', ' ']).next() == Some(name) && labels.iter().all(|label| line.contains(label))
        });
        let mut sum = 0.0;
        for line in lines {
            sum += line.rsplit(' ').next().unwrap_or_default().parse::<f64>()?;
        }
        Ok(sum)
    }
}

/// Indents lines of YAML to stand under `spec`.
fn under_spec(lines: &str) -> String {
    lines
        .lines()
        .map(|line| format!("  {}\n", line.trim_start_matches("| ")))
        .collect()
}

fn manifests(port: u16, upstream: u16, spec: Spec<'_>) -> String {
    let (tls, mapping) = (under_spec(spec.tls), under_spec(spec.mapping));
    format!(
        r#"---
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {{name: peers, namespace: default}}
spec:
  port: {port}
  protocol: HTTP
  securityModel: XFP
  hostBinding: {{namespace: {{from: ALL}}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {{name: peers, namespace: default}}
spec:
  hostname: "*"
  requestPolicy: {{insecure: {{action: Route}}}}
---
apiVersion: getambassador.io/v3alpha1
kind: TLSContext
metadata: {{name: peers, namespace: default}}
spec:
  hosts: []
{tls}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {{name: peers, namespace: default}}
spec:
  hostname: "*"
  prefix: /
  timeout_ms: 20000
  connect_timeout_ms: 10000
  service: https://{NAME}:{upstream}
  tls: peers
{mapping}"#
    )
}
