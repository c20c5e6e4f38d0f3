//! A state that is for memory alone, and a store.

use session_resume::{SessionResume, store::MemoryStore};

struct Counter {
    clicks: u64,
}

fn main() {
    let resume = SessionResume::new().with_memory_state(|_| Counter { clicks: 0 });
    drop(resume.with_store(MemoryStore::new()));
}
