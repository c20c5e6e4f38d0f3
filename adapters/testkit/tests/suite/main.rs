//! What the kit promises. Each verb does what it says, no less and no more: else tests that use it prove nothing.

mod apps;
mod browser;
mod restart;
mod text;
mod verbs;
