//! A state that no store can keep, where one is promised.

use session_resume::SessionResume;

#[derive(Default)]
struct Counter {
    clicks: u64,
}

fn main() {
    let resume = SessionResume::new().with_state::<Counter>();
    drop(resume);
}
