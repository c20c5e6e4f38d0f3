//! The read half of Durable Streams: what a session sends, for readers without a client of ours.
//!
//! `ask` is what is asked for, `find` the session, `form` how messages are given out, `answer` the heads of answers,
//! `cursor` what keeps caches from going in circles. `news` waits, and `events` is a stream that goes on.
//! The rules, which places there are and what is gone, are in `proto/session/reading.rs`.

mod answer;
mod ask;
mod cursor;
mod events;
mod find;
mod form;
mod news;

use std::{sync::Arc, time::Duration};

use http::{Method, Response, StatusCode, request::Parts};
use session_resume_proto::{
    Position,
    session::{NotRead, ReadFrom},
    wire::Offset,
};
use tokio::time::Instant;

pub use self::form::Door;
use self::{
    ask::{Ask, Live},
    events::Events,
    find::Source,
    news::{News, Waited},
};
use crate::{
    RequestView, Session, SessionId,
    door::http::Body,
    words::{context::RequestContext, refusal::Refusal},
};

/// A long poll waits at most this long.
const LONGEST_POLL: Duration = Duration::from_secs(25);
/// When to ask again.
const RETRY: Duration = Duration::from_secs(1);

/// Answers a request of a Durable Streams reader for the session `id`, of a layer with state `T`. For adapters, which mount
/// it as `/streams/{session}`, for all methods.
///
/// `GET` reads and `HEAD` says where the stream ends, for the identities that may [poll](crate::adapter::poll) the session;
/// 404 for sessions that are unknown or not the caller's, alike. `OPTIONS` is for pages of the layer's allowed
/// origins; other methods are answered with 405. A stored session is restored for its reader. Reading does not count as
/// activity, and holds nothing back; readers that wait count as [observers](crate::Limits::observers).
///
/// Read is what was sent to all clients and, under [`Durability::Exact`](crate::Durability::Exact), is on disk. What is
/// there depends on [`Retain`](crate::Retain).
///
/// # Cancel safety
///
/// Cancel safe: it changes nothing. A session may have been restored, and is then found by the next request.
pub async fn read_stream<T: Send + 'static>(
    parts: &Parts,
    id: &str,
    door: &Door,
) -> Response<Body> {
    let answered = find_and_read::<T>(parts, id, door).await;
    answer::secure(answered.unwrap_or_else(Refusal::into_body_response))
}

async fn find_and_read<T: Send + 'static>(
    parts: &Parts,
    id: &str,
    door: &Door,
) -> Result<Response<Body>, Refusal> {
    let (context, registry) =
        RequestContext::of::<T>(&parts.extensions).map_err(Refusal::counted)?;
    let checked = registry.check_origin_of_request(RequestView::from_parts(parts));
    checked.map_err(Refusal::counted)?;
    let mut response = if parts.method == Method::OPTIONS {
        answer::options()
    } else if let Some(read) = Read::parse(parts) {
        match read {
            Ok(read) => {
                let found = find::find(registry, context, parts, id).await;
                let found = match found {
                    // The node that has the session has answered.
                    Err(refusal) if refusal.is_relayed() => return Err(refusal),
                    found => found,
                };
                match found {
                    Ok(Some(source)) => read.answer(&source, parts, door).await,
                    Ok(None) => nothing(),
                    Err(refusal) => refusal.counted().into_body_response(),
                }
            }
            Err(what) => malformed(what),
        }
    } else {
        answer::not_allowed()
    };
    answer::readable(response.headers_mut(), parts);
    Ok(response)
}

impl Door {
    /// Answers a read of this session, on a route of the application's own: any caller may read it.
    ///
    /// As [`read_stream`], but for what that does before: the origin is not checked, and no header is for pages of other
    /// origins. `OPTIONS` is answered with 405.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub async fn read<T: Send + 'static>(
        &self,
        session: &Session<T>,
        parts: &Parts,
    ) -> Response<Body> {
        let source = Source::Live(Arc::clone(&session.shared));
        answer::secure(match Read::parse(parts) {
            Some(Ok(read)) => read.answer(&source, parts, self).await,
            Some(Err(what)) => malformed(what),
            None => answer::not_allowed(),
        })
    }
}

/// A request that reads.
#[derive(Clone, Copy, Debug)]
enum Read {
    Head,
    Get(Ask),
}

impl Read {
    /// Reads a request; `None` if its method does not read.
    fn parse(parts: &Parts) -> Option<Result<Self, &'static str>> {
        match parts.method {
            Method::HEAD => Some(Ok(Self::Head)),
            Method::GET => Some(Ask::parse(parts.uri.query()).map(Self::Get)),
            _ => None,
        }
    }

    async fn answer<T: Send + 'static>(
        self,
        source: &Source<T>,
        parts: &Parts,
        door: &Door,
    ) -> Response<Body> {
        match (self, source) {
            (Self::Head, source) => match source.read(ReadFrom::Now) {
                (mark, Ok(tail)) => answer::head(door, mark.offset(tail.next), tail.has_ended),
                (mark, Err(why)) => not_read(why, |position| mark.offset(position)),
            },
            (Self::Get(ask), source) => match ask.live {
                Live::No => ask.catch_up(source, parts, door),
                Live::LongPoll => ask.poll(source, door).await,
                Live::Events => ask.stream(source, door),
            },
        }
    }
}

impl Ask {
    fn catch_up<T: Send + 'static>(
        self,
        source: &Source<T>,
        parts: &Parts,
        door: &Door,
    ) -> Response<Body> {
        let (mark, reading) = source.read(self.from);
        let chunk = match reading {
            Ok(reading) => door.chunk(reading),
            Err(why) => return not_read(why, |position| mark.offset(position)),
        };
        let (from, next, closed) = (chunk.from, chunk.next, chunk.has_ended);
        let response = answer::chunk(door, mark, chunk);
        // What is now is another thing in a moment.
        if self.from == ReadFrom::Now {
            return response;
        }
        let etag = answer::etag(source.id(), mark, from, next, closed);
        answer::unless_known(response, &etag, parts)
    }

    async fn poll<T: Send + 'static>(self, source: &Source<T>, door: &Door) -> Response<Body> {
        let until = Instant::now() + LONGEST_POLL;
        let mut news = match source.news() {
            Ok(news) => news,
            Err(refusal) => return refusal.counted().into_body_response(),
        };
        let mut from = self.from;
        loop {
            if let Some(news) = &mut news {
                news.skip_what_is_there();
            }
            let (mark, reading) = source.read(from);
            let chunk = match reading {
                Ok(reading) => door.chunk(reading),
                Err(why) => return not_read(why, |position| mark.offset(position)),
            };
            let enough = chunk.has_some
                || chunk.has_ended
                || match &mut news {
                    Some(news) => news.wait(until).await == Waited::Enough,
                    None => true,
                };
            if enough {
                let cursor = (!chunk.has_ended).then(|| cursor::now(self.cursor));
                let mut response = if chunk.has_some {
                    answer::chunk(door, mark, chunk)
                } else {
                    let mut response = answer::status(StatusCode::NO_CONTENT);
                    let next = mark.offset(chunk.next);
                    answer::state(response.headers_mut(), next, true, chunk.has_ended);
                    response
                };
                if let Some(cursor) = cursor {
                    answer::cursor(response.headers_mut(), cursor);
                }
                return response;
            }
            from = mark.place(chunk.next);
        }
    }

    fn stream<T: Send + 'static>(self, source: &Source<T>, door: &Door) -> Response<Body> {
        let more = match source.news() {
            Ok(news) => news,
            Err(refusal) => return refusal.counted().into_body_response(),
        };
        let (mark, reading) = source.read(self.from);
        let first = match reading {
            Ok(reading) => door.chunk(reading),
            Err(why) => return not_read(why, |position| mark.offset(position)),
        };
        let events = Events { door: door.clone(), cursor: self.cursor, more };
        answer::events(door, events.start(mark, &first))
    }
}

impl<T: Send + 'static> Source<T> {
    fn id(&self) -> SessionId {
        match self {
            Self::Live(session) => session.id(),
            Self::Ended(id, _) => *id,
        }
    }

    /// What tells that there is more; `None` if there never is.
    fn news(&self) -> Result<Option<News<T>>, Refusal> {
        match self {
            Self::Live(session) => News::of(session).map(Some),
            Self::Ended(..) => Ok(None),
        }
    }
}

fn nothing() -> Response<Body> {
    Refusal::new(StatusCode::NOT_FOUND, "no such session").into_body_response()
}

/// The session is in a drain, or its node is cut off.
fn stands_still() -> Refusal {
    Refusal::busy("the session stands still, try again in a moment", RETRY)
}

fn malformed(what: &'static str) -> Response<Body> {
    Refusal::new(StatusCode::BAD_REQUEST, what).into_body_response()
}

fn not_read(why: NotRead, offset: impl FnOnce(Position) -> Offset) -> Response<Body> {
    match why {
        NotRead::Gone { earliest } => answer::gone(offset(earliest)),
        NotRead::Unsettled => {
            let text = "the last checkpoint is not on disk yet, try again in a moment";
            Refusal::busy(text, RETRY).counted().into_body_response()
        }
        NotRead::Frozen => stands_still().counted().into_body_response(),
    }
}
