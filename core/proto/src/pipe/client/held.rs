//! Acknowledgements that no answer to a post covers yet.

use std::collections::VecDeque;

use super::Arrival;
use crate::{
    Message,
    wire::{Inbound, ServerControl, decode_server_text},
};

/// Holds back what the server says of messages until an answer says that it has them from *this* client.
///
/// Copies of a client share a pipe without knowing it. The server acknowledges the messages of both, and only the
/// answers to posts tell whose they were.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Held {
    /// How many of the client's messages the server has for sure; `None` before the hello.
    sure: Option<u64>,
    /// What waits, with how many messages each needs.
    waiting: VecDeque<(u64, Arrival)>,
}

impl Held {
    /// Takes in that the server has `messages` more.
    pub(super) fn cover(&mut self, messages: u64, out: &mut VecDeque<Arrival>) {
        if let Some(sure) = &mut self.sure {
            *sure += messages;
        }
        let sure = self.sure;
        let covered = self.waiting.iter().take_while(|(needs, _)| Some(*needs) <= sure).count();
        out.extend(self.waiting.drain(..covered).map(|(_, arrival)| arrival));
    }

    /// Passes a text frame on, or the part of it that need not wait.
    pub(super) fn pass(&mut self, text: bytestring::ByteString, out: &mut VecDeque<Arrival>) {
        let whole = |text| Arrival::Message(Message::Text(text));
        // What cannot be read is the machine's to judge.
        let Ok(Inbound::Control(control)) = decode_server_text(text.clone()) else {
            return out.push_back(whole(text));
        };
        if let Some(hello) = &control.hello {
            self.sure = Some(hello.received.unwrap_or(0));
        }
        let Some(needs) = needs(&control) else {
            return out.push_back(whole(text));
        };
        if self.waiting.is_empty() && self.sure.is_none_or(|sure| needs <= sure) {
            return out.push_back(whole(text));
        }
        let ServerControl { ack, hb, dropped, done, .. } = control.clone();
        let later = ServerControl { ack, hb, dropped, done, ..ServerControl::default() };
        let now = ServerControl { ack: None, hb: None, dropped: None, done: None, ..control };
        if now != ServerControl::default() {
            // It has its place between the messages.
            out.push_back(whole(now.encode()));
        }
        out.push_back(Arrival::Alive);
        self.waiting.push_back((needs, whole(later.encode())));
    }

    /// Passes a close on, behind what waits.
    pub(super) fn pass_close(&mut self, arrival: Arrival, out: &mut VecDeque<Arrival>) {
        if self.waiting.is_empty() {
            out.push_back(arrival);
        } else {
            self.waiting.push_back((0, arrival));
        }
    }

    /// Lets everything go: no answer will ever cover it.
    pub(super) fn release(&mut self, out: &mut VecDeque<Arrival>) {
        out.extend(self.waiting.drain(..).map(|(_, arrival)| arrival));
    }

    /// Lets only the server's close go, if it waits.
    pub(super) fn release_close(&mut self, out: &mut VecDeque<Arrival>) {
        let waiting = self.waiting.drain(..).map(|(_, arrival)| arrival);
        out.extend(waiting.filter(|arrival| matches!(arrival, Arrival::Closed(_))));
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// How many of the client's messages a frame speaks of.
fn needs(control: &ServerControl) -> Option<u64> {
    let done = control.done.as_ref().map(|done| done.received);
    let dropped = control.dropped.map(|number| number + 1);
    [control.ack, control.hb, dropped, done].into_iter().flatten().max()
}
