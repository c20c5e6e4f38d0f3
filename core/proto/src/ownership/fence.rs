use std::{fmt, num::NonZeroU64};

/// One life of a node, as the engine knows it: random, never zero. One that is *gone* never comes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(NonZeroU64);

impl Incarnation {
    /// Creates an incarnation from random bytes, or from a record's number; `None` for zero, which stands for nobody.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Who may write a record: line, generation and owner together name one claim of one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence {
    /// Which of the sessions that a key has one after the other: the session's id.
    pub line: u128,
    /// How often the line has been claimed; 1 for a new one.
    pub generation: u64,
    /// The node's life that has claimed it; `None` after a release.
    pub owner: Option<Incarnation>,
}

impl Fence {
    /// Returns the fence of the first claim of a new line.
    pub const fn first(line: u128, by: Incarnation) -> Self {
        Self { line, generation: 1, owner: Some(by) }
    }

    /// Returns the fence of the next claim of this line.
    ///
    /// # Panics
    ///
    /// After 2^64 - 1 claims, which no line reaches.
    #[must_use]
    pub const fn taken_by(self, by: Incarnation) -> Self {
        let generation = self.generation.checked_add(1).expect("no line is claimed 2^64 times");
        Self { line: self.line, generation, owner: Some(by) }
    }

    /// Returns the fence that a release of this one leaves.
    #[must_use]
    pub const fn released(self) -> Self {
        Self { owner: None, ..self }
    }

    /// Returns whether `self` comes from an earlier claim of the same line than `other`.
    pub const fn is_before(self, other: Self) -> bool {
        self.line == other.line && self.generation < other.generation
    }
}

// By hand: a line is a session's id, which logs name by its beginning alone.
impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, generation, owner } = self;
        write!(f, "Fence({:08x}… {generation}", line >> 96)?;
        match owner {
            Some(owner) => write!(f, " of {owner:?})"),
            None => f.write_str(" of nobody)"),
        }
    }
}

/// A record that has just been claimed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Claimed {
    /// Who owns it from now on.
    pub fence: Fence,
    /// The number of the last write that it has seen.
    pub version: u64,
    /// What the claim has found.
    pub found: Found,
}

/// What a claim has found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Found {
    /// Nothing, or a session that had ended: a new line begins.
    New,
    /// A session whose last owner had said that nothing follows: it goes on without a gap.
    Clean,
    /// A session that may have gone on after what the record says. A claim that has happened already, because its answer
    /// was lost, finds this, too.
    Open,
}
