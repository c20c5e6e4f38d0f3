//! The session machine against honest clients and a network that is not: random scripts, and every
//! interleaving of small ones.

mod ledger;
mod operations;
mod peer;
mod script;
mod world;
