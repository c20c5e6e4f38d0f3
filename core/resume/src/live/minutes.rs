//! What has happened in each of the last minutes.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use session_resume_proto::{Moment, session::Attached, wire::Status};

/// Minutes that are kept, the present one included.
const KEPT: usize = 60;

const MICROS_IN_MINUTE: u64 = 60_000_000;

/// What has happened in one minute: see [`SessionResume::last_minutes`](crate::SessionResume::last_minutes).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Minute {
    /// Attaches to a new session.
    pub new: u64,
    /// Attaches of clients that went on where they were.
    pub resumed: u64,
    /// Attaches of clients that started fresh in a session that was in memory.
    pub reused: u64,
    /// Attaches to a session that was rebuilt from its snapshot.
    pub restored: u64,
    /// Messages that clients had missed, and were sent again.
    pub replayed: u64,
    /// Attaches of clients that were told a gap.
    pub gaps: u64,
    /// Sessions that have started.
    pub started: u64,
    /// Sessions that have ended.
    pub ended: u64,
}

/// The last minutes of a layer. One lock for all: it is taken once an attach, never for a message.
#[derive(Debug, Default)]
pub(crate) struct LastMinutes(Mutex<Minutes>);

#[derive(Debug, Default)]
struct Minutes {
    /// The number of the newest one, counted from the clock's origin.
    newest: u64,
    /// The oldest first; at most [`KEPT`].
    kept: VecDeque<Minute>,
}

impl LastMinutes {
    pub(crate) fn attached(&self, attach: &Attached, now: Moment) {
        self.note(now, |minute| {
            let attaches = match attach.status {
                Status::New => &mut minute.new,
                Status::Resumed => &mut minute.resumed,
                Status::Reused => &mut minute.reused,
                Status::Restored => &mut minute.restored,
            };
            *attaches += 1;
            minute.replayed += attach.behind;
            minute.gaps += u64::from(attach.gap.is_some());
        });
    }

    pub(crate) fn started(&self, now: Moment) {
        self.note(now, |minute| minute.started += 1);
    }

    pub(crate) fn ended(&self, now: Moment) {
        self.note(now, |minute| minute.ended += 1);
    }

    /// Returns the last minutes, the present one last.
    pub(crate) fn all(&self, now: Moment) -> Vec<Minute> {
        let mut minutes = self.lock();
        minutes.come_to(now);
        let missing = KEPT - minutes.kept.len();
        let before = std::iter::repeat_n(Minute::default(), missing);
        before.chain(minutes.kept.iter().copied()).collect()
    }

    fn note(&self, now: Moment, note: impl FnOnce(&mut Minute)) {
        let mut minutes = self.lock();
        minutes.come_to(now);
        if let Some(newest) = minutes.kept.back_mut() {
            note(newest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Minutes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Minutes {
    /// Begins the minutes up to `now`. What comes a little late, by another thread's time, counts for the newest.
    fn come_to(&mut self, now: Moment) {
        let number = now.as_micros() / MICROS_IN_MINUTE;
        let passed = if self.kept.is_empty() { 1 } else { number.saturating_sub(self.newest) };
        for _ in 0..passed.min(KEPT as u64) {
            if self.kept.len() == KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back(Minute::default());
        }
        self.newest = self.newest.max(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Moment {
        Moment::from_millis(second * 1000)
    }

    fn started(last: &LastMinutes, now: Moment) -> Vec<u64> {
        last.all(now).iter().map(|minute| minute.started).collect()
    }

    #[test]
    fn each_minute_has_what_has_happened_in_it() {
        let last = LastMinutes::default();
        for second in [0, 59, 60, 200] {
            last.started(at(second));
        }
        let minutes = started(&last, at(239));
        assert_eq!(minutes.len(), KEPT);
        assert_eq!(minutes[KEPT - 4..], [2, 1, 0, 1]);
        assert!(minutes[..KEPT - 4].iter().all(|count| *count == 0));
        assert_eq!(started(&last, at(240))[KEPT - 5..], [2, 1, 0, 1, 0], "the present one is last");
    }

    #[test]
    fn what_is_older_than_an_hour_is_forgotten() {
        let last = LastMinutes::default();
        last.started(at(0));
        assert_eq!(started(&last, at(59 * 60 + 59))[0], 1);
        last.started(at(60 * 60));
        assert_eq!(started(&last, at(60 * 60)).iter().sum::<u64>(), 1);
        assert_eq!(started(&last, at(1_000_000)).iter().sum::<u64>(), 0);
        assert_eq!(last.lock().kept.len(), KEPT);
    }

    #[test]
    fn what_comes_late_counts_for_the_newest_minute() {
        let last = LastMinutes::default();
        last.ended(at(120));
        last.ended(at(119));
        assert_eq!(last.all(at(120)).last().unwrap().ended, 2);
    }
}
