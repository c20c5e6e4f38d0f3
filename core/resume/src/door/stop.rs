//! A process that is told to stop, and ends its sessions' work first.

use std::{convert::Infallible, error::Error, fmt, io, pin::Pin, pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, join},
};
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tower_service::Service;

use crate::{DrainReport, SessionResume, door::serve::Serve};

/// How long a stop takes at most.
const DEADLINE: Duration = Duration::from_secs(10);

/// Returns a future that ends when the process is told to stop: by ctrl-c or, on Unix, by `SIGTERM`.
///
/// Both signals are taken when this function is called. From then on they do not end the process any more.
///
/// # Errors
///
/// Fails if the signals cannot be listened to.
///
/// # Panics
///
/// Panics outside a tokio runtime.
#[cfg(unix)]
pub fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Returns a future that ends when the process is told to stop, by ctrl-c.
///
/// # Errors
///
/// None here; on Unix there are.
#[cfg(not(unix))]
pub fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    })
}

impl<S> Serve<S> {
    /// Serves until the process is told to stop ([`stop_signal`]), then takes no more connections, answers the
    /// requests under way and [drains](SessionResume::drain) the layer.
    ///
    /// Await it: it ends with the report of the drain when both are done, at the latest at its
    /// [deadline](UntilStopped::with_deadline). After that let the process end: a session whose handler was still
    /// busy with a message is named in the report, and the store has its last boundary.
    ///
    /// The signals are taken by this call: one that comes before the first connection does not kill the process.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn until_stopped<T>(self, resume: &SessionResume<T>) -> UntilStopped<S, T> {
        let stop = stop_signal().map(FutureExt::boxed);
        UntilStopped { serve: self, resume: resume.clone(), deadline: DEADLINE, stop }
    }
}

/// A server that drains its layer when the process is told to stop; made by [`Serve::until_stopped`].
#[must_use = "a server does nothing until it is awaited"]
pub struct UntilStopped<S, T> {
    serve: Serve<S>,
    resume: SessionResume<T>,
    deadline: Duration,
    stop: io::Result<BoxFuture<'static, ()>>,
}

impl<S, T> UntilStopped<S, T> {
    /// Sets how long the stop takes at most, counted from the signal. Default: 10 s. A service manager must wait
    /// longer than this before it kills the process.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }
}

impl<S, T> fmt::Debug for UntilStopped<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntilStopped").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl<S, B, T> IntoFuture for UntilStopped<S, T>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    T: Send + 'static,
{
    type Output = io::Result<DrainReport>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let stop = self.stop?;
            let (say, told) = oneshot::channel::<()>();
            let server = self.serve.with_graceful_shutdown(async move {
                let _ = told.await;
            });
            let mut server = pin!(server.into_future());
            // The server does not end before it is told.
            tokio::select! {
                () = stop => {}
                () = &mut server => {}
            }
            let until = Instant::now() + self.deadline;
            tracing::info!("told to stop: draining");
            let _ = say.send(());
            let (report, _) =
                join(self.resume.drain(self.deadline), timeout_at(until, server)).await;
            Ok(report)
        })
    }
}
