use std::io::{Error, Result};

use listenfd::ListenFd;
use tokio::net::TcpListener;

/// Takes over the listener that systemd hands to a program which a socket unit has started, or listens on the address.
///
/// While the program is started again, systemd's listener stays: connections wait in the kernel, and none is refused.
///
/// # Errors
///
/// Fails if what systemd hands over is no TCP listener, or with the address and the reason if there is no listening on it.
///
/// # Cancel safety
///
/// Nothing listens when the future is dropped, but for systemd.
pub async fn listen(address: &str) -> Result<TcpListener> {
    if let Some(listener) = ListenFd::from_env().take_tcp_listener(0)? {
        listener.set_nonblocking(true)?;
        return TcpListener::from_std(listener);
    }
    let named = |error: Error| Error::new(error.kind(), format!("{address}: {error}"));
    session_resume_axum::bind(address).await.map_err(named)
}
