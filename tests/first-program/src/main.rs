//! The README's first program.
#![allow(clippy::pedantic, clippy::nursery, missing_docs, reason = "README programs are short")]

include!(concat!(env!("OUT_DIR"), "/program.rs"));
