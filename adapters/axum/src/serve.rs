use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    response::Response,
};
use session_resume::{
    SessionResume,
    adapter::{self, PeerAddr, ServeHops, UntilStopped},
};
use tokio::net::TcpListener;

/// Serves `app` until the process is told to stop (ctrl-c or, on Unix, `SIGTERM`), then drains the layer.
///
/// Await it: it ends with the drain's report, at the latest 10 s after the signal
/// ([`with_deadline`](UntilStopped::with_deadline) sets another time). From the signal on it takes no more
/// connections and answers the requests under way. Messages leave at once (`TCP_NODELAY`). HTTP/1.1 and HTTP/2 are
/// served. Handlers can extract `ConnectInfo<SocketAddr>`.
///
/// Give it a listener of [`bind`](crate::bind), in which a crowd that comes back finds room, and the layer that is
/// around the router.
///
/// # Errors
///
/// Fails if the signals cannot be listened to.
///
/// # Panics
///
/// Panics outside a tokio runtime.
///
/// # Example
///
/// ```no_run
/// use axum::Router;
/// use session_resume::SessionResume;
///
/// # async fn run() -> std::io::Result<()> {
/// let resume = SessionResume::new();
/// let app = Router::new().layer(resume.clone());
/// let listener = session_resume_axum::bind("127.0.0.1:3000").await?;
/// let report = session_resume_axum::serve(listener, app, &resume).await?;
/// println!("{} sessions drained, {} cut", report.drained, report.cut.len());
/// # Ok(())
/// # }
/// ```
pub fn serve<T>(
    listener: TcpListener,
    app: Router,
    resume: &SessionResume<T>,
) -> UntilStopped<Served, T> {
    adapter::serve(listener, Served { app }).until_stopped(resume)
}

/// Serves the requests that other nodes of a cluster send on: the same router as for clients, on a listener of its own.
///
/// Await it beside the server for clients: `tokio::select!` them. It never ends by itself. What connects must prove that it has the
/// key with which this layer signs identities, or is closed unanswered. The bytes are not encrypted: keep the listener where
/// only the other nodes reach it.
///
/// # Errors
///
/// Fails if the layer has no cluster ([`SessionResume::with_cluster`]).
///
/// # Example
///
/// ```no_run
/// use axum::Router;
/// use session_resume::{Cluster, SessionResume, store::MemoryStore};
///
/// # async fn run() -> std::io::Result<()> {
/// // In a program: RedisStore::connect(..).
/// let engine = MemoryStore::new();
/// let resume = SessionResume::new()
///     .with_cluster(Cluster::new(engine).with_advertise("10.0.0.7:7946"));
/// let app = Router::new().layer(resume.clone());
/// let hops = session_resume_axum::bind("0.0.0.0:7946").await?;
/// let listener = session_resume_axum::bind("0.0.0.0:3000").await?;
/// tokio::select! {
///     report = session_resume_axum::serve(listener, app.clone(), &resume) => drop(report?),
///     ended = session_resume_axum::serve_hops(hops, app, &resume) => ended?,
/// }
/// # Ok(())
/// # }
/// ```
pub fn serve_hops<T>(
    listener: TcpListener,
    app: Router,
    resume: &SessionResume<T>,
) -> ServeHops<Served>
where
    T: Send + 'static,
{
    adapter::serve_hops(listener, Served { app }, resume)
}

/// The service that [`serve`] serves: a router whose handlers know where a request comes from.
#[derive(Clone, Debug)]
pub struct Served {
    app: Router,
}

impl<B> tower_service::Service<http::Request<B>> for Served
where
    B: axum::body::HttpBody<Data = axum::body::Bytes, Error: Into<axum::BoxError>> + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = <Router as tower_service::Service<Request>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        tower_service::Service::<http::Request<B>>::poll_ready(&mut self.app, cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        if let Some(PeerAddr(from)) = request.extensions().get().copied() {
            request.extensions_mut().insert(ConnectInfo(from));
        }
        self.app.call(request)
    }
}
