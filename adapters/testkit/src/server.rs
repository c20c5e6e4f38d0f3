use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use session_resume::store::SnapshotStore;
use tokio::{task::JoinSet, time::sleep};
use tower_service::Service;

use crate::{
    ProcessStore,
    line::{End, Line},
};

/// A server in memory: no port, no thread, and a clock that may be paused. Cheap to clone.
///
/// It serves any tower service, such as an axum `Router` or what `session_resume_warp::service` makes of filters, on
/// HTTP/1.1 with upgrades. It ends when the last clone, browser and page are dropped.
#[derive(Clone)]
pub struct TestServer {
    host: Arc<Host>,
}

struct Host {
    /// `None` while the next process starts.
    process: Mutex<Option<Process>>,
    start: Mutex<Box<dyn FnMut() -> Process + Send>>,
}

/// The memory of one server process.
struct Process {
    serve: Box<dyn Fn(End) -> Serving + Send>,
    /// A connection each.
    tasks: JoinSet<()>,
    lines: Vec<Line>,
    kill: Option<Box<dyn FnOnce() + Send>>,
}

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;
type BoxError = Box<dyn Error + Send + Sync>;

impl TestServer {
    /// Starts a server whose application `build` makes, with all that the application has in memory.
    ///
    /// [`restart`](Self::restart) calls `build` again.
    ///
    /// # Panics
    ///
    /// What `build` panics with.
    pub fn new<S, B>(mut build: impl FnMut() -> S + Send + 'static) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        Self::start(move || Process::new(build(), None))
    }

    /// As [`new`](Self::new), with a store that outlives the application's memory. `build` is given the store as the
    /// new process has it.
    ///
    /// # Panics
    ///
    /// What `build` panics with.
    pub fn with_store<D, S, B>(
        store: D,
        mut build: impl FnMut(ProcessStore<D>) -> S + Send + 'static,
    ) -> Self
    where
        D: SnapshotStore + Clone,
        S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        Self::start(move || {
            let store = ProcessStore::new(store.clone());
            let kill = Box::new(store.killer());
            Process::new(build(store), Some(kill))
        })
    }

    fn start(mut start: impl FnMut() -> Process + Send + 'static) -> Self {
        let process = Mutex::new(Some(start()));
        Self { host: Arc::new(Host { process, start: Mutex::new(Box::new(start)) }) }
    }

    /// Kills the server process and starts the next one: what was in memory is gone, at once and with nothing said to
    /// the store (`kill -9`). Connections are reset; pages come back by themselves.
    ///
    /// With [`with_store`](Self::with_store) the store stays. For a restart that is no accident, drain the layer
    /// before: `resume.drain(..)`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server may stay away; restart it once more.
    ///
    /// # Panics
    ///
    /// What `build` panics with.
    pub async fn restart(&self) {
        // Its drop is the kill.
        drop(self.host.process().take());
        // The tasks of the old process end when they are polled next.
        for _ in 0..2 {
            sleep(Duration::from_millis(1)).await;
        }
        let started = {
            let mut start = self.host.start.lock().unwrap_or_else(PoisonError::into_inner);
            start()
        };
        *self.host.process() = Some(started);
    }

    fn accept(&self, line: &Line, end: End) -> io::Result<()> {
        let mut process = self.host.process();
        let process = process.as_mut().ok_or(ErrorKind::ConnectionRefused)?;
        process.lines.retain(Line::is_of_use);
        process.lines.push(line.clone());
        while process.tasks.try_join_next().is_some() {}
        let serving = (process.serve)(end);
        process.tasks.spawn(serving);
        Ok(())
    }
}

impl Host {
    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    fn new<S, B>(app: S, kill: Option<Box<dyn FnOnce() + Send>>) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let serve = move |end| -> Serving {
            let service = TowerToHyperService::new(app.clone());
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(end), service);
            // A connection that breaks is what this crate is for.
            Box::pin(async { drop(connection.with_upgrades().await) })
        };
        Self { serve: Box::new(serve), tasks: JoinSet::new(), lines: Vec::new(), kill }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(kill) = self.kill.take() {
            kill();
        }
        self.tasks.abort_all();
        self.lines.iter().for_each(Line::reset);
    }
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").finish_non_exhaustive()
    }
}

/// Where a browser goes.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Memory(TestServer),
    #[cfg(feature = "tcp")]
    Tcp(std::net::SocketAddr),
}

impl Target {
    /// What the browser calls it.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Memory(_) => "app.example".to_owned(),
            #[cfg(feature = "tcp")]
            Self::Tcp(address) => address.to_string(),
        }
    }

    /// Leads the server's end of a connection there.
    #[cfg_attr(not(feature = "tcp"), expect(clippy::unused_async, reason = "TCP takes time"))]
    pub(crate) async fn accept(&self, line: &Line, end: End) -> io::Result<()> {
        match self {
            Self::Memory(server) => server.accept(line, end),
            #[cfg(feature = "tcp")]
            Self::Tcp(address) => crate::tcp::lead(*address, end).await,
        }
    }
}
