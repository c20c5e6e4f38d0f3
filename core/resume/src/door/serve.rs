//! A listener for a layered service, for frameworks whose own takes none.

use std::{
    convert::Infallible,
    error::Error,
    future::{Pending, pending},
    io::ErrorKind,
    net::SocketAddr,
    pin::{Pin, pin},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service;

use crate::words::peer_addr::PeerAddr;

/// How long to wait when the process is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// Serves a layered service on a listener, on HTTP/1.1 and HTTP/2, with upgrades.
///
/// Await it. It never ends by itself; see [`Serve::with_graceful_shutdown`].
pub fn serve<S>(listener: TcpListener, service: S) -> Serve<S> {
    Serve { listener, service, shutdown: pending() }
}

/// A server; made by [`serve`].
#[derive(Debug)]
#[must_use = "a server does nothing until it is awaited"]
pub struct Serve<S, F = Pending<()>> {
    listener: TcpListener,
    service: S,
    shutdown: F,
}

impl<S> Serve<S> {
    /// Takes no more connections once `signal` resolves, and ends when the requests under way are answered.
    ///
    /// It does not wait for WebSockets. Await [`SessionResume::drain`](crate::SessionResume::drain)
    /// inside the signal: then requests are still answered while the sessions are brought to rest.
    pub fn with_graceful_shutdown<F>(self, signal: F) -> Serve<S, F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Serve { listener: self.listener, service: self.service, shutdown: signal }
    }
}

impl<S, B, F> IntoFuture for Serve<S, F>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    type Output = ();
    type IntoFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let mut builder = Builder::new(TokioExecutor::new());
        // Without a timer, a client may take for ever to send its request.
        builder.http1().timer(TokioTimer::new());
        builder.http2().timer(TokioTimer::new()).enable_connect_protocol();
        Box::pin(async move {
            let mut shutdown = pin!(self.shutdown);
            let graceful = GracefulShutdown::new();
            loop {
                let (stream, from) = tokio::select! {
                    accepted = accept(&self.listener) => accepted,
                    () = &mut shutdown => break,
                };
                let inner = TowerToHyperService::new(self.service.clone());
                let service = service_fn(move |mut request: Request<Incoming>| {
                    request.extensions_mut().insert(PeerAddr(from));
                    inner.call(request)
                });
                let stream = TokioIo::new(stream);
                let connection = builder.serve_connection_with_upgrades(stream, service);
                // Ends after the request under way when the server shuts down, or is dropped.
                let connection = graceful.watch(connection.into_owned());
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(error, "connection ended");
                    }
                });
            }
            drop(self.listener);
            graceful.shutdown().await;
        })
    }
}

pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                // Messages are small and flushed when they should leave.
                let _ = stream.set_nodelay(true);
                return (stream, from);
            }
            // That connection is gone; the next may be fine.
            Err(error)
                if matches!(
                    error.kind(),
                    ConnectionAborted | ConnectionRefused | ConnectionReset
                ) =>
            {
                tracing::debug!(%error, "not accepted");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
