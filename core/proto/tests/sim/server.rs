//! The server's process: the session machine, its handler, its saver, and the disk that outlives it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use session_resume_proto::{
    Message, Moment, Position, WireId,
    session::{
        Claim, Covered, Epoch, Event, FinalCounts, MESSAGE_OVERHEAD, Newcomers, NotSent, Phase,
        Retain, Session, Snapshot, Terms,
    },
    wire::Close,
};

use crate::{
    ledger::{self, Handled, Kind, Ledger, Said},
    link::STRANGER,
    rng::Rng,
    scenario::Scenario,
};

/// A session in memory.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) machine: Session<u32>,
    pub(crate) id: WireId,
    pub(crate) stream: usize,
    /// The typed state.
    pub(crate) handled: Handled,
    pub(crate) handler: Handler,
    wakes_handler: bool,
    wakes_room: bool,
    wakes_transports: bool,
    dirty: bool,
    save_at: Moment,
    /// What the last boundary has left for the saver: output waits for it, and the next message is in hand.
    ready: Option<(Stored, Covered)>,
    /// The message in hand: whose, and which.
    in_hand: Option<(usize, u64)>,
    /// When the record names it, because it is at work for long.
    mark_at: Option<Moment>,
    /// What the record names, until another one does not.
    named: Option<(usize, u64)>,
    /// Whether a drain has taken back what the record says of the message in hand.
    pardon: Pardon,
    /// What the record named when this process began.
    suspects: Vec<(ledger::Digest, u32)>,
    /// It has taken the message that kills.
    pub(crate) dies: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handler {
    Waiting,
    /// It works on a message until this moment, and then sends this many replies.
    Working(Moment, u64),
    /// A send waits for room.
    Blocked(u64),
    /// `commit()` waits.
    Committing(u64),
}

/// How far a drain is with a message that it cuts off and the record names. That the process ends with it does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pardon {
    None,
    /// The drain is at its deadline. The record is amended once, if that is still possible.
    Due,
    /// The record does not count this death for the message in hand.
    Recorded,
}

/// What a put brings to the disk.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    id: WireId,
    snapshot: Snapshot,
    handled: Handled,
    stream: usize,
    said: Vec<Said>,
    clean: bool,
}

impl Stored {
    /// The messages that have killed the process, and how often each has. They go by digest: after a store was put
    /// back, another message may have the same number.
    fn suspects(&self) -> Vec<(ledger::Digest, u32)> {
        let snapshot = serde_json::to_value(&self.snapshot).expect("a snapshot is JSON");
        let clients = snapshot["clients"].as_array().expect("a list");
        let suspects = clients.iter().map(|client| &client["suspect"]).filter(|it| !it.is_null());
        let suspects = suspects.map(|suspect| {
            let digest = serde_json::from_value(suspect["digest"].clone()).expect("16 bytes");
            let deaths = serde_json::from_value(suspect["deaths"].clone()).expect("a number");
            (digest, deaths)
        });
        suspects.collect()
    }
}

#[derive(Debug)]
struct Put {
    done: Moment,
    stored: Stored,
    brings: Brings,
}

#[derive(Debug)]
enum Brings {
    /// All of a boundary.
    Boundary(Covered),
    /// The last boundary again, with clients that have come since.
    Newcomers(Newcomers),
    /// The last boundary again, with the name of the message in hand.
    Name((usize, u64)),
    /// The last boundary again, without this death for the message in hand.
    Pardon,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Drain {
    /// Until the deadline.
    Freezing(Moment),
    /// The process ends then.
    Leaving(Moment),
}

/// How far a session is on its way out of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leaving {
    /// Until it is on disk, and says that nothing follows.
    Freezing,
    /// That put has failed, and may be on disk all the same: it is silent until one without the mark is there.
    Unmarking,
}

#[derive(Debug, Default)]
pub(crate) struct Server {
    /// Which process this is.
    pub(crate) process: u32,
    /// When the next process starts; `None`: one is there.
    pub(crate) starts: Option<Moment>,
    pub(crate) live: Option<Live>,
    disk: Option<Stored>,
    put: Option<Put>,
    pub(crate) drain: Option<Drain>,
    pub(crate) leaving: Option<Leaving>,
    /// An older copy of the disk.
    copy: Option<Stored>,
    /// The older copy was put back.
    went_back: bool,
    /// Sessions that have ended.
    pub(crate) ended: Vec<(WireId, FinalCounts)>,
    sessions: u64,
    /// What sessions that are gone have handled: that never comes again, either.
    past: Handled,
    /// How often the process has died with a message in hand, or handled and not on disk.
    pub(crate) deaths: BTreeMap<(usize, u64), u32>,
}

impl Server {
    /// Brings the session that requests find, and whether it had to be made or rebuilt.
    pub(crate) fn session(
        &mut self,
        scenario: &Scenario,
        ledger: &mut Ledger,
        programs: usize,
        name: impl Fn(session_resume_proto::session::ClientName) -> u32,
        rng: &mut Rng,
        now: Moment,
    ) -> session_resume_proto::session::SessionOrigin {
        use session_resume_proto::session::SessionOrigin;
        if self.live.is_some() {
            return SessionOrigin::Reused;
        }
        let rules = Arc::clone(&scenario.rules);
        let exact = rules.durable_outbox;
        let (machine, id, handled, origin) = if let Some(stored) = &mut self.disk {
            let clean = std::mem::replace(&mut stored.clean, false);
            let snapshot = stored.snapshot.clone();
            let (life, age) = (rng.draw(), std::time::Duration::ZERO);
            let mut machine = Session::restore(rules, snapshot, clean, life, age, now, name);
            let whole = clean || exact;
            let said = std::mem::take(&mut stored.said);
            let end = if whole { said.len() as u64 } else { 0 };
            assert_eq!(machine.head().get(), end, "what was committed is there");
            let before = stored.stream;
            stored.stream = ledger.stream(stored.id, machine.epoch().token());
            let (base, let_go) =
                (ledger.streams[before].base, ledger.streams[before].let_go.clone());
            let stream = &mut ledger.streams[stored.stream];
            if whole {
                stream.said = said;
                // A crash may bring messages back that are told to be gone.
                stream.base = base;
                stream.let_go = let_go;
            }
            if exact {
                stored.said.clone_from(&stream.said);
            }
            // Perhaps a request that only looks at the session brings it back.
            if rng.percent(50) {
                machine.expect_hello();
            }
            // The claim: no process speaks for an epoch before the epoch is on disk.
            let (snapshot, covered) = machine.snapshot(false);
            stored.snapshot = snapshot;
            machine.handle_committed(&covered, now);
            (machine, stored.id, stored.handled.clone(), SessionOrigin::Restored)
        } else {
            self.sessions += 1;
            let id = WireId::parse(&format!("s{}", self.sessions)).expect("a token");
            let random = rng.draw();
            let machine = Session::new(rules, Epoch::new(random, random), now);
            (machine, id, std::mem::take(&mut self.past), SessionOrigin::New)
        };
        let stream = ledger.stream(id, machine.epoch().token());
        let mut live = Live {
            machine,
            id,
            stream,
            handled,
            handler: Handler::Waiting,
            wakes_handler: true,
            wakes_room: false,
            wakes_transports: false,
            dirty: true,
            save_at: now,
            ready: None,
            in_hand: None,
            mark_at: None,
            named: None,
            pardon: Pardon::None,
            suspects: self.disk.as_ref().map(Stored::suspects).unwrap_or_default(),
            dies: false,
        };
        live.handled.grow(programs);
        live.machine.start_handler(now);
        if scenario.kind.has_store() && self.disk.is_none() {
            let (stored, _) = live.snapshot(ledger, false);
            self.disk = Some(stored);
        }
        self.live = Some(live);
        origin
    }

    /// The process is gone; a put under way may have reached the disk.
    pub(crate) fn die(
        &mut self,
        reached: bool,
        starts: Moment,
        find: impl Fn(&ledger::Digest) -> Option<(usize, u64)>,
    ) {
        if let Some(put) = self.put.take()
            && reached
        {
            if let (Brings::Pardon, Some(live)) = (put.brings, &mut self.live) {
                live.note_pardon();
            }
            self.disk = Some(put.stored);
        }
        if let Some(live) = &self.live {
            let in_hand = live.in_hand.filter(|_| live.machine.is_message_in_hand());
            let pardoned = in_hand.filter(|_| live.pardon == Pardon::Recorded);
            let held = in_hand.filter(|_| pardoned.is_none());
            // Handled, or about to be handed over, while the disk says that it is in hand.
            let named = live.named.filter(|_| held != live.named);
            // A message that the disk names since this process began: on trial, or its trial was called off by a drain and
            // the disk does not say so yet.
            let counted = self.disk.iter().flat_map(|disk| live.counts(disk));
            let suspects = counted.filter_map(|message| find(&message));
            let suspects = suspects.filter(|message| pardoned != Some(*message));
            let died_with: BTreeSet<_> = held.into_iter().chain(named).chain(suspects).collect();
            for message in died_with {
                *self.deaths.entry(message).or_default() += 1;
            }
        }
        if let Some(live) = self.live.take()
            && self.disk.is_none()
        {
            self.past = live.handled;
        }
        self.drain = None;
        self.leaving = None;
        self.process += 1;
        self.starts = Some(starts);
    }

    /// Copies the disk. A copy that is made while a message is in hand says that the process has died with it.
    pub(crate) fn copy(&mut self, find: impl Fn(&ledger::Digest) -> Option<(usize, u64)>) {
        self.copy.clone_from(&self.disk);
        for (message, deaths) in self.copy.iter().flat_map(Stored::suspects) {
            let message = find(&message).expect("a program's message");
            let known = self.deaths.get(&message).copied().unwrap_or(0);
            assert!(deaths <= known + 1, "{deaths} deaths with {message:?}, not {known}");
        }
    }

    /// The process is gone: the copy takes the disk's place, if there is one.
    pub(crate) fn go_back(&mut self, find: impl Fn(&ledger::Digest) -> Option<(usize, u64)>) {
        if let Some(copy) = self.copy.clone() {
            // The copy does not tell whether the process died with the message in hand.
            for (message, deaths) in copy.suspects() {
                let message = find(&message).expect("one of a program's messages");
                let known = self.deaths.entry(message).or_default();
                *known = deaths.max(*known);
            }
            self.disk = Some(copy);
            self.went_back = true;
        }
    }

    pub(crate) fn has_gone_back(&self) -> bool {
        self.went_back
    }

    /// The session is not in use: it leaves memory for the disk.
    pub(crate) fn leave(&mut self) {
        if let Some(live) = self.live.as_mut().filter(|live| {
            let machine = &live.machine;
            machine.phase() == Phase::Suspended
                && machine.ended().is_none()
                && !machine.is_message_in_hand()
        }) {
            live.machine.freeze_at_boundary();
            live.dirty = true;
            self.leaving = Some(Leaving::Freezing);
        }
    }

    /// Forgets a session that has ended and has no sockets any more.
    pub(crate) fn bury(&mut self) {
        let over = |live: &Live| live.machine.ended().is_some() && !live.machine.has_sockets();
        if self.live.as_ref().is_some_and(over)
            && let Some(live) = self.live.take()
        {
            self.ended.push((live.id, live.machine.final_counts()));
            self.past = live.handled;
        }
    }

    pub(crate) fn due(&self) -> impl Iterator<Item = Moment> {
        let live = self.live.as_ref();
        let works = live.and_then(|live| match live.handler {
            Handler::Working(until, _) => Some(until),
            Handler::Waiting | Handler::Blocked(_) | Handler::Committing(_) => None,
        });
        let save = live.filter(|live| self.saves(live)).map(|live| live.save_at);
        let mark = live
            .filter(|_| self.put.is_none() && self.disk.is_some())
            .and_then(|live| live.mark_at);
        let drain = self.drain.map(|(Drain::Freezing(at) | Drain::Leaving(at))| at);
        [works, save, mark, self.put.as_ref().map(|put| put.done), self.starts, drain]
            .into_iter()
            .flatten()
    }

    fn saves(&self, live: &Live) -> bool {
        let in_hand = live.machine.is_message_in_hand();
        let newcomers = || live.machine.newcomers().is_some();
        let saves = if in_hand { live.ready.is_some() || newcomers() } else { live.dirty };
        saves && self.put.is_none() && self.disk.is_some()
    }

    /// Starts and finishes puts.
    #[expect(clippy::too_many_lines, reason = "one put, from its end to the start of the next")]
    pub(crate) fn save(
        &mut self,
        scenario: &Scenario,
        ledger: &Ledger,
        fails: bool,
        rng: &mut Rng,
        now: Moment,
    ) {
        if self.put.as_ref().is_some_and(|put| put.done <= now)
            && let (Some(put), Some(live)) = (self.put.take(), &mut self.live)
        {
            live.save_at = now + rng.millis(0..60);
            if fails {
                live.dirty = true;
                if put.stored.clean && self.leaving.is_some() {
                    self.leaving = Some(Leaving::Unmarking);
                }
                // It may have reached the disk all the same.
                if rng.percent(50) {
                    match &put.brings {
                        Brings::Name(message) => live.named = Some(*message),
                        Brings::Pardon => live.note_pardon(),
                        Brings::Boundary(_) | Brings::Newcomers(_) => {}
                    }
                    self.disk = Some(put.stored.clone());
                }
                // The next boundary may wait for this one: it is put again.
                if let (Brings::Boundary(covered), true) =
                    (put.brings, live.machine.is_message_in_hand())
                {
                    live.ready.get_or_insert((put.stored, covered));
                }
            } else {
                match &put.brings {
                    Brings::Boundary(covered) => live.machine.handle_committed(covered, now),
                    Brings::Newcomers(newcomers) => live.machine.handle_admitted(newcomers),
                    Brings::Name(_) | Brings::Pardon => {}
                }
                match &put.brings {
                    Brings::Boundary(_) => live.named = None,
                    Brings::Name(message) => live.named = Some(*message),
                    Brings::Pardon => live.note_pardon(),
                    Brings::Newcomers(_) => {}
                }
                let clean = put.stored.clean;
                let boundary = matches!(put.brings, Brings::Boundary(_));
                self.disk = Some(put.stored);
                match self.leaving {
                    Some(Leaving::Freezing) if clean => {
                        self.leaving = None;
                        self.live = None;
                        return;
                    }
                    Some(Leaving::Unmarking) if !clean && boundary => {
                        self.leaving = None;
                        if self.drain.is_none() {
                            live.machine.thaw(now);
                        }
                    }
                    Some(Leaving::Freezing) => live.dirty = true,
                    Some(Leaving::Unmarking) | None => {}
                }
                // The last put of a drain comes after everything has stopped.
                live.dirty |= matches!(self.drain, Some(Drain::Freezing(_))) && !clean;
                if let (Handler::Committing(replies), Brings::Boundary(_)) =
                    (live.handler, &put.brings)
                {
                    live.handler = Handler::Working(now, replies);
                }
                if clean {
                    live.machine.freeze();
                    live.machine.close_transports(
                        &Close::RESTARTING,
                        || Some(rng.millis(0..2000)),
                        now,
                    );
                    self.drain = Some(Drain::Leaving(now + rng.millis(0..3000)));
                }
            }
        }
        if self.put.is_none()
            && let (Some(disk), Some(live)) = (&self.disk, &mut self.live)
            && live.mark_at.is_some_and(|at| at <= now)
        {
            live.mark_at = None;
            if let (Some(in_hand), Some(message)) = (live.machine.in_hand(), live.in_hand) {
                let mut stored = disk.clone();
                stored.snapshot.accuse(&in_hand);
                let done = now + rng.millis(0..scenario.store_takes);
                self.put = Some(Put { done, stored, brings: Brings::Name(message) });
            }
        }
        if self.put.is_none()
            && let (Some(disk), Some(live)) = (&self.disk, &mut self.live)
            && live.pardon == Pardon::Due
        {
            live.pardon = Pardon::None;
            live.mark_at = None;
            let is_named = live.named == live.in_hand || live.machine.is_on_trial();
            if let (true, Some(in_hand), Some((program, k))) =
                (is_named, live.machine.cut_in_hand(), live.in_hand)
            {
                let mut stored = disk.clone();
                stored.snapshot.acquit(&in_hand);
                let told_apart = scenario.excuses.told_apart();
                let message = ledger::digest(&ledger::from_client(program, k, told_apart));
                assert!(!live.counts(&stored).any(|it| it == message), "{k} is not acquitted");
                let done = now + rng.millis(0..scenario.store_takes);
                self.put = Some(Put { done, stored, brings: Brings::Pardon });
            }
        }
        let Some(live) = self.live.as_ref().filter(|live| self.saves(live) && live.save_at <= now)
        else {
            return;
        };
        let done = now + rng.millis(0..scenario.store_takes);
        if live.machine.is_message_in_hand() {
            let ready = self.live.as_mut().and_then(|live| live.ready.take());
            if let Some((stored, covered)) = ready {
                self.put = Some(Put { done, stored, brings: Brings::Boundary(covered) });
                return;
            }
            let Some(live) = &self.live else {
                return;
            };
            if let (Some(disk), Some(newcomers)) = (&self.disk, live.machine.newcomers()) {
                let mut stored = disk.clone();
                stored.snapshot.admit(&newcomers);
                self.put = Some(Put { done, stored, brings: Brings::Newcomers(newcomers) });
            }
            return;
        }
        let drains = matches!(self.drain, Some(Drain::Freezing(_)));
        let stops = drains || self.leaving == Some(Leaving::Freezing);
        let clean = stops && live.machine.is_frozen();
        let (stored, covered) = live.snapshot(ledger, clean);
        self.put = Some(Put { done, stored, brings: Brings::Boundary(covered) });
        if let Some(live) = &mut self.live {
            live.dirty = false;
            live.ready = None;
        }
    }

    /// The drain is at its deadline: what is in hand is cut off.
    pub(crate) fn cut_off(&mut self, now: Moment) {
        if let Some(live) = &mut self.live {
            live.machine.freeze();
            live.machine.close_transports(&Close::RESTARTING, || None, now);
            live.pardon = Pardon::Due;
        }
    }

    /// What was handled in the end.
    pub(crate) fn handled(&self, programs: usize) -> Handled {
        let mut handled = self.live.as_ref().map_or(&self.past, |live| &live.handled).clone();
        handled.grow(programs);
        handled
    }

    pub(crate) fn is_saved(&self) -> bool {
        self.disk.is_none()
            || (self.put.is_none() && self.live.as_ref().is_none_or(|live| !live.dirty))
    }
}

impl Live {
    fn snapshot(&self, ledger: &Ledger, clean: bool) -> (Stored, Covered) {
        let (snapshot, covered) = self.machine.snapshot(clean);
        let stored = Stored {
            id: self.id,
            snapshot,
            handled: self.handled.clone(),
            stream: self.stream,
            said: ledger.streams[self.stream].said.clone(),
            clean,
        };
        // What was tried and handled, or called off, counts as often as when the process began.
        let counts = !self.machine.is_on_trial() && self.counts(&stored).next().is_some();
        assert!(!counts, "no message is on trial, and the record counts a death");
        (stored, covered)
    }

    /// The messages that a record names, and counts a death in this process for.
    fn counts(&self, stored: &Stored) -> impl Iterator<Item = ledger::Digest> {
        stored.suspects().into_iter().filter_map(|(message, deaths)| {
            let before = self.suspects.iter().find(|(before, _)| *before == message);
            before.is_none_or(|(_, before)| deaths > *before).then_some(message)
        })
    }

    /// The record on the disk has taken this death back.
    fn note_pardon(&mut self) {
        self.pardon = Pardon::Recorded;
        self.named = None;
    }

    fn take_wake(&mut self) {
        let mut wake = self.machine.take_wake();
        if wake.trial {
            // No other session is suspect.
            self.machine.grant_turn();
            wake.save |= self.machine.take_wake().save;
        }
        self.dirty |= wake.save;
        self.wakes_handler |= wake.handler;
        self.wakes_room |= wake.room;
        self.wakes_transports |= wake.transports;
    }

    /// Whether the pumps have been woken.
    pub(crate) fn wakes_transports(&mut self) -> bool {
        self.take_wake();
        std::mem::take(&mut self.wakes_transports)
    }

    pub(crate) fn touch(&mut self) {
        self.dirty = true;
    }

    /// The oldest position that is there.
    pub(crate) fn base(&self) -> u64 {
        self.machine.head().get() - self.machine.outbox_messages() as u64
    }

    /// Checks what is kept of messages that no client needs: it is within its bounds, it is what was sent, and from
    /// where on nothing is missing, nothing is.
    pub(crate) fn check_history(&self, scenario: &Scenario, ledger: &Ledger) {
        let (machine, retention) = (&self.machine, &scenario.rules.retention);
        let (messages, bytes) = (machine.history_messages(), machine.history_bytes());
        assert!(messages <= retention.messages && bytes <= retention.bytes, "over its bounds");
        assert!(messages == 0 || retention.retain != Retain::Nothing, "nothing is retained");
        let mut kept = 0;
        for at in machine.kept_from().get()..machine.needed_from().get() {
            let said = ledger.streams[self.stream].said[usize::try_from(at).expect("in memory")];
            match machine.kept(Position::new(at)) {
                Some(message) => {
                    assert_eq!(message, ledger.message(self.stream, at), "at {at}");
                    assert!(matches!(said.kind, Kind::All | Kind::Latest(_)), "{at} is {said:?}");
                    kept += 1;
                }
                None => assert_ne!(said.kind, Kind::All, "{at} is missing"),
            }
        }
        assert_eq!(kept, messages, "all of it is there");
    }

    /// Whether a client that offers this cursor must be told no gap although it may not have been kept for: all that it has
    /// missed is there, and fits into the outbox.
    pub(crate) fn is_whole(&self, scenario: &Scenario, claim: &Claim) -> bool {
        let (machine, bounds) = (&self.machine, &scenario.rules.bounds);
        let Claim::Cursor { epoch, received, .. } = claim else {
            return false;
        };
        let there = *epoch == machine.epoch().token() && *received >= machine.kept_from();
        // Messages that were for it alone may be missing.
        if scenario.skips || !there {
            return false;
        }
        let missed = received.get()..machine.needed_from().get();
        let missed = missed.filter_map(|at| machine.kept(Position::new(at)));
        let costs: Vec<_> = missed.map(|message| message.len() + MESSAGE_OVERHEAD).collect();
        machine.outbox_messages() + costs.len() <= bounds.outbox_messages
            && machine.outbox_bytes() + costs.iter().sum::<usize>() <= bounds.outbox_bytes
    }

    /// Sends a message of the application, perhaps one that is not for all or not for ever; `by` is the number of the
    /// process.
    pub(crate) fn send(
        &mut self,
        scenario: &Scenario,
        ledger: &mut Ledger,
        by: u32,
        rng: &mut Rng,
        now: Moment,
    ) -> Result<(), NotSent> {
        let position = ledger.head(self.stream);
        assert_eq!(position, self.machine.head().get());
        let (kind, terms) = self.draw_terms(scenario, rng, now);
        let message: Message = ledger::from_server(self.stream, position, by, kind);
        let sent = if scenario.checkpoints && terms.is_ordinary() && rng.percent(10) {
            self.machine.send_checkpoint(message, now)
        } else {
            self.machine.send_on(message, terms, now)
        };
        self.note_let_go(ledger);
        sent.map_err(|unsent| unsent.why)?;
        if scenario.checkpoints && rng.percent(3) {
            self.machine.clear_checkpoint();
        }
        ledger.streams[self.stream].said.push(Said { stream: self.stream, by, kind });
        self.dirty = true;
        Ok(())
    }

    /// Notes for which programs the outbox is not kept: what is for one of these alone leaves.
    pub(crate) fn note_let_go(&self, ledger: &mut Ledger) {
        let head = ledger.head(self.stream);
        for program in 0..u32::try_from(self.handled.next.len()).expect("few") {
            let mut own = self.machine.clients().filter(|who| who.info == program);
            if !own.any(|who| self.machine.addressee(who.name, |_| false).is_some()) {
                ledger.streams[self.stream].let_go.insert(program, head);
            }
        }
    }

    fn draw_terms(&self, scenario: &Scenario, rng: &mut Rng, now: Moment) -> (Kind, Terms) {
        let mut terms = Terms::default();
        if !scenario.skips {
            return (Kind::All, terms);
        }
        let kind = match rng.below(10) {
            0 | 1 => {
                let named = self.machine.clients().filter(|who| who.info != STRANGER);
                let named: Vec<_> = named.filter(|who| !who.name.is_plain()).collect();
                if !named.is_empty() {
                    let who = named[rng.index(named.len())];
                    terms.to = self.machine.addressee(who.name, |_| false);
                    if terms.to.is_some() {
                        return (Kind::Only(who.info), terms);
                    }
                }
                Kind::All
            }
            2 | 3 => {
                let slot = u8::try_from(rng.below(2)).expect("small");
                terms.slot = Some(slot.to_string().into());
                Kind::Latest(slot)
            }
            4 => {
                let until = now + rng.millis(0..20_000);
                terms.until = Some(until);
                Kind::Until(until)
            }
            _ => Kind::All,
        };
        (kind, terms)
    }

    /// The handler is at work, and takes an urgent message. Returns whether there is one.
    fn take_urgent(&mut self, scenario: &Scenario, now: Moment) -> bool {
        if self.machine.has_only_urgent_in_hand() {
            self.machine.hand_back();
        }
        while let Some(message) = self.machine.look_ahead() {
            // Which one of a poisonous pair kills is said where messages come in their turn.
            let is_poison = || scenario.poison == Some(ledger::number(&message));
            if !ledger::is_urgent(&message) || is_poison() {
                continue;
            }
            let Some(Event::Message { message, from }) = self.machine.take_looked_at(now) else {
                return false;
            };
            self.dirty = true;
            let from = usize::try_from(from.info).expect("small");
            if from < self.handled.next.len() {
                self.handled.take_early(from, &message, &scenario.excuses);
            }
            return true;
        }
        false
    }

    /// The handler goes on as far as it can; returns how many steps that were.
    pub(crate) fn handle(
        &mut self,
        scenario: &Scenario,
        ledger: &mut Ledger,
        by: u32,
        rng: &mut Rng,
        now: Moment,
    ) -> u64 {
        let mut steps = 0;
        loop {
            self.take_wake();
            match self.handler {
                Handler::Waiting => {
                    if !std::mem::take(&mut self.wakes_handler) {
                        return steps;
                    }
                    self.machine.hand_back();
                    if self.machine.has_uncommitted_output() && !self.machine.is_frozen() {
                        self.ready = Some(self.snapshot(ledger, false));
                    }
                    let event = self.machine.poll_receive(now);
                    self.mark_at = None;
                    let Some(event) = event else {
                        self.take_wake();
                        return steps;
                    };
                    steps += 1;
                    self.wakes_handler = true;
                    self.dirty = true;
                    if let Event::Message { message, from } = event {
                        let from = usize::try_from(from.info).expect("small");
                        if from < self.handled.next.len() {
                            self.handled.take(from, &message, &scenario.excuses);
                        }
                        if scenario.excuses.drops {
                            let k = ledger::number(&message);
                            self.in_hand = Some((from, k));
                            self.mark_at = Some(now + Duration::from_millis(50));
                            self.dies = from == 0 && scenario.poison == Some(k);
                            if self.dies {
                                return steps;
                            }
                        }
                        let works = if rng.percent(80) { 0..1 } else { 0..2000 };
                        let replies = if rng.percent(60) { 1 } else { rng.below(4) };
                        self.handler = Handler::Working(now + rng.millis(works), replies);
                    }
                }
                Handler::Working(until, _) if until > now => {
                    if rng.percent(50) && self.take_urgent(scenario, now) {
                        steps += 1;
                    }
                    return steps;
                }
                Handler::Working(_, 0) => {
                    self.handler = Handler::Waiting;
                    self.wakes_handler = true;
                }
                Handler::Working(_, replies) => {
                    steps += 1;
                    self.handler = match self.send(scenario, ledger, by, rng, now) {
                        Ok(()) | Err(NotSent::Gone) => Handler::Working(now, replies - 1),
                        Err(NotSent::Full) => {
                            self.machine.send_waits(now);
                            self.wakes_room = false;
                            Handler::Blocked(replies)
                        }
                        Err(NotSent::Uncommitted) => {
                            self.machine.hand_back();
                            self.dirty = true;
                            Handler::Committing(replies)
                        }
                        Err(NotSent::Ended) => Handler::Working(now, 0),
                        Err(NotSent::TooLarge(_)) => panic!("the messages are small"),
                    };
                }
                Handler::Blocked(replies) => {
                    if !std::mem::take(&mut self.wakes_room) {
                        return steps;
                    }
                    self.machine.send_goes_on();
                    self.handler = Handler::Working(now, replies);
                }
                Handler::Committing(_) => return steps,
            }
        }
    }
}
