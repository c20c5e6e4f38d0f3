use std::{collections::VecDeque, time::Duration};

use crate::Moment;

/// Holds back plain transports that supersede each other in a circle.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Damping {
    recent: VecDeque<Moment>,
    level: u32,
}

impl Damping {
    /// More supersedes than this in [`Self::WINDOW`] are a circle.
    const LIMIT: usize = 5;
    const WINDOW: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(30);

    pub(super) const fn new() -> Self {
        Self { recent: VecDeque::new(), level: 0 }
    }

    /// A plain transport has superseded another; returns whether that begins a circle.
    pub(super) fn note(&mut self, now: Moment) -> bool {
        if self.level > 0 && self.is_calm(now) {
            self.level = 0;
        }
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|&at| at + Self::WINDOW < now) {
            self.recent.pop_front();
        }
        while self.recent.len() > Self::LIMIT + 1 {
            self.recent.pop_front();
        }
        if self.level > 0 {
            self.level += 1;
            return false;
        }
        let circle = self.recent.len() > Self::LIMIT;
        if circle {
            self.level = 1;
        }
        circle
    }

    /// No plain transport has been superseded for longer than the delay explains.
    fn is_calm(&self, now: Moment) -> bool {
        self.recent.back().is_none_or(|&last| last + self.delay_at_level() + Self::WINDOW < now)
    }

    fn delay_at_level(&self) -> Duration {
        match self.level.checked_sub(1) {
            Some(doublings) => Duration::from_secs(1 << doublings.min(5)).min(Self::LONGEST),
            None => Duration::ZERO,
        }
    }

    pub(super) fn delay(&self, now: Moment) -> Duration {
        if self.is_calm(now) { Duration::ZERO } else { self.delay_at_level() }
    }
}
