//! The routes, with the layer around them.

use std::sync::Arc;

use axum::{Router, extract::State, response::Response, routing::any};
use session_resume::{Durability, SessionResume, key};
use session_resume_axum::ResumeUpgrade;
use session_resume_redb::RedbStore;

use crate::{
    live::{self, Reader},
    text::Text,
};

/// Makes the layer: a session for each page, kept in `store`.
///
/// [`Durability::Exact`]: an update leaves only when it is on disk that it was told.
pub fn layer(store: RedbStore) -> SessionResume<Reader> {
    SessionResume::new()
        .with_state::<Reader>()
        .with_key(key::per_client())
        .with_store(store)
        .with_durability(Durability::Exact)
}

/// Makes the whole application. y-websocket appends the name of the room to its URL: there is one room, `text`.
pub fn router(resume: SessionResume<Reader>, text: Arc<Text>) -> Router {
    Router::new().route("/live/text", any(live)).with_state(text).layer(resume)
}

async fn live(State(text): State<Arc<Text>>, upgrade: ResumeUpgrade<Reader>) -> Response {
    upgrade.on_session(move |session| live::run(session, text))
}
