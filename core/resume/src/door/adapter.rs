//! For adapters to web frameworks: everything between a request's parts and a session.
//!
//! An adapter converts types and decides nothing. For an extractor it calls [`open`] or [`look`] and turns a
//! [`Refusal`] into its framework's response; for a WebSocket it makes an [`Upgrade`], lets the application
//! call [`Upgrade::on_session`], answers the upgrade, and runs the [`Accepted`] with the socket wrapped as a
//! [`Transport`](crate::transport::Transport). `adapters/README.md` shows one that fits on a page. A transport that is
//! no WebSocket, such as an event stream with posts, reads the client's [`Offer`] itself and begins with
//! [`Upgrade::prepare_with`].

use std::sync::Arc;

use futures_util::FutureExt as _;
use http::request::Parts;

#[cfg(feature = "http")]
pub use crate::door::http::{Body, Kind, ResumeConnection, ResumeStart};
#[cfg(feature = "listen")]
pub use crate::door::listen::bind;
#[cfg(feature = "http")]
pub use crate::door::streams::{Door, read_stream};
#[cfg(feature = "http")]
pub use crate::door::ui_stream::{UiStream, ui_stream};
#[cfg(feature = "tungstenite")]
pub use crate::door::{hop::Hop, websocket::ResumeUpgrade};
#[cfg(feature = "server")]
pub use crate::door::{
    hop::{ServeHops, serve_hops},
    serve::{Serve, serve},
    stop::{UntilStopped, stop_signal},
};
use crate::{
    Identity, RequestView, Session, SessionOrigin,
    door::{elsewhere::Elsewhere, look},
    durable::restore::{Apart, Asks},
    live::{
        registry::Registry,
        session::{Purpose, Shared},
    },
    words::context::RequestContext,
};
pub use session_resume_proto::wire::{MalformedOffer, Offer};

pub use crate::{
    door::{
        poll::{Answer, list, poll},
        upgrade::{Accepted, Refused, Upgrade},
    },
    durable::restore::{OwnerState, Whereabouts},
    words::{peer_addr::PeerAddr, refusal::Refusal},
};

/// Finds or starts the session of a request.
///
/// # Errors
///
/// Returns the [`Refusal`] to answer with.
///
/// # Cancel safety
///
/// Cancel safe: a session may have been started, and is then found by the next request.
pub async fn open<T: Send + 'static>(parts: &Parts) -> Result<Session<T>, Refusal> {
    match open_here(parts) {
        Ok(Opened::Here(session)) => Ok(session),
        // Boxed: most requests do not wait for a store, and need not hold the memory that the wait takes.
        Ok(Opened::Stored(registry, asks)) => {
            open_wherever(registry, asks, parts).boxed().await.map_err(Refusal::counted)
        }
        Err(refusal) => Err(refusal.counted()),
    }
}

/// Where the session of a request is.
enum Opened<'a, T: Send + 'static> {
    Here(Session<T>),
    /// Perhaps in the store.
    Stored(&'a Registry<T>, Asks<'a>),
}

fn open_here<T: Send + 'static>(parts: &Parts) -> Result<Opened<'_, T>, Refusal> {
    let (context, registry) = RequestContext::of::<T>(&parts.extensions)?;
    look::check_origin(registry, parts)?;
    let req = RequestView::from_parts(parts);
    if registry.needs_no_store(context)
        && registry.has_place(context.key())
        && let Some((session, origin)) = registry.open(context, req, &Purpose::Extract, None)?
    {
        return Ok(Opened::Here(handle(context, session, origin)));
    }
    Ok(Opened::Stored(registry, Asks { context, req, continues: None, looks: false }))
}

/// The request uses this session.
fn handle<T>(
    context: &RequestContext,
    session: Arc<Shared<T>>,
    origin: SessionOrigin,
) -> Session<T> {
    context.has_used();
    Session::visited(session, origin, context.requester())
}

/// Opens the session here, or has the node answer that has it.
async fn open_wherever<T: Send + 'static>(
    registry: &Registry<T>,
    asks: Asks<'_>,
    parts: &Parts,
) -> Result<Session<T>, Refusal> {
    let mut elsewhere = Elsewhere::new();
    loop {
        match open_stored(registry, &asks).await {
            Ok(session) => return Ok(session),
            Err(apart) => elsewhere.ask(registry, parts, apart).await?,
        }
    }
}

async fn open_stored<T: Send + 'static>(
    registry: &Registry<T>,
    asks: &Asks<'_>,
) -> Result<Session<T>, Apart> {
    loop {
        if let Some(session) = registry.ready(asks, &Purpose::Extract).await? {
            return Ok(handle(asks.context, session, SessionOrigin::Restored));
        }
        // A session that is on its way to the store is waited for there.
        if let Some((session, origin)) =
            registry.open(asks.context, asks.req, &Purpose::Extract, None)?
            // Of two nodes that start one at the same time, one is asked by the other.
            && registry.has_record(&session).await?
        {
            return Ok(handle(asks.context, session, origin));
        }
    }
}

/// Looks for the session of a request without starting one, and without counting as activity. The answer sets no
/// cookie for it.
///
/// # Errors
///
/// Returns the [`Refusal`] to answer with.
///
/// # Cancel safety
///
/// Cancel safe.
pub async fn look<T: Send + 'static>(parts: &Parts) -> Result<Option<Session<T>>, Refusal> {
    look::find(parts).await.map_err(Refusal::counted)
}

/// Finds out where the session of a request is: at this node, at another one, or nowhere. Starts, claims and relays nothing.
///
/// # Errors
///
/// Returns the [`Refusal`] to answer with.
///
/// # Cancel safety
///
/// Cancel safe.
pub async fn whereabouts<T: Send + 'static>(parts: &Parts) -> Result<Whereabouts, Refusal> {
    let (context, registry) = RequestContext::of::<T>(&parts.extensions)?;
    registry.whereabouts(context.key()).await.map_err(Refusal::counted)
}

/// Returns the identity of a request. That is a use of it: the answer sets its cookie if it is new.
///
/// # Errors
///
/// Returns the [`Refusal`] to answer with if there is no layer around the route, or if the store that keeps the keys of
/// cookies does not answer.
pub fn identity(parts: &Parts) -> Result<Identity, Refusal> {
    let missing = || Refusal::missing_layer().counted();
    let context = parts.extensions.get::<RequestContext>().ok_or_else(missing)?;
    if context.unsure {
        return Err(Refusal::keys_not_read().counted());
    }
    context.has_used();
    Ok(context.identity())
}
