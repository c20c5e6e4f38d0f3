//! The rules of session-resume as pure state machines.
