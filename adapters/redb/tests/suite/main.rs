//! What is special to this store: the file, its lock, crashes and damage.

mod support;

mod crash;
mod damage;
mod lifecycle;
