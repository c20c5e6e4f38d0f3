//! Readers without a client of ours.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use session_resume_proto::wire::{EventId, Offer};

use super::{
    body::Body,
    events::{self, Events},
    pipe,
    tube::tube,
};
use crate::{
    Carrier, Identity, IntoOutcome, LiveSession, OutcomeStatus,
    door::upgrade::Upgrade,
    live::{ended::Ended, registry::Registry},
    words::{
        cause::Cause,
        context::RequestContext,
        refusal::Refusal,
        request::{is_media_type, list_items},
    },
};

/// Whether a request asks for a stream of events. Every `EventSource` says so by `Accept`.
///
/// What a browser sends when it only asks what the route is, or loads it as a page, does not: it would take the session
/// over. By http beyond loopback nothing but `Accept` tells the two apart.
pub(super) fn asks_for_events(parts: &Parts) -> bool {
    let accepts = list_items(&parts.headers, &header::ACCEPT)
        .any(|item| is_media_type(item, b"text/event-stream"));
    parts.method == Method::GET && !pipe::is_marked(parts) && accepts
}

/// A request for a stream of events.
#[derive(Debug)]
pub(super) struct Reader<T: Send + 'static>(Stand<T>);

/// Where it stands before the handler is known.
#[derive(Debug)]
enum Stand<T: Send + 'static> {
    Ready(Box<Upgrade<T>>),
    /// The reader is told when to come back.
    Later(u64, Identity),
    /// The session that it read has ended: it has had all there is.
    Over(Identity),
}

impl<T: Send + 'static> Reader<T> {
    pub(super) async fn prepare(
        registry: &Registry<T>,
        context: &RequestContext,
        parts: &Parts,
    ) -> Result<Self, Refusal> {
        let identity = context.identity();
        let seen = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let seen = seen.and_then(EventId::parse);
        let found = match &seen {
            Some(seen) => has_ended(registry, context, seen).await.map_err(Refusal::counted),
            None => Ok(false),
        };
        let upgrade = match found {
            Ok(true) => return Ok(Self(Stand::Over(identity))),
            Ok(false) => Upgrade::prepare_with(parts, Offer::PlainAt(seen)).await,
            Err(refusal) => Err(refusal),
        };
        match upgrade {
            Ok(upgrade) => Ok(Self(Stand::Ready(Box::new(upgrade)))),
            Err(refusal) => match retry(&refusal) {
                Some(ms) => Ok(Self(Stand::Later(ms, identity))),
                None => Err(refusal),
            },
        }
    }

    pub(super) fn identity(&self) -> Identity {
        match &self.0 {
            Stand::Ready(upgrade) => upgrade.identity(),
            Stand::Later(_, identity) | Stand::Over(identity) => *identity,
        }
    }

    pub(super) fn map(self, change: impl FnOnce(Upgrade<T>) -> Upgrade<T>) -> Self {
        match self.0 {
            Stand::Ready(upgrade) => Self(Stand::Ready(Box::new(change(*upgrade)))),
            Stand::Later(..) | Stand::Over(_) => self,
        }
    }

    pub(super) fn on_session<F, Fut>(self, handler: F) -> Response<Body>
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        let upgrade = match self.0 {
            Stand::Ready(upgrade) => upgrade,
            Stand::Later(ms, _) => return stream(events::come_back(ms).into()),
            Stand::Over(_) => return status(StatusCode::NO_CONTENT),
        };
        match upgrade.on_session(handler) {
            Ok(accepted) => {
                let (writer, reader) = tube(events::FIRST);
                // Ends with its reader, which the session's rules and a drain end.
                let accepted = accepted.carried_by(Carrier::Events);
                tokio::spawn(accepted.run(Events::new(writer)));
                stream(Body::stream(reader))
            }
            Err(refusal) => refused(refusal),
        }
    }

    pub(super) fn refuse(self, reason: Cow<'static, str>) -> Response<Body> {
        match self.0 {
            Stand::Ready(upgrade) => match upgrade.refuse(reason) {
                // A plain client is told by the status.
                Ok(_) => status(StatusCode::FORBIDDEN),
                Err(refusal) => refused(refusal),
            },
            Stand::Later(..) | Stand::Over(_) => status(StatusCode::FORBIDDEN),
        }
    }
}

/// An `EventSource` gives up for good on every status but 200, and comes back after a stream that ends.
fn refused(refusal: Refusal) -> Response<Body> {
    if let Some(ms) = retry(&refusal) {
        return stream(events::come_back(ms).into());
    }
    if refusal.is_superseded() {
        // Another page has taken its place: the two must not fight.
        return status(StatusCode::NO_CONTENT);
    }
    refusal.into_response().map(Body::from)
}

/// When to come back, if the refusal is for now alone.
fn retry(refusal: &Refusal) -> Option<u64> {
    let passes = match refusal.cause() {
        Cause::Busy | Cause::Limit | Cause::Draining | Cause::Store => true,
        Cause::Request
        | Cause::ForeignOrigin
        | Cause::Application
        | Cause::Policy
        | Cause::Handler
        | Cause::Path
        | Cause::Held
        | Cause::Unreadable
        | Cause::Protocol
        | Cause::Setup => false,
    };
    let delay = refusal.retry().filter(|_| passes)?;
    u64::try_from(delay.as_millis()).ok()
}

fn stream(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Some compressors hold a stream back to its end.
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("identity"));
    response
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = status;
    response
}

/// Whether the session that the reader has read has come to its end. One that has expired is not told of: the reader gets
/// a new one.
async fn has_ended<T: Send + 'static>(
    registry: &Registry<T>,
    context: &RequestContext,
    seen: &EventId,
) -> Result<bool, Refusal> {
    let is_its = |ended: &Ended| {
        ended.key == *context.key()
            && ended.counts.knows_epoch(&seen.epoch)
            && ended.outcome.status() != OutcomeStatus::Expired
    };
    let now = registry.clock().now();
    if registry.outcomes().of(context.identity(), now).any(|(_, ended)| is_its(ended)) {
        return Ok(true);
    }
    if registry.by_key(context.key()).is_some() || registry.needs_no_store(context) {
        return Ok(false);
    }
    let ended = registry.find_final(context.key()).await;
    let ended = ended.map_err(|error| Refusal::by_store(&error))?;
    Ok(ended.is_some_and(|ended| is_its(&ended)))
}
