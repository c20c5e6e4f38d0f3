//! What the programs' side does.

use session_resume_proto::{
    Message,
    client::Action,
    session::{ClientName, Frame, Incoming},
    wire::{self, Close, CloseKind, Inbound, Offer},
};

use super::{PIPE, World};
use crate::{
    direction::{Down, Pipe, Up},
    link::{Link, ServerEnd},
    scenario::Scenario,
    tunnel::Tunnel,
};

impl World {
    /// Does what the client machine asks for.
    pub(super) fn act(&mut self, at: usize) {
        if self.programs[at].dead {
            return;
        }
        while let Some(action) = self.programs[at].client.poll_action() {
            self.steps += 1;
            match action {
                Action::Randomize => {
                    let random = self.rng.bytes();
                    self.programs[at].client.handle_random(&random, self.now);
                }
                Action::Connect { transport, offer } => {
                    self.leave(at, false);
                    let info = u32::try_from(at).expect("few");
                    let id = *offer.client().expect("clients name themselves");
                    let name = ClientName::named(self.programs[at].identity, id);
                    self.names.insert(name, info);
                    self.connect(Some((at, transport)), name, info, offer);
                }
                Action::Close { transport, close } => {
                    let kind = close.as_ref().map(Close::kind);
                    assert_ne!(
                        kind,
                        Some(CloseKind::ProtocolError),
                        "the server broke the protocol"
                    );
                    if self.link_of(at).is_some_and(|l| l.program == Some((at, transport))) {
                        self.leave(at, close.is_some());
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        loop {
            let Some(link) = self
                .links
                .iter()
                .position(|l| l.client_end && l.program.is_some_and(|(of, _)| of == at))
            else {
                return;
            };
            let full = match &self.links[link].tunnel {
                Some(tunnel) => !tunnel.client_is_ready(),
                None => self.links[link].up.len() >= PIPE,
            };
            if full {
                return;
            }
            let Some((transport, message)) = self.programs[at].client.poll_transmit(self.now)
            else {
                return;
            };
            assert_eq!(self.links[link].program, Some((at, transport)));
            self.steps += 1;
            let due = self.now + Scenario::delay(&mut self.rng);
            self.links[link].send_up(due, Up::Frame(incoming(message)));
        }
    }

    pub(super) fn link_of(&mut self, program: usize) -> Option<&mut Link> {
        self.links
            .iter_mut()
            .find(|l| l.client_end && l.program.is_some_and(|(of, _)| of == program))
    }

    pub(super) fn leave(&mut self, program: usize, says_close: bool) {
        let due = self.now + Scenario::delay(&mut self.rng);
        if let Some(link) = self.link_of(program) {
            link.leave(due, says_close);
        }
    }

    pub(crate) fn connect(
        &mut self,
        program: Option<(usize, session_resume_proto::client::TransportNumber)>,
        name: ClientName,
        info: u32,
        offer: Offer,
    ) {
        self.last_link += 1;
        let mut link = Link {
            id: self.last_link,
            program,
            name,
            info,
            offer,
            client_end: program.is_some(),
            server_end: ServerEnd::Coming,
            up: Pipe::new(),
            down: Pipe::new(),
            tunnel: None,
            stuck: None,
            pump: false,
            lingers: None,
            timer_from: self.now,
            let_go: 0,
        };
        self.tell(|| format!("link {} of {info}: {}", link.id, link.offer));
        let mut delay = Scenario::delay(&mut self.rng);
        // A program that strangers have pushed out is not known any more. If its first offer came late,
        // the server would believe it.
        let may_be_late = self.trouble.is_some() && !self.scenario.kind.has_strangers();
        if may_be_late && self.rng.percent(4) {
            // Later, perhaps, than the client waits for it.
            delay = self.rng.millis(0..40_000);
        }
        if program.is_some() && self.rng.percent(40) {
            let tunnel = Tunnel::new(&link.offer, &self.scenario, &mut self.rng, self.now);
            link.tunnel = Some(Box::new(tunnel));
        }
        link.send_up(self.now + delay, Up::Offer);
        self.links.push(link);
    }

    pub(super) fn application(&mut self, at: usize) {
        let calm = self.trouble.is_none();
        let Self { programs, server, scenario, ledger, rng, now, .. } = self;
        let program = &mut programs[at];
        if program.dead {
            return;
        }
        if program.client.poll_timeout().is_some_and(|due| due <= *now) {
            program.client.handle_timeout(*now);
        }
        if program.client.is_offline() {
            let returns = *program.returns.get_or_insert_with(|| *now + rng.millis(0..20_000));
            if returns <= *now {
                program.client.reconnect_now(*now);
                program.returns = None;
            }
        } else {
            program.returns = None;
        }
        if program.acts > *now {
            return;
        }
        let busy = if rng.percent(90) { 0..400 } else { 0..10_000 };
        program.acts = *now + rng.millis(busy);
        if !calm && rng.percent(70) {
            let most = if rng.percent(90) { 3 } else { 30 };
            let count = rng.below(most);
            program.send(count, scenario);
        }
        let live = server.live.as_ref();
        let base = |stream: usize| {
            live.filter(|l| l.stream == stream).map(|_| ledger.streams[stream].base)
        };
        let count = if calm { usize::MAX } else { rng.index(12) };
        program.take(count, *now, scenario, ledger, base);
    }

    pub(super) fn deliver_down(&mut self, at: usize) {
        while self.links[at].client_end {
            let link = &mut self.links[at];
            let Some(down) = link.down.pop(self.now) else {
                return;
            };
            link.pump = true;
            link.timer_from = self.now;
            self.steps += 1;
            let Some((program, transport)) = link.program else {
                continue;
            };
            if self.tells {
                eprintln!("{:?} link {} to {program}: {down:?}", self.now, link.id);
            }
            let client = &mut self.programs[program].client;
            let back = self.now + Scenario::delay(&mut self.rng);
            match down {
                Down::Frame(Frame::Data(message)) => {
                    client.handle_frame(transport, message, self.now);
                }
                Down::Frame(Frame::Control(mut text)) => {
                    let control = wire::decode_server_text(text.clone());
                    if let Ok(Inbound::Control(mut control)) = control
                        && let Some(hello) = &mut control.hello
                    {
                        hello.ping &= self.answers_pings;
                        let hello = hello.clone();
                        text = control.encode();
                        let stream = self.ledger.stream(hello.session, hello.epoch);
                        let let_go = link.let_go;
                        self.programs[program].note_hello(&hello, stream, let_go, &self.ledger);
                    }
                    let client = &mut self.programs[program].client;
                    client.handle_frame(transport, Message::Text(text), self.now);
                }
                Down::Frame(Frame::Ping(payload)) => {
                    client.handle_alive(transport, self.now);
                    link.send_up(back, Up::Frame(Incoming::Pong(payload.to_vec().into())));
                }
                Down::Frame(Frame::Close(close)) => {
                    link.leave(back, true);
                    client.handle_closed(transport, Some(close));
                }
                Down::Refused => {
                    link.leave(back, false);
                    let cause = session_resume_proto::client::Cause::Unreachable("refused".into());
                    client.handle_connect_failed(transport, cause);
                }
                Down::Eof => {
                    link.leave(back, false);
                    client.handle_closed(transport, None);
                }
            }
            // What it does now may be to close this very link.
            self.act(program);
        }
    }
}

fn incoming(message: Message) -> Incoming {
    match message {
        Message::Text(text) => Incoming::Text(text),
        Message::Binary(bytes) => Incoming::Binary(bytes),
    }
}
