//! The wire protocol `session-resume.v1`, shared by both ends; `PROTOCOL.md` tells it in prose.
//!
//! [`Offer`] is what a client says in its subprotocols, [`ServerControl`] and [`ClientControl`] are the
//! control frames, [`Close`] names the close codes.

mod close;
mod control;
mod offer;

pub use self::{
    close::{Close, CloseKind, CodeError},
    control::{
        ClientControl, Done, Hello, Inbound, OutcomeStatus, ProtocolError, ServerControl,
        StateOffer, Status, Window, decode_client_text, decode_server_text, escape,
    },
    offer::{AT_PREFIX, MalformedOffer, Offer},
};

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
