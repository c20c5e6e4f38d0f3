//! What may happen next.

use super::{Deed, LATER, NOW, Node, Up, World, acknowledges};
use crate::ownership::{
    Call, LeaseState, Stand,
    tests::search::{
        case::{Case, Clocks, Plant},
        client::{HopStage, Stage, UNDER_WAY},
    },
};

impl World {
    /// What may happen next, and whether it happens by itself sooner or later.
    pub(in super::super) fn deeds(&self, case: &Case) -> Vec<(Deed, bool)> {
        let mut deeds = Vec::new();
        self.client_deeds(case, &mut deeds);
        for at in 0..self.nodes.len() {
            self.engine_deeds(at, case, &mut deeds);
            if self.nodes[at].runs() {
                self.node_deeds(at, case, &mut deeds);
                self.session_deeds(at, case, &mut deeds);
                self.fault_deeds(at, case, &mut deeds);
            }
        }
        if self.left.failovers > 0 && self.replica != self.engine {
            deeds.push((Deed::Replicate, true));
        }
        if self.left.failovers > 0 {
            deeds.push((Deed::Failover, false));
        }
        deeds
    }

    pub(super) fn client_deeds(&self, case: &Case, deeds: &mut Vec<(Deed, bool)>) {
        let client = &self.client;
        if let Some(transport) = &self.transports[0] {
            let via = &self.nodes[transport.via];
            let owner = &self.nodes[transport.at.or(transport.hop_to()).unwrap_or(transport.via)];
            let mute = |node: &Node| !node.link || node.standing().lease != LeaseState::Held;
            let silent = !owner.runs()
                || !via.runs()
                || !client.hello && (mute(owner) || mute(via))
                || transport.stage == Stage::Closed && transport.down.is_empty();
            if silent {
                deeds.push((Deed::LetGo, true));
            }
            if self.left.drops > 0 {
                deeds.push((Deed::Break, false));
            }
            if client.hello
                && transport.stage == Stage::Open
                && client.next < case.messages
                && transport.up.len() < UNDER_WAY
            {
                deeds.push((Deed::Send, true));
            }
            // What the owner has written comes, though it be stopped or gone; through a relay only while that runs.
            let passes = match transport.hop {
                HopStage::No => true,
                HopStage::Copies { .. } | HopStage::Ended => via.runs(),
                _ => false,
            };
            if !transport.down.is_empty() && passes {
                deeds.push((Deed::Read, true));
            }
        } else if !client.done {
            let up = (0..self.nodes.len()).filter(|at| self.nodes[*at].runs());
            deeds.extend(up.map(|at| (Deed::Connect(at), true)));
        }
        for (which, transport) in self.transports.iter().enumerate() {
            let Some(transport) = transport else {
                continue;
            };
            match transport.hop {
                HopStage::Sent { to, .. } => {
                    if case.no_hops || self.nodes[to].up != Up::Runs {
                        deeds.push((Deed::HopLost(which), true));
                    } else {
                        deeds.push((Deed::HopArrives(which), true));
                    }
                }
                HopStage::There { to } if !self.nodes[to].runs() => {
                    deeds.push((Deed::HopLost(which), true));
                }
                HopStage::Misdirected
                | HopStage::Answered { .. }
                | HopStage::Lost
                | HopStage::Ended
                    if self.nodes[transport.via].runs() =>
                {
                    deeds.push((Deed::HopTold(which), true));
                }
                _ => {}
            }
        }
    }

    pub(super) fn engine_deeds(&self, at: usize, case: &Case, deeds: &mut Vec<(Deed, bool)>) {
        let node = &self.nodes[at];
        if node.link {
            for (which, asked) in node.asked.iter().enumerate() {
                if asked.reply.is_none() {
                    deeds.push((Deed::Apply(at, which), true));
                }
            }
            if matches!(node.lease_asked, Some((_, None))) {
                deeds.push((Deed::ApplyLease(at), true));
            }
        }
        if node.late.is_some() {
            deeds.push((Deed::ApplyLate(at), false));
        }
        if self.engine.leases[at].is_some() {
            let lapsed = node.standing().lease != LeaseState::Held;
            let natural = !node.runs() || !node.link && (lapsed || case.clocks == Clocks::Wrong);
            if natural || case.clocks == Clocks::Skewed && self.left.cuts > 0 {
                deeds.push((Deed::LeaseEnds(at), natural));
            }
        }
        match node.up {
            Up::Stopped => deeds.push((Deed::GoOn(at), false)),
            Up::Dead if self.left.restarts > 0 => deeds.push((Deed::Restart(at), false)),
            Up::Runs | Up::Dead => {}
        }
        if !node.link {
            deeds.push((Deed::Reach(at), false));
        }
    }

    pub(super) fn node_deeds(&self, at: usize, case: &Case, deeds: &mut Vec<(Deed, bool)>) {
        let node = &self.nodes[at];
        let standing = node.standing();
        for (which, asked) in node.asked.iter().enumerate() {
            if asked.reply.is_some() {
                deeds.push((Deed::Take(at, which), true));
            }
        }
        if matches!(node.lease_asked, Some((_, Some(_)))) {
            deeds.push((Deed::TakeLease(at), true));
        }
        if !node.link && standing.lease == LeaseState::Held {
            deeds.push((Deed::Lapse(at), true));
        }
        let gone = standing.incarnation != self.engine.leases[at];
        let wanted = self.engine.wanted && standing.incarnation == self.engine.fence().owner;
        let needed = standing.lease != LeaseState::Held
            || node.lease.is_resuming()
            || wanted
            || gone && case.clocks != Clocks::Right;
        if node.link && node.lease_asked.is_none() && needed {
            deeds.push((Deed::Renew(at), true));
        }
        if node.link
            && !gone
            && node.ownership.stand() == Stand::Seeking
            && !node.lease.is_held_for_long(NOW)
            && standing.lease == LeaseState::Held
        {
            deeds.push((Deed::HoldsForLong(at), true));
        }
        if node.ownership.poll_timeout().is_some_and(|due| due <= LATER) {
            deeds.push((Deed::Timer(at), true));
        }
        if !node.serves.is_empty() {
            deeds.push((Deed::Hello(at), true));
        }
    }

    pub(super) fn session_deeds(&self, at: usize, case: &Case, deeds: &mut Vec<(Deed, bool)>) {
        let node = &self.nodes[at];
        let Some(session) = &node.session else {
            return;
        };
        let puts = node.asked.iter().any(|asked| matches!(asked.call, Call::Put(_)));
        let news = session.dirty || session.taken != session.taken_committed;
        if node.link && !puts && news && node.ownership.clone().begin_put(node.standing()).is_some()
        {
            deeds.push((Deed::Put(at), true));
        }
        if session.freezes {
            deeds.push((Deed::Boundary(at), true));
        }
        if node.ownership.may_speak(node.standing()) {
            if let Some(which) = session.at
                && let Some(transport) = &self.transports[which]
            {
                let passes = transport.via == at || which == 1 || self.nodes[transport.via].runs();
                if passes
                    && !transport.up.is_empty()
                    && transport.stage == Stage::Open
                    && !session.finished
                {
                    deeds.push((Deed::Receive(at), true));
                }
                let room = which == 1 || transport.down.len() < UNDER_WAY;
                let early = case.plants(Plant::SendEarly) || !case.exact;
                let end = if early { session.outbox.len } else { session.said_committed };
                if room && session.sent < end {
                    deeds.push((Deed::Say(at), true));
                }
                if room && session.acked < acknowledges(session, case) {
                    deeds.push((Deed::Acknowledge(at), true));
                }
            }
            if self.left.leaves > 0 && node.ownership.stand() == Stand::Serving && !session.freezes
            {
                deeds.push((if case.overdue { Deed::Overdue(at) } else { Deed::Leave(at) }, false));
            }
        }
        if case.stays && node.ownership.may_have_put_clean() {
            deeds.push((Deed::Stay(at), false));
        }
    }

    pub(super) fn fault_deeds(&self, at: usize, case: &Case, deeds: &mut Vec<(Deed, bool)>) {
        let node = &self.nodes[at];
        let others = self.good() - usize::from(node.link);
        if others == 0 {
            return;
        }
        let may_fall = !case.quiet || node.has_nothing_on_its_way() && self.replica == self.engine;
        if self.left.kills > 0 && may_fall {
            deeds.push((Deed::Kill(at), false));
        }
        if self.left.stops > 0 && may_fall {
            deeds.push((Deed::Stop(at), false));
        }
        if self.left.cuts > 0 && node.link && case.clocks != Clocks::Skewed {
            deeds.push((Deed::Cut(at), false));
            for (which, asked) in node.asked.iter().enumerate() {
                if asked.reply.is_none() {
                    deeds.push((Deed::CutDone(at, which), false));
                    if case.late_calls && node.late.is_none() {
                        deeds.push((Deed::CutLate(at, which), false));
                    }
                }
            }
        }
    }
}
