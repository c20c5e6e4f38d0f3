//! One session: its handles, its state, its tasks. Suggested reading order: `shared` (the live object), `core`
//! (what its lock guards), `handle`, `live`, `send`, `receipts`, `urgent`; `life` (how it goes), `keeper` (whom it tells what has happened), `durable` (what it knows of its
//! snapshot), `info` (what operators are told).

mod blocking;
mod core;
mod durable;
mod event;
mod guard;
mod handle;
mod info;
mod keeper;
mod life;
mod live;
mod observe;
mod place;
mod post;
mod purpose;
#[cfg(feature = "http")]
mod read;
mod receipts;
mod send;
mod shared;
mod sink;
mod state;
mod tasks;
mod thread;
mod urgent;

pub use session_resume_proto::session::{Carrier, SessionOrigin};

#[cfg(feature = "http")]
pub(crate) use self::read::Mark;
pub use self::{
    blocking::BlockingSession,
    event::{AttachRequest, Client, Event, Resumed},
    guard::ExpirationGuard,
    handle::{IdentityChange, Session},
    info::SessionInfo,
    live::LiveSession,
    observe::{Cursor, From, InvalidCursor, Observe, ObserveError, Observed},
    post::PostError,
    receipts::{AttachedClient, NotDelivered},
    sink::{SessionDuplex, SessionSink},
};
pub(crate) use self::{
    core::{CancelHandler, Core, Machine, Seat},
    durable::{Drawn, Durable, Job, Unsaved},
    event::Peer,
    handle::phase,
    keeper::{Home, Keeper},
    life::{Change, Life},
    place::{Moved, Place, Pointer},
    purpose::Purpose,
    shared::{Owner, Shared},
    state::StateCell,
    thread::runs_handler_of,
    urgent::IsUrgent,
};
