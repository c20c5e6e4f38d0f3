use std::fmt;

use super::ErrorKind;

/// Which write of which owner a record comes from.
///
/// Line, generation and owner together are a *fence*: they name one claim of one process. The number counts
/// the writes under it. A store compares stamps by the rules here, and does not look into them otherwise:
/// [`claims`](Self::claims), [`puts`](Self::puts), [`touches`](Self::touches) and [`removes`](Self::removes)
/// are the rules of the calls of those names.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Which of the sessions that a key has one after the other: the session's id.
    pub line: u128,
    /// How often the line has been claimed; 1 for a new one.
    pub generation: u64,
    /// Random, drawn for each claim: so that two processes which count to the same generation (an engine has
    /// lost the claim of one) do not take each other's record for their own.
    pub owner: u64,
    /// Which write under this claim; 1 is the claim itself. No number is used twice, also not for a repetition.
    pub number: u64,
}

/// What a call does that is not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// It changes the record.
    Change,
    /// It has happened already, or a later write of its owner has taken its place: nothing changes, and the
    /// answer is `Ok`.
    Keep,
}

impl Stamp {
    /// Returns the stamp of the claim that begins a line.
    pub const fn first(line: u128, owner: u64) -> Self {
        Self { line, generation: 1, owner, number: 1 }
    }

    /// Returns the stamp of a claim over the record that has this one.
    ///
    /// # Panics
    ///
    /// After 2^64 - 1 claims, which no line reaches.
    #[must_use]
    pub const fn taken_by(self, owner: u64) -> Self {
        let generation = self.generation.checked_add(1).expect("no line is claimed 2^64 times");
        Self { line: self.line, generation, owner, number: 1 }
    }

    /// Returns the stamp of the next write under the same claim.
    ///
    /// # Panics
    ///
    /// After 2^64 - 1 writes, which no owner reaches.
    #[must_use]
    pub const fn next(self) -> Self {
        let number = self.number.checked_add(1).expect("nobody writes 2^64 times");
        Self { number, ..self }
    }

    /// Returns whether both name the same claim.
    pub const fn same_fence(self, other: Self) -> bool {
        self.line == other.line && self.generation == other.generation && self.owner == other.owner
    }

    /// Judges a claim with this stamp over `stored`, by a process that has found `found`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stale`] if there is something else by now.
    pub fn claims(self, found: Option<Self>, stored: Option<Self>) -> Result<Verdict, ErrorKind> {
        if stored == Some(self) {
            Ok(Verdict::Keep)
        } else if stored == found {
            Ok(Verdict::Change)
        } else {
            Err(ErrorKind::Stale)
        }
    }

    /// Judges a put with this stamp over `stored`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is no record, [`ErrorKind::Stale`] if there is another owner's.
    pub fn puts(self, stored: Option<Self>) -> Result<Verdict, ErrorKind> {
        let stored = stored.ok_or(ErrorKind::NotFound)?;
        match self.relation_to(stored) {
            Relation::Others => Err(ErrorKind::Stale),
            Relation::Ours if self.number <= stored.number => Ok(Verdict::Keep),
            Relation::Ours | Relation::Behind => Ok(Verdict::Change),
        }
    }

    /// Judges a touch with this stamp, that of its owner's last write, of `stored`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is no record under this claim, but one from before it or none;
    /// [`ErrorKind::Stale`] if there is another owner's.
    pub fn touches(self, stored: Option<Self>) -> Result<Verdict, ErrorKind> {
        let stored = stored.ok_or(ErrorKind::NotFound)?;
        match self.relation_to(stored) {
            Relation::Others => Err(ErrorKind::Stale),
            Relation::Behind => Err(ErrorKind::NotFound),
            Relation::Ours if self.number < stored.number => Ok(Verdict::Keep),
            Relation::Ours => Ok(Verdict::Change),
        }
    }

    /// Judges a removal with this stamp of `stored`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stale`] if there is another owner's record.
    pub fn removes(self, stored: Option<Self>) -> Result<Verdict, ErrorKind> {
        let Some(stored) = stored else {
            return Ok(Verdict::Keep);
        };
        match self.relation_to(stored) {
            Relation::Others => Err(ErrorKind::Stale),
            Relation::Ours if self.number < stored.number => Ok(Verdict::Keep),
            Relation::Ours | Relation::Behind => Ok(Verdict::Change),
        }
    }

    fn relation_to(self, stored: Self) -> Relation {
        if self.same_fence(stored) {
            Relation::Ours
        } else if self.line == stored.line && stored.generation < self.generation {
            Relation::Behind
        } else {
            Relation::Others
        }
    }
}

/// Whose record an owner finds.
enum Relation {
    /// Its own.
    Ours,
    /// One from before its claim, which the store has lost: what the owner puts heals that.
    Behind,
    /// That of a later owner, of another one that has counted to the same generation, or of another line.
    Others,
}

// By hand: short, and a line is a session's id, which logs name by its beginning alone.
impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, generation, owner, number } = self;
        write!(f, "Stamp({:08x}… {generation}.{number} by {owner:x})", line >> 96)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ErrorKind::{NotFound, Stale},
        Verdict::{Change, Keep},
        *,
    };

    const OURS: Stamp = Stamp { line: 7, generation: 3, owner: 30, number: 5 };

    fn others() -> [Stamp; 5] {
        [
            OURS.taken_by(30),
            OURS.taken_by(31),
            Stamp { owner: 31, ..OURS },
            Stamp { owner: 31, number: 1, ..OURS },
            Stamp { line: 8, generation: 1, ..OURS },
        ]
    }

    #[test]
    fn a_put_is_its_owners_alone_and_in_order() {
        assert_eq!(OURS.puts(None), Err(NotFound), "it never makes a record");
        for number in [1, 4] {
            assert_eq!(OURS.puts(Some(Stamp { number, ..OURS })), Ok(Change));
        }
        assert_eq!(OURS.puts(Some(OURS)), Ok(Keep), "it has happened");
        assert_eq!(OURS.puts(Some(OURS.next())), Ok(Keep), "it comes too late");
        for other in others() {
            assert_eq!(OURS.puts(Some(other)), Err(Stale), "{other:?}");
        }
        let behind = Stamp { generation: 2, owner: 29, number: 99, ..OURS };
        assert_eq!(OURS.puts(Some(behind)), Ok(Change), "it heals");
        assert_eq!(OURS.puts(Some(Stamp { line: 8, ..behind })), Err(Stale));
    }

    #[test]
    fn a_claim_is_over_exactly_what_was_found() {
        let ours = OURS.taken_by(40);
        assert_eq!(ours.claims(Some(OURS), Some(OURS)), Ok(Change));
        assert_eq!(ours.claims(Some(OURS), Some(ours)), Ok(Keep), "it has happened");
        assert_eq!(ours.claims(None, None), Ok(Change));
        assert_eq!(ours.claims(None, Some(OURS)), Err(Stale));
        assert_eq!(ours.claims(Some(OURS), None), Err(Stale));
        for other in others().into_iter().chain([OURS.next(), OURS.taken_by(41)]) {
            assert_eq!(ours.claims(Some(OURS), Some(other)), Err(Stale), "{other:?}");
        }
        assert_eq!(ours.claims(Some(OURS), Some(ours.next())), Err(Stale), "it comes too late");
    }

    #[test]
    fn a_touch_finds_its_own_record_or_none() {
        assert_eq!(OURS.touches(Some(OURS)), Ok(Change));
        assert_eq!(OURS.touches(Some(OURS.next())), Ok(Keep), "it comes too late");
        for other in others() {
            assert_eq!(OURS.touches(Some(other)), Err(Stale), "{other:?}");
        }
        for absent in [None, Some(Stamp { generation: 2, ..OURS })] {
            assert_eq!(OURS.touches(absent), Err(NotFound));
        }
    }

    #[test]
    fn a_removal_takes_nobody_elses() {
        assert_eq!(OURS.removes(None), Ok(Keep));
        for ours in [OURS, Stamp { number: 1, ..OURS }, Stamp { generation: 2, ..OURS }] {
            assert_eq!(OURS.removes(Some(ours)), Ok(Change), "{ours:?}");
        }
        assert_eq!(OURS.removes(Some(OURS.next())), Ok(Keep), "it comes too late");
        for other in others() {
            assert_eq!(OURS.removes(Some(other)), Err(Stale), "{other:?}");
        }
    }

    #[test]
    fn debug_prints_no_whole_session_id() {
        let line = 0x6f1d_2c3b_4a59_4687_9786_a5b4_c3d2_e1f0;
        let text = format!("{:?}", Stamp::first(line, 255).next());
        assert_eq!(text, "Stamp(6f1d2c3b… 1.2 by ff)");
    }
}
