//! Who reads what was sent, and how far: what the application asks and decides about single clients.

use std::time::Duration;

use super::{
    Access, Carrier, IdentityTag, Session,
    client::{Client, Who},
    sparse::Addressee,
};
use crate::{Moment, Position, wire::Close};

/// How far clients have come with what was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receipt {
    /// All of them have acknowledged all that was for them.
    Delivered,
    /// One of them has not, and a client is attached.
    Waits,
    /// One of them has not, and no client is attached; or no client has ever come.
    NobodyThere,
}

/// A client that is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attendee<'a, I> {
    /// Its name, and what came with its newest attachment.
    pub who: &'a Who<I>,
    /// What it may do.
    pub access: Access,
    /// How many transports it has.
    pub transports: usize,
    /// When the newest of these attached.
    pub since: Moment,
    /// What carries it.
    pub carrier: Carrier,
    /// How long its last ping took to be answered; `None` if none was, or if the session has not read all the while.
    pub round_trip: Option<Duration>,
}

impl<I: Clone> Session<I> {
    /// Returns the clients that are attached, in the order in which they were first there.
    pub fn attendees(&self) -> impl Iterator<Item = Attendee<'_, I>> {
        self.clients.iter().filter(|client| client.is_attached()).filter_map(|client| {
            let own = || self.attached().filter(|t| t.client == client.uid);
            let report = own().max_by_key(|t| t.number)?.report;
            Some(Attendee {
                who: &client.who,
                access: client.access,
                transports: own().count(),
                since: report.since,
                carrier: report.carrier,
                round_trip: report.round_trip,
            })
        })
    }

    /// Whether every client that the outbox is kept for has acknowledged all before `position` that was for it;
    /// with `of`, whether that client has.
    pub fn receipt(&mut self, position: Position, of: Option<&Addressee>) -> Receipt {
        // Otherwise a client would owe what is not for it.
        self.note_passed();
        let asked = |client: &Client<I>| match of {
            Some(addressee) => addressee.is(client.recipient()),
            None => client.matters(),
        };
        let mut asked = self.clients.iter().filter(|client| asked(client)).peekable();
        let somebody = asked.peek().is_some();
        if somebody
            && asked.all(|client| self.outbox.needed_by(client.uid, client.acked) >= position)
        {
            return Receipt::Delivered;
        }
        let there = match of {
            Some(addressee) => {
                self.clients.iter().any(|c| c.is_attached() && addressee.is(c.recipient()))
            }
            None => self.clients.any_attached(),
        };
        if there { Receipt::Waits } else { Receipt::NobodyThere }
    }

    /// Closes the transports of one client. Returns how many that were.
    ///
    /// The session goes on, and the client stays known: it may come back with its cursor.
    pub fn close_client(&mut self, client: &Addressee, close: &Close, now: Moment) -> usize {
        self.close_those(|known| client.is(known.recipient()), close, now)
    }

    /// Closes the transports of all clients of an identity. Returns how many that were.
    ///
    /// The session goes on, and the clients stay known: they may come back with their cursors.
    pub fn close_identity(&mut self, identity: IdentityTag, close: &Close, now: Moment) -> usize {
        self.close_those(|known| known.who.name.identity == identity, close, now)
    }

    fn close_those(
        &mut self,
        is_one: impl Fn(&Client<I>) -> bool,
        close: &Close,
        now: Moment,
    ) -> usize {
        let mut closed = 0;
        for at in 0..self.transports.len() {
            let t = &self.transports[at];
            if t.is_attached() && self.clients.get(t.client).is_some_and(&is_one) {
                self.end_transport(at, close.clone(), None, now);
                closed += 1;
            }
        }
        closed
    }
}
