//! A login that loses the cookie of the new identity.

#![deny(unused_must_use)]

use session_resume_axum::Session;

async fn login(session: Session) -> &'static str {
    session.cycle_identity();
    "logged in"
}

fn main() {
    let _ = login;
}
