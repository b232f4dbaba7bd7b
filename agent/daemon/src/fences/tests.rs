//! Against BMC addresses where nothing answers: each order is answered once, whatever happens.

use std::net::UdpSocket;

use palisade_core::config::Cluster;
use palisade_proto::Incarnation;
use tokio::time::Instant;

use super::*;
use crate::testing::{TempDir, run};

/// A cluster whose one device fences host 1 and lies at `bmc`.
fn cluster(dir: &TempDir, bmc: &UdpSocket) -> Cluster {
    cluster_with(dir, bmc, "")
}

fn cluster_with(dir: &TempDir, bmc: &UdpSocket, more: &str) -> Cluster {
    let password = dir.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = format!(
        "[cluster]\nname = \"t\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n\
         [[host]]\nid = 0\nname = \"a\"\nmachine = \"00000001-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:7411\"]\n\
         [[host]]\nid = 1\nname = \"b\"\nmachine = \"00000002-0000-0000-0000-000000000001\"\nlinks = [\"127.0.0.1:7412\"]\n\
         [[device]]\nname = \"bmc-b\"\nkind = \"ipmi\"\nfences = \"b\"\naddress = \"{}\"\nuser = \"admin\"\n\
         password = {{ file = \"{}\" }}\nguid = \"a123456789abcdefa123456789abcde1\"\ndeadline = \"200ms\"\n{more}",
        bmc.local_addr().unwrap(),
        password.display()
    );
    Cluster::parse(&text, "t").unwrap()
}

fn host(id: u8) -> HostId {
    HostId::new(id).unwrap()
}

fn me() -> Me {
    Me { life: Incarnation::new(host(0), [1; 8]), first_of_boot: true }
}

fn order(id: u64, device: u16, host: HostId) -> Work {
    Work::Order {
        id: OrderId(id),
        device: DeviceId(device),
        host,
        command: Command::Read,
        warrant: (Instant::now() + Duration::from_millis(100)).into(),
    }
}

#[test]
fn each_order_is_answered_exactly_once_unless_cancelled() {
    run(async {
        let (dir, bmc) = (TempDir::new(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let known = known(&cluster(&dir, &bmc), host(0)).unwrap();
        let (work, inbox) = mpsc::channel(WORK_MAX);
        let (outbox, mut replies) = mpsc::channel(REPLIES_MAX);
        let served = tokio::spawn(super::run(me(), known, inbox, outbox));
        work.send(order(1, 0, host(1))).await.unwrap();
        work.send(order(2, 0, host(1))).await.unwrap();
        work.send(Work::Cancel(OrderId(2))).await.unwrap();
        work.send(order(3, 9, host(1))).await.unwrap();
        // A reload has put another host's device in this place.
        work.send(order(4, 0, host(0))).await.unwrap();
        work.send(order(5, 0, host(1))).await.unwrap();
        let mut answered = BTreeMap::new();
        while !answered.contains_key(&5) {
            match replies.recv().await.unwrap() {
                Reply::Answer(OrderId(id), result) => {
                    assert!(answered.insert(id, result).is_none(), "order {id} twice")
                }
                Reply::Path(..) => {}
            }
        }
        assert_eq!(answered.keys().copied().collect::<Vec<_>>(), [1, 3, 4, 5]);
        assert!(matches!(&answered[&1], Err(Failure::NoAnswer { .. })), "{:?}", answered[&1]);
        assert_eq!((&answered[&3], &answered[&4]), (&Err(Failure::Cancelled), &Err(Failure::Cancelled)));
        drop(work);
        served.await.unwrap();
    });
}

#[test]
fn a_fence_path_that_does_not_answer_is_told_and_only_others_are_kept_warm() {
    run(async {
        let (dir, bmc) = (TempDir::new(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let cluster = cluster(&dir, &bmc);
        let (_work, inbox) = mpsc::channel(WORK_MAX);
        let (outbox, mut replies) = mpsc::channel(REPLIES_MAX);
        tokio::spawn(super::run(me(), known(&cluster, host(0)).unwrap(), inbox, outbox));
        match replies.recv().await.unwrap() {
            Reply::Path(device, result) => {
                assert_eq!(device, DeviceId(0));
                assert!(matches!(result, Err(Failure::NoAnswer { .. })), "{result:?}");
            }
            Reply::Answer(order, _) => panic!("{order:?} was never given"),
        }
        let own = known(&cluster, host(1)).unwrap();
        let fences = Fences {
            me: me(),
            devices: Vec::new(),
            open: BTreeMap::new(),
            warm: true,
            replies: mpsc::channel(1).0,
        };
        assert_eq!(fences.reprove(&own[0].device, own[0].own).every, COLD);
        assert_eq!(fences.reprove(&own[0].device, false).every, WARM);
    });
}

#[test]
fn a_missing_password_names_the_device_and_the_file() {
    let (dir, bmc) = (TempDir::new(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let cluster = cluster(&dir, &bmc);
    std::fs::remove_file(dir.path().join("password")).unwrap();
    let said = known(&cluster, host(0)).unwrap_err();
    assert!(said.contains("device `bmc-b`") && said.contains("password"), "{said}");
}

#[test]
fn safe_6_an_ssh_key_that_others_can_read_names_the_device_and_the_file() {
    let dir = TempDir::new();
    let key = dir.path().join("id");
    std::fs::write(&key, "a key\n").unwrap();
    let ssh = format!("ssh = \"p@10.77.1.9\"\nidentity = \"{}\"\nknown_hosts = \"/k\"\n", key.display());
    let lun = "storage = [\"s\"]\ntarget = \"tgt\"\niqn = \"iqn.2026-01.example:s\"\ninitiator = \"iqn.2026-01.example:b\"";
    for (kind, settings) in
        [("nft", "addresses = [\"10.0.0.2\"]"), ("route", "addresses = [\"10.0.0.2\"]"), ("lun", lun)]
    {
        let bmc = UdpSocket::bind("127.0.0.1:0").unwrap();
        let more = format!(
            "[[storage]]\nname = \"s\"\npath = \"/s\"\n[[device]]\nname = \"cut-b\"\nkind = \"{kind}\"\nfences = \"b\"\nlevel = 2\n\
             {ssh}{settings}\n"
        );
        let cluster = cluster_with(&dir, &bmc, &more);
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let said = known(&cluster, host(0)).unwrap_err();
        assert!(
            said.contains("device `cut-b`") && said.contains("identity") && said.contains("chmod 0600"),
            "{said}"
        );
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(known(&cluster, host(0)).unwrap().len(), 2, "{kind}");
    }
}
