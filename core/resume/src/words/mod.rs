//! First floor: what the words mean, one file a word. Nothing here knows a live session.
//!
//! Start with `key` (which session a request belongs to), `identity` (who asks), and the two traits that others
//! implement: `store` and `transport`. `config` holds what the layer's setters set, `limits` the bounds, `cluster` a node's
//! place among others. `refusal` has
//! every answer to a request that gets no session.

pub(crate) mod cause;
pub(crate) mod clock;
#[cfg_attr(
    not(feature = "tungstenite"),
    allow(dead_code, unused_imports, reason = "hops need hyper")
)]
pub(crate) mod cluster;
pub(crate) mod commit_error;
pub(crate) mod config;
pub(crate) mod config_error;
pub(crate) mod context;
pub(crate) mod drain_report;
pub(crate) mod durability;
pub(crate) mod errors;
pub(crate) mod handler_type;
pub(crate) mod id;
pub(crate) mod identity;
pub mod key;
pub(crate) mod limits;
pub(crate) mod merge;
pub(crate) mod millis;
pub(crate) mod no_message;
pub(crate) mod node;
pub(crate) mod observe;
pub(crate) mod origin;
pub(crate) mod outcome;
pub(crate) mod outgoing;
pub(crate) mod over_http;
pub(crate) mod panics;
pub(crate) mod path;
pub(crate) mod peer_addr;
pub(crate) mod random;
pub(crate) mod record_error;
pub(crate) mod refusal;
pub(crate) mod request;
pub(crate) mod retain;
pub mod reuse;
pub(crate) mod send_error;
pub(crate) mod store;
pub(crate) mod transport;
pub(crate) mod unreadable;
pub(crate) mod visit;
pub(crate) mod wall;
