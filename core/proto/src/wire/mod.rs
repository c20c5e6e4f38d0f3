//! The wire protocol `session-resume.v1`, shared by both ends; `PROTOCOL.md` tells it in prose.
//!
//! [`Offer`] is what a client says in its subprotocols, [`ServerControl`] and [`ClientControl`] are the
//! control frames, [`Close`] names the close codes. [`PipeFrame`] is a frame on HTTP, in the two forms that it has there.

mod base64;
mod close;
mod control;
mod event_id;
mod events;
mod frames;
mod offer;
mod offset;

pub(crate) use self::offer::integer;
pub use self::{
    close::{Close, CloseKind, CodeError},
    control::{
        ClientControl, Done, Hello, Inbound, OutcomeStatus, ProtocolError, ServerControl,
        StateOffer, Status, Window, decode_client_text, decode_server_text, escape,
    },
    event_id::EventId,
    events::{EVENTS, EventReader, FLOW, GREETING, StreamItem, encode_event},
    frames::{FRAMES, FrameError, FrameReader, PipeFrame, decode_frames, encode_frames},
    offer::{AT_PREFIX, MalformedOffer, Offer, PROBE},
    offset::{LifeTag, Offset},
};

/// What a server writes on a probe, first: it echoes one binary frame then, and closes 1000.
pub const PROBE_GREETING: &str = "\u{1}{\"probe\":true}";

/// The version of the protocol, written once.
macro_rules! version {
    () => {
        1
    };
}

/// The version of the protocol that is spoken here: what a [`Hello`] says.
pub const VERSION: u64 = version!();

/// The subprotocol's name; the server selects it when a well-formed [`Offer`] comes with it.
pub const SUBPROTOCOL: &str = concat!("session-resume.v", version!());
