use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Response, request::Parts};
use session_resume::{AllowedOrigins, SessionResume};
use session_resume_monitor::Unguarded;
use warp::{Filter, Rejection, path::Tail};

use crate::filters::parts;

/// A monitor of a layer's sessions, without a guard yet: see [`monitor`].
///
/// It is not a filter, so it cannot be mounted:
///
/// ```compile_fail
/// use warp::Filter as _;
///
/// let resume = session_resume::SessionResume::new();
/// let routes = warp::path("monitor").and(session_resume_warp::monitor(&resume));
/// ```
#[must_use = "without a guard there is no route"]
pub struct Monitor {
    unguarded: Unguarded,
}

/// Starts a monitor of a layer's sessions, for operators: [`session_resume_monitor`] says what it answers.
///
/// [`with_guard`](Monitor::with_guard) makes a filter of it, for a path of its own among those of
/// [`service`](crate::service()).
///
/// ```
/// use session_resume::SessionResume;
/// use warp::Filter as _;
///
/// let resume = SessionResume::new();
/// let monitor = session_resume_warp::monitor(&resume)
///     // Says a proxy that has asked for a password, and lets no request pass with this header of its own.
///     .with_guard(|request| request.headers.get("x-operator").is_some_and(|who| who == "yes"));
/// let app = session_resume_warp::service(warp::path("monitor").and(monitor));
/// # drop(app);
/// ```
///
/// # Panics
///
/// Panics if the layer's settings cannot work.
#[track_caller]
pub fn monitor<T: Send + 'static>(resume: &SessionResume<T>) -> Monitor {
    Monitor { unguarded: session_resume_monitor::monitor(resume) }
}

impl Monitor {
    /// Sets whose pages may ask, instead of those of the same origin alone.
    pub fn with_origins(self, origins: AllowedOrigins) -> Self {
        Self { unguarded: self.unguarded.with_origins(origins) }
    }

    /// Sets who may see it, and makes the filter: `guard` is asked for every request, and one that it returns `false` for is
    /// answered with 404.
    ///
    /// It sees the request's head as it came to [`service`](crate::service()), with the extensions that outer middleware left
    /// there.
    pub fn with_guard(
        self,
        guard: impl Fn(&Parts) -> bool + Send + Sync + 'static,
    ) -> impl Filter<Extract = (Response<Bytes>,), Error = Rejection> + Clone {
        let monitor = self.unguarded.with_guard(guard);
        warp::path::tail().and(parts()).then(move |path: Tail, parts: Arc<Parts>| {
            let monitor = monitor.clone();
            async move { monitor.respond(&parts, path.as_str()).await }
        })
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.unguarded.fmt(f)
    }
}
