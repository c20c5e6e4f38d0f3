//! Several testees on one Redis, behind no balancer: the tests choose where a client lands.

mod node;
mod one_hop;
mod owner_lost;
mod strangers;
