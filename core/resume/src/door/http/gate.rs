//! Which pages may ask over HTTP, and what browsers are told of that.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};

use crate::{RequestView, live::registry::Registry, words::refusal::Refusal};

/// What the answer to an `OPTIONS` lists.
const TRANSPORTS: HeaderName = HeaderName::from_static("session-resume-transports");

/// What a page on another origin may read of our answers.
const EXPOSED: &str = "Session-Resume-Pipe, Session-Resume-Down, Session-Resume-Up, Session-Resume-Close, Retry-After";
/// What it may send.
const ACCEPTED: &str = "Content-Type, Accept, Authorization, Session-Resume-Offer, Session-Resume-Pipe, Session-Resume-Down, \
                        Session-Resume-Up, Session-Resume-Wait, Session-Resume-Ack, Last-Event-ID, Idempotency-Key, \
                        Prefer";

/// Checks whether the page behind a request that is no upgrade may ask.
///
/// Stricter than for upgrades: a page on another origin of the same site may send a `GET` with the cookie and without
/// `Origin`.
pub(super) fn check<T>(registry: &Registry<T>, parts: &Parts) -> Result<(), Refusal> {
    registry.check_origin_of_request(RequestView::from_parts(parts))
}

/// Answers an `OPTIONS`. It touches no session.
pub(super) fn options<T>(registry: &Registry<T>, parts: &Parts) -> Refusal {
    if let Err(foreign) = check(registry, parts) {
        return foreign.counted();
    }
    let mut headers = HeaderMap::new();
    if RequestView::from_parts(parts).is_preflight() {
        let text = HeaderValue::from_static;
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, text("GET, POST"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, text(ACCEPTED));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, text("7200"));
    } else {
        let names = HeaderValue::try_from(registry.config().http.names());
        headers.insert(TRANSPORTS, names.expect("the names are ASCII"));
    }
    mark(&mut headers, parts);
    Refusal::answer(StatusCode::NO_CONTENT, headers)
}

/// Adds what every answer has: no cache keeps it, no proxy holds it back, and the page that asked may read it.
pub(super) fn mark(headers: &mut HeaderMap, parts: &Parts) {
    let text = HeaderValue::from_static;
    headers.insert(header::CACHE_CONTROL, text("no-store, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), text("no"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, text("nosniff"));
    headers.insert(header::VARY, text("Origin"));
    // It has been checked: an origin that is not allowed gets no answer of ours but 403.
    if let Some(origin) = parts.headers.get(header::ORIGIN) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, text("true"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, text(EXPOSED));
    }
}

/// The refusal of a request from a page that may ask: the page may read it.
pub(super) fn readable(refusal: Refusal, parts: &Parts) -> Refusal {
    let mut headers = HeaderMap::new();
    mark(&mut headers, parts);
    refusal.with_headers(headers)
}
