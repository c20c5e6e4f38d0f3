//! The durable half, driven through the adapters' interface in virtual time: commits, restarts, drains,
//! outcomes, merges.

#![expect(unreachable_pub, reason = "a test binary has no outside")]

mod commit;
mod drain;
mod gone;
mod hangs;
mod identity;
mod identity_keys;
mod large;
mod leaving;
mod lives;
mod looks;
mod merge;
mod node;
mod nodes;
mod observers;
mod outcome;
mod panics;
mod paths;
mod poison;
#[cfg(feature = "http")]
mod posts;
#[cfg(feature = "http")]
mod readers;
mod restart;
mod shared;
mod store;
mod unreadable;
mod urgent;
mod visits;

/// Two clients' ids.
const A: &str = "aaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbb";
