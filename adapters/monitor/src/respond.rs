//! Which request gets which answer.

use bytes::Bytes;
use http::{Method, Response, StatusCode, request::Parts};
use session_resume::{RequestView, SessionId};

use crate::{
    Monitor, answer,
    list::{self, Asked},
    overview, page, session,
    source::End,
};

/// A reason is cut here; an outcome's error may be longer.
const MAX_REASON: usize = 200;

/// What is said where no reason is given.
const DEFAULT_REASON: &str = "ended by an operator";

impl Monitor {
    /// Answers a request; `path` is what follows where the monitor is mounted, with or without a slash in front.
    ///
    /// The body of a request is not needed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a session has been ended or not.
    pub async fn respond(&self, parts: &Parts, path: &str) -> Response<Bytes> {
        if !(self.inner.guard)(parts) {
            return not_found();
        }
        let path = path.trim_matches('/');
        // Another page may lead here, such as the one where an operator signs in: the page alone says nothing.
        let is_visit = path.is_empty() && visits(parts);
        if !is_visit && !self.inner.origins.admits(RequestView::from_parts(parts)) {
            return answer::text(
                StatusCode::FORBIDDEN,
                "a page of another origin may not ask (Unguarded::with_origins)",
            );
        }
        if let Some(file) = page::file(path, parts) {
            return if reads(parts) { file } else { answer::only("GET, HEAD") };
        }
        let mut steps = path.split('/');
        match [(); 4].map(|()| steps.next()) {
            [Some("overview"), None, ..] if reads(parts) => self.overview().await,
            [Some("sessions"), None, ..] if reads(parts) => self.list(parts).await,
            [Some("sessions"), Some(id), None, _] if reads(parts) => self.inspect(id),
            [Some("sessions"), Some(id), Some("end"), None] if parts.method == Method::POST => {
                self.end(id, parts)
            }
            [Some("sessions"), Some(_), Some("end"), None] => answer::only("POST"),
            [Some("overview" | "sessions"), None, ..] | [Some("sessions"), Some(_), None, _] => {
                answer::only("GET, HEAD")
            }
            _ => not_found(),
        }
    }

    async fn overview(&self) -> Response<Bytes> {
        answer::json(&overview::of(&*self.inner.source).await)
    }

    async fn list(&self, parts: &Parts) -> Response<Bytes> {
        match Asked::parse(parts.uri.query().unwrap_or_default()) {
            Ok(asked) => answer::json(&list::of(&*self.inner.source, asked).await),
            Err(wrong) => answer::text(StatusCode::BAD_REQUEST, wrong),
        }
    }

    fn inspect(&self, id: &str) -> Response<Bytes> {
        let inspected = parse(id).and_then(|id| self.inner.source.inspect(id));
        match inspected {
            Some(inspected) => answer::json(&session::One::of(&inspected)),
            None => not_found(),
        }
    }

    fn end(&self, id: &str, parts: &Parts) -> Response<Bytes> {
        let Some(id) = parse(id) else {
            return not_found();
        };
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        let reason = form_urlencoded::parse(query).find(|(name, _)| name == "reason");
        let reason = reason.map(|(_, reason)| reason.chars().take(MAX_REASON).collect::<String>());
        let reason = reason.filter(|reason| !reason.trim().is_empty());
        let reason = reason.as_deref().unwrap_or(DEFAULT_REASON);
        match self.inner.source.end(id, reason) {
            End::Ended => {
                let session = id.to_string();
                tracing::info!(session = session.get(..8), "session ended by an operator");
                answer::json(&serde_json::json!({ "ended": true }))
            }
            End::WasOver => answer::text(StatusCode::CONFLICT, "the session has ended before"),
            End::Unknown => not_found(),
        }
    }
}

fn reads(parts: &Parts) -> bool {
    matches!(parts.method, Method::GET | Method::HEAD)
}

/// Whether the browser says that it goes to a page of its own for this, and not into a frame.
fn visits(parts: &Parts) -> bool {
    let says = |name, what| parts.headers.get(name).is_some_and(|value| value == what);
    parts.method == Method::GET
        && says("sec-fetch-mode", "navigate")
        && says("sec-fetch-dest", "document")
}

fn parse(id: &str) -> Option<SessionId> {
    id.parse().ok()
}

/// The same for a request that the guard refuses and for a path where nothing is.
fn not_found() -> Response<Bytes> {
    answer::text(StatusCode::NOT_FOUND, "not found")
}
