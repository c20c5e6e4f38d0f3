//! The agent over real sockets: what ConnectOnion's users were promised.

mod known_issue;
mod life;
mod process;
mod restart;
mod support;
