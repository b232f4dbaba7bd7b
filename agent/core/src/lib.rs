//! What the Palisade agent decides: quorum, view, electorate, fencing, placement. All of it pure.
//!
//! Decides: everything an agent decides, in [`Engine`]. Never: I/O of any kind, a clock, a thread, global randomness.
#![forbid(unsafe_code)]

pub mod action;
pub mod config;
mod electorate;
pub mod engine;
pub mod health;
pub mod input;
pub mod record;
pub mod replay;
pub mod standing;
pub mod status;
mod support;
mod view;

pub use engine::Engine;
pub use input::Input;
