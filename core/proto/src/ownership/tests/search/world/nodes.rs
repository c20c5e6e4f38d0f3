//! What a node does: it takes answers, and does what its machine says.

use super::{Asked, Done, NOW, World, incarnation, node_of};
use crate::{
    Moment,
    ownership::{
        Answer, Call, Claimed, Command, Dropped, Event, Found, LeaseCommand, Leave, Over, Put,
        Then, Visit,
        tests::search::{
            case::{Case, Plant},
            client::{Down, HopStage, Stage, Transport, UNDER_WAY},
            engine::{Engine, LeaseReply, Reply},
            session::{Output, Session, Snap},
        },
    },
};

impl World {
    /// Tells a machine what has happened, and does what it says.
    pub(super) fn event(&mut self, at: usize, event: Event, now: Moment, case: &Case) -> Done {
        let node = &mut self.nodes[at];
        let standing = node.standing();
        node.ownership.handle_event(event, standing, now);
        while let Some(command) = self.nodes[at].ownership.poll_command() {
            self.command(at, command, case)?;
        }
        Ok(())
    }

    pub(super) fn command(&mut self, at: usize, command: Command, case: &Case) -> Done {
        match command {
            Command::Call(call) => self.call(at, call, None, case)?,
            Command::Build(claimed) => unreachable!("built with its answer: {claimed:?}"),
            Command::Serve { visit, permit } => {
                self.nodes[at].serves.push((usize::try_from(visit.0).unwrap(), permit));
            }
            Command::Relay { visit, to } => {
                let transport = self.transport(visit);
                transport.hop = HopStage::Sent { to: node_of(to), names: to };
            }
            Command::Misdirected { visit, .. } => self.transport(visit).hop = HopStage::Misdirected,
            Command::Over { visit, .. } => {
                let which = usize::try_from(visit.0).unwrap();
                self.down(which, Down::Done);
                let transport = self.transport(visit);
                transport.stage = Stage::Closed;
                if transport.via != at {
                    transport.hop = HopStage::Copies { to: at };
                }
                self.event(at, Event::Left(visit), NOW, case)?;
            }
            Command::Refuse { visit, .. } => {
                let transport = self.transport(visit);
                transport.stage = Stage::Closed;
                transport.down.clear();
                transport.hop = HopStage::No;
            }
            Command::Cut(visit) => {
                let transport = self.transport(visit);
                transport.stage = Stage::Closed;
                transport.hop = HopStage::No;
                self.detach(usize::try_from(visit.0).unwrap());
            }
            Command::Silence | Command::Thaw => {
                if let Some(session) = &mut self.nodes[at].session {
                    session.freezes = false;
                }
            }
            Command::Freeze => self.session(at).freezes = true,
            Command::Save => {
                if let Some(session) = &mut self.nodes[at].session {
                    session.dirty = true;
                }
            }
            Command::CloseTransports => {
                if let Some(Session { at: Some(which), .. }) = self.nodes[at].session {
                    self.close(which);
                    self.session(at).at = None;
                }
            }
            Command::Drop(dropped) => {
                let by = self.nodes[at].standing().incarnation;
                if dropped == Dropped::Lost
                    && !self.lost
                    && by.is_some()
                    && self.engine.fence().owner == by
                {
                    return Err("P7: a handler ends although nobody else was there".into());
                }
                self.drop_session(at, dropped);
            }
            Command::Reroute { .. } | Command::Nothing(_) => unreachable!("not in these rules"),
        }
        Ok(())
    }

    pub(super) fn transport(&mut self, visit: Visit) -> &mut Transport {
        let which = usize::try_from(visit.0).unwrap();
        self.transports[which].as_mut().expect("the machine forgets those that have left")
    }

    pub(super) fn call(&mut self, at: usize, call: Call, snap: Option<Snap>, case: &Case) -> Done {
        if let Call::Claim { over: Over::Session(_), .. } = call
            && case.plants(Plant::HelloClaim)
        {
            self.hello_before_claim(at, case)?;
        }
        let node = &mut self.nodes[at];
        let by = node.standing().incarnation.unwrap_or(incarnation(at, self.incarnations[at]));
        if node.link {
            node.asked.push(Asked { call, snap, by, reply: None });
            return Ok(());
        }
        self.event(at, Event::Answered { call, answer: Answer::Unknown }, NOW, case)
    }

    pub(super) fn apply(&mut self, asked: &Asked, case: &Case) -> Result<Reply, String> {
        let before = self.engine;
        let (reply, wrote) = self.engine.apply(asked.call, asked.snap, asked.by, case)?;
        self.replica = wrote.replicate(before, self.engine, self.replica, case);
        Ok(reply)
    }

    /// A node takes the engine's answer.
    pub(super) fn take(&mut self, at: usize, which: usize, case: &Case) -> Done {
        let Asked { call, snap, reply, .. } = self.nodes[at].asked.remove(which);
        let Reply { answer, snap: stored } = reply.expect("it is answered");
        if let Call::Put(put) = call {
            self.note_put(at, put, answer, &snap.expect("a put brings bytes"));
        }
        let node = &mut self.nodes[at];
        let standing = node.standing();
        node.ownership.handle_event(Event::Answered { call, answer }, standing, NOW);
        while let Some(command) = self.nodes[at].ownership.poll_command() {
            if let Command::Build(claimed) = command {
                self.build(at, &stored.expect("a claim brings bytes"), claimed, case);
                self.event(at, Event::Built, NOW, case)?;
                if self.nodes[at].session.is_some_and(|session| session.finished) {
                    self.event(at, Event::Finished, NOW, case)?;
                }
            } else {
                self.command(at, command, case)?;
            }
        }
        Ok(())
    }

    /// What a put that has succeeded covers, if the claim under which it was made is still the present one.
    pub(super) fn note_put(&mut self, at: usize, put: Put, answer: Answer, snap: &Snap) {
        let node = &mut self.nodes[at];
        let is_present = node.ownership.fence() == Some(put.fence);
        if let Some(session) = &mut node.session
            && answer == Answer::Done
            && is_present
        {
            session.taken_committed = session.taken_committed.max(snap.taken);
            if let Some(outbox) = &snap.outbox
                && snap.epoch == session.epoch
            {
                session.said_committed = session.said_committed.max(outbox.len);
            }
            session.dirty |= session.taken != snap.taken;
        }
    }

    pub(super) fn build(&mut self, at: usize, snap: &Snap, claimed: Claimed, case: &Case) {
        let goes_on = claimed.found == Found::Clean || case.exact;
        let session = self.restored(snap, goes_on, claimed.fence.generation, case);
        self.nodes[at].session = Some(session);
    }

    pub(super) fn restored(
        &mut self,
        snap: &Snap,
        goes_on: bool,
        generation: u64,
        case: &Case,
    ) -> Session {
        self.histories += 1;
        let mut session = Session {
            history: self.histories,
            taken: snap.taken,
            taken_committed: snap.taken,
            finished: case.ends && snap.taken == case.messages,
            ..Session::default()
        };
        match (snap.outbox, goes_on) {
            (Some(outbox), true) => {
                session.epoch = snap.epoch;
                session.outbox = outbox;
                session.said_committed = outbox.len;
            }
            _ if case.plants(Plant::EpochNext) => session.epoch = snap.epoch + 1,
            _ if case.plants(Plant::EpochGeneration) => {
                session.epoch = u8::try_from(generation).unwrap();
            }
            _ => {
                self.epochs += 1;
                session.epoch = self.epochs;
            }
        }
        // A new epoch is worth a put.
        session.dirty = session.epoch != snap.epoch || session.finished;
        session
    }

    /// A planted fault: hello first, and then it is made true.
    pub(super) fn hello_before_claim(&mut self, at: usize, case: &Case) -> Done {
        let Some(which) = (0..2).find(|which| {
            self.transports[*which].as_ref().is_some_and(|transport| {
                transport.stage == Stage::Offered
                    && transport.via == at
                    && transport.hop == HopStage::No
            })
        }) else {
            return Ok(());
        };
        let Engine { record, .. } = self.engine;
        let session = self.restored(&record.snap, case.exact, 0, case);
        self.nodes[at].session = Some(session);
        self.attach(at, which, case)
    }

    pub(super) fn drop_session(&mut self, at: usize, dropped: Dropped) {
        let Some(session) = self.nodes[at].session.take() else {
            return;
        };
        let Some(which) = session.at else {
            return;
        };
        match dropped {
            Dropped::Ended if which == 0 => {
                self.down(0, Down::Done);
            }
            Dropped::Ended => self.transports[1] = None,
            Dropped::Released | Dropped::Lost | Dropped::Broken => self.close(which),
        }
    }

    /// The owner closes a transport.
    pub(super) fn close(&mut self, which: usize) {
        if which == 1 {
            return self.forget_old();
        }
        self.down(which, Down::Close);
        let transport = self.present();
        transport.stage = Stage::Closed;
        transport.at = None;
    }

    /// A frame for the client; what matters is never lost behind a full queue.
    pub(super) fn down(&mut self, which: usize, frame: Down) {
        // Nobody reads an old one.
        if which == 0 {
            let transport = self.present();
            if transport.down.len() == UNDER_WAY {
                transport.down.pop();
            }
            transport.down.push(frame);
        }
    }

    pub(super) fn renew(&mut self, at: usize) {
        let life = self.incarnations[at] + 1;
        let node = &mut self.nodes[at];
        node.lease.hurry(NOW);
        while let Some(command) = node.lease.poll_command(NOW) {
            match command {
                LeaseCommand::Draw => {
                    self.incarnations[at] = life;
                    node.lease.handle_drawn(incarnation(at, life).get());
                }
                LeaseCommand::Renew(_) | LeaseCommand::Enlist { .. } => {
                    node.lease_asked = Some((command, None));
                }
                LeaseCommand::PutAgain => unreachable!("not before a renewal"),
                LeaseCommand::Reconnect | LeaseCommand::Retire(_) => unreachable!("{command:?}"),
            }
        }
    }

    pub(super) fn take_lease(&mut self, at: usize, case: &Case) -> Done {
        let node = &mut self.nodes[at];
        let Some((command, Some(reply))) = node.lease_asked.take() else {
            unreachable!("it is answered");
        };
        let mut wanted = false;
        match (command, reply) {
            (LeaseCommand::Renew(incarnation), LeaseReply::Renewed(renewed, wants)) => {
                node.lease.handle_renewed(incarnation, renewed, NOW);
                wanted = wants;
            }
            (LeaseCommand::Enlist { incarnation, .. }, LeaseReply::Enlisted) => {
                node.lease.handle_enlisted(incarnation, NOW);
            }
            // Its connection was lost, and the lease was told.
            (_, LeaseReply::Unknown) => {}
            (command, reply) => unreachable!("{command:?}: {reply:?}"),
        }
        self.event(at, Event::Lease, NOW, case)?;
        if wanted {
            self.event(at, Event::Leave(Leave::HandOver), NOW, case)?;
        }
        if self.nodes[at].lease.take_put_again() {
            self.event(at, Event::Resumed, NOW, case)?;
        }
        Ok(())
    }

    pub(super) fn put(&mut self, at: usize, case: &Case) {
        let node = &mut self.nodes[at];
        let put = node.ownership.begin_put(node.lease.standing(NOW)).expect("it may");
        let session = node.session.as_mut().expect("the node has the session");
        session.dirty = false;
        let whole = case.exact || put.then == Then::Release;
        let snap = Snap {
            taken: session.taken,
            epoch: session.epoch,
            outbox: whole.then_some(session.outbox),
        };
        let by = put.fence.owner.expect("it is owned");
        node.asked.push(Asked { call: Call::Put(put), snap: Some(snap), by, reply: None });
    }

    pub(super) fn receive(&mut self, at: usize, case: &Case) -> Done {
        let which = self.session(at).at.expect("it is attached");
        let message = self.transports[which].as_mut().expect("it is there").up.remove(0);
        let session = self.session(at);
        if message != session.taken {
            let taken = session.taken;
            return Err(format!("P2: message {message} is taken by a session that has {taken}"));
        }
        session.taken += 1;
        session.outbox.push(Output { message, history: session.history });
        if case.ends && session.taken == case.messages {
            session.finished = true;
            session.freezes = false;
            self.event(at, Event::Finished, NOW, case)?;
        }
        Ok(())
    }

    pub(super) fn say(&mut self, at: usize, case: &Case) -> Done {
        self.check_owner(at, "data", case)?;
        let session = self.session(at);
        let output = session.outbox.as_slice()[usize::from(session.sent)];
        session.sent += 1;
        let frame = Down::Data { output, epoch: session.epoch };
        let which = session.at.expect("it is attached");
        self.down(which, frame);
        Ok(())
    }

    pub(super) fn check_owner(&self, at: usize, what: &str, case: &Case) -> Done {
        if case.one_speaks && self.nodes[at].ownership.fence() != Some(self.engine.fence()) {
            return Err(format!("P6: {what} from one who is not the owner"));
        }
        Ok(())
    }
}
