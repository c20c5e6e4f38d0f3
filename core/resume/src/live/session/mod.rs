//! One session: its handles, its state, its tasks. Suggested reading order: `shared` (the live object), `core`
//! (what its lock guards), `handle`, `live`, `send`.

mod blocking;
mod core;
mod event;
mod guard;
mod handle;
mod live;
mod send;
pub(crate) mod shared;
pub(crate) mod state;
mod tasks;

pub use session_resume_proto::session::SessionOrigin;

pub use self::{
    blocking::BlockingSession,
    event::{AttachRequest, Client, Event, Resumed},
    guard::ExpirationGuard,
    handle::{IdentityChange, Session, SessionInfo},
    live::LiveSession,
};
pub(crate) use self::{
    core::{Core, Machine},
    event::Peer,
    handle::phase,
    tasks::Tasks,
};
