//! What to do about each failure, naming the field of the TLSContext to set.

use nuncio_model::{Alert, Reason, TlsSettings, TlsVersion};

use crate::Seen;
use crate::client::is_post_quantum;
use crate::foreign::{Foreign, Protocol};
use crate::gap::Gap;

/// Advice for `reason` under these settings; empty where none is known.
pub(crate) fn remedy(reason: Reason, seen: &Seen, settings: &TlsSettings, first_bytes: &[u8]) -> String {
    match reason {
        Reason::NotTls => not_tls(first_bytes).to_owned(),
        Reason::TlsProtocolError => "see whether something on the way, such as a firewall that inspects TLS, changes what is \
                                     sent, and bring the TLS library of the upstream up to date"
            .to_owned(),
        Reason::ProtocolVersion => protocol_version(settings).to_owned(),
        Reason::NoSharedCipher => no_shared_cipher(settings).to_owned(),
        Reason::NoSharedGroup => no_shared_group(settings).to_owned(),
        Reason::AlpnMismatch => "set spec.alpn_protocols, or spec.grpc of the Mapping, to what the upstream \
                                 speaks (`h2` or `http/1.1`), or leave them out"
            .to_owned(),
        Reason::HandshakeTimeout => handshake_timeout(seen, settings).to_owned(),
        Reason::ResetDuringHandshake => reset(settings).to_owned(),
        Reason::RenegotiationUnsupported => {
            "let the upstream ask for a client certificate in its first handshake, or speak TLS 1.3".to_owned()
        }
        Reason::ClientCertRequired if settings.client.is_none() => {
            "set spec.secret to a Secret with a client certificate that the upstream accepts".to_owned()
        }
        Reason::ClientCertRequired => {
            "the key of spec.secret cannot make a signature that the upstream accepts: use an RSA or P-256 key"
                .to_owned()
        }
        Reason::ClientCertRejected => {
            "check that the certificate in spec.secret is in its time, is meant for clients, and comes with its \
             intermediates from a CA that the upstream trusts"
                .to_owned()
        }
        Reason::AlertReceived(alert) => of_alert(alert, settings).to_owned(),
        Reason::UnknownIssuer => unknown_issuer(seen, settings),
        Reason::NameMismatch => name_mismatch(seen),
        reason => of_verification(reason, settings).to_owned(),
    }
}

fn not_tls(first_bytes: &[u8]) -> &'static str {
    match Foreign::of(first_bytes).map(|foreign| foreign.protocol) {
        Some(Protocol::Http | Protocol::Http2) => {
            "the upstream speaks plain HTTP on this port: use http:// or another port"
        }
        _ => "check host and port of `service`: something else listens there",
    }
}

fn protocol_version(settings: &TlsSettings) -> &'static str {
    match (settings.min_version, settings.max_version) {
        (TlsVersion::V1_3, _) => {
            "lower spec.min_tls_version to v1.2 if the upstream cannot speak TLS 1.3; TLS 1.1 and older are not \
             spoken"
        }
        (_, TlsVersion::V1_2) => {
            "raise spec.max_tls_version to v1.3 if the upstream demands it; TLS 1.1 and older are not spoken"
        }
        (TlsVersion::V1_2, TlsVersion::V1_3) => {
            "let the upstream speak TLS 1.2 or 1.3: TLS 1.1 and older are not spoken"
        }
    }
}

fn no_shared_cipher(settings: &TlsSettings) -> &'static str {
    if !settings.cipher_suites.is_empty() {
        "add a suite that the upstream speaks to spec.cipher_suites, or leave it out"
    } else if settings.sni.is_none() {
        "let the upstream speak an ECDHE suite with AES-GCM or ChaCha20 (RSA key exchange and CBC are not \
         spoken); some servers answer like this when no server name is sent: set spec.sni"
    } else {
        "let the upstream speak an ECDHE suite with AES-GCM or ChaCha20, and one of X25519, P-256 and P-384: \
         servers that only know RSA key exchange, CBC, TLS 1.1 or another curve answer like this"
    }
}

fn no_shared_group(settings: &TlsSettings) -> &'static str {
    if settings.groups.is_empty() {
        "let the upstream speak X25519, P-256 or P-384"
    } else {
        "add a group that the upstream speaks to spec.ecdh_curves, such as P-256, or leave it out"
    }
}

fn handshake_timeout(seen: &Seen, settings: &TlsSettings) -> &'static str {
    // Where nobody asked for them, the gateway itself tries without (decision 19).
    let asked = settings.groups.iter().any(|group| is_post_quantum(group));
    if seen.version.is_none() && asked && settings.max_version == TlsVersion::V1_3 {
        "raise spec.connect_timeout_ms if the upstream is slow; if it or something on the way stalls on a large TLS \
         hello, set spec.ecdh_curves to [X25519, P-256]"
    } else {
        "raise spec.connect_timeout_ms if the upstream is slow, and check that TLS is spoken on this port"
    }
}

fn reset(settings: &TlsSettings) -> &'static str {
    if settings.sni.is_none() {
        "many servers close the connection when no server name is sent: set spec.sni"
    } else {
        "check that TLS is spoken on this port and that the upstream knows the server name in spec.sni: its log \
         says more"
    }
}

fn of_alert(alert: Alert, settings: &TlsSettings) -> &'static str {
    match alert {
        Alert::UnrecognizedName => "set spec.sni to a server name that the upstream knows",
        Alert::InternalError | Alert::AccessDenied if settings.sni.is_none() => {
            "some servers answer like this when no server name is sent: set spec.sni"
        }
        _ => "the log of the upstream says more",
    }
}

/// Names the certificate that is missing, and who can bring it.
fn unknown_issuer(seen: &Seen, settings: &TlsSettings) -> String {
    let configured = settings.verify.roots.bundle.is_some();
    let into = if configured {
        "into the Secret of spec.ca_secret"
    } else {
        "into a Secret and set spec.ca_secret to it"
    };
    match seen
        .judgement
        .as_ref()
        .and_then(|judgement| judgement.gap.as_ref())
    {
        Some(Gap::SelfSigned) => {
            format!("if this is the upstream's own certificate, put it {into}; else find out who answers")
        }
        Some(Gap::StrangeRoot(root)) => format!("if you trust `{root}`, put it {into}"),
        Some(Gap::OtherKey(issuer)) => format!(
            "put the certificate of `{issuer}` that is in use now {into}: it has another key than the one \
             there"
        ),
        Some(Gap::LeafAlone(issuer)) if configured => format!(
            "if `{issuer}` is an intermediate CA, let the upstream send its intermediate certificates (its full \
             chain); else put `{issuer}` {into}"
        ),
        Some(Gap::LeafAlone(issuer)) => format!(
            "put `{issuer}` {into}; if that is an intermediate CA, let the upstream send its intermediate \
             certificates (its full chain) instead and take the root"
        ),
        Some(Gap::NoIssuer(issuer)) => format!(
            "put `{issuer}` {into}, or let the upstream send its intermediate certificates without a gap"
        ),
        None => format!("put the CA that issued it {into}"),
    }
}

/// Names of a certificate that a remedy suggests at most.
const SUGGESTED: usize = 3;

/// Suggests names that the certificate carries.
fn name_mismatch(seen: &Seen) -> String {
    let leaf = seen
        .judgement
        .as_ref()
        .and_then(|judgement| judgement.peer.first());
    let names: Vec<&str> = leaf
        .iter()
        .flat_map(|leaf| &leaf.sans)
        .filter_map(|san| {
            san.strip_prefix("DNS:")
                .or(san.strip_prefix("IP:"))
                .or(san.strip_prefix("URI:"))
        })
        .collect();
    if leaf.is_some() && names.is_empty() {
        return "let the upstream use a certificate with a subject alternative name, without which no name in \
                spec.verify.names can match, or set spec.verify.mode to `chain`"
            .to_owned();
    }
    let exact: Vec<String> = names
        .iter()
        .filter(|name| !name.starts_with("*."))
        .take(SUGGESTED)
        .map(|name| format!("`{name}`"))
        .collect();
    let to = match exact.as_slice() {
        [] => "a name that the certificate carries".to_owned(),
        names => names.join(" or "),
    };
    let sendable = leaf.is_none_or(|leaf| leaf.sans.iter().any(|san| san.starts_with("DNS:")));
    let or_sent = if sendable { " (or spec.sni)" } else { "" };
    format!(
        "if that is the upstream you mean, set spec.verify.names{or_sent} to {to}, or spec.verify.mode to \
         `chain`"
    )
}

fn of_verification(reason: Reason, settings: &TlsSettings) -> &'static str {
    let configured = settings.verify.roots.bundle.is_some();
    match reason {
        Reason::Expired if configured => {
            "renew it, on the upstream or, for a CA, in the Secret of spec.ca_secret"
        }
        Reason::Expired => "renew the certificate on the upstream",
        Reason::NotYetValid => {
            "check the clock of this machine and that of the one that issued the certificate"
        }
        Reason::Revoked => {
            "let the upstream use a certificate that was not revoked, from a CA that was not either"
        }
        Reason::CrlUnknown => {
            "add the list for its distribution point to the Secret of spec.crl_secret, or one for all certificates \
             of its issuer"
        }
        Reason::CrlExpired => "put the newest revocation list into the Secret of spec.crl_secret",
        Reason::PinMismatch => {
            "if the upstream changed its key on purpose, add the pin of the new one to spec.verify.pins; if not, \
             find out who answers"
        }
        Reason::BadPurpose => {
            "let the upstream use a certificate that is no CA and is meant for servers, or put that very \
             certificate into the Secret of spec.ca_secret"
        }
        Reason::NameConstraint => {
            "let the upstream use a certificate for names that the CA may issue for, or one from another CA"
        }
        Reason::BadIssuer if configured => {
            "issue that CA anew, with basicConstraints CA:TRUE and keyUsage keyCertSign, and put it into the Secret of \
             spec.ca_secret; with the same name and key, what it has issued stays valid"
        }
        Reason::BadIssuer => {
            "let the upstream use a certificate from a CA that may issue, and send the chain of that"
        }
        Reason::BadSignatureAlgorithm => {
            "let the upstream use certificates with RSA keys of 2048 bits or more, or ECDSA keys, signed with \
             SHA-256 or better"
        }
        Reason::BadCertificate => {
            "let the upstream send a valid X.509 certificate of version 3, and of others only the intermediates \
             between it and its CA"
        }
        _ => "",
    }
}
