//! The session that a reader asks for.

use std::sync::Arc;

use http::request::Parts;
use session_resume_proto::session::{NotRead, ReadFrom, Reading};

use super::form::Door;
use crate::{
    RequestView, SessionId,
    door::elsewhere::Elsewhere,
    durable::restore::{Apart, Asks, InStore},
    live::{
        ended::Ended,
        registry::Registry,
        session::{Mark, Purpose, Shared},
    },
    words::{context::RequestContext, key::SessionKey, refusal::Refusal},
};

/// How often a session is looked for that moves meanwhile.
const ATTEMPTS: u32 = 3;

/// What is read.
pub(super) enum Source<T: Send + 'static> {
    Live(Arc<Shared<T>>),
    /// What is left of a session that has ended.
    Ended(SessionId, Box<Ended>),
}

impl<T: Send + 'static> Source<T> {
    pub(super) fn read(&self, from: ReadFrom) -> (Mark, Result<Reading, NotRead>) {
        match self {
            Self::Live(session) => session.read(from, Door::ROOM),
            Self::Ended(_, ended) => (ended.mark(), ended.counts.read(from)),
        }
    }
}

/// Finds a session of the caller's; `None` for unknown and foreign ones, alike. A stored one is restored.
pub(super) async fn find<T: Send + 'static>(
    registry: &Registry<T>,
    context: &RequestContext,
    parts: &Parts,
    id: &str,
) -> Result<Option<Source<T>>, Refusal> {
    let Ok(id) = id.parse::<SessionId>() else {
        return Ok(None);
    };
    let mut elsewhere = Elsewhere::of_poll();
    for _ in 0..ATTEMPTS {
        match look(registry, context, parts, id).await {
            Ok(Looked::Found(source)) => return Ok(Some(source)),
            Ok(Looked::Nothing) => return Ok(None),
            Ok(Looked::Again) if registry.drain.is_draining() => {
                return Err(Refusal::draining(registry.drain.retry()));
            }
            Ok(Looked::Again) => {}
            Err(apart) => elsewhere.ask(registry, parts, apart).await?,
        }
    }
    Err(Refusal::moved_meanwhile())
}

enum Looked<T: Send + 'static> {
    Found(Source<T>),
    Nothing,
    /// It was on its way somewhere.
    Again,
}

async fn look<T: Send + 'static>(
    registry: &Registry<T>,
    context: &RequestContext,
    parts: &Parts,
    id: SessionId,
) -> Result<Looked<T>, Apart> {
    let is_theirs = |ended: &Ended| ended.identities.contains(&context.identity());
    let of_ended = |ended: Ended| {
        if is_theirs(&ended) {
            Looked::Found(Source::Ended(id, Box::new(ended)))
        } else {
            Looked::Nothing
        }
    };
    // One that has ended a moment ago still has its last messages.
    if let Some(session) = registry.by_id(id) {
        let (is_known, life) = {
            let core = session.lock();
            (core.is_known_to(context.identity()), core.life())
        };
        if !is_known {
            return Ok(Looked::Nothing);
        }
        if !life.is_on_its_way() && !life.has_left() {
            return Ok(Looked::Found(Source::Live(session)));
        }
    }
    let now = registry.clock().now();
    if let Some(ended) = registry.outcomes().get(id, now) {
        return Ok(of_ended(ended.clone()));
    }
    let found = registry.find_stored(id, context).await;
    Ok(match found.map_err(|error| Refusal::by_store(&error))? {
        Some(InStore::Ended(ended)) => of_ended(ended),
        Some(InStore::Elsewhere(node)) => return Err(Apart::Elsewhere(node)),
        Some(InStore::Stored { key, .. }) => {
            let restored = restore(registry, context, parts, key).await?;
            let restored = restored.filter(|session| session.id() == id);
            restored.map_or(Looked::Again, |session| Looked::Found(Source::Live(session)))
        }
        None => Looked::Nothing,
    })
}

/// Brings a stored session of the caller's into memory, as one that is only looked at.
async fn restore<T: Send + 'static>(
    registry: &Registry<T>,
    context: &RequestContext,
    parts: &Parts,
    key: SessionKey,
) -> Result<Option<Arc<Shared<T>>>, Apart> {
    // The request's own key may be another one.
    let context = RequestContext { key, ..context.clone() };
    let req = RequestView::from_parts(parts);
    let asks = Asks { context: &context, req, continues: None, looks: true };
    registry.ready(&asks, &Purpose::Extract).await
}
