//! Helpers of the scenario suites.

pub mod fuzzing;
