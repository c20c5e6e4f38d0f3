//! Answers of a door: their heads.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use session_resume_proto::{Position, wire::Offset};

use super::form::{Chunk, Door};
use crate::{
    SessionId,
    door::http::Body,
    live::session::Mark,
    words::{refusal::Refusal, request::list_items},
};

pub(super) const NEXT_OFFSET: HeaderName = HeaderName::from_static("stream-next-offset");
const UP_TO_DATE: HeaderName = HeaderName::from_static("stream-up-to-date");
const CLOSED: HeaderName = HeaderName::from_static("stream-closed");
const CURSOR: HeaderName = HeaderName::from_static("stream-cursor");
const EARLIEST: HeaderName = HeaderName::from_static("stream-earliest-offset");
const ENCODING: HeaderName = HeaderName::from_static("stream-sse-data-encoding");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What a page on another origin may read of an answer.
const EXPOSED: &str = "Stream-Next-Offset, Stream-Up-To-Date, Stream-Closed, Stream-Cursor, Stream-Earliest-Offset, \
                       Stream-SSE-Data-Encoding, ETag, Retry-After";
/// What it may send.
const ACCEPTED: &str = "Accept, Authorization, Content-Type, If-None-Match, Last-Event-ID";
const METHODS: &str = "GET, HEAD, OPTIONS";

fn text(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).expect("offsets and numbers are ASCII")
}

/// An answer without a body.
pub(super) fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response
}

/// Adds what every answer has, errors too.
pub(super) fn secure(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, text("nosniff"));
    headers.insert(RESOURCE_POLICY, text("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(text("private, no-store"));
    response
}

/// Lets the page read the answer that has asked. Its origin has been checked.
pub(super) fn readable(headers: &mut HeaderMap, parts: &Parts) {
    headers.append(header::VARY, text("Origin"));
    if let Some(origin) = parts.headers.get(header::ORIGIN) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, text("true"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, text(EXPOSED));
    }
}

/// Answers an `OPTIONS`, a preflight or another one.
pub(super) fn options() -> Response<Body> {
    let mut response = status(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, text(METHODS));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, text(METHODS));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, text(ACCEPTED));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, text("7200"));
    response
}

/// The door is a read half.
pub(super) fn not_allowed() -> Response<Body> {
    let refusal =
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "a stream of a session is only read");
    let mut response = refusal.into_body_response();
    response.headers_mut().insert(header::ALLOW, text(METHODS));
    response
}

/// What was asked for is not there any more.
pub(super) fn gone(earliest: Offset) -> Response<Body> {
    let refusal = Refusal::new(
        StatusCode::GONE,
        "what the offset is of is not there any more: Stream-Earliest-Offset is where what is there begins",
    );
    let mut response = refusal.into_body_response();
    response.headers_mut().insert(EARLIEST, value(&earliest.to_string()));
    response
}

/// Whether more may follow a place, and whether there is more.
pub(super) fn state(headers: &mut HeaderMap, next: Offset, is_up_to_date: bool, has_ended: bool) {
    headers.insert(NEXT_OFFSET, value(&next.to_string()));
    if is_up_to_date {
        headers.insert(UP_TO_DATE, text("true"));
    }
    if has_ended {
        headers.insert(CLOSED, text("true"));
    }
}

pub(super) fn cursor(headers: &mut HeaderMap, cursor: u64) {
    headers.insert(CURSOR, HeaderValue::from(cursor));
}

/// Answers a `HEAD`: where the stream ends.
pub(super) fn head(door: &Door, tail: Offset, has_ended: bool) -> Response<Body> {
    let mut response = status(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, door.content_type().clone());
    headers.insert(header::CACHE_CONTROL, text("no-store"));
    headers.insert(NEXT_OFFSET, value(&tail.to_string()));
    if has_ended {
        headers.insert(CLOSED, text("true"));
    }
    response
}

/// Answers with what was read.
pub(super) fn chunk(door: &Door, mark: Mark, chunk: Chunk) -> Response<Body> {
    let mut response = Response::new(Body::from(chunk.bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, door.content_type().clone());
    state(headers, mark.offset(chunk.next), chunk.is_up_to_date, chunk.has_ended);
    response
}

/// The head of a stream of events.
pub(super) fn events(door: &Door, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, text("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, text("no-cache"));
    // Some compressors and proxies hold a stream back to its end.
    headers.insert(header::CONTENT_ENCODING, text("identity"));
    headers.insert(BUFFERING, text("no"));
    if door.is_encoded() {
        headers.insert(ENCODING, text("base64"));
    }
    response
}

/// The tag of what a read has found: the same session, the same places, the same end.
pub(super) fn etag(
    id: SessionId,
    mark: Mark,
    from: Position,
    to: Position,
    closed: bool,
) -> String {
    let (from, to) = (mark.offset(from), mark.offset(to));
    let mut tag = format!("\"{id}:{from}:{to}");
    if closed {
        let _ = write!(tag, ":c");
    }
    tag.push('"');
    tag
}

/// The client has this already.
pub(super) fn unless_known(
    mut response: Response<Body>,
    etag: &str,
    parts: &Parts,
) -> Response<Body> {
    let is_known = list_items(&parts.headers, &header::IF_NONE_MATCH).any(|known| {
        // The comparison is the weak one.
        let known = known.strip_prefix(b"W/").unwrap_or(known);
        known == b"*" || known == etag.as_bytes()
    });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::default();
    }
    response.headers_mut().insert(header::ETAG, value(etag));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;
    use proptest::prelude::*;
    use session_resume_proto::{Moment, session::Epoch};

    use super::*;
    use crate::live::session::Machine;

    fn mark(ordinal: u64, life: u64) -> Mark {
        let machine = Machine::new(Arc::default(), Epoch::new(7, life), Moment::default());
        Mark { ordinal, life: machine.life_tag() }
    }

    fn tag(id: SessionId, (from, to): (u64, u64), closed: bool) -> String {
        etag(id, mark(1, 0xbeef), Position::new(from), Position::new(to), closed)
    }

    fn asked(etag: &str, with: &str) -> (StatusCode, bool) {
        let request = Request::get("/").header(header::IF_NONE_MATCH, with);
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let response = Response::new(Body::from("body".to_owned()));
        let response = unless_known(response, etag, &parts);
        assert_eq!(response.headers()[header::ETAG], etag);
        let status = response.status();
        (status, response.into_body().into_whole().is_ok_and(|bytes| !bytes.is_empty()))
    }

    #[test]
    fn a_tag_names_what_was_read() {
        let id: SessionId = "00000000-0000-4000-8000-000000000000".parse().unwrap();
        let (from, to) =
            ("0000000001.0000000000000003.0000beef", "0000000001.0000000000000005.0000beef");
        let open = tag(id, (3, 5), false);
        assert_eq!(open, format!("\"{id}:{from}:{to}\""));
        assert_eq!(tag(id, (3, 5), true), format!("\"{id}:{from}:{to}:c\""));
        for (with, status) in [
            (open.clone(), 304),
            (format!("W/{open}"), 304),
            (format!("\"other\", {open}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
            (tag(id, (3, 5), true), 200),
            (open.trim_matches('"').to_owned(), 200),
        ] {
            let answered = asked(&open, &with);
            assert_eq!((answered.0.as_u16(), answered.1), (status, status == 200), "{with}");
        }
    }

    proptest! {
        #[test]
        fn two_reads_have_one_tag_only_if_they_are_the_same(
            a in (0..4_u64, 0..4_u64, any::<bool>()), b in (0..4_u64, 0..4_u64, any::<bool>()),
        ) {
            let id = SessionId::random();
            let of = |(from, to, closed)| tag(id, (from, to), closed);
            prop_assert_eq!(of(a) == of(b), a == b);
            prop_assert_ne!(of(a), tag(SessionId::random(), (a.0, a.1), a.2));
        }
    }
}
