//! The session machine against honest clients and a bad network: random scripts, and every
//! interleaving of small ones.

mod fault;
mod faults;
mod ledger;
mod model;
mod operations;
mod peer;
mod poison;
mod script;
mod skips;
mod world;
