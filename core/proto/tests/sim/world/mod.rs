//! The whole: programs, links, a server, and what goes wrong.

mod arrivals;
mod clients;
mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use session_resume_proto::{
    Moment,
    session::{ClientName, IdentityTag},
    wire::OutcomeStatus,
};

use crate::{
    ledger::Ledger,
    link::{Link, ServerEnd},
    program::Program,
    rng::Rng,
    scenario::{Kind, Scenario},
    server::{Handler, Live, Server},
};

/// Frames that a connection holds before its writer has to wait.
const PIPE: usize = 24;
/// How long the server waits for the answer to its close.
const LINGER: Duration = Duration::from_secs(5);
/// How long the calm may take: many heartbeats, and the longest waits between them.
const CALM: u64 = 1_800_000;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) rng: Rng,
    pub(crate) now: Moment,
    pub(crate) server: Server,
    pub(crate) programs: Vec<Program>,
    pub(crate) links: Vec<Link>,
    pub(crate) ledger: Ledger,
    names: BTreeMap<ClientName, u32>,
    /// The identities in whose place the server has put others.
    pub(crate) moved: BTreeSet<IdentityTag>,
    last_link: u64,
    /// When something goes wrong next; `None`: the network is calm.
    pub(crate) trouble: Option<Moment>,
    pub(crate) steps: u64,
    /// The server says that it answers pings.
    answers_pings: bool,
    tells: bool,
}

impl World {
    pub(crate) fn new(kind: Kind, seed: u64, tells: bool) -> Self {
        let mut rng = Rng::new(seed);
        let scenario = Scenario::new(kind, &mut rng);
        if tells {
            eprintln!("{scenario:#?}");
        }
        // Each fifth history has an older server, which does not.
        let answers_pings = !seed.is_multiple_of(5);
        let now = Moment::from_millis(1_000_000);
        let mut programs: Vec<Program> = Vec::new();
        for n in 0..scenario.programs {
            let twin = programs.first().filter(|_| n == 1 && scenario.two_identities);
            programs.push(Program::new(n, twin, &scenario, &mut rng, now));
        }
        if let [first, second, ..] = &mut programs[..] {
            first.has_twin = second.has_twin;
        }
        if scenario.watched {
            let mut watcher = Program::new(programs.len(), None, &scenario, &mut rng, now);
            watcher.watches = true;
            programs.push(watcher);
        }
        Self {
            scenario,
            rng,
            now,
            server: Server::default(),
            programs,
            links: Vec::new(),
            ledger: Ledger::default(),
            names: BTreeMap::new(),
            moved: BTreeSet::new(),
            last_link: 0,
            trouble: Some(now),
            steps: 0,
            answers_pings,
            tells,
        }
    }

    /// What is known of an identity's clients goes along with it.
    pub(crate) fn rename(&mut self, old: IdentityTag, new: IdentityTag) {
        let known: Vec<_> = self.names.iter().filter(|(name, _)| name.identity == old).collect();
        let new =
            known.into_iter().map(|(name, who)| (ClientName { identity: new, ..*name }, *who));
        let new: Vec<_> = new.collect();
        self.names.extend(new);
    }

    /// Lives one history to its end and checks it; returns how many steps it took.
    pub(crate) fn live(mut self) -> u64 {
        while self.steps < self.scenario.steps {
            self.step();
            if self.is_given_up() {
                return self.steps;
            }
        }
        self.calm_down();
        let end = Moment::from_micros(self.now.as_micros() + CALM * 1000);
        while !self.is_settled() {
            self.step();
            if self.is_given_up() {
                return self.steps;
            }
            assert!(self.now < end, "not settled after half an hour of calm: {self:#?}");
        }
        self.check_all();
        self.steps
    }

    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            eprintln!("{:?} {}", self.now, what());
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        self.settle();
        let due = self.due().expect("somebody always has a timer");
        self.now = self.now.max(due);
        self.fire();
    }

    /// Does all that can be done without time passing.
    fn settle(&mut self) {
        loop {
            let before = self.steps;
            for at in 0..self.programs.len() {
                self.act(at);
            }
            let by = self.server.process;
            if let Some(live) = &mut self.server.live {
                self.steps +=
                    live.handle(&self.scenario, &mut self.ledger, by, &mut self.rng, self.now);
            }
            if self.server.live.as_ref().is_some_and(|live| live.dies) {
                let told = self.rng.percent(70);
                self.kill(told);
            }
            let fails = self.trouble.is_some() && self.rng.percent(self.scenario.store_fails);
            self.server.save(&self.scenario, &self.ledger, fails, &mut self.rng, self.now);
            self.tunnel();
            self.pump();
            if let Some(live) = &self.server.live {
                let base = &mut self.ledger.streams[live.stream].base;
                *base = live.base().max(*base);
                live.check_history(&self.scenario, &self.ledger);
            }
            self.server.bury();
            if self.steps == before {
                break;
            }
        }
        self.links.retain(|link| !link.is_over());
        self.note_who_is_away();
    }

    /// Notes whose outbox is not kept when that is full: of a run that is away for a heartbeat while the socket of
    /// an older one is open, and of one that is away while a run is attached that the server has seen first later.
    pub(super) fn note_who_is_away(&mut self) {
        if self.scenario.kind != Kind::ClientRestarts {
            return;
        }
        let is_attached = |link: &Link| {
            let live = self.server.live.as_ref();
            link.turn().is_some_and(|at| live.is_some_and(|live| !live.machine.is_turn_over(at)))
        };
        let attached: Vec<usize> =
            self.links.iter().filter(|link| is_attached(link)).map(|l| l.info as usize).collect();
        for &at in &attached {
            if self.programs[at].first == 0 {
                self.programs[at].first =
                    1 + self.programs.iter().map(|p| p.first).max().unwrap_or(0);
            }
        }
        let base = self.server.live.as_ref().map_or(0, Live::base);
        let latest = attached.iter().map(|&at| self.programs[at].first).max().unwrap_or(0);
        for (at, program) in self.programs.iter_mut().enumerate() {
            if attached.contains(&at) {
                program.away_since = None;
                if std::mem::take(&mut program.may_miss) {
                    program.excused = base;
                }
                continue;
            }
            let since = *program.away_since.get_or_insert(self.now);
            let is_long = since + self.scenario.rules.heartbeat <= self.now;
            program.may_miss |= is_long && attached.iter().any(|&other| other < at);
            program.may_miss |= program.first > 0 && latest > program.first;
        }
    }

    fn due(&self) -> Option<Moment> {
        let links = self.links.iter().flat_map(|link| {
            let reads = link.stuck.is_none() && !matches!(link.server_end, ServerEnd::Gone);
            let timer = link
                .turn()
                .and_then(|number| {
                    self.server.live.as_ref()?.machine.poll_transport_timeout(number)
                })
                .map(|at| at.max(link.timer_from));
            let tunnel = link.tunnel.as_ref().and_then(|tunnel| tunnel.due());
            let (up, down) = (link.up.due(), link.down.due());
            [up.filter(|_| reads), down.filter(|_| link.client_end), timer, tunnel]
        });
        let programs = self.programs.iter().filter(|program| !program.dead).flat_map(|program| {
            [program.client.poll_timeout(), Some(program.acts), program.returns]
        });
        let due = links.chain(programs).chain([self.trouble]).flatten().chain(self.server.due());
        due.min()
    }

    fn fire(&mut self) {
        for at in 0..self.links.len() {
            self.deliver_up(at);
        }
        for at in 0..self.links.len() {
            self.deliver_down(at);
            self.time_out(at);
        }
        for at in 0..self.programs.len() {
            self.application(at);
        }
        self.process();
        if self.trouble.is_some_and(|at| at <= self.now) {
            self.trouble = Some(self.now + self.rng.millis(0..2 * self.scenario.peace));
            self.make_trouble();
        }
    }

    /// Two messages in a row have been dropped, which ends the session; the tables say what is told then.
    fn is_given_up(&self) -> bool {
        let failed = Some(OutcomeStatus::Failed);
        self.server.live.as_ref().is_some_and(|live| live.machine.ended() == failed)
    }

    fn is_settled(&self) -> bool {
        if self.programs.iter().any(|program| !program.dead && program.client.has_events()) {
            return false;
        }
        let Some(live) = &self.server.live else {
            return !self.programs.iter().any(Program::is_live);
        };
        let quiet = live.handler == Handler::Waiting
            && live.machine.inbox_messages() == 0
            && self.server.is_saved()
            && self.links.iter().all(|link| link.stuck.is_none());
        quiet
            && self.programs.iter().filter(|program| program.is_live()).all(|program| {
                program.client.unacknowledged() == 0
                    && !program.client.is_offline()
                    && program.place.is_some_and(|place| {
                        let who = u32::try_from(program.index).expect("small");
                        place.stream == live.stream && self.ledger.has_all(place, who, self.now)
                    })
            })
    }

    fn check_all(&self) {
        let handled = self.server.handled(self.programs.len());
        for program in &self.programs {
            let (next, skipped) = (handled.next[program.index], &handled.skipped[program.index]);
            assert!(next <= program.made);
            if let (0, Some(poison)) = (program.index, self.scenario.poison) {
                let deaths = self.server.deaths.get(&(0, poison)).copied().unwrap_or(0);
                assert!(deaths <= 8, "it kills on and on: {deaths}");
            }
            if program.dead {
                continue;
            }
            for &k in &program.dropped {
                let deaths = self.server.deaths.get(&(program.index, k)).copied().unwrap_or(0);
                assert!(deaths >= 3, "{k} was dropped after {deaths} deaths");
                assert!(k >= next || skipped.contains(&k), "{k} was dropped, and handled");
            }
            for k in 0..program.made {
                let arrived = k < next && !skipped.contains(&k);
                let told =
                    [&program.in_doubt, &program.untaken, &program.taken_back, &program.dropped]
                        .iter()
                        .any(|told| told.contains(&k));
                assert!(arrived || told, "{k} of {} is lost", program.index);
            }
        }
    }
}
