use std::time::Duration;

use super::Incarnation;
use crate::Moment;

/// A node's lease: what keeps its incarnation alive at the engine.
///
/// The moments are those of a clock that counts the time in which the process or its machine is stopped (`CLOCK_BOOTTIME`).
///
/// A lease is held until `sent + length - margin`, where `sent` is the node's own clock before the last renewal that
/// succeeded was written, and the margin an eighth of the length. The engine's count begins later. So while the rates of
/// the two clocks differ by less than a tenth, nobody has claimed from a node that holds its lease.
///
/// The caller feeds what happens (`handle_*`), and after each does what [`poll_command`](Self::poll_command) says until that
/// is `None`; it calls [`handle_timeout`](Self::handle_timeout) at [`poll_timeout`](Self::poll_timeout). Whenever
/// [`standing`](Self::standing) may have changed it tells each [`Ownership`](super::Ownership)
/// [`Event::Lease`](super::Event::Lease).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Lease {
    length: Duration,
    state: State,
    link: Link,
    drains: bool,
    losses: u64,
    /// Until then nobody begins a session: the engine has lost everything, and the owners come first.
    closed_until: Option<Moment>,
    /// The run of the engine that has answered last.
    run: Option<u64>,
    put_again: bool,
}

/// What the engine knows of this node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum State {
    /// Nothing; an incarnation must be drawn. `before`: the one that is gone, or was never enlisted for certain.
    Drawing { before: Option<Incarnation>, asked: bool },
    /// An incarnation that it is to enlist.
    Enlisting { incarnation: Incarnation, instead_of: Option<Incarnation> },
    /// An incarnation that it has enlisted.
    Enlisted { incarnation: Incarnation, held: Held },
    /// Another process runs under the node's name, and has taken its place.
    NameTaken,
    /// The node has left.
    Retired,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Held {
    until: Moment,
    /// Since when without a break.
    since: Moment,
}

/// The connection of the lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Link {
    /// There is none, or it has not answered anything yet.
    Down,
    /// The next call is due then.
    Idle { due: Moment },
    /// A call is on its way. `again`: somebody waits for one that is sent later.
    Asked { sent: Moment, again: bool },
}

/// What the caller must do for the lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LeaseCommand {
    /// Draw random bytes, and tell [`Lease::handle_drawn`].
    Draw,
    /// Ask the engine to know this incarnation as the node of its name from now on; the one before is gone.
    Enlist {
        /// The new one.
        incarnation: Incarnation,
        /// The one that this process had before: a compare and swap. `None`: whatever the name had, for the process starts.
        instead_of: Option<Incarnation>,
    },
    /// Ask the engine to extend what is there.
    Renew(Incarnation),
    /// Give the lease's connection up, and make another one: it has not answered in time, and whatever it still brings does
    /// not count. Then [`Lease::handle_connected`].
    Reconnect,
    /// Tell each session [`Event::Resumed`](super::Event::Resumed), spread over 2 s: another run of the engine answers, or a
    /// connection broke.
    PutAgain,
    /// Tell the engine that the node is gone.
    Retire(Incarnation),
}

/// The engine's answer to a renewal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Renewed {
    /// The lease is extended.
    Held {
        /// Names the run of the engine that has answered: it changes with a failover and with a restart.
        run: u64,
    },
    /// It does not know this incarnation, or not any more.
    Gone,
}

/// How a node stands at a moment: what its sessions ask before they act.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Standing {
    /// The incarnation that the engine has enlisted last; `None` before the first one and while a new one is being enlisted.
    pub incarnation: Option<Incarnation>,
    /// Whether the node may speak for its sessions.
    pub lease: LeaseState,
    /// From when on it may claim what a gone node has owned; `None`: not before it holds a lease.
    pub may_take_from: Option<Moment>,
    /// From when on it may begin sessions; `None`: at any time.
    pub may_begin_from: Option<Moment>,
    /// How often the engine has been found to have lost everything.
    pub losses: u64,
    /// The node stops: it claims nothing.
    pub drains: bool,
}

/// Where a node stands with its lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LeaseState {
    /// The node may speak for its sessions.
    Held,
    /// It may not, until the engine has answered.
    Lapsed,
    /// The engine does not know the node's last incarnation any more, or none was enlisted so far.
    Gone,
}

impl Standing {
    /// Returns the incarnation that may act now, if the node may.
    pub const fn holder(&self) -> Option<Incarnation> {
        match self.lease {
            LeaseState::Held => self.incarnation,
            LeaseState::Lapsed | LeaseState::Gone => None,
        }
    }
}

impl Lease {
    /// Creates the lease of a process that starts; `length` is 2 s to 60 s.
    pub const fn new(length: Duration) -> Self {
        Self {
            length,
            state: State::Drawing { before: None, asked: false },
            link: Link::Down,
            drains: false,
            losses: 0,
            closed_until: None,
            run: None,
            put_again: false,
        }
    }

    /// Returns how long the engine waits for a node that says nothing.
    pub const fn length(&self) -> Duration {
        self.length
    }

    /// Returns how often a lease is renewed, and how long a renewal may take: a quarter of its length.
    pub fn interval(&self) -> Duration {
        self.length / 4
    }

    /// The node stops: from now on it claims nothing.
    pub fn drain(&mut self) {
        self.drains = true;
    }

    /// The node has left: its incarnation is given up, and no other one is enlisted.
    pub fn retire(&mut self) -> Option<LeaseCommand> {
        match std::mem::replace(&mut self.state, State::Retired) {
            State::Enlisted { incarnation, .. } | State::Enlisting { incarnation, .. } => {
                Some(LeaseCommand::Retire(incarnation))
            }
            State::Drawing { .. } | State::NameTaken | State::Retired => None,
        }
    }

    /// Takes in fresh random bytes; zero is drawn again.
    pub fn handle_drawn(&mut self, random: u64) {
        let State::Drawing { before, asked } = &mut self.state else {
            return;
        };
        *asked = false;
        if let Some(incarnation) = Incarnation::new(random) {
            self.state = State::Enlisting { incarnation, instead_of: *before };
        }
    }

    /// Takes in that the lease's connection is there, and has answered something.
    pub fn handle_connected(&mut self, now: Moment) {
        self.link = Link::Idle { due: now };
    }

    /// Takes in that the lease's connection is lost. What was on its way is not known.
    pub fn handle_disconnected(&mut self) {
        self.link = Link::Down;
        self.put_again = true;
        if let State::Enlisting { instead_of, .. } = self.state {
            // It may have been enlisted, and its lease may be over by now. Gone is for good, so it is not asked for again.
            self.state = State::Drawing { before: instead_of, asked: false };
        }
    }

    /// Takes in that somebody waits for a renewal that is sent from now on: it is due at once.
    pub fn handle_wanted(&mut self, now: Moment) {
        match &mut self.link {
            Link::Idle { due } => *due = now.min(*due),
            Link::Asked { again, .. } => *again = true,
            Link::Down => {}
        }
    }

    /// Takes in that the engine has enlisted `incarnation`.
    ///
    /// An answer that comes after its deadline must not be handed in.
    pub fn handle_enlisted(&mut self, incarnation: Incarnation, now: Moment) {
        if matches!(self.state, State::Enlisting { incarnation: asked, .. } if asked == incarnation)
            && let Link::Asked { sent, again } = self.link
        {
            let held = Held { until: sent + span(self.length), since: sent };
            self.state = State::Enlisted { incarnation, held };
            self.answered(sent, again, now);
        }
    }

    /// Takes in that another process has enlisted under this node's name meanwhile: this one stays gone. Two that took the
    /// name from each other in turn would each freeze the other's sessions again and again.
    pub fn handle_name_taken(&mut self, incarnation: Incarnation) {
        if matches!(self.state, State::Enlisting { incarnation: asked, .. } if asked == incarnation)
        {
            self.state = State::NameTaken;
        }
    }

    /// Takes in that the process that has taken this node's name is gone.
    pub fn handle_name_free(&mut self, now: Moment) {
        if self.state == State::NameTaken {
            self.state = State::Drawing { before: None, asked: false };
            self.link = match self.link {
                Link::Down => Link::Down,
                Link::Idle { .. } | Link::Asked { .. } => Link::Idle { due: now },
            };
        }
    }

    /// Takes in the answer to the renewal of `incarnation`.
    ///
    /// An answer that comes after its deadline must not be handed in.
    pub fn handle_renewed(&mut self, incarnation: Incarnation, answer: Renewed, now: Moment) {
        let State::Enlisted { incarnation: present, held } = &mut self.state else {
            return;
        };
        let Link::Asked { sent, again } = self.link else {
            return;
        };
        if *present != incarnation {
            return;
        }
        match answer {
            Renewed::Held { run } => {
                if sent >= held.until {
                    held.since = sent;
                }
                held.until = held.until.max(sent + span(self.length));
                self.put_again |= self.run.is_some_and(|before| before != run);
                self.run = Some(run);
                self.answered(sent, again, now);
            }
            Renewed::Gone => {
                self.state = State::Drawing { before: Some(incarnation), asked: false };
                self.link = Link::Idle { due: now };
            }
        }
    }

    /// Takes in how often the engine has been found to have lost everything, before the first call is handed in that was
    /// told so.
    pub fn handle_losses(&mut self, losses: u64, now: Moment) {
        if losses > self.losses {
            self.losses = losses;
            self.closed_until = Some(now + self.length);
        }
    }

    /// Takes in that time has passed.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.closed_until.is_some_and(|until| until <= now) {
            self.closed_until = None;
        }
    }

    /// Returns the next thing to do. A renewal or enlisting counts from `now`: it must be written after this call.
    pub fn poll_command(&mut self, now: Moment) -> Option<LeaseCommand> {
        if let State::Drawing { asked: asked @ false, .. } = &mut self.state {
            *asked = true;
            return Some(LeaseCommand::Draw);
        }
        let call = match self.state {
            State::Enlisting { incarnation, instead_of } => {
                LeaseCommand::Enlist { incarnation, instead_of }
            }
            State::Enlisted { incarnation, .. } => LeaseCommand::Renew(incarnation),
            State::Drawing { .. } | State::NameTaken | State::Retired => return None,
        };
        match self.link {
            Link::Asked { sent, .. } if sent + self.interval() <= now => {
                // Not sent again on this connection: a node that is heard and hears nothing would renew for ever, and
                // nobody could claim.
                self.handle_disconnected();
                Some(LeaseCommand::Reconnect)
            }
            Link::Idle { due } if due <= now => {
                self.link = Link::Asked { sent: now, again: false };
                Some(call)
            }
            Link::Idle { .. } if std::mem::take(&mut self.put_again) => {
                Some(LeaseCommand::PutAgain)
            }
            Link::Down | Link::Idle { .. } | Link::Asked { .. } => None,
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) and [`poll_command`](Self::poll_command) have something to do,
    /// or [`standing`](Self::standing) changes by itself.
    pub fn poll_timeout(&self, now: Moment) -> Option<Moment> {
        let call = match (&self.state, self.link) {
            // Nothing is asked of the engine then.
            (State::Drawing { .. } | State::NameTaken | State::Retired, _) | (_, Link::Down) => {
                None
            }
            (_, Link::Idle { due }) => Some(due),
            (_, Link::Asked { sent, .. }) => Some(sent + self.interval()),
        };
        let lapse = match self.state {
            State::Enlisted { held, .. } => Some(held.until).filter(|until| *until > now),
            State::Drawing { .. } | State::Enlisting { .. } | State::NameTaken | State::Retired => {
                None
            }
        };
        [call, lapse, self.closed_until].into_iter().flatten().min()
    }

    /// Returns how the node stands.
    pub fn standing(&self, now: Moment) -> Standing {
        let (incarnation, lease, may_take_from) = match self.state {
            State::Drawing { .. } | State::Enlisting { .. } | State::NameTaken | State::Retired => {
                (None, LeaseState::Gone, None)
            }
            State::Enlisted { incarnation, held } if now < held.until => {
                (Some(incarnation), LeaseState::Held, Some(held.since + self.length))
            }
            State::Enlisted { incarnation, .. } => (Some(incarnation), LeaseState::Lapsed, None),
        };
        Standing {
            incarnation,
            lease,
            may_take_from,
            may_begin_from: self.closed_until,
            losses: self.losses,
            drains: self.drains,
        }
    }

    /// Returns until when the lease is held if it is not renewed; `None` if the engine knows of none.
    pub const fn held_until(&self) -> Option<Moment> {
        match self.state {
            State::Enlisted { held, .. } => Some(held.until),
            State::Drawing { .. } | State::Enlisting { .. } | State::NameTaken | State::Retired => {
                None
            }
        }
    }

    /// Returns when the last renewal or enlisting that has succeeded was written, if the lease is held.
    ///
    /// A node that has read that an owner is gone claims from it only after a renewal that was written later.
    pub fn renewed(&self, now: Moment) -> Option<Moment> {
        let until = self.held_until().filter(|until| now < *until)?;
        Some(until - span(self.length))
    }

    /// Returns whether another process runs under the node's name.
    pub fn is_name_taken(&self) -> bool {
        self.state == State::NameTaken
    }

    fn answered(&mut self, sent: Moment, again: bool, now: Moment) {
        let due = if again { now } else { (sent + self.interval()).max(now) };
        self.link = Link::Idle { due };
    }
}

/// How long a node counts on a lease of this length: less a margin of an eighth.
fn span(length: Duration) -> Duration {
    length / 8 * 7
}

#[cfg(test)]
impl Lease {
    /// The clock goes on until the lease may have ended, and until no answer that is on its way can save it.
    pub(super) fn lapse(&mut self, now: Moment) {
        let asked = match self.link {
            Link::Asked { sent, .. } => sent + span(self.length),
            Link::Down | Link::Idle { .. } => now,
        };
        let until = match self.state {
            State::Enlisted { held, .. } => held.until,
            State::Drawing { .. } | State::Enlisting { .. } | State::NameTaken | State::Retired => {
                now
            }
        };
        self.shift(until.max(asked).since(now));
    }

    /// The clock goes on until the next call is due.
    pub(super) fn hurry(&mut self, now: Moment) {
        if let Link::Idle { due } = self.link {
            self.shift(due.since(now));
        }
    }

    pub(super) fn hold_for_long(&mut self, now: Moment) {
        if let State::Enlisted { held, .. } = &mut self.state {
            held.since = now - self.length * 2;
        }
    }

    pub(super) fn is_held_for_long(&self, now: Moment) -> bool {
        self.standing(now).may_take_from.is_some_and(|from| from <= now)
    }

    /// Whether it is to be renewed before anything is told.
    pub(super) fn is_resuming(&self) -> bool {
        self.put_again
    }

    pub(super) fn take_put_again(&mut self) -> bool {
        matches!(self.link, Link::Idle { .. })
            && !matches!(self.state, State::Drawing { .. } | State::Enlisting { .. })
            && std::mem::take(&mut self.put_again)
    }

    /// What is long ago is equally long ago.
    pub(super) fn canonical(&mut self, now: Moment) {
        let long_ago = now - self.length * 2;
        self.each_moment(|moment| *moment = (*moment).max(long_ago));
    }

    fn shift(&mut self, by: Duration) {
        self.each_moment(|moment| *moment = *moment - by);
    }

    fn each_moment(&mut self, mut change: impl FnMut(&mut Moment)) {
        if let State::Enlisted { held, .. } = &mut self.state {
            change(&mut held.until);
            change(&mut held.since);
        }
        match &mut self.link {
            Link::Idle { due: moment } | Link::Asked { sent: moment, .. } => change(moment),
            Link::Down => {}
        }
    }
}
