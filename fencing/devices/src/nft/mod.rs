//! A host's network cut by nftables: on a storage host or a router, over ssh, or by each of its peers on itself.
//!
//! Everything to and from the host's addresses is dropped there, in a table of our own (`inet palisade`) that comes before every
//! other and knows no established flow. Its sets hold the addresses of all hosts that are cut; an order touches those of its own
//! host alone. Decides what counts as cut: every address in the set, and every drop as it was written, in every hook, in a table
//! that is awake. A rule that somebody has removed leaves nothing off (SAFE-4).
//!
//! What it cannot see: frames that the host bridges or that are not of IP (AoE, FCoE), and what hardware (RDMA) or a program below
//! netfilter (XDP, tc, DPDK) takes. A flowtable, which forwards established flows past every hook, is seen, and refused.
//!
//! From the bottom: `table` reads and writes the table (pure), `point` says what is done over ssh.

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod point;
mod table;

pub use point::{AddressesError, NftPoint};
pub(crate) use point::{FLOWTABLE, FLOWTABLES, checked, subject};
pub(crate) use table::flows_past;

use crate::ssh::Enforcing;

/// The network of one host, cut by nftables on another one.
pub type Nft = Enforcing<NftPoint>;
