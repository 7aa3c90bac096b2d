//! Text to PEM blocks (RFC 7468), one at a time: a broken block costs nothing but itself.
//!
//! The decoder of `rustls-pki-types` reads one block; finding where blocks begin and end is done
//! here, because a block without its end must not swallow the good one that follows (row V7), and
//! because findings name the line.

use rustls_pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

/// `TRUSTED CERTIFICATE` and its like are half as long.
const LONGEST_LABEL: usize = 40;

/// What a block says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// `CERTIFICATE`, and `X509 CERTIFICATE` as old tools write it.
    Certificate,
    /// `TRUSTED CERTIFICATE`: a certificate and OpenSSL's settings of what to trust it for.
    TrustedCertificate,
    /// `PRIVATE KEY`
    Pkcs8,
    /// `RSA PRIVATE KEY`
    Pkcs1,
    /// `EC PRIVATE KEY`
    Sec1,
    /// `ENCRYPTED PRIVATE KEY`
    EncryptedKey,
    /// A key in a form that is not read, such as `OPENSSH PRIVATE KEY`.
    ForeignKey(String),
    /// `X509 CRL`
    Crl,
    /// Anything else, such as `EC PARAMETERS`.
    Other(String),
}

impl Label {
    pub(crate) fn is_key(&self) -> bool {
        matches!(
            self,
            Self::Pkcs8 | Self::Pkcs1 | Self::Sec1 | Self::EncryptedKey | Self::ForeignKey(_)
        )
    }
}

/// One block of a PEM text.
#[derive(Debug)]
pub(crate) struct Block {
    /// Line of its `BEGIN`, from 1.
    pub(crate) line: usize,
    pub(crate) label: Label,
    /// DER, or what is wrong with the block. Empty for labels that are not decoded.
    pub(crate) content: Result<Zeroizing<Vec<u8>>, String>,
    /// `Proc-Type: 4,ENCRYPTED` stands in its header.
    pub(crate) encrypted: bool,
}

/// Every block of `text`, in order. Text outside of blocks is passed over.
pub(crate) fn blocks(text: &[u8]) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Open> = None;
    let numbered = lines(text).enumerate();
    for (index, line) in numbered.flat_map(|(index, line)| parts(line).map(move |part| (index, part))) {
        if let Some(label) = line.strip_prefix(b"-----BEGIN ") {
            found.extend(open.take().map(Open::unfinished));
            match begin(index + 1, label) {
                Ok(block) => open = Some(block),
                Err(block) => found.push(block),
            }
        } else if line.starts_with(b"-----END ") {
            found.extend(open.take().map(|block| block.finish(line)));
        } else if let Some(block) = &mut open {
            block.take(line);
        }
    }
    found.extend(open.map(Open::unfinished));
    found
}

/// An `END` line and the `BEGIN` line that follows it where the line break between them is lost, as in files that
/// were joined without one; any other line as it is.
fn parts(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    const GLUED: &[u8] = b"----------BEGIN ";
    let at = line
        .starts_with(b"-----END ")
        .then(|| line.windows(GLUED.len()).position(|window| window == GLUED))
        .flatten();
    let (first, second) = match at {
        Some(at) => (&line[..at + 5], Some(&line[at + 5..])),
        None => (line, None),
    };
    std::iter::once(first).chain(second)
}

/// What is wrong with a text in which no block was found, and the command that converts it.
pub(crate) fn why_nothing_found(text: &[u8]) -> &'static str {
    let text = text.trim_ascii();
    if text.is_empty() {
        "it is empty"
    } else if text.starts_with(b"LS0tLS1") {
        "it is base64 of PEM, so it was encoded twice; encode it once, or put the PEM under `stringData`"
    } else if is_utf16(text) {
        "it is UTF-16; convert it with `iconv -f UTF-16 -t UTF-8 FILE > tls.crt`"
    } else if text.starts_with(&[0xFE, 0xED, 0xFE, 0xED]) || text.starts_with(&[0xCE, 0xCE, 0xCE, 0xCE]) {
        "it is a Java keystore (JKS); make PKCS#12 of it with `keytool -importkeystore -srckeystore FILE -destkeystore \
         x.p12 -deststoretype PKCS12`, and PEM of that with `openssl pkcs12 -in x.p12 -nokeys -out tls.crt` and `openssl \
         pkcs12 -in x.p12 -nocerts -nodes -out tls.key`"
    } else if let Some(content) = der_content(text) {
        why_der(content)
    } else if text.starts_with(b"MII") {
        "it is base64 of DER without the lines of PEM; make PEM of it with `base64 -d FILE | openssl x509 -inform DER \
         -out tls.crt`, or of a key with `base64 -d FILE | openssl pkey -inform DER -out tls.key`"
    } else if is_placeholder(text) {
        "it is a placeholder that nothing has filled in; put the PEM in its place"
    } else {
        "no `-----BEGIN` line stands in it; put PEM there"
    }
}

/// A short text that a template would replace.
fn is_placeholder(text: &[u8]) -> bool {
    const LONGEST: usize = 256;
    let forms: [&[u8]; 5] = [b"{{", b"${", b"$(", b"<", b"@@"];
    text.len() <= LONGEST
        && forms
            .iter()
            .any(|form| text.windows(form.len()).any(|part| part == *form))
}

/// With a byte order mark, or plainly dashes of two bytes each.
fn is_utf16(text: &[u8]) -> bool {
    let beginnings: [&[u8]; 4] = [&[0xFF, 0xFE], &[0xFE, 0xFF], b"-\0-\0", b"\0-\0-"];
    beginnings.iter().any(|beginning| text.starts_with(beginning))
}

/// The content of a text that is one DER sequence, or begins one of more than 127 bytes.
fn der_content(text: &[u8]) -> Option<&[u8]> {
    match text {
        [0x30, length @ 0x81..=0x84, ..] => text.get(2 + usize::from(length & 0x7F)..),
        [0x30, length, rest @ ..] if usize::from(*length) == rest.len() => Some(rest),
        _ => None,
    }
}

/// What DER is by the first element of its content.
fn why_der(content: &[u8]) -> &'static str {
    /// The object identifier of PKCS#7 signed data (RFC 2315 section 14).
    const SIGNED_DATA: &[u8] = &[0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 0x02];
    if content.starts_with(&[0x02, 0x01, 0x03, 0x30]) {
        "it is PKCS#12; make PEM of it with `openssl pkcs12 -in FILE -nokeys -out tls.crt` and `openssl pkcs12 -in FILE \
         -nocerts -nodes -out tls.key`"
    } else if content.starts_with(SIGNED_DATA) {
        "it is PKCS#7; make PEM of it with `openssl pkcs7 -inform DER -in FILE -print_certs -out tls.crt`"
    } else if content.starts_with(&[0x02, 0x01]) {
        "it is a key in DER; make PEM of it with `openssl pkey -inform DER -in FILE -out tls.key`"
    } else {
        "it is DER; make PEM of it with `openssl x509 -inform DER -in FILE -out tls.crt`, or of a revocation list with \
         `openssl crl -inform DER -in FILE -out crl.pem`"
    }
}

/// Lines without the white space around them; ends may be LF, CRLF or CR.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let current = rest?;
        let end = current.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let Some(end) = end else {
            rest = None;
            return Some(current.trim_ascii());
        };
        let ending = if current[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = Some(&current[end + ending..]);
        Some(current[..end].trim_ascii())
    })
}

/// A block whose end has not been seen.
struct Open {
    line: usize,
    label: Label,
    body: Zeroizing<Vec<u8>>,
    encrypted: bool,
}

/// Opens a block at a `BEGIN` line, or makes a broken one of it.
fn begin(line: usize, rest: &[u8]) -> Result<Open, Block> {
    let broken = |why: &str| Block {
        line,
        label: label(&String::from_utf8_lossy(before_dashes(rest))),
        content: Err(why.to_owned()),
        encrypted: false,
    };
    let Some(name) = rest.strip_suffix(b"-----") else {
        return Err(broken("its BEGIN line does not end in five dashes"));
    };
    if name.windows(5).any(|dashes| dashes == b"-----") {
        return Err(broken(
            "its BEGIN and END stand on one line; keep the line breaks",
        ));
    }
    Ok(Open {
        line,
        label: label(&String::from_utf8_lossy(name)),
        body: Zeroizing::new(Vec::new()),
        encrypted: false,
    })
}

fn before_dashes(rest: &[u8]) -> &[u8] {
    let end = rest
        .windows(2)
        .position(|pair| pair == b"--")
        .unwrap_or(rest.len());
    &rest[..end]
}

fn label(name: &str) -> Label {
    match name {
        "CERTIFICATE" | "X509 CERTIFICATE" => Label::Certificate,
        "TRUSTED CERTIFICATE" => Label::TrustedCertificate,
        "PRIVATE KEY" => Label::Pkcs8,
        "RSA PRIVATE KEY" => Label::Pkcs1,
        "EC PRIVATE KEY" => Label::Sec1,
        "ENCRYPTED PRIVATE KEY" => Label::EncryptedKey,
        "X509 CRL" => Label::Crl,
        other if other.ends_with("PRIVATE KEY") => Label::ForeignKey(tellable(other)),
        other => Label::Other(tellable(other)),
    }
}

/// A label as messages may tell it. One that is no label of any tool may hold key bytes, such as those
/// of a key that lost its line breaks (row K16), and is cut down to what it begins like.
fn tellable(label: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b" .#".contains(&byte);
    if label.len() <= LONGEST_LABEL && label.bytes().all(plain) {
        return label.to_owned();
    }
    let kinds = ["CERTIFICATE", "PRIVATE KEY"];
    let kind = kinds.into_iter().find(|kind| label.contains(kind));
    format!("{}…", kind.unwrap_or_default())
}

impl Open {
    /// Takes a line of the body. Header lines (RFC 1421) say at most that the block is encrypted.
    fn take(&mut self, line: &[u8]) {
        if line.contains(&b':') {
            self.encrypted |= line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED");
        } else {
            self.body.extend_from_slice(line);
            self.body.push(b'\n');
        }
    }

    fn unfinished(self) -> Block {
        self.close(Err("it has no END line".to_owned()))
    }

    fn finish(self, end: &[u8]) -> Block {
        let name = end
            .strip_prefix(b"-----END ")
            .and_then(|rest| rest.strip_suffix(b"-----"));
        let content = match name {
            Some(name) if label(&String::from_utf8_lossy(name)) == self.label => self.decode(),
            _ => Err("its END line does not match its BEGIN line".to_owned()),
        };
        self.close(content)
    }

    fn close(self, content: Result<Zeroizing<Vec<u8>>, String>) -> Block {
        Block {
            line: self.line,
            label: self.label,
            content,
            encrypted: self.encrypted,
        }
    }

    /// Base64 of the body to DER.
    fn decode(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        let name = match &self.label {
            // A body that is encrypted is base64 of something that is no DER.
            _ if self.encrypted => return Ok(Zeroizing::default()),
            Label::Certificate | Label::TrustedCertificate => "CERTIFICATE",
            Label::Crl => "X509 CRL",
            Label::Pkcs8 | Label::Pkcs1 | Label::Sec1 => "PRIVATE KEY",
            Label::EncryptedKey | Label::ForeignKey(_) | Label::Other(_) => return Ok(Zeroizing::default()),
        };
        let mut text = Zeroizing::new(Vec::with_capacity(self.body.len() + 64));
        text.extend_from_slice(format!("-----BEGIN {name}-----\n").as_bytes());
        text.extend_from_slice(&self.body);
        text.extend_from_slice(format!("-----END {name}-----\n").as_bytes());
        // The decoder's own words could quote the text, so they are not passed on.
        let (_, der) = <(SectionKind, Vec<u8>)>::from_pem_slice(&text)
            .map_err(|_| "its content is not base64".to_owned())?;
        Ok(Zeroizing::new(der))
    }
}
