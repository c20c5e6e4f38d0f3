//! The README's test, from the README's text.
#![allow(clippy::pedantic, clippy::nursery, missing_docs, reason = "README programs are short")]

include!(concat!(env!("OUT_DIR"), "/test.rs"));
