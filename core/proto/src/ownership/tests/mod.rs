//! Tables, random scripts, and a search through every interleaving.

mod bench;
mod lease;
mod owned;
mod random;

mod record;
mod search;
mod seek;
mod support;
