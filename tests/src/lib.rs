//! Helpers of the scenario suites.
