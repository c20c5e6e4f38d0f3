//! session-resume for axum.
