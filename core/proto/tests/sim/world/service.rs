//! What the server's side does with its sockets, and how its process ends.

use session_resume_proto::{
    Moment,
    session::{Budget, Frame, Incoming, Reception},
};

use super::{LINGER, PIPE, World};
use crate::{
    direction::{Down, Pipe, Up},
    link::ServerEnd,
    program::{Program, STATE},
    scenario::Scenario,
    server::Drain,
    tunnel::Net,
};

impl World {
    pub(super) fn deliver_up(&mut self, at: usize) {
        if matches!(self.links[at].server_end, ServerEnd::Gone) {
            return;
        }
        while self.links[at].stuck.is_none() {
            let Some(up) = self.links[at].up.pop(self.now) else {
                return;
            };
            self.steps += 1;
            if self.tells {
                eprintln!("{:?} link {} up: {up:?}", self.now, self.links[at].id);
            }
            match up {
                Up::Offer => self.arrive(at),
                Up::Frame(frame) => self.frame(at, frame),
                Up::Close => self.closed(at, true),
                Up::Eof => self.closed(at, false),
            }
        }
    }

    pub(super) fn frame(&mut self, at: usize, frame: Incoming) {
        let link = &mut self.links[at];
        let (Some(number), Some(live)) = (link.turn(), &mut self.server.live) else {
            return;
        };
        live.touch();
        link.pump = true;
        match live.machine.handle_frame(number, frame, self.now) {
            Reception::Done => {}
            Reception::Full(frame) | Reception::TooFast { frame, .. } => link.stuck = Some(frame),
            // Once on a transport, before any message: the machine closes a transport for anything else, and a client
            // that is closed so fails the history.
            Reception::State(offer) => assert_eq!(offer.value.get(), STATE, "whole"),
        }
    }

    pub(super) fn closed(&mut self, at: usize, answered: bool) {
        let link = &mut self.links[at];
        if let Some(live) = &mut self.server.live {
            match link.server_end {
                ServerEnd::Turn(number) => {
                    if answered {
                        live.machine.handle_close_answered(number);
                    }
                    live.machine.detach(number, self.now);
                    live.touch();
                }
                ServerEnd::Refused(Some((name, seen))) if answered => {
                    live.machine.handle_refusal_answered(name, seen);
                }
                ServerEnd::Refused(_) | ServerEnd::Coming | ServerEnd::Gone => {}
            }
        }
        link.server_end = ServerEnd::Gone;
        link.lingers = None;
        link.send_down(self.now, Down::Eof);
    }

    pub(super) fn time_out(&mut self, at: usize) {
        if self.links[at].lingers.is_some_and(|until| until <= self.now) {
            return self.closed(at, false);
        }
        let link = &mut self.links[at];
        if let (Some(number), Some(live)) = (link.turn(), &mut self.server.live)
            && link.timer_from <= self.now
            && live.machine.poll_transport_timeout(number).is_some_and(|due| due <= self.now)
        {
            live.machine.handle_transport_timeout(number, self.now);
            link.pump = true;
            // If it cannot write what is due, other deadlines still matter.
            link.timer_from = Moment::from_micros(self.now.as_micros() + 500_000);
        }
    }

    /// Moves what is between the ends of the links over HTTP.
    pub(super) fn tunnel(&mut self) {
        let (listens, calm) = (self.server.starts.is_none(), self.trouble.is_none());
        for link in &mut self.links {
            let Some(tunnel) = &mut link.tunnel else {
                continue;
            };
            if matches!(link.server_end, ServerEnd::Gone) {
                // Nobody reads it any more. The pipe's end comes behind it.
                link.up = Pipe::new();
            }
            let mut net = Net { listens, calm, rng: &mut self.rng, now: self.now };
            let steps = tunnel.step(&mut link.up, &mut link.down, link.stuck.is_some(), &mut net);
            self.steps += steps;
            link.pump |= steps > 0;
            if tunnel.is_idle() && link.up.len() == 0 && link.turn().is_none() {
                link.server_end = ServerEnd::Gone;
            }
        }
    }

    /// Lets the session write to each link that has room, and read from it again.
    pub(super) fn pump(&mut self) {
        loop {
            let Some(live) = &mut self.server.live else {
                return;
            };
            if live.wakes_transports() {
                for link in &mut self.links {
                    link.pump = true;
                }
            }
            let mut idle = true;
            for link in &mut self.links {
                let Some(number) = link.turn() else {
                    continue;
                };
                if !std::mem::take(&mut link.pump) {
                    continue;
                }
                if let Some(frame) = link.stuck.take()
                    && let Reception::Full(frame) | Reception::TooFast { frame, .. } =
                        live.machine.handle_frame(number, frame, self.now)
                {
                    link.stuck = Some(frame);
                }
                // If no client is there, the kernel gives up at some time and takes everything.
                let full = match &link.tunnel {
                    Some(tunnel) => !tunnel.server_is_ready(),
                    None => link.client_end && link.down.len() >= PIPE,
                };
                if full {
                    continue;
                }
                let mut frames = Vec::new();
                let budget = Budget { messages: 1 + self.rng.index(6), bytes: 400 };
                live.machine.poll_transmit(number, budget, self.now, &mut frames);
                link.pump = !frames.is_empty();
                idle &= frames.is_empty();
                if !frames.is_empty() {
                    link.timer_from = self.now;
                }
                if let Some(Frame::Close(_)) = frames.last() {
                    link.lingers = Some(self.now + LINGER);
                }
                for frame in frames {
                    self.steps += 1;
                    let due = self.now + Scenario::delay(&mut self.rng);
                    link.send_down(due, Down::Frame(frame));
                }
            }
            if idle {
                return;
            }
        }
    }

    pub(super) fn process(&mut self) {
        let now = self.now;
        if self.server.starts.is_some_and(|at| at <= now) {
            self.server.starts = None;
        }
        match self.server.drain {
            Some(Drain::Leaving(at)) if at <= now => self.kill(true),
            Some(Drain::Freezing(at)) if at <= now => {
                self.server.cut_off(now);
                self.server.drain = Some(Drain::Leaving(now + self.rng.millis(0..1000)));
            }
            Some(_) | None => {}
        }
        let by = self.server.process;
        if self.trouble.is_some()
            && let Some(live) = &mut self.server.live
            && self.rng.percent(3)
            && live.machine.ended().is_none()
        {
            // A task other than the handler.
            let _ = live.send(&self.scenario, &mut self.ledger, by, &mut self.rng, now);
        }
    }

    /// The process is gone; `told`: the kernel tells the peers.
    pub(crate) fn kill(&mut self, told: bool) {
        self.tell(|| format!("the process dies, told: {told}"));
        let starts = self.now + self.rng.millis(0..5000);
        let reached = self.rng.percent(50);
        let programs = &self.programs;
        self.server.die(reached, starts, |message| Program::find(programs, message));
        for link in &mut self.links {
            if let Some(tunnel) = &mut link.tunnel {
                tunnel.kill(self.now);
                link.up = Pipe::new();
            } else if matches!(link.server_end, ServerEnd::Coming) {
                continue;
            }
            link.server_end = ServerEnd::Gone;
            link.lingers = None;
            link.stuck = None;
            if link.tunnel.is_some() {
                continue;
            }
            let keep = self.rng.index(link.down.len() + 1);
            let news = told.then(|| (self.now + Scenario::delay(&mut self.rng), Down::Eof));
            link.down.cut(keep, news);
        }
    }
}
