//! Helpers of the scenario suites: the testee as a child process. Browsers, sockets and broken networks are
//! `session_resume_testkit`.

pub mod fuzzing;
pub mod linearizable;
mod process;
mod rng;

pub use self::{
    process::{Framework, Testee},
    rng::Rng,
};

/// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
