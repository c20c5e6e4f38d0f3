//! The search: every deed from every state, and a calm end from each.

use std::{
    collections::{HashSet, VecDeque, hash_map::DefaultHasher},
    hash::{BuildHasher, BuildHasherDefault},
};

use session_resume_proto::session::{Access, Attach};

use super::{Bounds, Deed, NOW, PEERS, State};
use crate::fault::Fault;

/// Visits every state; returns how many there are.
///
/// # Panics
///
/// When a state breaks a promise, or a calm network does not lead to everything delivered.
pub(crate) fn explore(bounds: Bounds, fault: Option<Fault>) -> usize {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut seen = HashSet::new();
    let mut queue = VecDeque::from([State::new(bounds)]);
    while let Some(state) = queue.pop_front() {
        for deed in state.deeds(bounds) {
            let mut next = state.clone();
            next.act(deed, bounds, fault);
            // A hash of 64 bits: two of a million states meet with a chance of one in ten million.
            if seen.insert(hasher.hash_one(&next)) {
                next.clone().calm(bounds, fault);
                queue.push_back(next);
            }
        }
    }
    seen.len()
}

impl State {
    /// What may happen next.
    fn deeds(&self, bounds: Bounds) -> Vec<Deed> {
        let mut deeds = Vec::new();
        if self.session.head().get() < bounds.sends {
            deeds.push(Deed::Send);
        }
        for who in 0..PEERS {
            if self.peers[who].made < bounds.makes[who] {
                deeds.push(Deed::Make(who));
            }
            if self.moves > 0 && self.newest[who].get() > 0 {
                deeds.push(Deed::Move(who));
            }
            if self.attaches > 0 && !self.is_connected(who) {
                deeds.push(Deed::Connect(who));
                if self.watches > 0 {
                    deeds.push(Deed::Watch(who));
                }
                if self.lates > 0 {
                    deeds.push(Deed::OfferLate(who));
                }
            }
        }
        deeds.extend((0..self.late.len()).map(Deed::ArriveLate));
        deeds.extend((0..self.refusals.len()).map(Deed::RefusalAnswered));
        for (at, link) in self.links.iter().enumerate() {
            if link.open && self.cuts > 0 {
                deeds.push(Deed::Cut(at));
            }
            if !link.open {
                deeds.push(Deed::Notice(at));
            }
            if !link.down.is_empty() {
                deeds.push(Deed::Down(at));
            }
            if !link.up.is_empty() {
                deeds.push(Deed::Up(at));
            }
        }
        if self.session.inbox_messages() > 0 {
            deeds.push(Deed::Receive);
        }
        deeds
    }

    /// From here on nothing is lost: each client gets everything.
    fn calm(mut self, bounds: Bounds, fault: Option<Fault>) {
        self.late.clear();
        for who in 0..PEERS {
            // A watcher gets everything, too. Then it comes back to say what it has to say.
            if self.watching[who] && self.is_connected(who) {
                while let Some(deed) = self.calm_deed(bounds) {
                    self.act(deed, bounds, fault);
                }
                let has = self.peers[who].position;
                let all = Some(self.session.head().get());
                assert_eq!(has, all, "{who} watches, and does not get everything");
                let at = self.links.iter().position(|link| link.open && link.who == who);
                self.cut(at.expect("a watcher is in nobody's way"));
            }
            if bounds.attach == Attach::Refuse
                && let Some(at) = self.links.iter().position(|link| link.open && link.who != who)
            {
                self.cut(at);
            }
            for round in 0.. {
                assert!(round < 100, "no rest");
                let before = self.clone();
                if !self.is_connected(who) {
                    self.connect(who, Access::Full, bounds, fault);
                }
                while let Some(deed) = self.calm_deed(bounds) {
                    self.act(deed, bounds, fault);
                }
                if self == before {
                    break;
                }
            }
            let peer = &self.peers[who];
            assert_eq!(self.session.head().get(), bounds.sends, "a send waits for ever");
            assert_eq!(peer.position, Some(bounds.sends), "{who} does not get everything");
            assert_eq!(self.taken[who], peer.made, "the handler does not get everything of {who}");
            assert!(peer.queue.is_empty(), "{who} keeps what was taken");
        }
        assert_eq!(self.session.outbox_messages(), 0, "everybody has everything");
    }

    fn calm_deed(&self, bounds: Bounds) -> Option<Deed> {
        let flows = |deed: &Deed| match deed {
            Deed::Notice(at) => self.links[*at].up.is_empty(),
            Deed::Send => self.session.clone().send("".into(), NOW).is_ok(),
            Deed::Down(_) | Deed::Up(_) | Deed::RefusalAnswered(_) | Deed::Receive => true,
            _ => false,
        };
        self.deeds(bounds).into_iter().rfind(flows)
    }
}
