use std::sync::atomic::{AtomicU64, Ordering};

/// What a store has written since it was opened.
///
/// `writes / commits` is how well calls are grouped: near 1 the store is idle enough to answer each at
/// once; when it grows, syncs are the bottleneck and grouping does its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Commits, one sync each. Calls that change nothing cause none.
    pub commits: u64,
    /// Writing calls that a commit has made durable.
    pub writes: u64,
    /// Commits that failed, with all their calls.
    pub failures: u64,
    /// How often the file was compacted, also when it was opened.
    pub compactions: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    writes: AtomicU64,
    failures: AtomicU64,
    compactions: AtomicU64,
    reads: AtomicU64,
}

impl Counters {
    pub(crate) fn committed(&self, writes: usize) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(writes as u64, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn compacted(&self) {
        self.compactions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read_begun(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many reads were begun.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    pub(crate) fn read(&self) -> Stats {
        Stats {
            commits: self.commits.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            compactions: self.compactions.load(Ordering::Relaxed),
        }
    }
}
