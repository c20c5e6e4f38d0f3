//! A listener whose queue holds a crowd.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use tokio::net::{TcpListener, TcpSocket, ToSocketAddrs, lookup_host};

/// The number of connections that may wait to be accepted.
///
/// After a restart all clients come back at once. With the 128 of `TcpListener::bind`, a client that finds the
/// queue full waits for TCP's own retry: 1 s, then 3 s, then 7 s. 4,096 is what Linux allows by default
/// (`net.core.somaxconn`); the kernel lowers a larger number by itself.
const BACKLOG: u32 = 4_096;

/// Listens on an address with a queue of 4,096 connections that wait to be accepted.
///
/// Use it in place of `TcpListener::bind`, whose queue of 128 makes a crowd that comes back wait for seconds. A
/// listener of your own takes the number in [`TcpSocket::listen`].
///
/// # Errors
///
/// Fails if the address cannot be resolved, or if none of the addresses that it resolves to can be listened on:
/// then with the error of the last one.
///
/// # Cancel safety
///
/// Cancel safe: nothing listens when the future is dropped.
///
/// # Example
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let listener = session_resume::adapter::bind("127.0.0.1:0").await?;
/// assert_ne!(listener.local_addr()?.port(), 0);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub async fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(ErrorKind::InvalidInput, "the address names no host");
    for address in lookup_host(address).await? {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // As `TcpListener::bind` does: a server that starts again must not wait for old connections to time out. On
    // Windows the option would let two servers share the port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{net::TcpStream, time::timeout};

    use super::*;

    #[tokio::test]
    async fn a_crowd_that_nobody_accepts_yet_is_connected() {
        // More than the 128 of `TcpListener::bind`; fewer than the files that a process may open.
        const CROWD: usize = 600;
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
        let allowed = allowed.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(128);
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        for n in 0..CROWD.min(allowed) {
            let connected = timeout(Duration::from_secs(20), TcpStream::connect(address)).await;
            waiting.push(connected.unwrap_or_else(|_| panic!("connection {n} hangs")).unwrap());
        }
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_an_error() {
        let taken = bind("127.0.0.1:0").await.unwrap();
        let error = bind(taken.local_addr().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }
}
