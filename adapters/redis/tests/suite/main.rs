//! The store against real servers. They are started by the tests, on free ports, in temporary folders.

mod connect;
mod contract;
mod faults;
mod support;
