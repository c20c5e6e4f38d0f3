mod crowds;
mod engine;
mod everywhere;
mod hand_over;
mod histories;
mod hops;
mod load;
mod node;
mod one_hop;
mod owner_lost;
mod pipes;
mod put_again;
mod strangers;
mod zombies;

#[allow(dead_code, reason = "one node's suite uses more of it")]
#[path = "../../suite/requests.rs"]
mod requests;
