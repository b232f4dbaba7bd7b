//! What the fuzzing of the drivers calls (tests/fuzz): each function takes bytes from outside and panics if a property that
//! must hold for all of them does not.

pub use crate::agent::fuzz::agent_reply;
pub use crate::haproxy::fuzz::haproxy_reply;
pub use crate::hypervisor::fuzz::hypervisor_reply;
pub use crate::ipmi::fuzz::dialogue::ipmi_dialogue;
pub use crate::ipmi::fuzz::ipmi_reply;
pub use crate::lun::fuzz::lun_reply;
pub use crate::nft::fuzz::nft_reply;
pub use crate::redfish::fuzz::redfish_reply;
pub use crate::route::fuzz::route_reply;
pub use crate::scsi::fuzz::{nvme_reply, scsi_reply};
pub use crate::ssh::fuzz::ssh_words;
pub use crate::switch::fuzz::switch_reply;
