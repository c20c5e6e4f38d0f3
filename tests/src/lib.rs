//! Helpers of the scenario suites: the testee as a child process. Browsers, sockets and broken networks are
//! `session_resume_testkit`.

pub mod fuzzing;
mod process;

pub use self::process::{Framework, Testee};

/// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
