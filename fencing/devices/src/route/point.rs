//! What is asked and ordered on the host with the routes.

use std::net::{IpAddr, Ipv4Addr};

use palisade_ladder::Reading;

use super::table::{self, PRIORITY, Routes, TABLE};
use crate::nft::{AddressesError, FLOWTABLES, checked, subject};
use crate::ssh::Point;

/// By what our routes are known among others.
const PROTOCOL: u8 = 77;

/// The addresses of one host. Checked once, by [`RoutePoint::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePoint {
    addresses: Vec<Ipv4Addr>,
}

impl RoutePoint {
    /// `addresses`: every one by which the host reaches what it is cut from. IPv4 only: nothing checks the source of IPv6.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn new(addresses: &[IpAddr]) -> Result<Self, AddressesError> {
        let four = |address: IpAddr| match address {
            IpAddr::V4(address) => Ok(address),
            IpAddr::V6(_) => Err(AddressesError::Address(address)),
        };
        Ok(Self { addresses: checked(addresses)?.into_iter().map(four).collect::<Result<_, _>>()? })
    }
}

impl Point for RoutePoint {
    type View = Routes;

    fn questions(&self) -> Vec<String> {
        let gets = self
            .addresses
            .iter()
            .map(|address| format!("echo {address} $(ip -4 route get {address} 2>&1)\n"));
        vec![
            "ip -4 -N -j rule show".to_owned(),
            // A table that is not there is no error: nobody has been cut here yet.
            format!(
                "routes=$(ip -4 -j route show table {TABLE} 2>&1) || case $routes in\n\
                 *'FIB table does not exist'*) routes='[]' ;;\n*) echo \"$routes\" >&2; return 1 ;;\nesac\necho \"$routes\""
            ),
            gets.collect(),
            // An interface that goes away meanwhile is none; one whose setting cannot be read is in doubt. A shell's own `read`
            // would take these files byte by byte, of which the kernel gives the first alone.
            "cd /proc/sys/net/ipv4/conf && for name in *; do\n\
             if checks=$(cat \"$name/rp_filter\"); then echo \"$checks $name\"; elif [ -e \"$name\" ]; then return 1; fi\ndone"
                .to_owned(),
            format!("if command -v nft >/dev/null; then {FLOWTABLES}; fi"),
        ]
    }

    fn view(&self, answers: &[String]) -> Result<Routes, String> {
        let [rules, routes, gets, checks, flowtables] = answers else {
            return Err("not five answers".to_owned());
        };
        table::read(rules, routes, gets, checks, flowtables)
    }

    fn reading(&self, view: &Routes) -> Reading {
        view.reading(&self.addresses)
    }

    fn hindrance(&self, view: &Routes) -> Option<String> {
        view.hindrance()
    }

    fn cut(&self, view: &Routes) -> String {
        let lines = self.addresses.iter().map(|address| {
            // One of another type of service would stand beside ours.
            let clear = if view.has_another(*address) { flush(*address) } else { String::new() };
            format!("{clear}route replace unreachable {address}/32 table {TABLE} proto {PROTOCOL}\n")
        });
        // The rule is the same for all hosts, and mostly there: whether it is, is read back.
        format!("ip -4 rule add priority {PRIORITY} lookup {TABLE} 2>/dev/null\n{}", batch(lines))
    }

    fn open(&self, view: &Routes) -> String {
        let there = self.addresses.iter().filter(|address| view.has(**address));
        batch(there.map(|address| flush(*address)))
    }

    fn subject(&self) -> String {
        subject(&self.addresses.iter().copied().map(IpAddr::V4).collect::<Vec<_>>())
    }
}

/// Everything that our table has for this address.
fn flush(address: Ipv4Addr) -> String {
    format!("route flush exact {address}/32 table {TABLE}\n")
}

fn batch(lines: impl Iterator<Item = String>) -> String {
    format!("ip -4 -batch - <<'END'\n{}END", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_whose_source_can_be_checked_are_cut() {
        let new = |address: &str| RoutePoint::new(&[address.parse().unwrap()]);
        assert_eq!(new("10.0.0.2").unwrap().subject(), "for 10.0.0.2");
        assert_eq!(new("fd00::2"), Err(AddressesError::Address("fd00::2".parse().unwrap())));
        assert!(new("127.0.0.1").is_err());
    }
}
