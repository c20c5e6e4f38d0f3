//! The routes, with the layer around them.

use axum::{
    Router,
    extract::State,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    response::{Html, IntoResponse, Response},
    routing::{any, get},
};
use session_resume::{Durability, SessionResume};
use session_resume_axum::ResumeUpgrade;
use session_resume_redb::RedbStore;

use crate::{
    live::{self, Pause},
    state::Agent,
};

/// Nothing but our own files, and no inline script or style: text that slips through the escaping is dead.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Makes the layer: one agent per browser, kept in `store`.
///
/// [`Durability::Exact`]: a word leaves only when it is on disk that it was said. So an agent whose process was
/// killed says neither a word twice nor one too few.
pub fn layer(store: RedbStore) -> SessionResume<Agent> {
    SessionResume::new().with_state::<Agent>().with_store(store).with_durability(Durability::Exact)
}

/// Makes the whole application; the agent calls `pause` before each word and each file.
pub fn router(resume: SessionResume<Agent>, pause: Pause) -> Router {
    let script = include_str!("../page/agent.js");
    let style = include_str!("../page/style.css");
    Router::new()
        .route("/live", any(live))
        .merge(session_resume_axum::outcomes::<Agent, _>())
        .with_state(pause)
        .layer(resume)
        // Files need no session.
        .route("/", get(index))
        .route("/agent.js", get(async || file("text/javascript; charset=utf-8", script)))
        .route("/style.css", get(async || file("text/css; charset=utf-8", style)))
        .merge(session_resume_browser::axum::router())
}

async fn live(State(pause): State<Pause>, upgrade: ResumeUpgrade<Agent>) -> Response {
    upgrade
        .on_urgent(live::is_urgent)
        .on_session_blocking(move |session| live::run(session, &pause))
}

async fn index() -> impl IntoResponse {
    let headers = [(CONTENT_SECURITY_POLICY, POLICY), (CACHE_CONTROL, "no-cache")];
    (headers, Html(include_str!("../page/index.html")))
}

fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-cache"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text)
}
