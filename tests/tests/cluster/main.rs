//! Several testees on one Redis, behind no balancer: the tests choose where a client lands.
//!
//! These tests wait most of the time, so `tests/run` runs many of them at once, apart from the others: by the name of the
//! module.

mod several_nodes;
