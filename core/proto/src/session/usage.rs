use std::{borrow::Cow, time::Duration};

use super::Rules;
use crate::{Moment, compact::Few, wire::OutcomeStatus};

/// Where the handler is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Handler {
    /// Nothing has started it yet.
    Absent,
    /// It runs but has not come to `recv` yet, or a message is in its hand.
    Working,
    /// It waits in `recv`, or beside it.
    Waiting,
}

/// A guard's place in the list of what holds off expiry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GuardId(u32);

/// What holds off expiry.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Guard {
    id: GuardId,
    why: Cow<'static, str>,
    deadline: Option<Moment>,
}

/// Why a session's time is up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Expiry {
    /// Not in use for `unused_lifetime`.
    Unused,
    /// Without transport, guard or extraction for `max_unattended`.
    Unattended,
    /// Alive for `max_lifetime`.
    Lifetime,
}

/// What uses a session, and since when nothing does: the one expiry rule.
///
/// Laid out as written: what every request looks at, or writes, comes first. See [`compact`](crate::compact).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub(super) struct Usage {
    pub(super) ended: Option<OutcomeStatus>,
    handler: Handler,
    /// Upgrades that are under way count as a transport.
    holds: u32,
    /// When the session was last in use, extraction included.
    idle_since: Moment,
    /// When a transport, guard or extraction was last there.
    unattended_since: Moment,
    /// Tasks that the session owns.
    tasks: u32,
    /// Sends that wait for outbox room.
    waiting_for_room: u32,
    next_guard: u32,
    guards: Few<Guard>,
    /// When the session was created, in microseconds of the clock of moments. A restored session is older than its
    /// machine, and perhaps than that clock: then this is negative.
    created: i64,
}

impl Usage {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            created: micros(now),
            idle_since: now,
            unattended_since: now,
            holds: 0,
            guards: Few::new(),
            next_guard: 0,
            tasks: 0,
            handler: Handler::Absent,
            waiting_for_room: 0,
            ended: None,
        }
    }

    pub(super) fn age(&self, now: Moment) -> Duration {
        Duration::from_micros(self.age_in_micros(now))
    }

    /// The session has lived before it was rebuilt.
    pub(super) fn has_lived(&mut self, lived: Duration) {
        let lived = i64::try_from(lived.as_micros()).unwrap_or(i64::MAX);
        self.created = self.created.saturating_sub(lived);
    }

    /// How old the session is at a moment, in microseconds.
    pub(super) fn age_in_micros(&self, at: Moment) -> u64 {
        u64::try_from(micros(at).saturating_sub(self.created)).unwrap_or(0)
    }

    /// When the session is this old, in microseconds.
    pub(super) fn moment_of(&self, age: u64) -> Moment {
        let at = self.created.saturating_add_unsigned(age);
        Moment::from_micros(u64::try_from(at).unwrap_or(0))
    }

    pub(super) fn handler(&self) -> Handler {
        self.handler
    }

    pub(super) fn set_handler(&mut self, handler: Handler, now: Moment) {
        if self.handler == Handler::Working && handler != Handler::Working {
            self.idle_since = now;
        }
        self.handler = handler;
    }

    /// An extraction: counts as activity.
    pub(super) fn touch(&mut self, now: Moment) {
        self.idle_since = now;
        self.unattended_since = now;
    }

    /// It is in use until now.
    pub(super) fn stay(&mut self, now: Moment) {
        self.idle_since = now;
    }

    pub(super) fn hold(&mut self) {
        self.holds += 1;
    }

    pub(super) fn release_hold(&mut self, now: Moment) {
        self.holds = self.holds.saturating_sub(1);
        self.touch(now);
    }

    pub(super) fn transport_left(&mut self, now: Moment) {
        self.touch(now);
    }

    pub(super) fn task_started(&mut self) {
        self.tasks += 1;
    }

    pub(super) fn task_ended(&mut self, now: Moment) {
        self.tasks = self.tasks.saturating_sub(1);
        self.idle_since = now;
    }

    pub(super) fn waits_for_room(&self) -> bool {
        self.waiting_for_room > 0
    }

    pub(super) fn send_waits(&mut self, attached: bool, now: Moment) {
        let worked = self.is_working(attached);
        self.waiting_for_room += 1;
        // Only an end of work: a ticker whose sends time out does not keep a session for ever.
        if worked && !self.is_working(attached) {
            self.idle_since = now;
        }
    }

    pub(super) fn send_goes_on(&mut self) {
        self.waiting_for_room = self.waiting_for_room.saturating_sub(1);
    }

    /// Adds a guard; `None` when `limit` of them are held already.
    pub(super) fn guard(
        &mut self,
        why: Cow<'static, str>,
        deadline: Option<Moment>,
        limit: usize,
        now: Moment,
    ) -> Option<GuardId> {
        self.drop_overdue_guards(now);
        if self.guards.len() >= limit {
            return None;
        }
        let id = GuardId(self.next_guard);
        self.next_guard = self.next_guard.wrapping_add(1);
        self.guards.push(Guard { id, why, deadline });
        Some(id)
    }

    pub(super) fn set_guard_deadline(&mut self, id: GuardId, deadline: Moment, now: Moment) {
        self.drop_overdue_guards(now);
        if let Some(guard) = self.guards.iter_mut().find(|guard| guard.id == id) {
            guard.deadline = Some(deadline);
        }
    }

    pub(super) fn release_guard(&mut self, id: GuardId, now: Moment) {
        self.drop_overdue_guards(now);
        let before = self.guards.len();
        self.guards.retain(|guard| guard.id != id);
        if self.guards.len() < before {
            self.touch(now);
        }
    }

    pub(super) fn guard_reasons(&self, now: Moment) -> impl Iterator<Item = &str> {
        self.guards.iter().filter(move |guard| guard.holds(now)).map(|guard| &*guard.why)
    }

    /// A guard ends at its deadline, not when somebody looks at it.
    fn drop_overdue_guards(&mut self, now: Moment) {
        let Some(last_end) = self
            .guards
            .iter()
            .filter(|guard| !guard.holds(now))
            .filter_map(|guard| guard.deadline)
            .max()
        else {
            return;
        };
        self.guards.retain(|guard| guard.holds(now));
        self.idle_since = self.idle_since.max(last_end);
        self.unattended_since = self.unattended_since.max(last_end);
    }

    /// Waiting for outbox room with no transport attached is not work.
    fn is_working(&self, attached: bool) -> bool {
        let units = self.tasks + u32::from(self.handler == Handler::Working);
        let stalled = if attached { 0 } else { self.waiting_for_room };
        units > stalled
    }

    /// Decides whether the session's time is up, and if not, when to ask again at the latest.
    ///
    /// If a use ends before that time, the deadline moves: every end of use restarts the clock. So the
    /// caller must ask again at that time. The deadline never becomes earlier.
    pub(super) fn check(
        &mut self,
        rules: &Rules,
        unused_lifetime: Duration,
        attached: bool,
        now: Moment,
    ) -> Result<Moment, Expiry> {
        self.drop_overdue_guards(now);
        let overall = match rules.max_lifetime {
            Some(_) if self.ended.is_some() => None,
            Some(lifetime) => {
                let lifetime = u64::try_from(lifetime.as_micros()).unwrap_or(u64::MAX);
                Some(self.moment_of(lifetime))
            }
            None => None,
        };
        if overall.is_some_and(|overall| overall <= now) {
            return Err(Expiry::Lifetime);
        }
        let attended = attached || self.holds > 0 || !self.guards.is_empty();
        let unattended = self.unattended_since + rules.max_unattended;
        if !attended && self.ended.is_none() && unattended <= now {
            return Err(Expiry::Unattended);
        }
        let in_use = attended || (self.ended.is_none() && self.is_working(attached));
        let unused = self.idle_since + unused_lifetime;
        if !in_use && unused <= now {
            return Err(Expiry::Unused);
        }
        // While in use there is nothing to wait for but the use's end, and that restarts the clock.
        let next = if in_use { now + unused_lifetime } else { unused };
        let unattended = if attended { now + rules.max_unattended } else { unattended.max(now) };
        Ok(next.min(unattended).min(overall.unwrap_or(next)))
    }
}

fn micros(moment: Moment) -> i64 {
    i64::try_from(moment.as_micros()).unwrap_or(i64::MAX)
}

impl Guard {
    fn holds(&self, now: Moment) -> bool {
        self.deadline.is_none_or(|deadline| deadline > now)
    }
}
