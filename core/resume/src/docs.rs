//! Pages about tasks, where the types alone do not say enough.
//!
//! * [`behind_a_proxy`]: what a proxy in front of the server must do, and what to set where it does less.
//! * [`keys_and_frames`]: how the key of the cookie is changed, and what a page in a frame of another site needs.
//! * [`over_http`]: sessions where WebSockets are blocked, and readers without a client of ours.
//! * [`several_nodes`]: several processes without sticky sessions, what it costs and what it does not do yet.
//! * [`write_a_store`]: how to keep sessions somewhere else.

#[doc = include_str!("../docs/behind-a-proxy.md")]
pub mod behind_a_proxy {}

#[doc = include_str!("../docs/keys-and-frames.md")]
pub mod keys_and_frames {}

#[doc = include_str!("../docs/over-http.md")]
pub mod over_http {}

#[doc = include_str!("../docs/several-nodes.md")]
pub mod several_nodes {}

#[doc = include_str!("../docs/write-a-store.md")]
pub mod write_a_store {}
