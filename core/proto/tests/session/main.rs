//! The session machine against honest clients and a network that is not: random scripts, and every
//! interleaving of small ones.

mod faults;
mod ledger;
mod model;
mod operations;
mod peer;
mod poison;
mod script;
mod world;
