//! Servers on real sockets.

use std::{io, net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{io::copy_bidirectional, net::TcpStream};

use crate::line::End;

/// Leads an end of a connection in memory to a server.
pub(crate) async fn lead(address: SocketAddr, mut end: End) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // Ends with one of the two.
    tokio::spawn(async move {
        if copy_bidirectional(&mut end, &mut stream).await.is_err() {
            reset(&stream);
        }
    });
    Ok(())
}

/// The stream is reset when it is dropped: with no time to linger the kernel sends RST.
pub(crate) fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
