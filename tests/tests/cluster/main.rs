//! Several testees on one Redis, behind no balancer: the tests choose where a client lands.

mod node;
mod one_hop;
mod owner_lost;
mod pipes;
mod strangers;

#[allow(dead_code, reason = "one node's suite uses more of it")]
#[path = "../suite/requests.rs"]
mod requests;
