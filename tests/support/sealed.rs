//! TLS records by hand, sealed with the keys of a real handshake, for peers that misbehave behind their
//! encryption. The fuzz target `hostile_server` uses it too.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::server::ServerConnection;
use rustls::{CipherSuite, ConnectionTrafficSecrets, ProtocolVersion};

/// Content types of records.
pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const DATA: u8 = 23;

/// Those whose records can be sealed here, one of TLS 1.3 and two of TLS 1.2.
pub const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// Seals what a server sends.
pub struct Sealer {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
    is_tls13: bool,
}

impl Sealer {
    /// Goes on where this connection stands. Its suite must be one of [`SUITES`], its handshake over, and
    /// nothing left for it to write.
    pub fn of(connection: ServerConnection) -> Self {
        let is_tls13 = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let secrets = connection.dangerous_extract_secrets().unwrap();
        let (sequence, ConnectionTrafficSecrets::Aes128Gcm { key, iv }) = secrets.tx else {
            unreachable!("it speaks no other suite")
        };
        Self {
            key: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key.as_ref()).unwrap()),
            iv: iv.as_ref().try_into().unwrap(),
            sequence,
            is_tls13,
        }
    }

    /// The next record.
    pub fn record(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        let sequence = self.sequence.to_be_bytes();
        self.sequence += 1;
        if self.is_tls13 {
            self.record_of_tls13(sequence, content_type, content)
        } else {
            self.record_of_tls12(sequence, content_type, content)
        }
    }

    /// RFC 8446, section 5.2: what it is stands inside.
    fn record_of_tls13(&self, sequence: [u8; 8], content_type: u8, content: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(sequence) {
            *byte ^= number;
        }
        let mut inner = content.to_vec();
        inner.push(content_type);
        let length = u16::try_from(inner.len() + AES_128_GCM.tag_len()).unwrap();
        let mut record = vec![DATA, 3, 3];
        record.extend(length.to_be_bytes());
        self.seal(nonce, &record, &mut inner);
        record.append(&mut inner);
        record
    }

    /// RFC 5288: part of the nonce stands before what is sealed.
    fn record_of_tls12(&self, sequence: [u8; 8], content_type: u8, content: &[u8]) -> Vec<u8> {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.iv[..4]);
        nonce[4..].copy_from_slice(&sequence);
        let mut associated = sequence.to_vec();
        associated.extend([content_type, 3, 3]);
        associated.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        let mut sealed = content.to_vec();
        self.seal(nonce, &associated, &mut sealed);
        let mut record = vec![content_type, 3, 3];
        record.extend(
            u16::try_from(sequence.len() + sealed.len())
                .unwrap()
                .to_be_bytes(),
        );
        record.extend(sequence);
        record.append(&mut sealed);
        record
    }

    fn seal(&self, nonce: [u8; 12], associated: &[u8], content: &mut Vec<u8>) {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(associated), content)
            .unwrap();
    }
}

/// A TLS 1.3 session ticket (RFC 8446, section 4.6.1) with so many bytes to keep.
pub fn ticket(number: u32, length: u16) -> Vec<u8> {
    let mut content = vec![0, 0, 0x1c, 0x20, 0, 0, 0, 0, 4];
    content.extend(number.to_be_bytes());
    content.extend(length.to_be_bytes());
    content.extend(vec![7; length.into()]);
    content.extend([0, 0]);
    let mut message = vec![4, 0];
    message.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
    message.append(&mut content);
    message
}
