//! Third floor: sessions in a store.
//!
//! Start with `snapshot/mod.rs`: what a session knows of its record, and when a snapshot is taken (at a boundary, with no
//! message in hand). `snapshot/saver.rs` writes, `snapshot/record.rs` has the bytes. `restore/mod.rs` reads a session back.
//! `node` keeps the lease of a node of several. `identity_keys` reads and changes the keys that the store keeps.

mod identity_keys;
pub(crate) mod node;
pub(crate) mod restore;
pub(crate) mod snapshot;
