//! TLS by hand, for peers that no TLS library can be made to play.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Length of a record's header: type, version, length.
pub const RECORD_HEADER: usize = 5;

/// Reads one record, as a ClientHello is, header included; less where the peer closes.
pub async fn read_record(stream: &mut TcpStream) -> Vec<u8> {
    let mut record = vec![0; RECORD_HEADER];
    if stream.read_exact(&mut record).await.is_err() {
        return Vec::new();
    }
    let length = u16::from_be_bytes([record[3], record[4]]);
    let mut content = vec![0; length.into()];
    if stream.read_exact(&mut content).await.is_ok() {
        record.append(&mut content);
    }
    record
}

/// A fatal alert in the clear, in a record of this minor version: 3 for TLS 1.2, 2 for TLS 1.1.
pub fn alert(description: u8, minor: u8) -> [u8; 7] {
    [21, 3, minor, 0, 2, 2, description]
}

/// Closes with a RST, as a process that crashes or a firewall does.
pub fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

/// Reads the ClientHello, answers with `bytes`, and waits until the gateway has closed.
pub async fn answer_hello(mut stream: TcpStream, bytes: &[u8]) {
    read_record(&mut stream).await;
    // The gateway may be gone.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    swallow(stream).await;
}

/// Reads and forgets everything until the gateway closes.
pub async fn swallow(mut stream: TcpStream) {
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}
