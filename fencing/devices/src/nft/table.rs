//! Our table: what it must hold, the transactions that write it, and what `nft -j` (libnftables-json) prints of it. Pure.

use std::net::IpAddr;

use palisade_ladder::Reading;
use serde_json::{Map, Value, json};

/// Every way of a packet through a host. Addresses are translated between the first and the last of them.
const HOOKS: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];
/// Before connection tracking (-200), raw (-300) and what puts fragments together (-400).
const PRIORITY: i64 = -450;
/// Protocol, field and set of the four drops of each hook.
const DROPS: [(&str, &str, &str); 4] =
    [("ip", "saddr", "cut4"), ("ip", "daddr", "cut4"), ("ip6", "saddr", "cut6"), ("ip6", "daddr", "cut6")];
/// Without these no address of IPv6 is found any more (RFC 4861), and they carry nothing else.
const NEIGHBOURS: [&str; 2] = ["nd-neighbor-solicit", "nd-neighbor-advert"];
const SETS: [(&str, &str); 2] = [("cut4", "ipv4_addr"), ("cut6", "ipv6_addr")];

/// What nft prints of one thing, after its kind.
type Object = Map<String, Value>;

/// What is known of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Awake, and with every drop in every hook, before anything else.
    drops: bool,
    /// Who is in the sets; nothing if they hold what is not a single address.
    cut: Option<Vec<IpAddr>>,
    flowtable: bool,
}

impl Table {
    /// SAFE-4: off only if every address is in its set and every rule is in force; on only if none is there.
    pub(super) fn reading(&self, addresses: &[IpAddr]) -> Reading {
        let Some(cut) = &self.cut else { return Reading::Unknown };
        let within = addresses.iter().filter(|address| cut.contains(address)).count();
        match within {
            0 => Reading::On,
            _ if within == addresses.len() && self.drops && !self.flowtable => Reading::Off,
            _ => Reading::Unknown,
        }
    }

    pub(super) fn has_flowtable(&self) -> bool {
        self.flowtable
    }
}

/// Whether the host has a flowtable, by what nft prints of them. Fails with what is wrong.
pub(crate) fn flows_past(flowtables: &str) -> Result<bool, String> {
    Ok(objects(flowtables)?.iter().any(|(kind, _)| kind == "flowtable"))
}

/// Reads the table, if there is one, and which flowtables the host has. `spared`: the UDP ports of this host that the table must let
/// everybody reach. Fails with what is wrong.
pub(super) fn read(table: &str, flowtables: &str, spared: &[u16]) -> Result<Table, String> {
    let flowtable = flows_past(flowtables)?;
    if table.trim().is_empty() {
        return Ok(Table { drops: false, cut: Some(Vec::new()), flowtable });
    }
    let objects = objects(table)?;
    let of = |kind: &'static str| objects.iter().filter(move |(is, _)| is == kind).map(|(_, object)| object);
    // One that sleeps has a flag, which nft 1.0.6 spells wrongly: none is expected.
    let awake = of("table").count() == 1 && of("table").all(|table| !table.contains_key("flags"));
    let drops = awake
        && HOOKS.iter().all(|hook| {
            drops_in(hook, &of("chain").collect::<Vec<_>>(), &of("rule").collect::<Vec<_>>(), spared)
        });
    let mut cut = Some(Vec::new());
    for set in of("set") {
        let Some((name, kind)) = SETS.into_iter().find(|(name, _)| text(set, "name") == *name) else {
            continue;
        };
        let plain = text(set, "type") == kind
            && !["flags", "timeout", "map"].iter().any(|key| set.contains_key(*key));
        let elements =
            set.get("elem").map_or(Some(&[][..]), |elements| elements.as_array().map(Vec::as_slice));
        let addresses = elements.and_then(|elements| {
            elements.iter().map(|element| element.as_str()?.parse().ok()).collect::<Option<Vec<IpAddr>>>()
        });
        cut = match (cut, addresses.filter(|_| plain), name) {
            (Some(mut cut), Some(addresses), _) => {
                cut.extend(addresses);
                Some(cut)
            }
            (None, _, _) | (_, None, _) => None,
        };
    }
    let sets = SETS.iter().all(|(name, _)| of("set").filter(|set| text(set, "name") == *name).count() == 1);
    Ok(Table { drops: drops && sets, cut, flowtable })
}

/// Whether the hook's chain is ours to the letter: an accept before a drop would let it through.
fn drops_in(hook: &str, chains: &[&Object], rules: &[&Object], spared: &[u16]) -> bool {
    let mut named = chains.iter().filter(|chain| text(chain, "name") == hook);
    let (Some(chain), None) = (named.next(), named.next()) else { return false };
    let placed = text(chain, "type") == "filter"
        && text(chain, "hook") == hook
        && chain.get("prio").and_then(Value::as_i64) == Some(PRIORITY);
    let rules: Vec<Option<&Value>> =
        rules.iter().filter(|rule| text(rule, "chain") == hook).map(|rule| rule.get("expr")).collect();
    let drops = DROPS.iter().map(|(protocol, field, set)| drop_rule(protocol, field, set));
    let ours: Vec<Value> = spares(hook, spared).iter().map(Spare::printed).chain(drops).collect();
    placed && rules.len() == ours.len() && rules.iter().zip(&ours).all(|(rule, ours)| *rule == Some(ours))
}

fn drop_rule(protocol: &str, field: &str, set: &str) -> Value {
    json!([
        { "match": {
            "op": "==",
            "left": { "payload": { "protocol": protocol, "field": field } },
            "right": format!("@{set}")
        } },
        { "drop": null }
    ])
}

/// What a chain lets through before its drops.
struct Spare {
    protocol: &'static str,
    field: &'static str,
    value: Value,
}

impl Spare {
    fn printed(&self) -> Value {
        let Self { protocol, field, value } = self;
        json!([
            { "match": {
                "op": "==",
                "left": { "payload": { "protocol": protocol, "field": field } },
                "right": value
            } },
            { "accept": null }
        ])
    }

    fn written(&self) -> String {
        let value = self.value.as_str().map_or_else(|| self.value.to_string(), str::to_owned);
        format!("{} {} {value} accept", self.protocol, self.field)
    }
}

/// To and from a port of this host, which one program of it owns, and never what is forwarded.
fn spares(hook: &str, spared: &[u16]) -> Vec<Spare> {
    let field = match hook {
        "prerouting" | "input" => "dport",
        "output" | "postrouting" => "sport",
        _ => return Vec::new(),
    };
    if spared.is_empty() {
        return Vec::new();
    }
    let ports = spared.iter().map(|port| Spare { protocol: "udp", field, value: json!(port) });
    let neighbours =
        NEIGHBOURS.iter().map(|kind| Spare { protocol: "icmpv6", field: "type", value: json!(kind) });
    ports.chain(neighbours).collect()
}

/// What stands in an answer, each with its kind.
fn objects(answer: &str) -> Result<Vec<(String, Object)>, String> {
    let mut answer: Value =
        serde_json::from_str(answer).map_err(|error| format!("nft -j: no JSON: {error}"))?;
    let Some(Value::Array(list)) = answer.get_mut("nftables").map(Value::take) else {
        return Err("nft -j: no list of objects".to_owned());
    };
    let mut objects = Vec::with_capacity(list.len());
    for item in list {
        let Value::Object(item) = item else { return Err("nft -j: no object".to_owned()) };
        for (kind, object) in item {
            let Value::Object(object) = object else { return Err(format!("nft -j: {kind} is no object")) };
            objects.push((kind, object));
        }
    }
    match objects.first() {
        Some((kind, _)) if kind == "metainfo" => Ok(objects),
        Some(_) | None => Err("nft -j: an answer without its head".to_owned()),
    }
}

fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Makes what is missing, and cuts these addresses off.
pub(super) fn cut(addresses: &[IpAddr], spared: &[u16]) -> String {
    let mut text = skeleton(spared);
    elements(&mut text, "add", addresses);
    text
}

/// Makes what is missing, and lets these addresses through.
pub(super) fn open(addresses: &[IpAddr], spared: &[u16]) -> String {
    let mut text = skeleton(spared);
    // What is not there cannot be removed, and would be an error.
    elements(&mut text, "add", addresses);
    elements(&mut text, "delete", addresses);
    text
}

/// The table without its addresses: those of other hosts stay.
fn skeleton(spared: &[u16]) -> String {
    let mut text = "add table inet palisade\n".to_owned();
    for (set, kind) in SETS {
        text += &format!("add set inet palisade {set} {{ type {kind}; }}\n");
    }
    for hook in HOOKS {
        text += &format!(
            "add chain inet palisade {hook} {{ type filter hook {hook} priority {PRIORITY}; policy accept; }}\n\
             flush chain inet palisade {hook}\n"
        );
        for spare in spares(hook, spared) {
            text += &format!("add rule inet palisade {hook} {}\n", spare.written());
        }
        for (protocol, field, set) in DROPS {
            text += &format!("add rule inet palisade {hook} {protocol} {field} @{set} drop\n");
        }
    }
    text
}

fn elements(text: &mut String, verb: &str, addresses: &[IpAddr]) {
    for (set, v4) in [("cut4", true), ("cut6", false)] {
        let of_set: Vec<String> =
            addresses.iter().filter(|address| address.is_ipv4() == v4).map(ToString::to_string).collect();
        if !of_set.is_empty() {
            *text += &format!("{verb} element inet palisade {set} {{ {} }}\n", of_set.join(", "));
        }
    }
}

/// Whether every drop of every hook stands in `answer`, in whatever form.
#[cfg(feature = "fuzz")]
pub(super) fn names_every_hook(answer: &str) -> bool {
    let Ok(answer) = serde_json::from_str(answer).map(|answer: Value| answer.to_string()) else {
        return false;
    };
    HOOKS.iter().all(|hook| answer.contains(hook))
        && answer.matches("drop").count() >= HOOKS.len() * DROPS.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_FLOWTABLES: &str = r#"{"nftables": [{"metainfo": {"json_schema_version": 1}}]}"#;

    /// What nft 1.0.6 prints of our table.
    fn printed(cut4: &[&str]) -> Value {
        let mut list = vec![
            json!({ "metainfo": { "version": "1.0.6", "json_schema_version": 1 } }),
            json!({ "table": { "family": "inet", "name": "palisade", "handle": 1 } }),
            json!({ "set": { "name": "cut4", "type": "ipv4_addr", "elem": cut4 } }),
            json!({ "set": { "name": "cut6", "type": "ipv6_addr" } }),
        ];
        for hook in HOOKS {
            list.push(json!({ "chain": { "name": hook, "type": "filter", "hook": hook, "prio": PRIORITY, "policy": "accept" } }));
            list.extend(DROPS.iter().map(|(protocol, field, set)| {
                json!({ "rule": { "chain": hook, "handle": 7, "expr": drop_rule(protocol, field, set) } })
            }));
        }
        json!({ "nftables": list })
    }

    fn reading(table: &Value, addresses: &[&str]) -> Reading {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        read(&table.to_string(), NO_FLOWTABLES, &[]).unwrap().reading(&addresses)
    }

    /// SAFE-4
    #[test]
    fn off_is_every_address_and_every_rule() {
        let whole = printed(&["10.0.0.2", "10.0.0.3"]);
        assert_eq!(reading(&whole, &["10.0.0.2"]), Reading::Off);
        assert_eq!(reading(&whole, &["10.0.0.2", "10.0.0.3"]), Reading::Off);
        assert_eq!(reading(&whole, &["10.0.0.2", "fd00::2"]), Reading::Unknown, "one of two");
        assert_eq!(reading(&whole, &["10.0.0.4"]), Reading::On);
        let list = whole["nftables"].as_array().unwrap();
        for gone in 0..list.len() {
            let mut less = list.clone();
            less.remove(gone);
            let less = json!({ "nftables": less }).to_string();
            let read =
                read(&less, NO_FLOWTABLES, &[]).map(|table| table.reading(&["10.0.0.2".parse().unwrap()]));
            assert_ne!(read, Ok(Reading::Off), "without {}", list[gone]);
        }
    }

    /// SAFE-4
    #[test]
    fn what_somebody_has_changed_is_not_off() {
        let whole = printed(&["10.0.0.2"]).to_string();
        for (from, to) in [
            (r#""handle":1,"#, r#""handle":1,"flags":"inet","#),
            (r#""drop":null"#, r#""accept":null"#),
            (r#""prio":-450"#, r#""prio":0"#),
            (r#""@cut4""#, r#""@other""#),
            (r#""op":"==""#, r#""op":"!=""#),
            (r#""saddr""#, r#""daddr""#),
            (r#""hook":"forward""#, r#""hook":"input""#),
            (r#""elem":["10.0.0.2"]"#, r#""elem":[{"elem":{"val":"10.0.0.2","timeout":5}}]"#),
            (r#""elem":["10.0.0.2"]"#, r#""elem":[{"prefix":{"addr":"10.0.0.0","len":8}}]"#),
            (r#""type":"ipv4_addr""#, r#""type":"ipv4_addr","timeout":60"#),
        ] {
            let changed = whole.replacen(from, to, 1);
            assert_ne!(changed, whole, "{from}");
            let table = read(&changed, NO_FLOWTABLES, &[]).unwrap();
            assert_eq!(table.reading(&["10.0.0.2".parse().unwrap()]), Reading::Unknown, "{to}");
        }
        // Put before a drop, it lets through; after them, too, it is not ours.
        let mut list = printed(&["10.0.0.2"])["nftables"].as_array().unwrap().clone();
        list.push(json!({ "rule": { "chain": "forward", "expr": [{ "accept": null }] } }));
        assert_eq!(reading(&json!({ "nftables": list }), &["10.0.0.2"]), Reading::Unknown);
        let flowtable = r#"{"nftables": [{"metainfo": {}}, {"flowtable": {"family": "inet", "name": "ft", "dev": "eth0"}}]}"#;
        let table = read(&whole, flowtable, &[]).unwrap();
        assert_eq!(
            (table.reading(&["10.0.0.2".parse().unwrap()]), table.has_flowtable()),
            (Reading::Unknown, true)
        );
    }

    #[test]
    fn a_table_that_is_not_there_cuts_nobody_and_half_an_answer_is_none() {
        let address = ["10.0.0.2".parse().unwrap()];
        assert_eq!(read("\n", NO_FLOWTABLES, &[]).unwrap().reading(&address), Reading::On);
        let whole = printed(&["10.0.0.2"]).to_string();
        for (table, flowtables) in [
            (&whole[..whole.len() / 2], NO_FLOWTABLES),
            (&whole, ""),
            ("{}", NO_FLOWTABLES),
            (r#"{"nftables": []}"#, NO_FLOWTABLES),
            (r#"{"nftables": [7]}"#, NO_FLOWTABLES),
        ] {
            assert!(read(table, flowtables, &[]).is_err(), "{table}");
        }
    }
}
