//! A host's way to a LUN taken away at the iSCSI target that serves it, over ssh.
//!
//! The target is `tgt` (`tgtadm`) or Linux's own, LIO (configfs). An off takes the initiator's right to log in, and then its
//! sessions; what it had is kept there, so that an on gives back just that, and so that an initiator that the target never knew (a
//! mistyped one) is not taken for one that was cut off. Decides what counts as revoked: no right, no session, and no way for just
//! anybody (SAFE-4).
//!
//! What it cannot see: another target that serves the same LUN; at tgt a login that was begun before the cut and is finished after
//! it; at LIO whom it remembers of a demo mode that was on, and is off again, after the cut.
//!
//! From the bottom: `tgt` and `lio` know one target each (pure), `point` says what is done over ssh.

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod lio;
mod point;
mod tgt;

pub use point::{LunConfigError, LunPoint, Target};

use crate::ssh::Enforcing;

/// One host's way to the LUNs of one target.
pub type Lun = Enforcing<LunPoint>;
