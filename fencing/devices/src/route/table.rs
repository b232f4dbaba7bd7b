//! Our table and its rule: what `ip -j` (iproute2) prints of them, and what the kernel checks. Pure.

use std::net::Ipv4Addr;

use palisade_ladder::Reading;
use serde_json::{Map, Value};

use crate::nft::{FLOWTABLE, flows_past};

pub(super) const TABLE: u32 = 7700;
/// Before the tables of everybody (32766); only that of the host's own addresses (0) comes first.
pub(super) const PRIORITY: u32 = 10;
/// Of the table of local addresses.
const LOCAL: [&str; 2] = ["255", "local"];

/// What `ip` prints of one thing.
type Object = Map<String, Value>;

/// What is known of routes, rules and checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// Our rule is there, and nothing but the one of local addresses comes before it.
    ruled: bool,
    /// A rule that comes before ours, or would; in words.
    before: Option<String>,
    /// Of our table: each destination, and whether its route is exactly one that nothing passes.
    routes: Vec<(String, bool)>,
    /// What the kernel answers for the way to an address; whether that it is unreachable.
    ways: Vec<(Ipv4Addr, bool)>,
    /// Interfaces that take packets from anywhere.
    unchecked: Vec<String>,
    /// Established flows are forwarded without a look at routes.
    flowtable: bool,
}

impl Routes {
    /// SAFE-4: off only if nothing goes to any address, and nothing comes from it; on only if none is in our table.
    pub(super) fn reading(&self, addresses: &[Ipv4Addr]) -> Reading {
        if !addresses.iter().any(|address| self.has(*address)) {
            return Reading::On;
        }
        let closed = |address: &Ipv4Addr| {
            let shut = (address.to_string(), true);
            let routes = self.routes.iter().filter(|(to, _)| *to == shut.0);
            routes.collect::<Vec<_>>() == [&shut] && self.ways.contains(&(*address, true))
        };
        match self.ruled && self.hindrance().is_none() && addresses.iter().all(closed) {
            true => Reading::Off,
            false => Reading::Unknown,
        }
    }

    /// Whether our table has anything for this address.
    pub(super) fn has(&self, address: Ipv4Addr) -> bool {
        self.routes.iter().any(|(to, _)| *to == address.to_string())
    }

    /// Whether our table has anything for this address that we did not write.
    pub(super) fn has_another(&self, address: Ipv4Addr) -> bool {
        self.routes.iter().any(|(to, shut)| *to == address.to_string() && !shut)
    }

    pub(super) fn hindrance(&self) -> Option<String> {
        if self.flowtable {
            return Some(FLOWTABLE.to_owned());
        }
        if let Some(first) = self.unchecked.first() {
            return Some(format!(
                "{first} of that host takes packets from any source (rp_filter 0), also from who is cut: set it to 1 or 2 there, for \
                 all and default as well"
            ));
        }
        self.before
            .as_ref()
            .map(|rule| format!("the rule {rule} of that host comes before ours: move it behind {PRIORITY}"))
    }
}

/// Reads the rules, our table, a line for each way, a line for each interface, and what nft prints of flowtables, if the host has
/// it. Fails with what is wrong.
pub(super) fn read(
    rules: &str,
    routes: &str,
    ways: &str,
    checks: &str,
    flowtables: &str,
) -> Result<Routes, String> {
    let (ruled, before) = ruled(&objects(rules)?);
    let routes = objects(routes)?.iter().map(route).collect::<Result<_, _>>()?;
    let ways = ways.lines().filter(|line| !line.trim().is_empty()).map(way).collect::<Result<_, _>>()?;
    let flowtable = !flowtables.trim().is_empty() && flows_past(flowtables)?;
    Ok(Routes { ruled, before, routes, ways, unchecked: unchecked(checks)?, flowtable })
}

/// Whether our rule is in force, and which one comes before it, or would.
fn ruled(rules: &[Object]) -> (bool, Option<String>) {
    let number = |rule: &Object| rule.get("priority").and_then(Value::as_u64);
    for rule in rules {
        // One that is for some packets only has a key more.
        let plain = rule.keys().all(|key| ["priority", "src", "table", "protocol"].contains(&key.as_str()));
        let table = text(rule, "table");
        let all = plain && text(rule, "src") == "all";
        if all && table == TABLE.to_string() {
            return (true, None);
        }
        let local = all && LOCAL.contains(&table);
        let early = number(rule).is_none_or(|number| number <= u64::from(PRIORITY));
        if !local && early {
            return (false, Some(Value::Object(rule.clone()).to_string()));
        }
        if !early {
            break;
        }
    }
    (false, None)
}

/// One route: where to, and whether nothing passes it, whatever its type of service.
fn route(route: &Object) -> Result<(String, bool), String> {
    let to = text(route, "dst");
    if to.is_empty() {
        return Err("ip -j route: one without its destination".to_owned());
    }
    Ok((to.to_owned(), text(route, "type") == "unreachable" && !route.contains_key("tos")))
}

/// `10.0.0.2 RTNETLINK answers: No route to host`
fn way(line: &str) -> Result<(Ipv4Addr, bool), String> {
    let (address, answer) = line.split_once(' ').ok_or_else(|| format!("ip route get: {line}"))?;
    let address = address.parse().map_err(|_| format!("ip route get: {line}"))?;
    Ok((address, answer.trim() == "RTNETLINK answers: No route to host"))
}

/// Lines such as `2 eth0`: the interfaces whose sources are not checked. The larger of an interface's own and that of all counts.
fn unchecked(checks: &str) -> Result<Vec<String>, String> {
    let line = |line: &str| {
        let (checks, name) = line.split_once(' ')?;
        Some((checks.parse::<u8>().ok()?, name.to_owned()))
    };
    let lines: Option<Vec<_>> = checks.lines().filter(|text| !text.trim().is_empty()).map(line).collect();
    let lines = lines.ok_or("rp_filter: lines of another form")?;
    let of = |name: &str| lines.iter().find(|(_, other)| other == name).map(|(checks, _)| *checks);
    let (Some(all), Some(_)) = (of("all"), of("default")) else {
        return Err("rp_filter: neither of all nor by default".to_owned());
    };
    let loose = lines.iter().filter(|(checks, name)| *checks.max(&all) == 0 && name != "all" && name != "lo");
    Ok(loose.map(|(_, name)| name.clone()).collect())
}

/// A list of objects.
fn objects(answer: &str) -> Result<Vec<Object>, String> {
    serde_json::from_str(answer).map_err(|error| format!("ip -j: no list of objects: {error}"))
}

fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What iproute2 6.1 prints.
    const RULES: &str = r#"[{"priority":0,"src":"all","table":"255"},{"priority":10,"src":"all","table":"7700"},{"priority":32766,"src":"all","table":"254"}]"#;
    const ROUTES: &str = r#"[{"type":"unreachable","dst":"10.0.0.2","protocol":"77","flags":[]},{"type":"unreachable","dst":"10.0.0.3","protocol":"77","flags":[]}]"#;
    const WAYS: &str =
        "10.0.0.2 RTNETLINK answers: No route to host\n10.0.0.3 RTNETLINK answers: No route to host\n";
    const CHECKS: &str = "0 all\n2 default\n2 eth0\n0 lo\n";

    fn reading(rules: &str, routes: &str, ways: &str, checks: &str, address: &str) -> Reading {
        read(rules, routes, ways, checks, "").unwrap().reading(&[address.parse().unwrap()])
    }

    /// SAFE-4
    #[test]
    fn off_is_no_way_to_it_and_none_from_it() {
        assert_eq!(reading(RULES, ROUTES, WAYS, CHECKS, "10.0.0.2"), Reading::Off);
        assert_eq!(reading(RULES, ROUTES, WAYS, CHECKS, "10.0.0.4"), Reading::On);
        assert_eq!(reading(RULES, "[]", "", CHECKS, "10.0.0.2"), Reading::On);
        let both = ["10.0.0.2".parse().unwrap(), "10.0.0.4".parse().unwrap()];
        assert_eq!(
            read(RULES, ROUTES, WAYS, CHECKS, "").unwrap().reading(&both),
            Reading::Unknown,
            "one of two"
        );
        for (from, to) in [
            (r#"{"priority":10,"src":"all","table":"7700"},"#, ""),
            (r#"{"priority":10,"#, r#"{"priority":10,"iif":"eth0","#),
            (r#"{"priority":10,"src":"all""#, r#"{"priority":10,"src":"10.0.0.9""#),
            (r#"{"priority":0,"#, r#"{"priority":0,"not":null,"#),
            (r#"{"priority":10,"#, r#"{"priority":5,"src":"all","table":"100"},{"priority":10,"#),
            (r#""table":"255""#, r#""table":"254""#),
        ] {
            let rules = RULES.replacen(from, to, 1);
            assert_ne!(rules, RULES);
            assert_eq!(reading(&rules, ROUTES, WAYS, CHECKS, "10.0.0.2"), Reading::Unknown, "{rules}");
        }
        for (from, to) in [
            ("unreachable", "unicast"),
            (r#""flags":[]}"#, r#""flags":[],"tos":"0x10"}"#),
            (r#"[{"#, r#"[{"type":"unicast","dst":"10.0.0.2","tos":"0x10","flags":[]},{"#),
        ] {
            let routes = ROUTES.replacen(from, to, 1);
            assert_eq!(reading(RULES, &routes, WAYS, CHECKS, "10.0.0.2"), Reading::Unknown, "{routes}");
        }
        for ways in
            ["", "10.0.0.2 10.0.0.2 via 10.0.0.1 dev eth0", "10.0.0.3 RTNETLINK answers: No route to host"]
        {
            assert_eq!(reading(RULES, ROUTES, ways, CHECKS, "10.0.0.2"), Reading::Unknown, "{ways}");
        }
        for checks in ["0 all\n0 default\n2 eth0\n", "0 all\n1 default\n0 eth0\n"] {
            let routes = read(RULES, ROUTES, WAYS, checks, "").unwrap();
            assert_eq!(routes.reading(&["10.0.0.2".parse().unwrap()]), Reading::Unknown, "{checks}");
            assert!(routes.hindrance().unwrap().contains("rp_filter"));
        }
        assert_eq!(reading(RULES, ROUTES, WAYS, "1 all\n0 default\n0 eth0\n", "10.0.0.2"), Reading::Off);
        let flowtable = r#"{"nftables": [{"metainfo": {}}, {"flowtable": {"family": "inet", "name": "ft", "dev": "eth0"}}]}"#;
        let routes = read(RULES, ROUTES, WAYS, CHECKS, flowtable).unwrap();
        assert_eq!(routes.reading(&["10.0.0.2".parse().unwrap()]), Reading::Unknown);
        assert!(routes.hindrance().unwrap().contains("flowtable"));
        let none = r#"{"nftables": [{"metainfo": {}}]}"#;
        let routes = read(RULES, ROUTES, WAYS, CHECKS, none).unwrap();
        assert_eq!(routes.reading(&["10.0.0.2".parse().unwrap()]), Reading::Off);
    }

    #[test]
    fn what_is_not_understood_is_no_reading() {
        for (rules, routes, ways, checks) in [
            ("", ROUTES, WAYS, CHECKS),
            (&RULES[..RULES.len() / 2], ROUTES, WAYS, CHECKS),
            (RULES, "[7]", WAYS, CHECKS),
            (RULES, "[{}]", WAYS, CHECKS),
            (RULES, ROUTES, "RTNETLINK", CHECKS),
            (RULES, ROUTES, WAYS, ""),
            (RULES, ROUTES, WAYS, "0 all\nx eth0"),
        ] {
            assert!(read(rules, routes, ways, checks, "").is_err(), "{rules} {routes} {ways} {checks}");
        }
        assert!(read(RULES, ROUTES, WAYS, CHECKS, "{").is_err());
    }
}
