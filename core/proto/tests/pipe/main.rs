//! Pipes against a network that loses, delays, doubles and reorders requests: every interleaving of a few of them, with
//! the real machines at both ends, and the planted faults that this must find.

mod bounds;
mod cases;
mod client_side;
mod copies;
mod deed;
mod fault;
mod search;
mod server_side;
mod vectors;
mod world;
