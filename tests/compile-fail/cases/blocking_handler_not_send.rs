//! A handler for a thread of its own that takes along what cannot leave this one.

use std::rc::Rc;

use session_resume_axum::ResumeUpgrade;

async fn live(upgrade: ResumeUpgrade) -> axum::response::Response {
    let greeting = Rc::new("hello".to_owned());
    upgrade.on_session_blocking(move |mut session| {
        while let Some(_click) = session.recv() {
            session.send(greeting.as_str())?;
        }
        Ok(())
    })
}

fn main() {
    let _ = live;
}
