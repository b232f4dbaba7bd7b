//! LIO: an initiator's ACL below a target's portal group in configfs (Documentation/target/ of Linux; the tree of rtslib). Pure.
//!
//! Removing the ACL is what ends the sessions as well, and waits for what they have under way and for a login that has begun. Until
//! that is over the kernel shows the ACL. Its settings and mappings are kept on that host, in its /run, which ends when configfs
//! does; an on makes it anew of them.

use palisade_ladder::Reading;

use super::point::Names;

const TARGETS: &str = "/sys/kernel/config/target/iscsi";
const KEPT: &str = "/run/palisade-lun";
/// Sessions of demo mode are told in one page of memory; those that do not fit are not told.
const PAGE: usize = 4096;

/// What one initiator may do at one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// How many portal groups the target has.
    groups: u32,
    /// Whether one of them lets in initiators that it does not know, or those whom it has let in so before.
    demo: bool,
    /// Whether there is an ACL of it, and to how many LUNs.
    mapped: Option<u32>,
    /// Whether an ACL is kept of it.
    kept: bool,
    /// A session that was begun in demo mode, or more of others than are told.
    dynamic: bool,
}

impl Rights {
    /// SAFE-4: off only if it was known here, has no ACL and so no session, and nobody is let in without one. On only if nothing is
    /// kept of it: an order that broke off has taken, or given back, a part.
    pub(super) fn reading(&self) -> Reading {
        match (self.mapped, self.kept) {
            (Some(1..), false) => Reading::On,
            (None, true) if self.groups == 1 && !self.demo && !self.dynamic => Reading::Off,
            (None | Some(_), true) | (None | Some(0), false) => Reading::Unknown,
        }
    }

    pub(super) fn hindrance(&self, names: &Names) -> Option<String> {
        let Names { target, initiator } = names;
        if self.groups != 1 {
            return Some(format!(
                "{target} has {} portal groups, and may let in by another one",
                self.groups
            ));
        }
        if self.demo || self.dynamic {
            return Some(format!(
                "{target} lets in anybody (demo mode), or whom it has let in before: set generate_node_acls=0 and \
                 cache_dynamic_acls=0, and end the sessions that it has let in"
            ));
        }
        match (self.mapped, self.kept) {
            (None, false) => Some(format!("{target} has no ACL of {initiator}")),
            (Some(0), false) => Some(format!("{target} maps no LUN to {initiator}")),
            (None | Some(_), true) | (Some(1..), false) => None,
        }
    }

    /// What is kept is never less than what is taken: an order that broke off has kept already what it took.
    pub(super) fn cut(&self, names: &Names) -> String {
        format!(
            "{}[ -d \"$acl\" ] || return 0
umask 077
mkdir -p \"$kept/luns\" \"$kept/settings/attrib\" \"$kept/settings/auth\" || return 1
# Some are only told.
for file in $(find \"$acl/cmdsn_depth\" \"$acl/tag\" \"$acl/attrib\" \"$acl/auth\" -type f -perm -200); do
    value=
    IFS= read -r value <\"$file\"
    # One that is empty was never set, and to set it would mean something.
    [ -z \"$value\" ] || printf '%s\\n' \"$value\" >\"$kept/settings/${{file#\"$acl/\"}}\" || return 1
done
for lun in \"$acl\"/lun_*; do
    [ -d \"$lun\" ] || continue
    for link in \"$lun\"/*; do
        [ -L \"$link\" ] || continue
        to=$(readlink -f \"$link\") || return 1
        echo \"$(cat \"$lun/write_protect\" 2>/dev/null) $to\" >\"$kept/luns/${{lun##*/}}\" || return 1
    done
done
for lun in \"$acl\"/lun_*; do
    [ -d \"$lun\" ] || continue
    for link in \"$lun\"/*; do [ ! -L \"$link\" ] || rm \"$link\" || return 1; done
    rmdir \"$lun\" || return 1
done
rmdir \"$acl\"",
            place(names)
        )
    }

    pub(super) fn open(&self, names: &Names) -> String {
        format!(
            "{}[ -d \"$kept\" ] || {{ echo 'nothing was taken from this initiator' >&2; return 1; }}
[ -d \"$acl\" ] || mkdir \"$acl\" || return 1
for file in \"$kept\"/settings/* \"$kept\"/settings/*/*; do
    [ -f \"$file\" ] || continue
    value= told=
    IFS= read -r value <\"$file\"
    file=$acl/${{file#\"$kept/settings/\"}}
    IFS= read -r told <\"$file\"
    # The end of a line would be taken for a part of a password.
    [ \"$told\" = \"$value\" ] || printf %s \"$value\" >\"$file\" || return 1
done
for lun in \"$kept\"/luns/lun_*; do
    [ -f \"$lun\" ] || continue
    read -r protected to <\"$lun\"
    [ -d \"$acl/${{lun##*/}}\" ] || mkdir \"$acl/${{lun##*/}}\" || return 1
    # What was not taken stands there still, under a name of its own.
    linked=
    for link in \"$acl/${{lun##*/}}\"/*; do [ ! -L \"$link\" ] || linked=1; done
    [ -n \"$linked\" ] || ln -s \"$to\" \"$acl/${{lun##*/}}/palisade\" || return 1
    [ -z \"$protected\" ] || echo \"$protected\" >\"$acl/${{lun##*/}}/write_protect\" || return 1
done
rm -r \"$kept\"",
            place(names)
        )
    }
}

/// Where the ACL is, and where it is kept.
fn place(Names { target, initiator }: &Names) -> String {
    format!(
        "cd {TARGETS}/{target} || return 1\nset -- tpgt_*\n[ -d \"$1\" ] && [ $# = 1 ] || {{ echo 'not one portal group' >&2; return 1; }}\n\
         acl=$PWD/$1/acls/{initiator} kept={KEPT}/{target},{initiator}\n"
    )
}

/// One line for each thing that counts, and a last one.
pub(super) fn question(Names { target, initiator }: &Names) -> String {
    format!(
        "cd {TARGETS}/{target} || return 1
for group in tpgt_*; do
    [ -d \"$group\" ] || continue
    # Demo mode, where it is on, has the kernel cache whom it lets in; these are let in again after it is off.
    demo=$(cat \"$group/attrib/generate_node_acls\") && cached=$(cat \"$group/attrib/cache_dynamic_acls\") || return 1
    echo \"group $demo $cached\"
    if [ -e \"$group/dynamic_sessions\" ]; then
        while read -r name; do printf 'dynamic %s\\n' \"$name\"; done <\"$group/dynamic_sessions\" || return 1
    fi
    acl=$group/acls/{initiator}
    [ -d \"$acl\" ] || continue
    echo acl
    for link in \"$acl\"/lun_*/*; do [ ! -L \"$link\" ] || echo lun; done
done
[ ! -d {KEPT}/{target},{initiator} ] || echo kept
echo end"
    )
}

/// Reads these lines. Fails with what is none of them, or missing.
pub(super) fn read(answer: &str, names: &Names) -> Result<Rights, String> {
    let mut rights = Rights { groups: 0, demo: false, mapped: None, kept: false, dynamic: false };
    let (mut ended, mut told) = (false, 0_usize);
    for line in answer.lines().filter(|line| !line.trim().is_empty()) {
        match (line, line.split_once(' ')) {
            _ if ended => return Err(format!("LIO: {line} after the end")),
            ("acl", _) => rights.mapped = Some(rights.mapped.unwrap_or(0)),
            ("lun", _) => {
                rights.mapped = Some(rights.mapped.ok_or("LIO: a LUN without an ACL")?.saturating_add(1))
            }
            ("kept", _) => rights.kept = true,
            ("end", _) => ended = true,
            (_, Some(("group", demo))) => {
                rights.groups = rights.groups.saturating_add(1);
                rights.demo |= demo != "0 0";
            }
            (_, Some(("dynamic", name))) => {
                // Each takes an end of a line and a zero as well.
                told = told.saturating_add(name.len() + 2);
                let fits = told.saturating_add(names.initiator.len() + 2) <= PAGE;
                rights.dynamic |= !fits || name.eq_ignore_ascii_case(&names.initiator);
            }
            (_, Some(_) | None) => return Err(format!("LIO: {line}")),
        }
    }
    match ended {
        true => Ok(rights),
        false => Err("LIO: an answer that breaks off".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            target: "iqn.2026-01.example:store".to_owned(),
            initiator: "iqn.2026-01.example:b".to_owned(),
        }
    }

    /// As many sessions of others, let in by a demo mode that has ended. 132 of them and one of b do not fit in a page.
    fn many(sessions: usize) -> String {
        format!("group 0 0\n{}kept\nend\n", "dynamic iqn.2026-01.example:others-24\n".repeat(sessions))
    }

    /// SAFE-4
    #[test]
    fn off_is_an_acl_that_was_removed_where_nobody_else_is_let_in() {
        for (answer, reading, hindered) in [
            ("group 0 0\nkept\nend\n", Reading::Off, false),
            ("group 0 0\ndynamic iqn.2026-01.example:c\nkept\nend\n", Reading::Off, false),
            ("group 0 0\nacl\nlun\nlun\nend\n", Reading::On, false),
            ("group 0 0\nacl\nlun\nkept\nend\n", Reading::Unknown, false),
            ("group 0 0\nacl\nkept\nend\n", Reading::Unknown, false),
            ("group 0 0\nacl\nend\n", Reading::Unknown, true),
            ("group 0 0\nend\n", Reading::Unknown, true),
            ("group 1 0\nkept\nend\n", Reading::Unknown, true),
            ("group 0 1\nkept\nend\n", Reading::Unknown, true),
            ("group 0 0\ndynamic iqn.2026-01.example:b\nkept\nend\n", Reading::Unknown, true),
            ("group 0 0\ngroup 0 0\nkept\nend\n", Reading::Unknown, true),
            ("kept\nend\n", Reading::Unknown, true),
            (&many(131), Reading::Off, false),
            (&many(132), Reading::Unknown, true),
        ] {
            let rights = read(answer, &names()).unwrap();
            assert_eq!(
                (rights.reading(), rights.hindrance(&names()).is_some()),
                (reading, hindered),
                "{answer}"
            );
        }
        for answer in
            ["", "group 0 0\nkept\n", "group 0 0\nlun\nend\n", "group 0 0\nkept\nend\nacl\n", "what\nend\n"]
        {
            assert!(read(answer, &names()).is_err(), "{answer}");
        }
    }
}
