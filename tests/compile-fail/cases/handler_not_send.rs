//! A handler that keeps something across an await that cannot move to another thread.

use std::{cell::Cell, rc::Rc};

use session_resume_axum::ResumeUpgrade;

async fn live(upgrade: ResumeUpgrade) -> axum::response::Response {
    upgrade.on_session(|mut session| async move {
        let clicks = Rc::new(Cell::new(0));
        while let Some(_click) = session.recv().await {
            clicks.set(clicks.get() + 1);
        }
        Ok(())
    })
}

fn main() {
    let _ = live;
}
