//! Whether a node may speak: pure, with every time an argument.

use std::time::Duration;

use tokio::time::Instant;

/// The lease of one incarnation, as the node itself may count on it.
///
/// It is held until `sent + lease - margin`, where `sent` is the node's own clock before the last renewal that has succeeded
/// was written, and the margin an eighth of the lease. The engine's own count begins later. So as long as the rates of the two
/// clocks differ by less than a tenth, no other node can have claimed from one that holds its lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    length: Duration,
    /// The end of what the node may count on; `None` before the first answer.
    until: Option<Instant>,
    /// Since when it has been held without a break.
    since: Option<Instant>,
    gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseState {
    Held,
    Lapsed,
    Gone,
}

impl Lease {
    /// A lease that was never given yet.
    pub(crate) fn new(length: Duration) -> Self {
        Self { length, until: None, since: None, gone: false }
    }

    /// The engine has given it, or renewed it: the request was sent at this time, and answered by `now`.
    pub(crate) fn is_renewed(&mut self, sent: Instant, now: Instant) {
        if self.gone {
            return;
        }
        let was_held = self.state(now) == LeaseState::Held;
        let until = sent + self.length * 7 / 8;
        self.until = Some(self.until.map_or(until, |before| before.max(until)));
        if !was_held {
            self.since = Some(now);
        }
    }

    /// The engine knows the incarnation no more. That is for good.
    pub(crate) fn is_gone(&mut self) {
        (self.gone, self.until, self.since) = (true, None, None);
    }

    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(crate) fn state(&self, now: Instant) -> LeaseState {
        match self.until {
            _ if self.gone => LeaseState::Gone,
            Some(until) if now < until => LeaseState::Held,
            _ => LeaseState::Lapsed,
        }
    }

    /// Whether the node may claim what a node that is gone has owned: it has held its own lease for as long as one lasts. After
    /// an outage of the engine the old owners come first.
    pub(crate) fn may_claim_from_gone(&self, now: Instant) -> bool {
        self.state(now) == LeaseState::Held
            && self.since.is_some_and(|since| now.saturating_duration_since(since) >= self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(8);

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_held_from_when_the_renewal_was_sent_less_a_margin() {
        let start = Instant::now();
        let mut lease = Lease::new(LEASE);
        assert_eq!(lease.state(start), LeaseState::Lapsed);
        // The answer came late: what counts is when it was asked for.
        lease.is_renewed(start, after(start, 2));
        assert_eq!(lease.state(after(start, 6)), LeaseState::Held);
        assert_eq!(lease.state(after(start, 7)), LeaseState::Lapsed, "an eighth less than 8 s");
        // An older answer takes nothing back.
        lease.is_renewed(after(start, 6), after(start, 6));
        lease.is_renewed(after(start, 1), after(start, 6));
        assert_eq!(lease.state(after(start, 12)), LeaseState::Held);
    }

    #[test]
    fn gone_is_for_good() {
        let start = Instant::now();
        let mut lease = Lease::new(LEASE);
        lease.is_renewed(start, start);
        lease.is_gone();
        assert_eq!(lease.state(start), LeaseState::Gone);
        lease.is_renewed(start, start);
        assert_eq!(lease.state(start), LeaseState::Gone);
    }

    #[test]
    fn only_who_has_held_a_lease_for_one_lease_claims_from_the_gone() {
        let start = Instant::now();
        let mut lease = Lease::new(LEASE);
        for second in (0..=8).step_by(2) {
            lease.is_renewed(after(start, second), after(start, second));
        }
        assert!(!lease.may_claim_from_gone(after(start, 7)));
        assert!(lease.may_claim_from_gone(after(start, 8)));
        // It has lapsed: counted anew.
        lease.is_renewed(after(start, 20), after(start, 20));
        assert!(!lease.may_claim_from_gone(after(start, 24)));
    }
}
