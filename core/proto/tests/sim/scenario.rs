//! What a seed is about.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use session_resume_proto::{
    GapReason,
    client::{Config, Limits},
    session::{Attach, Overflow, Pace, Retain, Retention, Rules},
};

use crate::rng::Rng;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// One program alone, no restart: nothing is excused.
    Alone,
    /// The program starts again, under a new id.
    ClientRestarts,
    Share,
    Takeover,
    Refuse,
    DropOldest,
    /// A full outbox ends the session.
    OverflowEnds,
    /// Others come and go, with cursors of every kind and frames of none.
    Strangers,
    /// The process dies and had no store.
    Forgetful,
    /// The process dies and drains: `Durability::State`.
    State,
    /// The same with `Durability::Exact`.
    Exact,
    /// One of both, and an older copy of the store is put back.
    Backup,
    /// `Strangers` and `State` at once: clients are pushed out, and the process dies.
    Crowd,
    /// Programs lose their cookies, and come back with their cursors under other identities.
    Cookies,
    /// The same, and the process dies and drains.
    StoredCookies,
}

impl Kind {
    pub(crate) const ALL: [Self; 15] = [
        Self::Alone,
        Self::ClientRestarts,
        Self::Share,
        Self::Takeover,
        Self::Refuse,
        Self::DropOldest,
        Self::OverflowEnds,
        Self::Strangers,
        Self::Forgetful,
        Self::State,
        Self::Exact,
        Self::Backup,
        Self::Crowd,
        Self::Cookies,
        Self::StoredCookies,
    ];

    pub(crate) fn has_store(self) -> bool {
        matches!(self, Self::State | Self::Exact | Self::Backup | Self::Crowd | Self::StoredCookies)
    }

    /// Whether strangers come, who push out clients that are gone.
    pub(crate) fn has_strangers(self) -> bool {
        matches!(self, Self::Strangers | Self::Crowd)
    }

    pub(crate) fn loses_cookies(self) -> bool {
        matches!(self, Self::Cookies | Self::StoredCookies)
    }
}

/// What else may happen to the application's messages than arriving.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Excuses {
    pub(crate) gaps: &'static [GapReason],
    /// Messages of a client may be told to be in doubt; where cookies are lost: of a client that has lost one.
    pub(crate) doubt: bool,
    /// A record that has one of two programs with the same id may not have the other yet, which may be the same program
    /// without its cookie: what that one has sent may be in doubt.
    pub(crate) twins: bool,
    /// Messages that are in doubt may be handled behind later ones: the transport that had them may still be there.
    pub(crate) late: bool,
    /// Messages may be told to be dropped: the process has died three times with them in hand.
    pub(crate) drops: bool,
    /// A client may find that its stream is gone.
    pub(crate) new_stream: bool,
    /// What was acknowledged may be undone.
    pub(crate) taken_back: bool,
}

impl Excuses {
    /// `crowded`: a full outbox may make a client that is gone stop mattering.
    fn new(kind: Kind, crowded: bool) -> Self {
        Self {
            gaps: match kind {
                Kind::Alone | Kind::ClientRestarts => &[],
                Kind::Share | Kind::Exact if !crowded => &[],
                Kind::Share | Kind::Exact | Kind::DropOldest => &[GapReason::Overflow],
                Kind::Forgetful if crowded => &[GapReason::Expired, GapReason::Overflow],
                Kind::OverflowEnds | Kind::Forgetful => &[GapReason::Expired],
                Kind::State | Kind::Backup if crowded => {
                    &[GapReason::Restarted, GapReason::Overflow]
                }
                Kind::State | Kind::Backup => &[GapReason::Restarted],
                _ => &[GapReason::Evicted, GapReason::Overflow, GapReason::Restarted],
            },
            doubt: kind == Kind::Forgetful || kind.has_strangers() || kind.loses_cookies(),
            twins: kind.has_store() && kind != Kind::Exact,
            late: kind.loses_cookies(),
            // A record names messages of programs only, and strangers send, too.
            drops: kind.has_store() && !kind.has_strangers(),
            new_stream: matches!(
                kind,
                Kind::Forgetful
                    | Kind::State
                    | Kind::Backup
                    | Kind::Strangers
                    | Kind::Crowd
                    | Kind::OverflowEnds
                    | Kind::Cookies
                    | Kind::StoredCookies
            ),
            taken_back: kind == Kind::Backup,
        }
    }

    /// Whether the handler must be able to tell a client's messages apart, because some may never come.
    pub(crate) fn told_apart(&self) -> bool {
        self.doubt || self.taken_back || self.drops
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) kind: Kind,
    pub(crate) rules: Arc<Rules>,
    pub(crate) config: Config,
    pub(crate) programs: usize,
    /// Another program may only read.
    pub(crate) watched: bool,
    /// The first two programs are of different identities, and have given themselves the same client id.
    pub(crate) two_identities: bool,
    /// Some messages are for one program alone, or are replaced, or are worth something for a while only.
    pub(crate) skips: bool,
    /// Some messages are checkpoints.
    pub(crate) checkpoints: bool,
    pub(crate) excuses: Excuses,
    /// Steps before the network becomes calm.
    pub(crate) steps: u64,
    /// Puts that fail, in percent.
    pub(crate) store_fails: u64,
    /// The longest a put takes, in milliseconds.
    pub(crate) store_takes: u64,
    /// How often something goes wrong: the mean in milliseconds.
    pub(crate) peace: u64,
    /// This message of the first program kills the process.
    pub(crate) poison: Option<u64>,
}

/// In one of five, clients may send no faster than this. As good as drawn, and nothing else is drawn differently.
fn pace(drawn: u128) -> Option<Pace> {
    let number = |n: u128| NonZeroU32::new(1 + u32::try_from(n).unwrap());
    let pace = Pace { per_second: number(drawn / 5 % 40)?, burst: number(drawn / 200 % 4)? };
    drawn.is_multiple_of(5).then_some(pace)
}

impl Scenario {
    pub(crate) fn new(kind: Kind, rng: &mut Rng) -> Self {
        let mut rules = Rules::default();
        rules.attach = match kind {
            Kind::Share => Attach::Share,
            Kind::Takeover => Attach::Takeover,
            Kind::Refuse => Attach::Refuse,
            _ => [Attach::Takeover, Attach::Share, Attach::Refuse][rng.index(3)],
        };
        rules.overflow = match kind {
            Kind::DropOldest => Overflow::DropOldest,
            Kind::OverflowEnds => Overflow::Close,
            _ => Overflow::Backpressure,
        };
        rules.durable_inbox = kind.has_store();
        rules.durable_outbox = kind == Kind::Exact
            || (matches!(kind, Kind::Backup | Kind::Crowd | Kind::StoredCookies)
                && rng.percent(50));
        rules.heartbeat = rng.millis(2000..30_000);
        rules.pong_timeout = rng.millis(2000..20_000);
        let tight = rng.percent(60);
        // With several clients, a full outbox makes gone ones stop mattering. Both kinds of outbox are tried.
        rules.bounds.outbox_messages = if tight { 2 + rng.index(20) } else { 100_000 };
        rules.bounds.outbox_bytes = if tight { 200 + rng.index(2000) } else { 100_000_000 };
        rules.bounds.inbox_messages = if tight { 1 + rng.index(8) } else { 256 };
        rules.bounds.inbox_bytes = if tight { 20 + rng.index(200) } else { 1 << 20 };
        rules.bounds.clients = if kind.has_strangers() { 4 } else { 64 };
        let several = matches!(kind, Kind::Share | Kind::Takeover | Kind::Refuse);
        let mixed = matches!(
            kind,
            Kind::DropOldest
                | Kind::State
                | Kind::Exact
                | Kind::Backup
                | Kind::Forgetful
                | Kind::Cookies
                | Kind::StoredCookies
        );
        let programs = match () {
            () if several => 2 + rng.index(2),
            () if mixed && rules.attach == Attach::Share => 1 + rng.index(3),
            () => 1,
        };
        // As good as drawn, and nothing else is drawn differently.
        let watched = (several || mixed) && rules.pong_timeout.as_millis().is_multiple_of(2);
        let crowded = programs + usize::from(watched) > 1 && tight;
        // As good as drawn, and nothing else is drawn differently.
        let two_identities = programs > 1 && rules.heartbeat.as_millis().is_multiple_of(2);
        // The check of what a newer run may miss counts by the oldest message that is kept.
        // What was for a client alone is for that of its old identity.
        let skips = kind != Kind::ClientRestarts
            && !kind.loses_cookies()
            && !rules.heartbeat.as_millis().is_multiple_of(3);
        rules.retention = retention(rules.pong_timeout.as_millis());
        if kind == Kind::ClientRestarts && rules.retention.retain == Retain::SinceCheckpoint {
            // A late offer of a dead program takes over, starts with the checkpoint, and needs nothing before it.
            rules.retention.retain = Retain::Newest;
        }
        rules.bounds.pace = pace(rules.pong_timeout.as_millis());
        let checkpoints = rules.retention.retain == Retain::SinceCheckpoint;
        Self {
            kind,
            skips,
            checkpoints,
            excuses: Excuses::new(kind, crowded),
            rules: Arc::new(rules),
            config: Config {
                limits: Limits { messages: 1 + rng.index(60), ..Limits::default() },
                attach_timeout: rng.millis(3000..20_000),
                ..Config::default()
            },
            programs,
            watched,
            two_identities,
            steps: 100 + rng.below(400),
            store_fails: if rng.percent(50) { 0 } else { rng.below(60) },
            store_takes: [2, 50, 3000][rng.index(3)],
            peace: [30, 300, 3000][rng.index(3)],
            poison: (matches!(kind, Kind::State | Kind::Exact) && rng.percent(30))
                .then(|| rng.below(12)),
        }
    }

    /// A delay of the network.
    pub(crate) fn delay(rng: &mut Rng) -> Duration {
        if rng.percent(5) { rng.millis(0..3000) } else { rng.millis(0..60) }
    }
}

/// What is kept after everybody has acknowledged it, drawn by a number that is as good as random.
fn retention(number: u128) -> Retention {
    let number = usize::try_from(number).expect("small");
    let mut retention = Retention::default();
    retention.retain = [Retain::Nothing, Retain::Newest, Retain::SinceCheckpoint][number % 3];
    retention.messages = [0, 3, 20, 1000][number / 3 % 4];
    retention.bytes = [300, 1 << 20][number / 12 % 2];
    retention.stored = number / 24 % 2 == 1;
    retention
}
