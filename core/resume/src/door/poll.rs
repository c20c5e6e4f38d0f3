//! Asking for a session's outcome with no socket at all.

#[cfg(feature = "tungstenite")]
use std::collections::btree_map::Entry;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, UNIX_EPOCH},
};

use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use serde::{Deserialize, Serialize};
use session_resume_proto::{Position, WireId, session};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

#[cfg(feature = "tungstenite")]
use crate::door::hop;
use crate::{
    Outcome, SessionId,
    door::elsewhere::Elsewhere,
    durable::restore::{Apart, InStore},
    live::{ended::Ended, registry::Registry, session::Shared},
    words::{context::RequestContext, refusal::Refusal, wall},
};

/// A long poll waits at most this long: proxies give up on silent requests after about a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(50);
/// How long the outcome of a session that has ended may take to the store before it is called running.
const STORING: Duration = Duration::from_secs(1);
/// How often a long poll for a stored session looks whether the session is still stored.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// When to ask again.
const RETRY_AFTER: u64 = 1;

/// What a weak validator begins with.
const WEAK: &str = "W/";

/// The answer to a poll or a list: a status, a JSON body, and when to ask again.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// 200 with an outcome, 202 while there is none, 404.
    pub status: StatusCode,
    /// `application/json`.
    pub body: String,
    /// Seconds, for `Retry-After`.
    pub retry_after: Option<u64>,
    /// A weak validator of the body, `W/` and quotes included. Weak, because what stands around the route may
    /// compress the body and keep the validator.
    pub etag: String,
}

#[derive(Serialize)]
struct Body<'a> {
    session: SessionId,
    #[serde(flatten)]
    status: Status<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Status<'a> {
    Ended(&'a Outcome),
    Pending { status: &'static str },
}

impl Answer {
    /// Makes the response to answer with.
    pub fn into_response(self) -> Response<String> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // The answer is for this client alone, and the client must ask again each time.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        if let Ok(etag) = HeaderValue::try_from(self.etag) {
            headers.insert(header::ETAG, etag);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// Answers with these sessions. The validator is of their statuses alone: the rest changes with every message.
    fn of_statuses(sessions: Vec<Listed>) -> Self {
        let statuses: Vec<_> = sessions.iter().map(|it| (it.session, &it.status)).collect();
        let statuses = serde_json::to_string(&statuses).expect("ids and words are JSON");
        let etag = Self::etag(&statuses);
        let page = Page { sessions, next: None };
        let body = serde_json::to_string(&page).expect("ids and words are JSON");
        Self { status: StatusCode::OK, body, retry_after: None, etag }
    }

    fn new(status: StatusCode, body: String, retry_after: Option<u64>) -> Self {
        let etag = Self::etag(&body);
        Self { status, body, retry_after, etag }
    }

    fn etag(of: &str) -> String {
        let digest = Sha256::digest(of);
        let start: [u8; 8] = digest[..8].try_into().expect("a SHA-256 digest has 32 bytes");
        format!("{WEAK}\"{:016x}\"", u64::from_be_bytes(start))
    }

    fn ended(id: SessionId, outcome: &Outcome) -> Self {
        Self::new(StatusCode::OK, body(id, Status::Ended(outcome)), None)
    }

    fn pending(id: SessionId, status: &'static str) -> Self {
        Self::new(StatusCode::ACCEPTED, body(id, Status::Pending { status }), Some(RETRY_AFTER))
    }

    /// Unknown, not yours and too old are one answer: a stranger finds out nothing.
    fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, r#"{"error":"no such session"}"#.to_owned(), None)
    }

    /// The client may have this answer already.
    fn unless_known(mut self, parts: &Parts) -> Self {
        let lines = parts.headers.get_all(header::IF_NONE_MATCH).iter();
        let mut known = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
        // The comparison is the weak one.
        let same = |known: &[u8]| {
            let known = known.trim_ascii();
            let known = known.strip_prefix(WEAK.as_bytes()).unwrap_or(known);
            known == b"*" || Some(known) == self.etag.strip_prefix(WEAK).map(str::as_bytes)
        };
        if self.status == StatusCode::OK && known.any(same) {
            self.status = StatusCode::NOT_MODIFIED;
            self.body = String::new();
        }
        self
    }
}

fn body(session: SessionId, status: Status<'_>) -> String {
    serde_json::to_string(&Body { session, status }).expect("ids, words and JSON are JSON")
}

/// Answers a poll for the session `id` of a layer with state `T`. With `?wait=SECONDS` it waits for an outcome for
/// that many seconds, at most 50. If the session has just ended, it waits in any case, for at most a second, until
/// the store has the outcome.
///
/// Polling does not count as activity.
///
/// # Errors
///
/// Returns the [`Refusal`] to answer with if the layer is missing (500), or if the store does not answer (503) or
/// cannot be read (500).
///
/// # Cancel safety
///
/// Cancel safe: it changes nothing.
pub async fn poll<T: Send + 'static>(parts: &Parts, id: &str) -> Result<Answer, Refusal> {
    find_outcome::<T>(parts, id).await.map_err(Refusal::counted)
}

async fn find_outcome<T: Send + 'static>(parts: &Parts, id: &str) -> Result<Answer, Refusal> {
    let (context, registry) = RequestContext::of::<T>(&parts.extensions)?;
    let wait = parameter(parts, "wait").and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    let wait = Duration::from_secs(wait);
    let Ok(id) = id.parse::<SessionId>() else {
        return Ok(Answer::not_found());
    };
    let asked = Instant::now();
    let mut elsewhere = Elsewhere::of_poll();
    loop {
        let answer = match answer(registry, context, id).await {
            Ok(answer) => answer,
            Err(Apart::Refused(refusal)) => return Err(refusal),
            // A long poll waits there.
            Err(apart) => match elsewhere.ask(registry, parts, apart).await {
                Ok(()) => continue,
                Err(told) if told.is_relayed() => return Err(told),
                Err(_) => Answer::pending(id, "running"),
            },
        };
        let session = registry.by_id(id).filter(|session| is_known_to(session, context));
        // One that has ended answers with its outcome, if the store takes it in good time.
        let has_ended = session.as_ref().is_some_and(|session| !session.goes_on());
        let wait = if has_ended { wait.max(STORING) } else { wait };
        let until = asked + wait.min(LONGEST_WAIT);
        // A drain wakes all polls that wait, and no poll waits after that.
        let over = Instant::now() >= until || registry.drain.is_draining();
        if answer.status != StatusCode::ACCEPTED || over {
            return Ok(answer.unless_known(parts));
        }
        match session.as_ref().and_then(|session| Some((session, session.watch_end()?))) {
            Some((session, end)) => {
                let ended = end.notified();
                tokio::pin!(ended);
                // Enabled before the session is looked at again, so that an end in between is not missed.
                ended.as_mut().enable();
                if session.watch_end().is_some() && !registry.drain.is_draining() {
                    let _ = tokio::time::timeout_at(until, ended).await;
                }
            }
            // The session is in the store, or on its way there. The store does not tell when it changes.
            None => tokio::time::sleep_until(until.min(Instant::now() + LOOK_AGAIN)).await,
        }
    }
}

async fn answer<T: Send + 'static>(
    registry: &Registry<T>,
    context: &RequestContext,
    id: SessionId,
) -> Result<Answer, Apart> {
    let now = registry.clock().now();
    if let Some(ended) = registry.outcomes().get(id, now) {
        return Ok(answer_ended(id, ended, context));
    }
    if let Some(session) = registry.by_id(id) {
        if !is_known_to(&session, context) {
            return Ok(Answer::not_found());
        }
        // An outcome that was published and is not there has outlived its lifetime, or the store has it.
        if !session.has_told_outcome() {
            return Ok(Answer::pending(id, phase(&session)));
        }
    }
    let found =
        registry.find_stored(id, context).await.map_err(|error| Refusal::by_store(&error))?;
    Ok(match found {
        Some(InStore::Ended(ended)) => answer_ended(id, &ended, context),
        Some(InStore::Stored { interrupted, .. }) => Answer::pending(id, stored(interrupted)),
        Some(InStore::Elsewhere(node)) => return Err(Apart::Elsewhere(node)),
        None => Answer::not_found(),
    })
}

fn phase<T>(session: &Shared<T>) -> &'static str {
    match session.lock().machine.phase() {
        session::Phase::Suspended => "suspended",
        // An outcome may be on its way to the store.
        session::Phase::Running | session::Phase::Completed => "running",
    }
}

fn stored(interrupted: bool) -> &'static str {
    if interrupted { "interrupted" } else { "stored" }
}

/// One session of a [`list`].
#[derive(Serialize, Deserialize)]
struct Listed {
    session: SessionId,
    status: Cow<'static, str>,
    /// The handler's name.
    name: Option<Cow<'static, str>>,
    /// When it was started, in milliseconds since 1970.
    created_ms: Option<u64>,
    /// How many transports it has.
    attached: usize,
    /// Where its messages end.
    head: Option<Head>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    epoch: WireId,
    position: Position,
}

impl Listed {
    /// A session that is not in memory, of which only this is known.
    fn elsewhere(session: SessionId, status: Cow<'static, str>) -> Self {
        Self { session, status, name: None, created_ms: None, attached: 0, head: None }
    }

    /// Of two nodes the one that has the session in memory knows how it is; of one that has ended, the one that knows its end.
    #[cfg(feature = "tungstenite")]
    fn knows_more_than(&self, other: &Self) -> bool {
        (self.head.is_some() && other.head.is_none())
            || (other.head.is_none() && other.status == "running")
    }

    fn live<T: Send + 'static>(session: &Arc<Shared<T>>, registry: &Registry<T>) -> Self {
        let status = phase(session).into();
        let now = registry.clock().now();
        let core = session.lock();
        let created = wall::now().checked_sub(core.machine.age(now));
        let created_ms = created.and_then(|it| it.duration_since(UNIX_EPOCH).ok());
        Self {
            session: session.id(),
            status,
            name: core.handler_name().cloned(),
            created_ms: created_ms.and_then(|it| u64::try_from(it.as_millis()).ok()),
            attached: core.machine.transports(),
            head: Some(Head { epoch: core.machine.epoch().token(), position: core.machine.head() }),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Page {
    sessions: Vec<Listed>,
    /// What `after` is for the next page.
    next: Option<SessionId>,
}

/// At most this many sessions can be asked for by their ids at a time.
const MOST_IDS: usize = 32;
/// At most this many sessions are listed at a time.
const LONGEST_PAGE: usize = 100;

/// Lists the caller's own sessions, by id: `?limit=` of them (1 to 100) from after the session `?after=` on.
///
/// With `?id=A&id=B` (at most 32) it lists those instead, as far as they are the caller's; the validator is of their
/// statuses alone then. With `?wait=SECONDS`, at most 50, and `If-None-Match` it waits until a status is another one.
///
/// Of several nodes, each is asked, and says what it has; one that does not answer within two seconds is left out.
///
/// That is: the live sessions that this identity has started, its own session if that is stored, and all
/// outcomes in memory that it may poll. A store cannot be asked for all of an identity's sessions: stored ones
/// under other keys, and outcomes from before a restart, are found by their ids alone.
///
/// # Errors
///
/// Returns the [`Refusal`] to answer with if the layer is missing or the store does not answer.
///
/// # Cancel safety
///
/// Cancel safe: it changes nothing.
pub async fn list<T: Send + 'static>(parts: &Parts) -> Result<Answer, Refusal> {
    find_own::<T>(parts).await.map_err(Refusal::counted)
}

async fn find_own<T: Send + 'static>(parts: &Parts) -> Result<Answer, Refusal> {
    let (context, registry) = RequestContext::of::<T>(&parts.extensions)?;
    let ids: Vec<_> = parameters(parts, "id").collect();
    if !ids.is_empty() {
        return watch(registry, context, parts, &ids).await;
    }
    let after = parameter(parts, "after");
    let limit = parameter(parts, "limit").and_then(|limit| limit.parse().ok());
    let mut all = BTreeMap::new();
    if let Some((id, found)) =
        registry.find_own(context).await.map_err(|error| Refusal::by_store(&error))?
    {
        all.insert(id, Listed::elsewhere(id, status_in_store(&found)));
    }
    let live = registry.started_by(context.identity());
    all.extend(live.iter().map(|session| (session.id(), Listed::live(session, registry))));
    let now = registry.clock().now();
    {
        let mut outcomes = registry.outcomes();
        let ended = outcomes.of(context.identity(), now);
        all.extend(ended.map(|(id, ended)| (id, Listed::elsewhere(id, status(&ended.outcome)))));
    }
    let mut has_more = false;
    #[cfg(feature = "tungstenite")]
    for page in hop::ask_all(registry, parts).await {
        // Another node of another version may say it in another way.
        if let Ok(page) = serde_json::from_slice::<Page>(&page) {
            has_more |= page.next.is_some();
            for listed in page.sessions {
                match all.entry(listed.session) {
                    Entry::Vacant(entry) => drop(entry.insert(listed)),
                    Entry::Occupied(mut entry) if listed.knows_more_than(entry.get()) => {
                        entry.insert(listed);
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
    }
    let after = after.and_then(|after| after.parse::<SessionId>().ok());
    let mut rest = all.into_iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
    let limit = limit.unwrap_or(LONGEST_PAGE).clamp(1, LONGEST_PAGE);
    let sessions: Vec<_> = rest.by_ref().take(limit).map(|(_, listed)| listed).collect();
    has_more |= rest.next().is_some();
    let next = sessions.last().filter(|_| has_more).map(|last| last.session);
    let body = serde_json::to_string(&Page { sessions, next }).expect("ids and words are JSON");
    Ok(Answer::new(StatusCode::OK, body, None).unless_known(parts))
}

/// Answers for sessions that are asked for by their ids.
async fn watch<T: Send + 'static>(
    registry: &Registry<T>,
    context: &RequestContext,
    parts: &Parts,
    ids: &[&str],
) -> Result<Answer, Refusal> {
    if ids.len() > MOST_IDS {
        let body = r#"{"error":"at most 32 sessions at a time"}"#.to_owned();
        return Ok(Answer::new(StatusCode::BAD_REQUEST, body, None));
    }
    let ids: BTreeSet<SessionId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
    let wait = parameter(parts, "wait").and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    let until = Instant::now() + Duration::from_secs(wait).min(LONGEST_WAIT);
    loop {
        // Waited for before they are looked at, so that no change in between is missed.
        let live = ids.iter().filter_map(|id| registry.by_id(*id));
        let live: Vec<_> = live.filter(|session| is_known_to(session, context)).collect();
        let changes: Vec<_> = live.iter().filter_map(|session| session.watch_end()).collect();
        let mut changes: Vec<_> =
            changes.into_iter().map(|change| Box::pin(change.notified_owned())).collect();
        for change in &mut changes {
            change.as_mut().enable();
        }
        let mut sessions = Vec::new();
        for id in &ids {
            sessions.extend(describe(registry, context, *id).await?);
        }
        let over = Instant::now() >= until || registry.drain.is_draining();
        let answer = Answer::of_statuses(sessions).unless_known(parts);
        if answer.status != StatusCode::NOT_MODIFIED || over {
            return Ok(answer);
        }
        // The store does not tell when a session in it changes.
        let again = if changes.len() < ids.len() { Instant::now() + LOOK_AGAIN } else { until };
        let any = poll_fn(|cx| {
            let woken = changes.iter_mut().any(|change| change.as_mut().poll(cx).is_ready());
            if woken { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = tokio::time::timeout_at(again.min(until), any).await;
    }
}

/// What there is to tell of a session; `None` if it is unknown, or not the caller's.
async fn describe<T: Send + 'static>(
    registry: &Registry<T>,
    context: &RequestContext,
    id: SessionId,
) -> Result<Option<Listed>, Refusal> {
    let now = registry.clock().now();
    let theirs = |ended: &Ended| ended.identities.contains(&context.identity());
    if let Some(ended) = registry.outcomes().get(id, now) {
        return Ok(theirs(ended).then(|| Listed::elsewhere(id, status(&ended.outcome))));
    }
    if let Some(session) = registry.by_id(id) {
        if !is_known_to(&session, context) {
            return Ok(None);
        }
        if !session.has_told_outcome() {
            return Ok(Some(Listed::live(&session, registry)));
        }
    }
    let found =
        registry.find_stored(id, context).await.map_err(|error| Refusal::by_store(&error))?;
    let found = found.filter(|found| match found {
        InStore::Ended(ended) => theirs(ended),
        InStore::Stored { .. } | InStore::Elsewhere(_) => true,
    });
    Ok(found.map(|found| Listed::elsewhere(id, status_in_store(&found))))
}

fn status_in_store(found: &InStore) -> Cow<'static, str> {
    match found {
        InStore::Ended(ended) => status(&ended.outcome),
        InStore::Stored { interrupted, .. } => stored(*interrupted).into(),
        InStore::Elsewhere(_) => "running".into(),
    }
}

fn status(outcome: &Outcome) -> Cow<'static, str> {
    match serde_json::to_value(outcome.status()) {
        Ok(serde_json::Value::String(status)) => status.into(),
        _ => "closed".into(),
    }
}

fn answer_ended(id: SessionId, ended: &Ended, context: &RequestContext) -> Answer {
    if ended.identities.contains(&context.identity()) {
        Answer::ended(id, &ended.outcome)
    } else {
        Answer::not_found()
    }
}

/// Reads one parameter of the query.
fn parameter<'a>(parts: &'a Parts, name: &'a str) -> Option<&'a str> {
    parameters(parts, name).next()
}

/// Reads a parameter of the query each time that it is there.
fn parameters<'a>(parts: &'a Parts, name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = parts.uri.query().unwrap_or_default().split('&');
    let pairs = pairs.filter_map(|pair| pair.split_once('='));
    pairs.filter_map(move |(key, value)| (key == name).then_some(value))
}

fn is_known_to<T>(session: &Shared<T>, context: &RequestContext) -> bool {
    session.lock().is_known_to(context.identity())
}
