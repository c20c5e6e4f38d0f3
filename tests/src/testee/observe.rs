//! `GET /observe`: what the session sends, for a reader that is no client, as events.
//!
//! `?from=checkpoint`, `now` or `kept` (the default); a `Last-Event-ID` goes on where that event was. 404 without a session, 204
//! without a checkpoint, 503 beyond the limit.

use std::{convert::Infallible, fmt::Write as _};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, StatusCode};
use session_resume::{
    Session,
    observe::{From, Observe, ObserveError, Observed},
};

use crate::tally::Tally;

/// The pieces of the answer, or its status.
pub(crate) fn observe(
    session: Option<Session<Tally>>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<impl Stream<Item = Result<Bytes, Infallible>> + use<>, StatusCode> {
    let last = headers.get("last-event-id").map(|id| id.to_str().map(str::parse));
    let from = match (last, query) {
        (Some(Ok(Ok(cursor))), _) => From::Position(cursor),
        (None, Some("from=checkpoint")) => From::Checkpoint,
        (None, Some("from=now")) => From::Now,
        (None, Some("from=kept") | None) => From::Kept,
        _ => return Err(StatusCode::BAD_REQUEST),
    };
    let session = session.ok_or(StatusCode::NOT_FOUND)?;
    let reader = session.observe(from).map_err(|error| match error {
        ObserveError::NoCheckpoint => StatusCode::NO_CONTENT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    })?;
    let start = stream::once(async { Bytes::from_static(b"retry: 1000\n\n") });
    let events = stream::unfold(reader, |mut reader| async move {
        let observed = reader.next().await?;
        Some((event(&reader, observed), reader))
    });
    Ok(start.chain(events).map(Ok))
}

fn event(reader: &Observe<Tally>, observed: Observed) -> Bytes {
    let (name, data) = match observed {
        Observed::Message { message, .. } => match message.as_text() {
            Some(text) => ("message", text.to_owned()),
            None => ("binary", format!("{} bytes", message.len())),
        },
        Observed::Gap { from, to, .. } => {
            ("gap", serde_json::json!({ "from": from, "to": to }).to_string())
        }
        Observed::Checkpoint { position, .. } => {
            ("checkpoint", serde_json::json!({ "position": position }).to_string())
        }
        Observed::Ended => ("ended", String::new()),
        _ => ("unknown", String::new()),
    };
    let mut text = format!("event: {name}\nid: {}\n", reader.cursor());
    for line in data.split(['\r', '\n']) {
        let _ = writeln!(text, "data: {line}");
    }
    text.push('\n');
    text.into()
}

/// The headers of such an answer.
pub(crate) const HEADERS: [(&str, &str); 2] =
    [("content-type", "text/event-stream"), ("cache-control", "no-store, no-transform")];
