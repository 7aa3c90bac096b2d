//! Names that users may write: those of Envoy and BoringSSL, and those of the RFCs.

use nuncio_model::{AlgorithmName, Alpn, TlsVersion};

/// A name that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    /// As the user wrote it.
    pub name: String,
    /// The known name that looks most like it, where one does.
    pub nearest: Option<&'static str>,
}

/// What `min_tls_version` and `max_tls_version` can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionBound {
    /// TLS 1.0 or 1.1, which are not spoken (RFC 8996).
    Retired,
    /// A version that is spoken.
    Spoken(TlsVersion),
}

/// A `cipher_suites` list, sorted by what can be done with each name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CipherSuites {
    /// RFC names of the TLS 1.2 suites to offer, in order, without duplicates.
    pub spoken: Vec<AlgorithmName>,
    /// TLS 1.3 suites that were named; they are offered whether named or not.
    pub always: Vec<AlgorithmName>,
    /// Names that Envoy or OpenSSL know but that are not spoken: CBC suites, RSA key exchange, PSK.
    pub unspoken: Vec<String>,
    /// Names that nobody knows.
    pub unknown: Vec<UnknownName>,
}

/// What BoringSSL calls a TLS 1.2 suite that is spoken, and what its RFC calls it. In the order in
/// which they are offered where the user gives none: AES-128 before AES-256, as Envoy does, since
/// it is faster and as good in practice.
pub(crate) const TLS12_SUITES: &[(&str, AlgorithmName)] = &[
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
];

/// TLS 1.3 suites; BoringSSL has no names of its own for them.
pub(crate) const TLS13_SUITES: &[AlgorithmName] = &[
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// Suites that Envoy or OpenSSL know and the TLS library has no code for.
const UNSPOKEN_SUITES: &[(&str, &str)] = &[
    ("ECDHE-ECDSA-AES128-SHA", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
    ("ECDHE-ECDSA-AES256-SHA", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
    (
        "ECDHE-ECDSA-AES128-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    ),
    (
        "ECDHE-ECDSA-AES256-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
    ),
    ("ECDHE-RSA-AES128-SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    ("ECDHE-RSA-AES256-SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"),
    ("ECDHE-RSA-AES128-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"),
    ("ECDHE-RSA-AES256-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384"),
    ("ECDHE-RSA-DES-CBC3-SHA", "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA"),
    ("AES128-GCM-SHA256", "TLS_RSA_WITH_AES_128_GCM_SHA256"),
    ("AES256-GCM-SHA384", "TLS_RSA_WITH_AES_256_GCM_SHA384"),
    ("AES128-SHA", "TLS_RSA_WITH_AES_128_CBC_SHA"),
    ("AES256-SHA", "TLS_RSA_WITH_AES_256_CBC_SHA"),
    ("AES128-SHA256", "TLS_RSA_WITH_AES_128_CBC_SHA256"),
    ("AES256-SHA256", "TLS_RSA_WITH_AES_256_CBC_SHA256"),
    ("DES-CBC3-SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA"),
    ("DHE-RSA-AES128-GCM-SHA256", "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"),
    ("DHE-RSA-AES256-GCM-SHA384", "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384"),
    (
        "DHE-RSA-CHACHA20-POLY1305",
        "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    ("DHE-RSA-AES128-SHA", "TLS_DHE_RSA_WITH_AES_128_CBC_SHA"),
    ("DHE-RSA-AES256-SHA", "TLS_DHE_RSA_WITH_AES_256_CBC_SHA"),
    ("DHE-RSA-AES128-SHA256", "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256"),
    ("DHE-RSA-AES256-SHA256", "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256"),
    ("PSK-AES128-CBC-SHA", "TLS_PSK_WITH_AES_128_CBC_SHA"),
    ("PSK-AES256-CBC-SHA", "TLS_PSK_WITH_AES_256_CBC_SHA"),
    ("ECDHE-PSK-AES128-CBC-SHA", "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA"),
    ("ECDHE-PSK-AES256-CBC-SHA", "TLS_ECDHE_PSK_WITH_AES_256_CBC_SHA"),
    (
        "ECDHE-PSK-CHACHA20-POLY1305",
        "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256",
    ),
];

/// What users call a group, and what its RFC calls it.
const GROUPS: &[(&str, AlgorithmName)] = &[
    ("X25519MLKEM768", "X25519MLKEM768"),
    ("X25519", "X25519"),
    ("P-256", "secp256r1"),
    ("prime256v1", "secp256r1"),
    ("secp256r1", "secp256r1"),
    ("P-384", "secp384r1"),
    ("secp384r1", "secp384r1"),
    ("SecP256r1MLKEM768", "secp256r1MLKEM768"),
    ("MLKEM1024", "MLKEM1024"),
];

/// Groups that Envoy or OpenSSL know and the TLS library has no code for.
const UNSPOKEN_GROUPS: &[&str] = &[
    "P-521",
    "secp521r1",
    "P-224",
    "secp224r1",
    "X448",
    "X25519Kyber768Draft00",
];

const VERSIONS: &[(&str, VersionBound)] = &[
    ("v1.0", VersionBound::Retired),
    ("v1.1", VersionBound::Retired),
    ("v1.2", VersionBound::Spoken(TlsVersion::V1_2)),
    ("v1.3", VersionBound::Spoken(TlsVersion::V1_3)),
];

const PROTOCOLS: &[(&str, Alpn)] = &[("h2", Alpn::H2), ("http/1.1", Alpn::Http1)];

/// A cipher suite by any of its names. `Ok(None)` is a suite that Envoy or OpenSSL know and that is
/// not spoken here: the caller warns. A TLS 1.3 suite is returned like any other.
pub fn cipher_suite(name: &str) -> Result<Option<AlgorithmName>, UnknownName> {
    let spoken = TLS12_SUITES
        .iter()
        .find(|(envoy, rfc)| name == *envoy || name == *rfc);
    if let Some((_, rfc)) = spoken {
        return Ok(Some(rfc));
    }
    if let Some(rfc) = TLS13_SUITES.iter().find(|rfc| name == **rfc) {
        return Ok(Some(rfc));
    }
    if UNSPOKEN_SUITES
        .iter()
        .any(|(envoy, rfc)| name == *envoy || name == *rfc)
    {
        return Ok(None);
    }
    let both = TLS12_SUITES.iter().flat_map(|(envoy, rfc)| [*envoy, *rfc]);
    Err(unknown(name, both.chain(TLS13_SUITES.iter().copied())))
}

/// The names of a `cipher_suites` list. An element may be one name, a group `[A|B]` of equal
/// preference (kept in its order), or several of these joined by colons, as Envoy reads them.
pub fn cipher_suites<S: AsRef<str>>(elements: &[S]) -> CipherSuites {
    let mut suites = CipherSuites::default();
    let names = elements
        .iter()
        .flat_map(|element| element.as_ref().split([':', '|', '[', ']']))
        .map(str::trim)
        .filter(|name| !name.is_empty());
    for name in names {
        match cipher_suite(name) {
            Ok(Some(suite)) if TLS13_SUITES.contains(&suite) => push_once(&mut suites.always, suite),
            Ok(Some(suite)) => push_once(&mut suites.spoken, suite),
            Ok(None) => push_once(&mut suites.unspoken, name.to_owned()),
            Err(unknown) => push_once(&mut suites.unknown, unknown),
        }
    }
    suites
}

fn push_once<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// A key-exchange group by any of its names. `Ok(None)` is one that Envoy or OpenSSL know and that
/// is not spoken here: the caller warns.
pub fn group(name: &str) -> Result<Option<AlgorithmName>, UnknownName> {
    if let Some((_, rfc)) = GROUPS.iter().find(|(known, _)| name == *known) {
        return Ok(Some(rfc));
    }
    if UNSPOKEN_GROUPS.contains(&name) {
        return Ok(None);
    }
    Err(unknown(name, GROUPS.iter().map(|(known, _)| *known)))
}

/// A value of `min_tls_version` or `max_tls_version`: `v1.0`, `v1.1`, `v1.2` or `v1.3`.
pub fn version(text: &str) -> Result<VersionBound, UnknownName> {
    look_up(VERSIONS, text)
}

/// A protocol id of an `alpn_protocols` list: `h2` or `http/1.1`.
pub fn alpn_protocol(id: &str) -> Result<Alpn, UnknownName> {
    look_up(PROTOCOLS, id)
}

fn look_up<T: Copy>(table: &'static [(&'static str, T)], name: &str) -> Result<T, UnknownName> {
    table
        .iter()
        .find(|(known, _)| name == *known)
        .map(|(_, value)| *value)
        .ok_or_else(|| unknown(name, table.iter().map(|(known, _)| *known)))
}

/// How alike two names must be for one to be suggested for the other; 1 is equal.
const ALIKE: f64 = 0.4;

fn unknown(name: &str, known: impl Iterator<Item = &'static str>) -> UnknownName {
    let wanted = name.to_lowercase();
    let nearest = known
        .map(|known| {
            (
                strsim::normalized_damerau_levenshtein(&wanted, &known.to_lowercase()),
                known,
            )
        })
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known);
    UnknownName {
        name: name.to_owned(),
        nearest,
    }
}

#[cfg(test)]
#[path = "names/tests.rs"]
mod tests;
