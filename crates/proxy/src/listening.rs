//! Sockets that take in connections: how they begin, and how they end without losing one.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Passes every packet but those that ask for a new connection: of the flags in the 14th byte of the TCP
/// header SYN is set and ACK is not.
const NO_NEW: [SockFilter; 5] = [
    // Load the byte, keep the two flags, compare, and drop the packet or pass it.
    SockFilter::new(0x30, 0, 0, 13),
    SockFilter::new(0x54, 0, 0, 0x12),
    SockFilter::new(0x15, 0, 1, 0x02),
    SockFilter::new(0x06, 0, 0, 0),
    SockFilter::new(0x06, 0, 0, u32::MAX),
];

/// A socket on this address; one that is not shared finds out whether it could be, and does not listen.
pub(crate) fn listen(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Each worker listens for itself; the kernel spreads the connections.
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// Lets nobody begin a connection here any more, while those that are being made come about. Whoever asks
/// now asks again a second later, and is heard by the process that has the port then.
pub(crate) fn take_no_more(listener: &TcpListener) {
    // Without it some may be lost that could have been kept, which is no reason to stop.
    if let Err(error) = SockRef::from(listener).attach_filter(&NO_NEW) {
        tracing::debug!("a port is closed without a pause: {error}");
    }
}

/// A connection that was accepted outside of the runtime.
pub(crate) fn taken_over(tcp: std::net::TcpStream) -> io::Result<TcpStream> {
    tcp.set_nonblocking(true)?;
    TcpStream::from_std(tcp)
}
