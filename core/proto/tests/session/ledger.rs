//! What the rules promise, written down a second time and shorter: the expected state to compare the machine with.

use std::{collections::BTreeSet, time::Duration};

use session_resume_proto::{
    Moment,
    session::{Expiry, GuardId, Rules},
};

/// What should be known of one client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// Everything from here on must be there; `None` if nothing is promised.
    pub(crate) keep: Option<u64>,
    /// Its data messages: accepted, taken, handled, committed.
    pub(crate) accepted: u64,
    pub(crate) taken: u64,
    pub(crate) handled: u64,
    pub(crate) committed: u64,
    /// It may only read on its newest attachment.
    pub(crate) watches: bool,
    /// `Some(true)` once it has been told of a takeover.
    pub(crate) takeover: Option<bool>,
    /// Its first attachment: 0 before it.
    pub(crate) first: u64,
    /// Since when it has no transport.
    pub(crate) gone: Option<Moment>,
    /// Its newest attachment, and the newest on which a frame of it has arrived.
    pub(crate) newest: u64,
    pub(crate) heard: u64,
    /// It was told `null` and has sent nothing since.
    pub(crate) unknown: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handler {
    Absent,
    Working,
    Waiting,
}

/// When the session was in use.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    created: Moment,
    used: Moment,
    attended: Moment,
    pub(crate) attached: bool,
    pub(crate) handler: Handler,
    pub(crate) waits: bool,
    pub(crate) tasks: usize,
    pub(crate) holds: usize,
    pub(crate) guards: Vec<(GuardId, Option<Moment>)>,
}

impl Use {
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            created: now,
            used: now,
            attended: now,
            attached: false,
            handler: Handler::Absent,
            waits: false,
            tasks: 0,
            holds: 0,
            guards: Vec::new(),
        }
    }

    /// Notes that until `now` only the time has changed.
    pub(crate) fn passed(&mut self, now: Moment) {
        for (_, deadline) in &self.guards {
            let until = deadline.unwrap_or(now).min(now);
            self.used = self.used.max(until);
            self.attended = self.attended.max(until);
        }
        self.guards.retain(|(_, deadline)| deadline.is_none_or(|deadline| deadline > now));
        if self.attached || self.holds > 0 {
            self.attended = now;
        }
        if self.attached || self.holds > 0 || self.is_working() {
            self.used = now;
        }
    }

    pub(crate) fn touch(&mut self, now: Moment) {
        self.used = now;
        self.attended = now;
    }

    pub(crate) fn touch_used(&mut self, now: Moment) {
        self.used = now;
    }

    pub(crate) fn expiry(&self, rules: &Rules, now: Moment) -> Option<Expiry> {
        let passed = |since: Moment, limit: Duration| now.since(since) >= limit;
        if rules.max_lifetime.is_some_and(|limit| passed(self.created, limit)) {
            return Some(Expiry::Lifetime);
        }
        let attended = self.attached || self.holds > 0 || !self.guards.is_empty();
        if !attended && passed(self.attended, rules.max_unattended) {
            return Some(Expiry::Unattended);
        }
        let in_use = attended || self.is_working();
        (!in_use && passed(self.used, rules.unused_lifetime)).then_some(Expiry::Unused)
    }

    fn is_working(&self) -> bool {
        let units = self.tasks + usize::from(self.handler == Handler::Working);
        units > usize::from(self.waits && !self.attached)
    }
}

/// What the handler was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) attached: BTreeSet<u32>,
}

impl Told {
    pub(crate) fn attached(&mut self, info: u32) {
        assert!(self.attached.insert(info), "{info} attached twice");
    }

    pub(crate) fn detached(&mut self, info: u32) {
        assert!(self.attached.remove(&info), "{info} detached, never attached");
    }
}
