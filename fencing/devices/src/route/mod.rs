//! A host's network cut by the routes of a storage host or a router, over ssh.
//!
//! The host's addresses become unreachable in a table of our own, which a rule asks before every other but the one of local
//! addresses. That stops what goes to the host. By itself it does not stop what comes from it: a datagram needs no answer, and a
//! connection that stands takes a window full of data without one. So the way in must be closed as well, and the kernel closes it:
//! a packet whose source has no route back is dropped on an interface that checks sources (`rp_filter` of 1 or 2; RFC 3704).
//! Decides what counts as cut: the routes, the rule before all others, and that check on every interface, also on those to come
//! (SAFE-4). Where an interface does not check, nothing is ordered, since nothing would be proven; and IPv6, which has no such
//! check, is not cut here at all.
//!
//! What it cannot see: frames that the host bridges or that are not of IP, what hardware or a program below the kernel's routing
//! takes (XDP, tc), packets that come through IPsec, whose source is not checked, and the flowtables of a host without nft.
//!
//! From the bottom: `table` reads rules, routes and checks (pure), `point` says what is done over ssh.

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod point;
mod table;

pub use point::RoutePoint;

use crate::ssh::Enforcing;

/// The network of one host, cut by the routes of another one.
pub type Route = Enforcing<RoutePoint>;
