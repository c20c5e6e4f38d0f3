//! What the benchmarks share: the services that are compared, and how their cost is measured.
//!
//! `cargo bench -p session-resume-benches` runs the in-process ones under criterion;
//! `cargo run --release -p session-resume-benches --bin load -- all` all of them, sockets included, and prints
//! each target of the design with what was measured. `RESULTS.md` has the last numbers.

pub mod by_hand;
pub mod counting;
pub mod measure;
pub mod services;
