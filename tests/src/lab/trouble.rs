//! The lab's one error: what was being done, and what came instead.

use std::fmt::{self, Display};

/// Something in the lab (not in the cluster under test) went wrong, or an expectation did not hold.
#[derive(Debug)]
pub struct Trouble(String);

/// What every step of the lab returns.
pub type Result<T> = std::result::Result<T, Trouble>;

impl Trouble {
    /// A trouble in a person's words.
    pub fn new(what: impl Display) -> Self {
        Self(what.to_string())
    }
}

impl Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

/// Says what was being done when something failed.
pub trait Context<T> {
    /// Puts `what` before the cause.
    ///
    /// # Errors
    /// The same failure, in words.
    fn during(self, what: impl Display) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn during(self, what: impl Display) -> Result<T> {
        self.map_err(|cause| Trouble(format!("{what}: {cause}")))
    }
}

impl<T> Context<T> for Option<T> {
    fn during(self, what: impl Display) -> Result<T> {
        self.ok_or_else(|| Trouble(format!("{what}: not there")))
    }
}
