//! A monitor of session-resume's sessions, for operators: a page, and its numbers as JSON.
//!
//! It is mounted with axum by `session_resume_axum::monitor` and with warp by `session_resume_warp::monitor` (each with
//! the feature `monitor`); any other framework asks [`Monitor::respond`]. There is no route without a guard: what
//! [`monitor`] returns answers nothing, and [`Unguarded::with_guard`] makes of it what does.
//!
//! ```
//! use http::{HeaderValue, Request, StatusCode};
//! use session_resume::SessionResume;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let resume = SessionResume::new();
//! let monitor = session_resume_monitor::monitor(&resume)
//!     // What stands in front, such as a proxy or a middleware, says who is an operator.
//!     .with_guard(|request| request.headers.get("x-operator") == Some(&HeaderValue::from_static("yes")));
//!
//! let (stranger, _) = Request::get("/monitor/overview").body(()).unwrap().into_parts();
//! assert_eq!(monitor.respond(&stranger, "overview").await.status(), StatusCode::NOT_FOUND);
//!
//! let (operator, _) = Request::get("/monitor").header("x-operator", "yes").body(()).unwrap().into_parts();
//! let page = monitor.respond(&operator, "").await;
//! assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
//! # }
//! ```
//!
//! # What it answers
//!
//! Paths are relative to where it is mounted.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET` (where it is mounted, with or without a slash at the end) | the page |
//! | `GET monitor.js`, `GET monitor.css` | its script and its style |
//! | `GET overview` | counts of all sessions in memory, guards by reason, the last ends with their reasons, and what happened in each of the last 60 minutes |
//! | `GET sessions?search=&phase=&sort=&limit=&after=` | some of the sessions: at most `limit` (50, at most 200) |
//! | `GET sessions/{id}` | one session, with its clients |
//! | `POST sessions/{id}/end?reason=` | ends it, outcome `closed`; the reason is the outcome's error, which its own clients may read |
//!
//! `search` is the beginning of an id, of an identity's hash or of a key's hash; the hashes are those that log lines have.
//! `phase` is `running`, `suspended` or `completed`. `sort` is `id`, `outbox` (the fullest first) or `inbox`. `after` is the
//! `next` of the page before. Each of `overview` and `sessions` is one pass over the sessions in memory
//! ([`SessionResume::survey`]), and keeps no more of it than is shown.
//!
//! # The page
//!
//! The page shows what the JSON has, and ends a session after it has asked once more. It asks for the JSON every two
//! seconds while it is in sight; where an answer takes the server long, it asks less often. It is no session of the protocol
//! itself: a look at the sessions must not be one of them, and must work when they do not.
//!
//! It has no inline script or style and takes nothing from elsewhere; its `Content-Security-Policy` says so. Its addresses are
//! relative, so it works wherever it is mounted.
//!
//! # Security
//!
//! The guard is asked for every request, and a request that it refuses is answered with 404, as if nothing were there. A page
//! of another origin gets 403 ([`Unguarded::with_origins`]); a link of another page may lead to the page. No answer has a cookie, an identity, a key or a
//! state; identities and keys are short hashes. A key that can be guessed, such as a user's name, can be found from its
//! hash by trying. Texts of the application are shown: reasons of guards, and errors of outcomes.
//!
//! [`SessionResume::survey`]: session_resume::SessionResume::survey

mod answer;
mod list;
mod overview;
mod page;
mod respond;
mod session;
mod source;

use std::{fmt, sync::Arc};

use http::request::Parts;
use session_resume::{AllowedOrigins, SessionResume};

use self::source::Source;

/// A monitor without a guard: it answers nothing yet. See [`monitor`].
#[must_use = "without a guard there is no route"]
pub struct Unguarded {
    source: Arc<dyn Source>,
    origins: AllowedOrigins,
}

/// A monitor of one layer's sessions, behind its guard. Clones are cheap.
#[derive(Clone)]
pub struct Monitor {
    inner: Arc<Inner>,
}

struct Inner {
    source: Arc<dyn Source>,
    origins: AllowedOrigins,
    guard: Box<dyn Fn(&Parts) -> bool + Send + Sync>,
}

/// Starts a monitor of a layer's sessions. The layer is in use from now on.
///
/// # Panics
///
/// Panics if the layer's settings cannot work: see [`SessionResume::validate`].
#[track_caller]
pub fn monitor<T: Send + 'static>(resume: &SessionResume<T>) -> Unguarded {
    // So that a mistake in the settings is found here, and not at the first request.
    let _ = resume.is_ready();
    Unguarded { source: Arc::new(resume.clone()), origins: AllowedOrigins::same_origin() }
}

impl Unguarded {
    /// Sets whose pages may ask, instead of those of the same origin alone: where a proxy changes `Host`, allow the public
    /// origin.
    pub fn with_origins(mut self, origins: AllowedOrigins) -> Self {
        self.origins = origins;
        self
    }

    /// Sets who may see it: `guard` is asked for every request, and one that it returns `false` for is answered with 404.
    ///
    /// It sees the request's head, with the extensions that outer middleware left there.
    pub fn with_guard(self, guard: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Monitor {
        let Self { source, origins } = self;
        Monitor { inner: Arc::new(Inner { source, origins, guard: Box::new(guard) }) }
    }
}

impl fmt::Debug for Unguarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unguarded").field("origins", &self.origins).finish_non_exhaustive()
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("origins", &self.inner.origins).finish_non_exhaustive()
    }
}
