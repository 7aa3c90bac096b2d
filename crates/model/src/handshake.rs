//! What happened in a TLS handshake: the same report for the gateway's traffic and for `probe`.

use serde::Serialize;

use crate::{AlgorithmName, CertificateInfo, Reason, TlsVersion, VerifyMode};

/// The `last_handshake` shape of the public interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HandshakeReport {
    /// `ok` or why it failed.
    pub outcome: Outcome,
    /// One sentence.
    pub message: String,
    /// Names the field to set; empty where nothing needs mending.
    pub remedy: String,
    /// RFC 3339.
    pub at: String,
    /// What was sent.
    pub sni: Option<String>,
    /// What was negotiated; absent when it did not come that far.
    pub version: Option<TlsVersion>,
    /// RFC name of the suite.
    pub cipher: Option<String>,
    /// Name of the key-exchange group.
    pub group: Option<String>,
    /// What ALPN gave.
    pub alpn: Option<String>,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// Whether the peer asked for another hello, for a group that the first held no share of. For the
    /// metric.
    #[serde(skip)]
    pub hello_retried: bool,
    /// From the start of TLS to its end, milliseconds.
    pub duration_ms: f64,
    /// Whether we were asked for a certificate.
    pub client_certificate: ClientCertificateReport,
    /// What verification said.
    pub verify: VerifyReport,
    /// The peer's chain as it was sent, leaf first.
    pub peer: Vec<CertificateInfo>,
}

/// What a hello offers, and what is held ready for the rest of the handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// Lowest first.
    pub versions: Vec<TlsVersion>,
    /// RFC names in order of preference.
    pub cipher_suites: Vec<AlgorithmName>,
    /// In order of preference.
    pub groups: Vec<AlgorithmName>,
    /// In order of preference; empty where no ALPN extension is sent.
    pub alpn: Vec<String>,
    /// None where no server name is sent.
    pub sni: Option<String>,
    /// What is shown to a peer that asks for a certificate.
    pub client_certificate: Option<CertificateInfo>,
}

/// What a verification mode says of the chain that a peer showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The mode.
    pub mode: VerifyMode,
    /// `ok` where the connection goes on, else what it is refused for.
    pub result: Outcome,
    /// What the mode lets pass and counts; none where it found nothing or does not look.
    pub reported: Option<Reason>,
    /// One sentence.
    pub message: String,
    /// Names the field to set; empty where nothing needs mending.
    pub remedy: String,
}

/// Success or a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It worked.
    Ok,
    /// It did not.
    Failed(Reason),
}

impl Outcome {
    /// `ok` or the reason's code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(reason) => reason.code(),
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Whether the peer asked for a certificate, and whether it got one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClientCertificateReport {
    /// The peer sent a CertificateRequest.
    pub requested: bool,
    /// We answered with a certificate.
    pub sent: bool,
}

/// What verification said, whether or not it was decisive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// In force.
    pub mode: VerifyMode,
    /// Of chain and name, as `full` would judge.
    pub result: Outcome,
    /// Names that were looked for.
    pub names: Vec<String>,
}
