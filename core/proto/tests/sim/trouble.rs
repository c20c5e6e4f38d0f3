//! What goes wrong.

use session_resume_proto::{
    AttachmentNumber, ClientId, Cursor, Position, WireId,
    session::{ClientName, IdentityTag, Incoming},
    wire::{Close, Offer},
};

use crate::{
    direction::{Down, Up},
    link::{STRANGER, ServerEnd},
    program::{EVERYBODY, Program},
    scenario::{Kind, Scenario},
    server::Drain,
    world::World,
};

impl World {
    /// Makes one thing go wrong.
    pub(crate) fn make_trouble(&mut self) {
        match self.rng.below(20) {
            0..7 => self.cut(true),
            7..9 => self.cut(false),
            9..12 => self.stall(),
            12 => self.repeat_offer(),
            13 => self.reconnect(),
            14 => self.burst(),
            15 => self.run_out(),
            _ => self.trouble_of_its_kind(),
        }
    }

    fn trouble_of_its_kind(&mut self) {
        match self.scenario.kind {
            Kind::Share | Kind::Takeover | Kind::Refuse if self.rng.percent(20) => {
                self.change_identity();
            }
            Kind::Alone
            | Kind::Share
            | Kind::Takeover
            | Kind::Refuse
            | Kind::DropOldest
            | Kind::OverflowEnds => self.burst(),
            Kind::ClientRestarts => self.restart_program(),
            Kind::Strangers => self.stranger(),
            Kind::Forgetful => self.end_process(),
            Kind::Crowd if self.rng.percent(60) => self.stranger(),
            Kind::Cookies => self.lose_cookie(),
            Kind::StoredCookies if self.rng.percent(50) => self.lose_cookie(),
            Kind::State | Kind::Exact | Kind::Crowd | Kind::StoredCookies => self.disturb_store(),
            Kind::Backup => match self.rng.below(4) {
                0 => self.copy_store(),
                1 => self.put_copy_back(),
                _ => self.disturb_store(),
            },
        }
    }

    /// A user logs in: the server sees another browser, and the program is the same.
    fn change_identity(&mut self) {
        let at = self.rng.index(self.programs.len());
        let (old, new) = (self.programs[at].identity, IdentityTag::new(self.rng.bytes()));
        if self.server.drain.is_some() {
            return;
        }
        let Some(live) = &mut self.server.live else {
            return;
        };
        live.machine.change_identity(old, new, self.now);
        live.touch();
        for program in self.programs.iter_mut().filter(|program| program.identity == old) {
            program.identity = new;
        }
        self.rename(old, new);
        self.moved.insert(old);
        self.tell(|| format!("the identity of {at} is {new:?} now"));
    }

    /// A program's cookie is lost: from the next connection on, the server sees another browser.
    fn lose_cookie(&mut self) {
        let at = self.rng.index(self.programs.len());
        let identity = IdentityTag::new(self.rng.bytes());
        self.programs[at].lose_cookie(identity);
        self.tell(|| format!("{at} has lost its cookie, and will be {identity:?}"));
        if self.rng.percent(50)
            && let Some(link) = self
                .links
                .iter()
                .position(|link| link.client_end && link.program.is_some_and(|(of, _)| of == at))
        {
            self.cut_link(link, true);
        }
    }

    /// The connection ends in mid-air; `told`: both ends hear of it some time, else at most one.
    fn cut(&mut self, told: bool) {
        if let Some(at) = self.any_link() {
            self.cut_link(at, told);
        }
    }

    fn cut_link(&mut self, at: usize, told: bool) {
        if let Some(tunnel) = &mut self.links[at].tunnel {
            let until = self.now + self.rng.millis(0..15_000);
            return tunnel.cut(until, self.now);
        }
        let (up, down) = (self.late(), self.late());
        let hears = self.rng.below(3);
        let link = &mut self.links[at];
        let keep = (self.rng.index(link.up.len() + 1), self.rng.index(link.down.len() + 1));
        let id = link.id;
        link.up.cut(keep.0, (told || hears == 1).then_some((up, Up::Eof)));
        link.down.cut(keep.1, (told || hears == 2).then_some((down, Down::Eof)));
        self.tell(|| format!("link {id} is cut, told: {told}"));
    }

    /// The credentials of a client run out.
    fn run_out(&mut self) {
        let Some(at) = self.any_link() else {
            return;
        };
        let ServerEnd::Turn(number) = self.links[at].server_end else {
            return;
        };
        let Some(live) = &mut self.server.live else {
            return;
        };
        live.machine.close_transport(number, Close::REAUTHENTICATE, self.now);
        live.touch();
        let id = self.links[at].id;
        self.tell(|| format!("the credentials of link {id} run out"));
    }

    /// News of an end may come late.
    fn late(&mut self) -> session_resume_proto::Moment {
        let delay = if self.rng.percent(80) {
            Scenario::delay(&mut self.rng)
        } else {
            self.rng.millis(0..60_000)
        };
        self.now + delay
    }

    fn stall(&mut self) {
        let Some(at) = self.any_link() else {
            return;
        };
        let until = self.now + self.rng.millis(0..90_000);
        match self.rng.below(3) {
            0 => self.links[at].up.stall(until),
            1 => self.links[at].down.stall(until),
            _ => {
                self.links[at].up.stall(until);
                self.links[at].down.stall(until);
            }
        }
    }

    /// An upgrade request arrives twice. No client waits for the second answer.
    fn repeat_offer(&mut self) {
        let Some(at) = self.any_link() else {
            return;
        };
        let link = &self.links[at];
        // An offer without a cursor would speak for a program that holds nothing, and this program may hold something.
        if link.info == STRANGER || matches!(link.offer, Offer::Fresh { .. }) {
            return;
        }
        let (info, offer) = (link.info, link.offer.clone());
        let name = link.name;
        self.connect(None, name, info, offer);
        let gone = self.late();
        let link = self.links.last_mut().expect("just made");
        link.up.push(gone, Up::Eof);
    }

    fn reconnect(&mut self) {
        let at = self.rng.index(self.programs.len());
        if self.programs[at].is_live() {
            self.programs[at].client.reconnect_now(self.now);
        }
    }

    /// The application says much at once.
    fn burst(&mut self) {
        let by = self.server.process;
        let count = self.rng.below(40);
        if let Some(live) = &mut self.server.live {
            for _ in 0..count {
                if live.send(&self.scenario, &mut self.ledger, by, &mut self.rng, self.now).is_err()
                {
                    break;
                }
            }
        }
        let at = self.rng.index(self.programs.len());
        if self.programs[at].is_live() {
            self.programs[at].send(self.scenario.steps % 20, &self.scenario);
        }
    }

    /// The newest program is gone, and another begins.
    fn restart_program(&mut self) {
        if self.programs.len() >= 6 {
            return;
        }
        let last = self.programs.len() - 1;
        self.end_program(last);
        let program = Program::new(last + 1, None, &self.scenario, &mut self.rng, self.now);
        self.programs.push(program);
        if let Some(live) = &mut self.server.live {
            live.handled.grow(last + 2);
        }
    }

    pub(crate) fn end_program(&mut self, at: usize) {
        self.programs[at].dead = true;
        let gone = self.late();
        for link in &mut self.links {
            if link.program.is_some_and(|(of, _)| of == at) {
                link.leave(gone, false);
            }
        }
    }

    fn disturb_store(&mut self) {
        if self.rng.percent(70) {
            self.end_process();
        } else if self.server.drain.is_none() && self.server.leaving.is_none() {
            self.server.leave();
            self.tell(|| "the session leaves memory, if nobody is there".to_owned());
        }
    }

    fn copy_store(&mut self) {
        let programs = &self.programs;
        self.server.copy(|message| Program::find(programs, message));
    }

    /// An operator puts the store back to what it was.
    fn put_copy_back(&mut self) {
        if self.server.starts.is_none() {
            let told = self.rng.percent(70);
            self.kill(told);
            let programs = &self.programs;
            self.server.go_back(|message| Program::find(programs, message));
            self.tell(|| "an older copy of the store is put back".to_owned());
        }
    }

    fn end_process(&mut self) {
        if self.server.starts.is_some() || self.server.live.is_none() {
            return;
        }
        if self.server.drain.is_none() && self.scenario.kind.has_store() && self.rng.percent(50) {
            let deadline = self.now + self.rng.millis(0..8000);
            self.server.drain = Some(Drain::Freezing(deadline));
            if let Some(live) = &mut self.server.live {
                live.machine.freeze_at_boundary();
                live.touch();
            }
            self.tell(|| "the server drains".to_owned());
        } else {
            let told = self.rng.percent(70);
            self.kill(told);
        }
    }

    /// A client of the same user comes that knows more or less than it should.
    fn stranger(&mut self) {
        let who = self.rng.below(6);
        let text = format!("stranger{who:012}");
        let client = ClientId::parse(&text).expect("an id");
        let real = self.server.live.as_ref().map(|live| {
            (live.id, live.machine.epoch().token(), live.machine.head().get(), live.base())
        });
        let other = WireId::parse("other").expect("a token");
        let (id, epoch, head, base) = real.unwrap_or((other, other, 0, 0));
        // Of this session and of none.
        let life = format!("{}-0000000000000009", &epoch.as_str()[..epoch.as_str().len().min(16)]);
        let past = WireId::parse(&life).expect("a token");
        let (session, epoch, received) = match self.rng.below(8) {
            0 => (id, epoch, 0),
            1 => (id, epoch, head),
            2 => (id, epoch, base),
            3 => (id, epoch, head + 1 + self.rng.below(3)),
            4 => (id, epoch, u64::MAX),
            5 => (id, past, self.rng.below(50)),
            6 => (other, epoch, self.rng.below(50)),
            _ => (id, epoch, self.rng.below(head + 1)),
        };
        let cursor = Cursor { session, epoch, received: Position::new(received) };
        let attachment = self.rng.percent(30).then(|| AttachmentNumber::new(self.rng.below(20)));
        let offer = match self.rng.below(5) {
            0 => Offer::Fresh { client },
            _ => Offer::Resume { client, cursor, attachment },
        };
        self.connect(None, ClientName::named(EVERYBODY, client), STRANGER, offer);
        // At most as many strangers as are remembered send data. If one more did and never read, while
        // the handler waits for room, the session would refuse every client until it expires.
        let last = if who < 4 { "data" } else { "\u{1}x" };
        let says = ["\u{1}{\"ack\":0}", "\u{1}{\"ack\":99999}", "\u{1}x", "\u{1}{", last];
        let count = self.rng.index(4);
        for _ in 0..count {
            let at = self.late();
            let text = says[self.rng.index(says.len())];
            let link = self.links.last_mut().expect("just made");
            link.up.push(at, Up::Frame(Incoming::Text(text.into())));
        }
        let gone = self.late();
        let link = self.links.last_mut().expect("just made");
        link.up.push(gone, Up::Eof);
    }

    fn any_link(&mut self) -> Option<usize> {
        if self.links.is_empty() { None } else { Some(self.rng.index(self.links.len())) }
    }

    /// From now on nothing goes wrong any more. A program that another one would keep out is ended.
    pub(crate) fn calm_down(&mut self) {
        use session_resume_proto::session::Attach;

        self.tell(|| "calm".to_owned());
        self.trouble = None;
        for link in &mut self.links {
            link.up.hurry(self.now);
            link.down.hurry(self.now);
            if let Some(tunnel) = &mut link.tunnel {
                tunnel.calm_down();
            }
        }
        if self.scenario.rules.attach != Attach::Share {
            let live: Vec<_> = (0..self.programs.len())
                .filter(|&at| self.programs[at].is_live() && !self.programs[at].watches)
                .collect();
            for &at in live.iter().skip(1) {
                self.end_program(at);
            }
        }
    }
}
