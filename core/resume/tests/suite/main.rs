//! The runtime half over in-memory transports: time is paused, nothing sleeps.

#![expect(clippy::float_cmp, reason = "paused time is exact")]

mod arrivals;
mod attachments;
mod blocked;
mod drain;
mod endings;
mod guards;
mod identity;
mod layer_contract;
mod numbers;
mod observers;
mod paths;
mod plain;
mod sending;
mod shared;
mod stream_sink;
mod support;
mod timers;
mod transports;
mod urgent;
mod validity;
mod visits;
mod which;
