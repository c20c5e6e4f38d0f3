//! The routes, with the layer around them.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    response::{Html, IntoResponse, Response},
    routing::{any, get},
};
use session_resume::SessionResume;
use session_resume_axum::{ResumeUpgrade, Session};

use crate::{live, page, state::Dashboard};

/// Nothing but our own files, and no inline script or style: text that slips through the escaping is dead.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Makes the whole application; `tick` is how often the live value changes.
pub(crate) fn router(resume: SessionResume<Dashboard>, tick: Duration) -> Router {
    let script = include_str!("../page/dashboard.js");
    let style = include_str!("../page/style.css");
    Router::new()
        .route("/", get(index))
        .route("/live", any(live))
        .route("/dashboard.js", get(async || file("text/javascript; charset=utf-8", script)))
        .route("/style.css", get(async || file("text/css; charset=utf-8", style)))
        .with_state(tick)
        .layer(resume)
        .merge(session_resume_browser::axum::router())
}

/// Starts the session on the first visit: the page shows it before any script has run.
async fn index(session: Session<Dashboard>) -> impl IntoResponse {
    // Each browser gets another page, and a page from the browser's cache would show an older selection.
    let headers = [(CONTENT_SECURITY_POLICY, POLICY), (CACHE_CONTROL, "no-store")];
    (headers, Html(page::html(&session)))
}

async fn live(State(tick): State<Duration>, upgrade: ResumeUpgrade<Dashboard>) -> Response {
    upgrade.on_session(move |session| live::run(session, tick))
}

fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-cache"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text)
}
