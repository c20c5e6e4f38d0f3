//! An allocator that counts while it is told to: allocation counts are exact where timings are not.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
};

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

/// The system's allocator, counted. While no count is under way it costs one load of a flag.
#[derive(Debug)]
pub struct Counting;

/// What has been allocated while something ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heap {
    /// Calls of `alloc` and `realloc`.
    pub allocations: u64,
    /// Bytes that are there now and were not before, as asked for (not as rounded by the allocator).
    pub live_bytes: i64,
}

/// Counts until it is stopped.
#[derive(Debug)]
#[must_use = "stop it to see what was counted"]
pub struct Counter {
    before: Heap,
}

/// Starts to count what all threads of the process allocate. Only one count is under way at a time.
pub fn start() -> Counter {
    let counter = Counter { before: now() };
    COUNTING.store(true, Relaxed);
    counter
}

impl Counter {
    /// Stops, and returns what was counted.
    pub fn stop(self) -> Heap {
        COUNTING.store(false, Relaxed);
        self.so_far()
    }

    /// Returns what was counted so far.
    #[must_use]
    pub fn so_far(&self) -> Heap {
        let (before, after) = (self.before, now());
        Heap {
            allocations: after.allocations - before.allocations,
            live_bytes: after.live_bytes - before.live_bytes,
        }
    }
}

fn now() -> Heap {
    Heap { allocations: ALLOCATIONS.load(Relaxed), live_bytes: LIVE_BYTES.load(Relaxed) }
}

fn note(allocations: u64, bytes: i64) {
    if COUNTING.load(Relaxed) {
        ALLOCATIONS.fetch_add(allocations, Relaxed);
        LIVE_BYTES.fetch_add(bytes, Relaxed);
    }
}

fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[expect(
    unsafe_code,
    reason = "the trait of allocators is unsafe; every call is passed on unchanged"
)]
// SAFETY: `System` keeps the contract, and counting neither allocates nor touches the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, signed(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, signed(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        note(0, -signed(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, signed(size) - signed(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(ptr, layout, size) }
    }
}
