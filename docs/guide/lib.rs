//! The guide. Its pages are in `src/`; mdBook makes a book of them (`tests/run` does).
//!
//! The programs on the pages are tests of this crate's documentation.

#![cfg(doctest)]

#[doc = include_str!("src/recipes.md")]
mod recipes {}

#[doc = include_str!("src/testing.md")]
mod testing {}

#[doc = include_str!("src/stores.md")]
mod stores {}

#[doc = include_str!("src/deploys.md")]
mod deploys {}

#[doc = include_str!("src/from-axum.md")]
mod from_axum {}

#[doc = include_str!("src/troubleshooting.md")]
mod troubleshooting {}
