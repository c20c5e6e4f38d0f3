use std::fmt;

use axum::{
    Router,
    body::Body,
    extract::{OriginalUri, Request},
    response::Response,
    routing::{MethodRouter, any},
};
use http::request::Parts;
use session_resume::{AllowedOrigins, SessionResume};
use session_resume_monitor::Unguarded;

/// A monitor of a layer's sessions, without a guard yet: see [`monitor`].
///
/// It is not a router, so it cannot be mounted:
///
/// ```compile_fail
/// let resume = session_resume::SessionResume::new();
/// let monitor = session_resume_axum::monitor(&resume);
/// let app: axum::Router = axum::Router::new().nest("/monitor", monitor);
/// ```
#[must_use = "without a guard there is no route"]
pub struct Monitor {
    unguarded: Unguarded,
}

/// Starts a monitor of a layer's sessions, for operators: [`session_resume_monitor`] says what it answers.
///
/// [`with_guard`](Monitor::with_guard) makes a router of it; nest that anywhere, inside the layer or outside of it. With
/// `nest_service` the page is at `/monitor` and at `/monitor/`, with `nest` at `/monitor` alone.
///
/// ```
/// use axum::Router;
/// use session_resume::SessionResume;
///
/// let resume = SessionResume::new();
/// let monitor = session_resume_axum::monitor(&resume)
///     // Says a proxy that has asked for a password, and lets no request pass with this header of its own.
///     .with_guard(|request| request.headers.get("x-operator").is_some_and(|who| who == "yes"));
/// let app: Router = Router::new().nest_service("/monitor", monitor).layer(resume);
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

    /// Sets who may see it, and makes the router: `guard` is asked for every request, and one that it returns `false` for is
    /// answered with 404.
    ///
    /// It sees the request's head with the path as it came to the outermost router, and with the extensions that outer
    /// middleware left there.
    pub fn with_guard<S>(self, guard: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let monitor = self.unguarded.with_guard(guard);
        let answer = move |request: Request| async move {
            let (mut parts, _) = request.into_parts();
            let path = parts.uri.path().to_owned();
            // The page's addresses begin where the browser sees it, not where the routers have left off.
            if let Some(OriginalUri(original)) = parts.extensions.get() {
                parts.uri = original.clone();
            }
            let response: Response = monitor.respond(&parts, &path).await.map(Body::from);
            response
        };
        let answer: MethodRouter<S> = any(answer);
        Router::new().route("/", answer.clone()).route("/{*path}", answer)
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.unguarded.fmt(f)
    }
}
