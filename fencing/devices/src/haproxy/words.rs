//! What HAProxy says of a server, read. Pure.
//!
//! `show servers state` (format 1) and `show stat`, as the management guide describes them: both name their columns.

use palisade_ladder::Reading;

/// srv_admin_state: maintenance by order; and that the configuration said `disabled`, which an order to be ready leaves there and
/// which has no effect then.
const FORCED_MAINTENANCE: u32 = 0x01;
const CONFIGURED_MAINTENANCE: u32 = 0x04;

/// One server as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// The numbers of its backend and of itself.
    pub(super) ids: (u32, u32),
    /// Where connections to it go.
    pub(super) address: String,
    /// srv_admin_state.
    pub(super) admin: u32,
}

/// SAFE-4: off is only a server in maintenance by order to which no session is left or waits. A drained one still takes whom it
/// knows.
pub(super) fn reading(admin: u32, sessions: u64) -> Reading {
    match (admin & FORCED_MAINTENANCE != 0, sessions) {
        (true, 0) => Reading::Off,
        // Its sessions are about to end.
        (true, _) => Reading::Unknown,
        (false, _) if admin & !CONFIGURED_MAINTENANCE == 0 => Reading::On,
        (false, _) => Reading::Unknown,
    }
}

/// What `show servers state BACKEND` says of a server. Fails with what is missing.
pub(super) fn server(text: &str, backend: &str, name: &str) -> Result<Server, String> {
    let mut lines = text.lines();
    if lines.next() != Some("1") {
        return Err(text.lines().next().unwrap_or("nothing").to_owned());
    }
    let header = lines.next().and_then(|line| line.strip_prefix("# ")).ok_or("no names of columns")?;
    let columns: Vec<&str> = header.split(' ').collect();
    let mut found = None;
    for line in lines {
        let fields: Vec<&str> = line.split(' ').collect();
        let field = |column: &str| {
            let at = columns.iter().position(|named| *named == column)?;
            fields.get(at).copied()
        };
        if field("be_name") != Some(backend) || field("srv_name") != Some(name) {
            continue;
        }
        let number = |column: &str| {
            field(column).and_then(|text| text.parse().ok()).ok_or_else(|| format!("no {column}"))
        };
        let ids = (number("be_id")?, number("srv_id")?);
        let address = field("srv_addr").ok_or("no srv_addr")?.to_owned();
        if found.replace(Server { ids, address, admin: number("srv_admin_state")? }).is_some() {
            return Err(format!("two servers {backend}/{name}"));
        }
    }
    found.ok_or_else(|| format!("no server {backend}/{name}"))
}

/// How many sessions a server has and how many wait in its queue, as `show stat` says. Fails with what is missing.
///
/// Who waits for this very server (it has `maxconn`, and a cookie or a stick table names it) still gets it once it is in
/// maintenance, and `shutdown sessions` does not find them; seen on HAProxy 2.6.
pub(super) fn sessions(text: &str, backend: &str, name: &str) -> Result<u64, String> {
    let mut lines = text.lines();
    let header = lines.next().and_then(|line| line.strip_prefix("# ")).ok_or("no names of columns")?;
    // The columns that are read come before any that could hold a comma.
    let columns: Vec<&str> = header.split(',').collect();
    let at = |column: &str| columns.iter().position(|named| *named == column).ok_or(format!("no {column}"));
    let (proxy, server) = (at("pxname")?, at("svname")?);
    let counts = [("scur", at("scur")?), ("qcur", at("qcur")?)];
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let field = |at: usize| fields.get(at).copied();
        if field(proxy) == Some(backend) && field(server) == Some(name) {
            let number = |(column, at): (&str, usize)| -> Result<u64, String> {
                field(at).and_then(|text| text.parse().ok()).ok_or_else(|| format!("no number in {column}"))
            };
            return counts
                .into_iter()
                .map(number)
                .try_fold(0, |sum: u64, count| Ok(sum.saturating_add(count?)));
        }
    }
    Err(format!("no server {backend}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Laid out as HAProxy 2.6 says it.
    const STATE: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
                         srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state \
                         bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr \
                         srv_agent_addr srv_agent_port\n3 web 1 b 127.0.0.2 2 0 1 1 3 1 0 0 0 0 0 0 - 8001 - 0 0 - - 0\n3 web 2 c \
                         127.0.0.3 0 1 1 1 3 1 0 0 0 0 0 0 - 8002 - 0 0 - - 0\n";
    const STAT: &str = "# pxname,svname,qcur,qmax,scur,smax\nweb,b,0,0,2,2\nweb,c,0,0,0,1\n";

    #[test]
    fn a_server_is_found_by_its_names() {
        let b = Server { ids: (3, 1), address: "127.0.0.2".to_owned(), admin: 0 };
        assert_eq!(server(STATE, "web", "b"), Ok(b));
        assert_eq!(server(STATE, "web", "c").map(|c| c.admin), Ok(1));
        assert_eq!(sessions(STAT, "web", "b"), Ok(2));
        assert_eq!(sessions(STAT, "web", "c"), Ok(0));
        for (backend, name) in [("web", "d"), ("", "b"), ("we", "b"), ("3", "1")] {
            assert!(server(STATE, backend, name).is_err() && sessions(STAT, backend, name).is_err());
        }
        assert_eq!(server("Can't find backend.\n", "web", "b"), Err("Can't find backend.".to_owned()));
        assert!(server(&STATE.replacen('1', "2", 1), "web", "b").is_err(), "another format");
        assert!(server(&STATE.replace("srv_admin_state", "x"), "web", "b").is_err());
        assert!(server(&STATE.replace("2 c", "2 b"), "web", "b").is_err(), "two of one name");
        assert_eq!(sessions(&STAT.replace("b,0,0,2", "b,3,3,2"), "web", "b"), Ok(5), "who waits counts");
        assert!(sessions(&STAT.replace("scur", "x"), "web", "b").is_err());
        assert!(sessions(&STAT.replace("qcur", "x"), "web", "b").is_err());
        assert!(sessions(&STAT.replace("b,0", "b,"), "web", "b").is_err());
        assert!(sessions(&STAT.replace(",2,2", ",,2"), "web", "b").is_err());
    }

    /// SAFE-4
    #[test]
    fn a_server_is_off_only_in_maintenance_by_order_and_without_a_session() {
        for admin in 0..0x80 {
            for sessions in [0, 1] {
                let off = reading(admin, sessions) == Reading::Off;
                assert_eq!(off, admin & 1 == 1 && sessions == 0, "{admin:#x}, {sessions} sessions");
                let on = reading(admin, sessions) == Reading::On;
                assert_eq!(on, admin == 0 || admin == 4, "{admin:#x}, {sessions} sessions");
            }
        }
    }
}
