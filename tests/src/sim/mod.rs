//! Whole clusters in virtual time: the shipped engines, voters and arbiter, and a world that goes wrong around them.
//!
//! One seed is one history. The world knows the truth (who has power, what runs where) and checks the protocol's invariants
//! against it after every event; nothing here decides anything for a host.

mod clock;
mod rng;
mod setup;

pub use clock::{Clock, Micros, ms};
pub use rng::Rng;
pub use setup::{MAX_HOSTS, NAMES, Setup};
