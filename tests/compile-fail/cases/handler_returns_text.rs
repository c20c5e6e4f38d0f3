//! A handler that returns a value that is not an outcome.

use session_resume_axum::ResumeUpgrade;

async fn live(upgrade: ResumeUpgrade) -> axum::response::Response {
    upgrade.on_session(|_session| async move { "done" })
}

fn main() {
    let _ = live;
}
