//! What is asked and ordered on the host with the table.

use core::fmt;
use std::net::IpAddr;

use palisade_ladder::Reading;

use super::table::{self, Table};
use crate::ssh::Point;

/// What tells the flowtables of a host.
pub(crate) const FLOWTABLES: &str = "nft -j list flowtables";
/// Why one of them keeps a cut from being one.
pub(crate) const FLOWTABLE: &str =
    "a flowtable of that host forwards established flows past every rule and route: remove it";
/// The most addresses of one host.
const ADDRESSES_MAX: usize = 64;

/// The addresses of one host. Checked once, by [`NftPoint::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftPoint {
    addresses: Vec<IpAddr>,
    spared: Vec<u16>,
}

/// Addresses that cannot be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressesError {
    /// None, or more than a host has.
    Number(usize),
    /// One that is no single host's.
    Address(IpAddr),
}

impl fmt::Display for AddressesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number} addresses, where there may be 1 to {ADDRESSES_MAX}"),
            Self::Address(address) => write!(f, "{address} is not the address of a single host"),
        }
    }
}

impl std::error::Error for AddressesError {}

impl NftPoint {
    /// `addresses`: every one by which the host reaches what it is cut from.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn new(addresses: &[IpAddr]) -> Result<Self, AddressesError> {
        Ok(Self { addresses: checked(addresses)?, spared: Vec::new() })
    }

    /// The same on a host that is a peer of the one that is cut off. `ports`: its own UDP ports on which the two speak of that; one
    /// of them at least, and each is one program's alone.
    #[must_use]
    pub fn sparing(mut self, ports: &[u16]) -> Self {
        self.spared = ports.to_vec();
        self.spared.sort_unstable();
        self.spared.dedup();
        self
    }
}

/// Sorted, none twice.
pub(crate) fn checked(addresses: &[IpAddr]) -> Result<Vec<IpAddr>, AddressesError> {
    if !(1..=ADDRESSES_MAX).contains(&addresses.len()) {
        return Err(AddressesError::Number(addresses.len()));
    }
    let broadcast = |address: &IpAddr| matches!(address, IpAddr::V4(address) if address.is_broadcast());
    let unusable = |address: &&IpAddr| {
        let unspecific = address.is_unspecified() || address.is_multicast() || address.is_loopback();
        // One that is written in the other family would stand in a set that no packet meets.
        unspecific || broadcast(address) || address.to_canonical() != **address
    };
    if let Some(address) = addresses.iter().find(unusable) {
        return Err(AddressesError::Address(*address));
    }
    let mut addresses = addresses.to_vec();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

impl Point for NftPoint {
    type View = Table;

    fn questions(&self) -> Vec<String> {
        vec![
            // A table that is not there is no error: nobody has been cut here yet.
            "tables=$(nft list tables inet) || return $?\n\
             if echo \"$tables\" | grep -qx 'table inet palisade'; then nft -j list table inet palisade; fi"
                .to_owned(),
            FLOWTABLES.to_owned(),
        ]
    }

    fn view(&self, answers: &[String]) -> Result<Table, String> {
        let [table, flowtables] = answers else { return Err("not two answers".to_owned()) };
        table::read(table, flowtables, &self.spared)
    }

    fn reading(&self, view: &Table) -> Reading {
        view.reading(&self.addresses)
    }

    fn hindrance(&self, view: &Table) -> Option<String> {
        view.has_flowtable().then(|| FLOWTABLE.to_owned())
    }

    fn cut(&self, _view: &Table) -> String {
        script(&table::cut(&self.addresses, &self.spared))
    }

    fn open(&self, _view: &Table) -> String {
        script(&table::open(&self.addresses, &self.spared))
    }

    fn subject(&self) -> String {
        subject(&self.addresses)
    }
}

/// Whose addresses they are, for people.
pub(crate) fn subject(addresses: &[IpAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!("for {}", addresses.join(", "))
}

/// One transaction: all of it, or nothing.
fn script(text: &str) -> String {
    format!("nft -f - <<'END'\n{text}END")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_single_hosts() {
        let new = |addresses: &[&str]| {
            NftPoint::new(&addresses.iter().map(|address| address.parse().unwrap()).collect::<Vec<_>>())
        };
        let sorted = new(&["fd00::2", "10.0.0.2", "10.0.0.2"]).unwrap();
        assert_eq!(sorted.subject(), "for 10.0.0.2, fd00::2");
        assert_eq!(new(&[]), Err(AddressesError::Number(0)));
        for address in
            ["0.0.0.0", "::", "127.0.0.1", "::1", "224.0.0.1", "255.255.255.255", "::ffff:10.0.0.2"]
        {
            assert_eq!(new(&["10.0.0.2", address]), Err(AddressesError::Address(address.parse().unwrap())));
        }
    }
}
