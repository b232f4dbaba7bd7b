//! A host's right to a LUN taken away at its target, over a real ssh login: at a real tgtd with sessions that write, and at a tree
//! of files that looks like LIO's, for orders that break off anywhere; the real one is in `lio.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

mod enforcing;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use enforcing::points::{ADM, B, C, STORE, lun, tgtd, tgtd_on};
use enforcing::{DEADLINE, Lab, connect, holds_for, reads, run};
use palisade_devices::Device as _;
use palisade_devices::lun::Target;
use palisade_ladder::{Command, Failure, Reading, Response};

const BLOCK: usize = 512;

/// One login of an initiator (RFC 3720), as far as it takes to write a block.
struct Session {
    stream: TcpStream,
    sequence: u32,
    status: u32,
}

impl Session {
    /// `None`: not let in.
    fn open(lab: &Lab, initiator: &str, from: &'static str) -> Option<Self> {
        let stream =
            lab.victim.within(move || connect(from.parse().unwrap(), "10.0.0.1:3260".parse().unwrap()));
        let stream = stream.expect("the portal listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut session = Self { stream, sequence: 1, status: 0 };
        let keys = format!(
            "InitiatorName={initiator}\0SessionType=Normal\0TargetName={STORE}\0HeaderDigest=None\0DataDigest=None\0"
        );
        let mut header = [0; 48];
        // A login request, immediate, from the operational stage straight to the full feature phase.
        (header[0], header[1]) = (0x43, 0x87);
        header[8..14].copy_from_slice(&[0x80, 0, 0, 1, 0, 1]);
        session.send(header, keys.as_bytes()).unwrap();
        let answer = session.hear().unwrap();
        assert_eq!((answer[0] & 0x3f, answer[36] == 0 || answer[36] == 2), (0x23, true), "{answer:x?}");
        (answer[36] == 0).then_some(session)
    }

    fn send(&mut self, mut header: [u8; 48], data: &[u8]) -> io::Result<()> {
        let len = u32::try_from(data.len()).unwrap().to_be_bytes();
        header[5..8].copy_from_slice(&len[1..]);
        header[24..28].copy_from_slice(&self.sequence.to_be_bytes());
        header[28..32].copy_from_slice(&self.status.to_be_bytes());
        let padding = [0; 3];
        self.stream
            .write_all(&[&header[..], data, &padding[..data.len().next_multiple_of(4) - data.len()]].concat())
    }

    fn hear(&mut self) -> io::Result<[u8; 48]> {
        let mut header = [0; 48];
        self.stream.read_exact(&mut header)?;
        let len = usize::from(header[5]) << 16 | usize::from(header[6]) << 8 | usize::from(header[7]);
        self.stream.read_exact(&mut vec![0; len.next_multiple_of(4)])?;
        self.status = u32::from_be_bytes(header[24..28].try_into().unwrap()) + 1;
        Ok(header)
    }

    /// Writes a block full of `fill`; whether the target says that it has.
    fn write(&mut self, block: u8, fill: u8) -> bool {
        // The first command of a session is only told that the session is new.
        (0..3).any(|_| self.try_to_write(block, fill).is_ok_and(|done| done))
    }

    fn try_to_write(&mut self, block: u8, fill: u8) -> io::Result<bool> {
        self.begin_to_write(block, fill)?;
        self.done()
    }

    fn begin_to_write(&mut self, block: u8, fill: u8) -> io::Result<()> {
        let mut header = [0; 48];
        (header[0], header[1], header[9]) = (0x01, 0xa1, 1);
        header[20..24].copy_from_slice(&u32::try_from(BLOCK).unwrap().to_be_bytes());
        header[32..42].copy_from_slice(&[0x2a, 0, 0, 0, 0, block, 0, 0, 1, 0]);
        self.send(header, &[fill; BLOCK])?;
        self.sequence += 1;
        Ok(())
    }

    /// Asks whether the unit is ready.
    fn is_ready(&mut self) -> io::Result<bool> {
        let mut header = [0; 48];
        (header[0], header[1], header[9]) = (0x01, 0x81, 1);
        self.send(header, &[])?;
        self.sequence += 1;
        self.done()
    }

    fn done(&mut self) -> io::Result<bool> {
        let answer = self.hear()?;
        assert_eq!(answer[0] & 0x3f, 0x21, "{answer:x?}");
        Ok(answer[2] == 0 && answer[3] == 0)
    }
}

/// Whether somebody else's initiator is let in.
fn inquires(lab: &Lab, initiator: &str) -> bool {
    let url = format!("iscsi://10.0.0.1/{STORE}/1");
    lab.victim
        .sh(&format!("iscsi-inq -i {initiator} {url} 2>&1 || :"))
        .contains("Peripheral Qualifier:CONNECTED")
}

/// What the first byte of a block is.
fn stored(lab: &Lab, block: u8) -> u8 {
    fs::read(lab.path("disk")).unwrap()[usize::from(block) * BLOCK]
}

#[tokio::test]
async fn a_session_that_writes_is_ended_and_let_in_again_and_a_neighbours_goes_on() {
    let lab = Lab::new();
    let _tgtd = tgtd(&lab);
    let mut device = lun(lab.ssh(), Target::Tgt, B);
    let Ok(Response::Proven(proven)) = run(&mut device, Command::Prove).await else { panic!("not proven") };
    assert_eq!(proven.identity.0, format!("root@10.9.0.2:2222 for {B} at {STORE}"));
    assert_eq!((proven.may_fence, proven.reads), (true, Reading::On));
    let mut sessions = [(); 2].map(|()| Session::open(&lab, B, "10.0.0.2:0").unwrap());
    let mut neighbour = Session::open(&lab, C, "10.0.0.3:0").unwrap();
    assert!(sessions[0].write(1, 11) && sessions[1].write(2, 12) && neighbour.write(3, 13));
    assert_eq!([1, 2, 3].map(|block| stored(&lab, block)), [11, 12, 13]);
    assert!(inquires(&lab, B), "with iscsi-inq, of the package libiscsi-bin");

    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::Off);
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::AlreadySo));
    assert!(!sessions[0].write(1, 21) && !sessions[1].write(2, 22) && neighbour.write(3, 23));
    assert_eq!([1, 2, 3].map(|block| stored(&lab, block)), [11, 12, 23]);
    assert!(Session::open(&lab, B, "10.0.0.2:0").is_none() && !inquires(&lab, B) && inquires(&lab, C));
    // Somebody else's cut stands beside it.
    let mut other = lun(lab.ssh(), Target::Tgt, C);
    assert_eq!(run(&mut other, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!((reads(&mut other).await, reads(&mut device).await), (Reading::Off, Reading::Off));
    assert!(!neighbour.write(3, 33) && Session::open(&lab, C, "10.0.0.3:0").is_none());
    assert_eq!(run(&mut other, Command::On).await, Ok(Response::Acknowledged));

    assert_eq!((reads(&mut other).await, reads(&mut device).await), (Reading::On, Reading::Off));
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::On);
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::AlreadySo));
    assert!(Session::open(&lab, B, "10.0.0.2:0").unwrap().write(1, 31));
    assert_eq!(stored(&lab, 1), 31);
}

/// SAFE-4: each of these lets the initiator in, or might.
#[tokio::test]
async fn safe_4_a_target_that_lets_in_otherwise_is_not_off() {
    let lab = Lab::new();
    let tgtd = tgtd(&lab);
    let mut device = lun(lab.ssh(), Target::Tgt, B);
    lab.host.sh(&format!("{ADM} --op bind --mode target --tid 1 -I ALL"));
    for command in [Command::Prove, Command::Off] {
        let failure = run(&mut device, command).await.unwrap_err();
        assert!(matches!(&failure, Failure::Refused { code } if code.contains("lets in ALL")), "{failure}");
    }
    lab.host.sh(&format!("{ADM} --op unbind --mode target --tid 1 -I ALL"));
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::Off);
    lab.host.sh(&format!("{ADM} --op bind --mode target --tid 1 -I 10.0.0.2"));
    assert!(Session::open(&lab, B, "10.0.0.2:0").is_some(), "this is why");
    assert_eq!(reads(&mut device).await, Reading::Unknown);
    lab.host.sh(&format!("{ADM} --op unbind --mode target --tid 1 -I 10.0.0.2"));
    lab.host.sh(&format!("{ADM} --op bind --mode target --tid 1 -Q {B}"));
    assert_eq!(reads(&mut device).await, Reading::On);
    // One session that was begun meanwhile.
    let mut session = Session::open(&lab, B, "10.0.0.2:0").unwrap();
    lab.host.sh(&format!("{ADM} --op unbind --mode target --tid 1 -Q {B}"));
    assert!(session.write(1, 41));
    assert_eq!(reads(&mut device).await, Reading::Unknown);
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::Off);
    assert!(!session.write(1, 51));
    // One that the target never knew was never cut off.
    let mut mistyped = lun(lab.ssh(), Target::Tgt, "iqn.2026-01.example:bb");
    assert_eq!(reads(&mut mistyped).await, Reading::Unknown);
    for command in [Command::Prove, Command::Off] {
        let failure = run(&mut mistyped, command).await.unwrap_err();
        assert!(
            matches!(&failure, Failure::Refused { code } if code.contains("knows no initiator")),
            "{failure}"
        );
    }
    let failure = run(&mut mistyped, Command::On).await.unwrap_err();
    assert!(matches!(failure, Failure::Garbage { .. }), "{failure}");
    // And a target that is gone proves nothing.
    drop(tgtd);
    let failure = run(&mut device, Command::Read).await.unwrap_err();
    assert!(matches!(&failure, Failure::Refused { code } if code.contains("tgt daemon")), "{failure}");
}

/// A file system that takes nothing on until this is dropped: whoever writes to it meanwhile cannot even be killed.
struct Frozen<'a>(&'a Lab, String);

impl<'a> Frozen<'a> {
    fn new(lab: &'a Lab, place: String) -> Self {
        lab.host.sh(&format!("fsfreeze -f {place}"));
        Self(lab, place)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.host.sh(&format!("fsfreeze -u {}", self.1));
    }
}

/// SAFE-4: what the target has taken on is not revoked before it has been done.
#[tokio::test]
async fn safe_4_a_write_under_way_keeps_the_reading_from_off() {
    let lab = Lab::new();
    let path = lab.dir.path().display();
    // Mounted for the host alone; what is written to it waits while it is frozen.
    lab.host.sh(&format!(
        "mkdir {path}/mount; truncate -s 16M {path}/image; mkfs.ext4 -q {path}/image; mount -o loop {path}/image {path}/mount"
    ));
    lab.host.sh(&format!("truncate -s 1M {path}/mount/disk"));
    let _tgtd = tgtd_on(&lab, &lab.path("mount/disk"));
    let mut device = lun(lab.ssh(), Target::Tgt, B);
    let mut session = Session::open(&lab, B, "10.0.0.2:0").unwrap();
    assert!(session.write(1, 11));
    let frozen = Frozen::new(&lab, format!("{path}/mount"));
    session.begin_to_write(1, 21).unwrap();
    assert!(session.is_ready().unwrap(), "commands are taken in turn: the write is under way");
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::Unknown);
    drop(frozen);
    let until = Instant::now() + DEADLINE;
    while reads(&mut device).await != Reading::Off {
        assert!(Instant::now() < until, "still a session");
    }
}

/// SAFE-2
#[tokio::test]
async fn safe_2_an_order_without_standing_changes_nothing() {
    let lab = Lab::new();
    let _tgtd = tgtd(&lab);
    let mut device = lun(lab.ssh(), Target::Tgt, B);
    let mut session = Session::open(&lab, B, "10.0.0.2:0").unwrap();
    for looks in [0, 1] {
        assert_eq!(
            device.run(Command::Off, holds_for(looks)).await,
            Err(Failure::Cancelled),
            "{looks} looks"
        );
        assert_eq!(reads(&mut device).await, Reading::On);
    }
    assert!(session.write(1, 11));
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(device.run(Command::On, holds_for(1)).await, Err(Failure::Cancelled));
    assert_eq!(reads(&mut device).await, Reading::Off);
}

/// A tree of plain files as configfs has it, and an `mkdir` and an `rmdir` that treat settings as configfs does: they come and go
/// with their folder, which is not removed before what hangs on it.
fn configfs(lab: &Lab) {
    lab.host.sh(&format!(
        r#"cat >/usr/local/sbin/rmdir <<'END'
#!/bin/sh
for below in "$1"/lun_*; do [ ! -d "$below" ] || exit 1; done
for link in "$1"/*; do [ ! -L "$link" ] || exit 1; done
rm -r "$1"
END
cat >/usr/local/sbin/mkdir <<'END'
#!/bin/sh
/bin/mkdir "$@" || exit 1
case $1 in
*/acls/*/lun_*) echo 0 >"$1/write_protect" ;;
*/acls/*) /bin/mkdir "$1/attrib" "$1/auth"; echo 64 >"$1/cmdsn_depth"; echo 3 >"$1/attrib/dataout_timeout"; echo >"$1/auth/userid"; echo >"$1/auth/password" ;;
esac
END
chmod 755 /usr/local/sbin/*
tpg=/sys/kernel/config/target/iscsi/{STORE}/tpgt_1
/bin/mkdir -p $tpg/attrib $tpg/lun/lun_0 $tpg/lun/lun_1 $tpg/acls; echo 0 >$tpg/attrib/generate_node_acls; echo 0 >$tpg/attrib/cache_dynamic_acls; : >$tpg/dynamic_sessions
for initiator in {B} {C}; do
    acl=$tpg/acls/$initiator
    mkdir $acl; echo secret-of-$initiator >$acl/auth/password; echo 5 >$acl/attrib/dataout_timeout
    mkdir $acl/lun_0; ln -s $tpg/lun/lun_0 $acl/lun_0/x; mkdir $acl/lun_7; ln -s $tpg/lun/lun_1 $acl/lun_7/y; echo 1 >$acl/lun_7/write_protect
done"#
    ));
}

/// The ACL of an initiator, as far as it matters; the kernel ends its lines by itself.
fn acl(lab: &Lab, initiator: &str) -> String {
    lab.host.sh(&format!(
        "cd /sys/kernel/config/target/iscsi/{STORE}/tpgt_1/acls; [ -d {initiator} ] || exit 0; cd {initiator}
         for file in cmdsn_depth attrib/dataout_timeout auth/password; do echo $(cat $file); done; for lun in lun_*; do echo $lun $(cat $lun/write_protect) $(readlink $lun/[!w]*); done"
    ))
}

/// Not the kernel: what is asked and ordered fits the tree, and comes back as it was.
#[tokio::test]
async fn an_acl_of_lio_is_removed_kept_and_made_anew() {
    let lab = Lab::new();
    configfs(&lab);
    let (before, other) = (acl(&lab, B), acl(&lab, C));
    assert!(before.contains("secret-of-") && before.lines().count() == 5, "{before}");
    let mut device = lun(lab.ssh(), Target::Lio, B);
    let Ok(Response::Proven(proven)) = run(&mut device, Command::Prove).await else { panic!("not proven") };
    assert_eq!(proven.reads, Reading::On);
    assert_eq!(device.run(Command::Off, holds_for(1)).await, Err(Failure::Cancelled), "SAFE-2");
    assert_eq!(acl(&lab, B), before);
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::Off);
    assert_eq!((acl(&lab, B), acl(&lab, C)), (String::new(), other.clone()));
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::AlreadySo));
    // SAFE-6: a password lies where only root reads it.
    assert_eq!(lab.host.sh("stat -c %a /run/palisade-lun"), "700\n");
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::On);
    assert_eq!((acl(&lab, B), acl(&lab, C)), (before.clone(), other));

    // An off that broke off half-way has kept all of it.
    let half = "cd /sys/kernel/config/target/iscsi/*/tpgt_1/acls/iqn.2026-01.example:b; rm lun_0/x lun_0/palisade 2>/dev/null || :; rmdir $PWD/lun_0";
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    lab.host.sh("cp -a /run/palisade-lun /run/kept");
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    lab.host.sh(&format!(
        "cp -a /run/kept /run/palisade-lun.new; cp -a /run/palisade-lun.new/. /run/palisade-lun; {half}"
    ));
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    assert_eq!(acl(&lab, B), before);

    // An on that broke off is finished, whether it has given back nothing yet, a part, or all.
    for broken in [
        "rm -f lun_?/palisade; rmdir $PWD/lun_0; rmdir $PWD/lun_7; rmdir $PWD",
        "rm -f lun_0/x lun_0/palisade; rmdir $PWD/lun_0",
        "true",
    ] {
        lab.host.sh(&format!(
            "rm -rf /run/palisade-lun; cp -a /run/kept /run/palisade-lun; cd /sys/kernel/config/target/iscsi/*/tpgt_1/acls/{B} || exit 1
             {broken}"
        ));
        assert_ne!(reads(&mut device).await, Reading::On, "{broken}");
        assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged), "{broken}");
        assert_eq!(reads(&mut device).await, Reading::On, "{broken}");
        assert_eq!(acl(&lab, B), before, "{broken}");
    }

    // SAFE-4: a target that lets in anybody, and one that never knew whom it is asked about.
    let group = format!("/sys/kernel/config/target/iscsi/{STORE}/tpgt_1");
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    for (change, words, undo) in [
        (
            format!("echo 1 >{group}/attrib/generate_node_acls"),
            "demo mode",
            format!("echo 0 >{group}/attrib/generate_node_acls"),
        ),
        (
            format!("echo 1 >{group}/attrib/cache_dynamic_acls"),
            "demo mode",
            format!("echo 0 >{group}/attrib/cache_dynamic_acls"),
        ),
        (format!("echo {B} >{group}/dynamic_sessions"), "demo mode", format!(": >{group}/dynamic_sessions")),
        (format!("cp -r {group} {group}1"), "2 portal groups", format!("rm -r {group}1")),
        (
            "mv /run/palisade-lun /run/away".to_owned(),
            "has no ACL",
            "mv /run/away /run/palisade-lun".to_owned(),
        ),
    ] {
        assert_eq!(reads(&mut device).await, Reading::Off);
        lab.host.sh(&change);
        assert_eq!(reads(&mut device).await, Reading::Unknown, "{change}");
        let failure = run(&mut device, Command::Off).await.unwrap_err();
        assert!(matches!(&failure, Failure::Refused { code } if code.contains(words)), "{failure}");
        lab.host.sh(&undo);
    }
    let failure =
        run(&mut lun(lab.ssh(), Target::Lio, "iqn.2026-01.example:bb"), Command::On).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Garbage { detail } if detail.contains("nothing was taken")),
        "{failure}"
    );
}
