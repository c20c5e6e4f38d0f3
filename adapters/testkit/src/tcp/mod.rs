//! Servers on real sockets, and a network in front of them that breaks. Do not pause the clock with these.
//!
//! [`Browser::at`](crate::Browser::at) is a browser at such a server; its pages and sockets have the verbs of those in
//! memory. [`Proxy`] is for clients that are not ours, and for connections that end at a byte.

mod fate;
mod proxy;

pub use self::{
    fate::{End, Fate, Stall},
    proxy::{Counts, Late, Proxy},
};

use std::{io, net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{io::copy_bidirectional, net::TcpStream};

use crate::line;

/// Leads an end of a connection in memory to a server.
pub(crate) async fn lead(address: SocketAddr, mut end: line::End) -> io::Result<()> {
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
