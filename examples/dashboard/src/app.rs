//! The routes, with the layer around them.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, FORWARDED, HOST,
            X_CONTENT_TYPE_OPTIONS,
        },
        uri::Authority,
    },
    response::{Html, IntoResponse, Response},
    routing::{any, get},
};
use session_resume::SessionResume;
use session_resume_axum::{ResumeUpgrade, Session};

use crate::{live, page, state::Dashboard};

/// Nothing but our own files, and no inline script or style: text that slips through the escaping is dead.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
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

/// Adds the monitor. Its guard lets in browsers of this machine: the server must listen at a loopback address.
pub(crate) fn with_monitor(app: Router, resume: &SessionResume<Dashboard>) -> Router {
    let monitor = session_resume_axum::monitor(resume)
        .with_guard(|request| is_of_this_machine(&request.headers));
    app.nest_service("/monitor", monitor)
}

/// Whether a request that has come to a loopback address is of a browser of this machine, at one of our own pages.
///
/// A page of elsewhere whose name leads to this machine sends that name as `Host`. A proxy on this machine says for whom it
/// asks.
pub(crate) fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let is_local =
        host.is_some_and(|host| ["127.0.0.1", "localhost", "[::1]"].contains(&host.host()));
    is_local && !headers.contains_key("x-forwarded-for") && !headers.contains_key(FORWARDED)
}

async fn live(State(tick): State<Duration>, upgrade: ResumeUpgrade<Dashboard>) -> Response {
    upgrade.on_session(move |session| live::run(session, tick))
}

pub(crate) fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-cache"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monitor_is_for_browsers_of_this_machine() {
        let rows: [(&[(&str, &str)], bool); 8] = [
            (&[("host", "127.0.0.1:5007")], true),
            (&[("host", "localhost:5007")], true),
            (&[("host", "[::1]:5007")], true),
            (&[], false),
            (&[("host", "evil.example:5007")], false),
            (&[("host", "127.0.0.1.evil.example")], false),
            (&[("host", "127.0.0.1"), ("x-forwarded-for", "192.0.2.1")], false),
            (&[("host", "localhost"), ("forwarded", "for=192.0.2.1")], false),
        ];
        for (headers, expected) in rows {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().unwrap());
            }
            assert_eq!(is_of_this_machine(&map), expected, "{headers:?}");
        }
    }
}
