//! Ten thousand suspended sessions: held, counted, swept. A process of its own, so that memory can be told.

#[allow(dead_code, unused_imports, reason = "the helpers of the suite")]
#[path = "suite/support/mod.rs"]
mod support;

use session_resume::{SessionResume, reuse::Phase};

use crate::support::{Browser, idle, settle, sleep};

const SESSIONS: usize = 10_000;

#[tokio::test(start_paused = true)]
async fn ten_thousand_suspended_sessions_are_held_and_swept() {
    let resume = SessionResume::new();
    // The first sessions need some memory that later ones share: it is not counted.
    hold(&resume, 100).await;
    sleep(130.0).await;
    assert!(resume.sessions().is_empty());

    let before = resident_bytes();
    hold(&resume, SESSIONS).await;
    let sessions = resume.sessions();
    assert_eq!(sessions.len(), SESSIONS);
    assert!(sessions.iter().all(|session| session.phase == Phase::Suspended));
    drop(sessions);
    let per_session = resident_bytes().saturating_sub(before) / SESSIONS;
    println!("{per_session} resident bytes per suspended session");
    assert!(per_session < 16 << 10, "{per_session} bytes");

    // Holding them took 10 to 20 s.
    sleep(99.0).await;
    assert_eq!(resume.sessions().len(), SESSIONS, "held for as long as it was promised");
    sleep(27.0).await;
    assert!(resume.sessions().is_empty(), "and swept in time");
}

/// Starts this many sessions whose handlers wait in `recv` and whose clients have gone.
async fn hold(resume: &SessionResume, sessions: usize) {
    for _ in 0..sessions {
        let wire = Browser::default().connect(resume, None, idle).await.unwrap();
        settle().await;
        wire.cut();
    }
    settle().await;
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|text| text.trim().strip_suffix("kB"));
    kib.and_then(|text| text.trim().parse::<usize>().ok()).unwrap_or(0) << 10
}
