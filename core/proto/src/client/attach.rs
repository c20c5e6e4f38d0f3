use std::time::Duration;

use super::{
    Client, Known, Open, Phase, StateTurn, TransportNumber, acks::Acks, inbound,
    outbound::Mismatch, probe::Probe,
};
use crate::{
    Message, Moment,
    client::{Cause, Event},
    numbers::{self, ACK_AFTER, CLOSE_AFTER_DONE, PIPE_ACK_AFTER},
    wire::{
        Close, Done, Hello, Inbound as Frame, ProtocolError, ServerControl, Status, VERSION,
        decode_server_text,
    },
};

impl Client {
    /// Takes in a frame that `transport` brought.
    pub fn handle_frame(&mut self, transport: TransportNumber, frame: Message, now: Moment) {
        if !self.is_newest(transport) || matches!(self.phase, Phase::Over { .. }) {
            return;
        }
        self.handle_alive(transport, now);
        let outcome = match frame {
            Message::Binary(_) => self.receive(frame, now),
            Message::Text(text) => match decode_server_text(text) {
                Ok(Frame::Data(text)) => self.receive(Message::Text(text), now),
                Ok(Frame::Control(control)) => self.obey(&control, now),
                Err(err) => Err(Cause::Protocol(err)),
            },
        };
        if let Err(cause) = outcome {
            self.drop_transport(Some(if cause == Cause::Copied {
                Close::GOODBYE
            } else {
                Close::PROTOCOL_ERROR
            }));
            self.detach(cause);
        }
    }

    /// Takes in that `transport` brought something that is not a data frame: a ping, a pong.
    pub fn handle_alive(&mut self, transport: TransportNumber, now: Moment) {
        if !self.is_newest(transport) {
            return;
        }
        if let Phase::Open(open) = &mut self.phase {
            open.heard = now;
        }
    }

    fn receive(&mut self, message: Message, now: Moment) -> Result<(), Cause> {
        let Phase::Open(open) = &mut self.phase else {
            return Err(unexpected());
        };
        let bytes = message.len();
        // What was held already says nothing about the next message, at which this transport may end.
        open.settled |= self.inbound.deliver(message);
        // Taken on an earlier transport already: the server may hear of it only now.
        open.acks.note(self.inbound.position(), bytes, now);
        Ok(())
    }

    /// Obeys the members of a control frame, which are independent, in the order that suits a client.
    fn obey(&mut self, control: &ServerControl, now: Moment) -> Result<(), Cause> {
        if let Some(hello) = &control.hello
            && !self.attach(hello, now)?
        {
            return Ok(());
        }
        if let Some(number) = control.dropped {
            self.open()?;
            let dropped = self.outbound.drop_message(number).map_err(Cause::Protocol)?;
            if let Some(message) = dropped {
                self.inbound.push(Event::Dropped(message));
            }
        }
        for count in [control.ack, control.hb].into_iter().flatten() {
            self.open()?;
            let news = self.outbound.acknowledge(count).map_err(Cause::Protocol)?;
            self.open()?.settled |= news || control.hb.is_some();
        }
        if control.hb.is_some() {
            self.open()?.probe.note_answer(now);
        }
        if let Some(position) = control.skip {
            self.open()?;
            self.inbound.pass(position).map_err(Cause::Protocol)?;
            let position = self.inbound.position();
            self.open()?.acks.note(position, 0, now);
        }
        if let Some(gap) = control.gap {
            self.open()?;
            self.inbound.skip(gap).map_err(Cause::Protocol)?;
        }
        if let Some(millis) = control.retry {
            self.retry = Some(Duration::from_millis(millis));
        }
        match &control.done {
            Some(done) => self.finish(done, now)?,
            None => self.close_if_acknowledged(),
        }
        Ok(())
    }

    /// Takes the hello in; returns `false` if the offer that it answers no longer says where the application is.
    fn attach(&mut self, hello: &Hello, now: Moment) -> Result<bool, Cause> {
        let Phase::Connecting { offered, .. } = &self.phase else {
            return Err(unexpected());
        };
        if hello.v != VERSION {
            return Err(Cause::Version(hello.v));
        }
        let same_stream = inbound::continues(hello, offered.as_ref()).map_err(Cause::Protocol)?;
        let same_session = offered.as_ref().filter(|cursor| cursor.session == hello.session);
        let same_epoch = same_session.is_some_and(|cursor| cursor.epoch == hello.epoch);
        if let Some(cursor) = offered
            && same_stream
            && !same_epoch
            && cursor.received < self.inbound.taken()
        {
            // The session has confirmed what was offered, and may have other messages behind it than the
            // application has taken meanwhile.
            self.drop_transport(Some(Close::GOODBYE));
            self.connect(now);
            return Ok(false);
        }
        let received = hello.received.filter(|_| same_session.is_some());
        let mut taken_back = 0;
        if let Some(received) = received {
            let resumed = self.outbound.replay_from(received, hello.window, same_epoch);
            taken_back = resumed.map_err(|mismatch| match mismatch {
                Mismatch::Copy => Cause::Copied,
                Mismatch::Broken(err) => Cause::Protocol(err),
            })?;
        }
        // From here on nothing fails: the application is told in the order in which things happened.
        self.inbound.push(Event::Open { session: hello.session, status: hello.status });
        if taken_back > 0 {
            self.inbound.push(Event::TakenBack { count: taken_back });
        }
        let too_big = self.too_big.take();
        if let Some(received) = received {
            // Only the process that has closed knows how much it had accepted: another process may have accepted less.
            if same_epoch
                && hello.status == Status::Resumed
                && too_big.is_some_and(|had| received < had)
                && let Some(message) = self.outbound.give_up_next()
            {
                self.inbound.push(Event::TooBig(message));
            }
        } else {
            self.tell_doubt();
            self.outbound.restart(hello.received.unwrap_or(0), hello.window);
        }
        // What this session cannot take is not sent at all.
        for message in self.outbound.limit_to(hello.limit) {
            self.inbound.push(Event::TooBig(message));
        }
        if same_stream {
            self.inbound.resume(hello, same_epoch);
        } else {
            self.inbound.restart(hello);
        }
        if received.is_none() {
            self.meet(hello.session);
        }
        let offer = match (&self.state, hello.limit) {
            (None, _) => StateTurn::Not,
            (Some(state), Some(limit)) if state.len() as u64 <= limit => StateTurn::Due,
            (Some(_), _) => {
                self.withdraw_state();
                StateTurn::Not
            }
        };
        self.facts.stale = false;
        if hello.status == Status::Resumed {
            self.facts.fresh = false;
        }
        self.known = Some(Known {
            session: hello.session,
            epoch: hello.epoch,
            attachment: hello.attachment,
        });
        let heartbeat = match hello.heartbeat_ms {
            0 => Duration::MAX,
            millis => Duration::from_millis(millis),
        };
        // Only a pipe's hello has it.
        let after = if hello.absent_ms.is_some() { PIPE_ACK_AFTER } else { ACK_AFTER };
        let mut probe = Probe::new(hello.ping);
        if self.outbound.under_way().is_some() {
            probe.note_sent(now);
        }
        self.phase = Phase::Open(Open {
            heard: now,
            patience: numbers::silence(heartbeat),
            acks: Acks::new(self.inbound.position(), hello.window, heartbeat, after),
            probe,
            settled: false,
            offer,
        });
        Ok(true)
    }

    fn finish(&mut self, done: &Done, now: Moment) -> Result<(), Cause> {
        self.open()?;
        self.phase = Phase::Over { done: done.clone(), deadline: now + CLOSE_AFTER_DONE };
        Ok(())
    }

    fn open(&mut self) -> Result<&mut Open, Cause> {
        match &mut self.phase {
            Phase::Open(open) => Ok(open),
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> Cause {
    Cause::Protocol(ProtocolError::Unexpected)
}
