//! A handler whose result cannot become JSON.

use session_resume_axum::ResumeUpgrade;

struct Report;

async fn live(upgrade: ResumeUpgrade) -> axum::response::Response {
    upgrade.on_session(|_session| async move { Ok(Report) })
}

fn main() {
    let _ = live;
}
