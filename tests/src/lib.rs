//! The simulation ([`sim`]): whole clusters in virtual time, the truth held against every event.
//!
//! The lab: real agents on hosts made of network namespaces and cgroups, with real BMCs, a real broker and the real witness.
//!
//! Guests ([`guests`]): virtual machines, where a kernel of its own is needed.
//!
//! Nothing here decides anything for the cluster: the lab gives power, links and knobs, and reads what the hosts wrote down.

pub mod explore;
pub mod guests;
pub mod lab;
pub mod measure;
pub mod scenario;
pub mod side_by_side;
pub mod sim;
