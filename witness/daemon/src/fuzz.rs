//! What the fuzzing of the witness calls (tests/fuzz): each function takes bytes from outside and panics if a property that
//! must hold for all of them does not.

pub use crate::config::fuzz::witness_config;
pub use crate::witness::fuzz::witness_ask;
