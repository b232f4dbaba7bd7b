//! Rules of PROTOCOL and DESIGN that the engine has once held only half, each as one engine and the inputs that showed it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the variants it is about")]

#[path = "../common/mod.rs"]
mod common;

mod cold;
mod fences;
mod growth;
mod health;
mod isolation;
mod leaving;
mod packets;
mod standing;
mod walls;
mod wishes;
mod witness;
mod workloads;
