//! A handler that returns what is no outcome.

use session_resume_axum::ResumeUpgrade;

async fn live(upgrade: ResumeUpgrade) -> axum::response::Response {
    upgrade.on_session(|_session| async move { "done" })
}

fn main() {
    let _ = live;
}
