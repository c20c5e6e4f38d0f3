//! A program that starts again: the older run's socket may still be open while the newer run comes back.
//!
//! The rules know clients, not programs. Of two clients of one identity that have named themselves, the one whose
//! uid is younger counts as the newer run.

use std::time::Duration;

use super::client::{Client, ClientUid, Clients};
use crate::Moment;

/// Which gone clients go on mattering although the outbox is full.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) clients: Vec<ClientUid>,
    /// When the first of them stops mattering, if only time passes.
    pub(super) until: Option<Moment>,
}

impl<I> Clients<I> {
    /// Decides which gone clients go on mattering although the outbox is full.
    ///
    /// While a client is attached, there are none: otherwise one closed tab would stall all others. An older run does
    /// not count as attached while a newer one is away for less than a heartbeat: its open socket may be that of a
    /// program that is dead. While no client counts as attached, the one that was attached last goes on mattering:
    /// otherwise a lone client that comes back in time would find nothing. So does the newer run.
    ///
    /// Watchers count for nothing here: one that is attached does not make the outbox let go of what a writer needs.
    pub(super) fn kept_when_full(&self, heartbeat: Duration, now: Moment) -> Kept {
        let is_attached = self.any_attached();
        // While no client is attached, no timer tells that a heartbeat is over, and no transport waits for that.
        let now = if is_attached { now } else { self.last_left().unwrap_or(now) };
        let writers = || self.iter().filter(|client| !client.is_watcher());
        let end = |client: &Client<I>| Some(client.gone_since()? + heartbeat);
        let may_return =
            |client: &Client<I>| client.matters() && end(client).is_some_and(|end| now < end);
        let is_here = |client: &Client<I>| client.is_attached() || may_return(client);
        let returning: Vec<_> = writers()
            .filter(|client| may_return(client))
            .filter(|client| !writers().any(|other| is_newer(other, client) && is_here(other)))
            .collect();
        let is_older = |client: &Client<I>| returning.iter().any(|newer| is_newer(newer, client));
        if writers().any(|client| client.is_attached() && !is_older(client)) {
            return Kept::default();
        }
        let last = self.last_attached();
        let replaces = |client: &Client<I>| {
            let is_in_the_way = |o: &Client<I>| o.is_attached() || Some(o.uid) == last;
            writers().any(|other| is_newer(client, other) && is_in_the_way(other))
        };
        let newer = || returning.iter().filter(|client| replaces(client));
        Kept {
            clients: newer().map(|client| client.uid).chain(last).collect(),
            until: newer().filter_map(|client| end(client)).min().filter(|_| is_attached),
        }
    }
}

/// Whether `one` may be a newer run of the program of `other`. For plain clients this is not known.
fn is_newer<I>(one: &Client<I>, other: &Client<I>) -> bool {
    let (newer, older) = (one.who.name, other.who.name);
    one.uid > other.uid
        && newer.identity == older.identity
        && !newer.is_plain()
        && !older.is_plain()
}
