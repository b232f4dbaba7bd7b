//! A host's right to a LUN taken away at a real LIO, over a real ssh login, from sessions that write: `cargo lab guests lun` runs
//! these tests at a guest whose kernel serves the LUNs, one after another. They are marked `ignore`, since they want such a target:
//! `PALISADE_LIO=PORTAL,IQN,SSH,FOLDER` names it, where root's shell answers ssh, and a folder with `id` and `known_hosts`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows a test only inside #[test]"
)]

mod enforcing;
mod iscsi;

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command as Process, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use enforcing::points::{B, C};
use enforcing::{DEADLINE, holds_for, reads, run};
use iscsi::{Place, Session, writing};
use palisade_devices::Device as _;
use palisade_devices::lun::{Lun, LunPoint, Target};
use palisade_devices::ssh::SshConfig;
use palisade_ladder::{Command, Failure, Reading, Response};

/// Passes where a reading waits, and need not be longer than one that does not.
const SHORT: Duration = Duration::from_secs(2);
/// How many writes of one initiator are under way at any time.
const AT_ONCE: u8 = 4;
/// More rounds of writes than there is time for.
const WITHOUT_A_PAUSE: usize = 1_000_000;
/// More blocks than all writers write to.
const BLOCKS: u8 = 20;
/// What a target answers whom it does not let in (RFC 7143 11.13.5): authorization failure.
const SHUT_OUT: &str = "login refused: 0202";

/// The target, and a shell there for what is done behind the driver's back.
struct Array {
    place: Place,
    ssh: SshConfig,
    shell: Child,
    said: BufReader<ChildStdout>,
}

impl Array {
    /// With ACLs of b and c: LUN 0 to write to, and LUN 7, of which they may only read.
    fn fresh() -> Self {
        let variable = std::env::var("PALISADE_LIO").expect("PALISADE_LIO=PORTAL,IQN,SSH,FOLDER names a LIO");
        let parts: Vec<&str> = variable.split(',').collect();
        let [portal, target, address, folder] = parts[..] else { panic!("PALISADE_LIO={variable}") };
        let place =
            Place { portal: portal.parse().unwrap(), target: target.to_owned(), lun: 0, name: String::new() };
        let [identity, known_hosts] = ["id", "known_hosts"].map(|name| format!("{folder}/{name}"));
        let (host, port) = address.split_once(':').unwrap();
        let mut shell = Process::new("ssh")
            .args(["-F", "none", "-T", "-o", "BatchMode=yes", "-i", &identity, "-p", port])
            .args(["-o", &format!("UserKnownHostsFile={known_hosts}"), &format!("root@{host}"), "exec sh"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("no ssh: install the package openssh-client");
        let said = BufReader::new(shell.stdout.take().unwrap());
        let ssh = SshConfig::new("root", address.parse().unwrap(), identity.into(), known_hosts.into());
        let mut array = Self { place, ssh: ssh.unwrap(), shell, said };
        array.sh(&format!(
            "fsfreeze --unfreeze /mnt 2>/dev/null || :
             for acl in acls/*; do
                 [ -d $acl ] || continue
                 for lun in $acl/lun_*; do
                     [ -d $lun ] || continue
                     for link in $lun/*; do [ ! -L $link ] || rm $link; done
                     rmdir $lun
                 done
                 rmdir $acl
             done
             rm -rf /run/palisade-lun
             for setting in generate_node_acls cache_dynamic_acls demo_mode_write_protect; do echo 0 >attrib/$setting; done
             for acl in acls/{B} acls/{C}; do
                 mkdir $acl $acl/lun_0 $acl/lun_7
                 ln -s $PWD/lun/lun_0 $acl/lun_0/here
                 ln -s $PWD/lun/lun_1 $acl/lun_7/there
                 echo 1 >$acl/lun_7/write_protect
                 echo 5 >$acl/attrib/dataout_timeout
             done"
        ));
        array
    }

    /// What a script prints there, which has to succeed; it begins in the directory of the portal group.
    fn sh(&mut self, script: &str) -> String {
        let framed = format!(
            "(set -e; cd /sys/kernel/config/target/iscsi/{}/tpgt_1\n{script}\n) </dev/null 2>&1; code=$?; echo; echo \"done $code\"\n",
            self.place.target
        );
        self.shell.stdin.as_mut().unwrap().write_all(framed.as_bytes()).unwrap();
        let mut text = String::new();
        loop {
            let from = text.len();
            assert_ne!(self.said.read_line(&mut text).unwrap(), 0, "the shell has ended: {script}");
            if let Some(code) = text[from..].strip_prefix("done ") {
                assert_eq!(code, "0\n", "{script}: {text}");
                text.truncate(from);
                return text.trim_end().to_owned();
            }
        }
    }

    /// Waits until a condition holds there.
    fn wait_for(&mut self, condition: &str) {
        self.sh(&format!(
            "n=0; until {condition}; do [ $((n += 1)) -lt 2000 ] || exit 1; usleep 10000; done"
        ));
    }

    fn device(&self, initiator: &str) -> Lun {
        Lun::new(self.ssh.clone(), LunPoint::new(Target::Lio, &self.place.target, initiator).unwrap())
    }

    fn session(&self, initiator: &str, isid: u8) -> io::Result<Session> {
        Session::open(&self.place, initiator, isid)
    }

    /// Whether libiscsi is let in under that name; `login` is `user%password@`, or nothing.
    fn inquires(&self, initiator: &str, login: &str) -> bool {
        let Place { portal, target, .. } = &self.place;
        let url = format!("iscsi://{login}{portal}/{target}/0");
        let inquiry = Process::new("iscsi-inq").args(["-i", initiator, &url]).output();
        let inquiry = inquiry.expect("no iscsi-inq: install the package libiscsi-bin");
        String::from_utf8_lossy(&inquiry.stdout).contains("Peripheral Qualifier:CONNECTED")
    }

    /// The first byte of each block of LUN 0, as it is on the disk.
    fn stored(&mut self) -> Vec<u8> {
        let text = self.sh(&format!(
            "echo 1 >/proc/sys/vm/drop_caches
             n=0; while [ $n -lt {BLOCKS} ]; do dd if=/dev/ram0 bs=512 skip=$n count=1 2>/dev/null | od -An -tu1 -N1; n=$((n + 1)); done"
        ));
        text.split_whitespace().map(|byte| byte.parse().unwrap()).collect()
    }

    /// All that an ACL consists of; nothing if there is none.
    fn acl(&mut self, initiator: &str) -> String {
        self.sh(&format!(
            "[ -d acls/{initiator} ] || exit 0; cd acls/{initiator}
             for file in cmdsn_depth tag attrib/* auth/*; do echo $file $(od -An -c $file); done
             for lun in lun_*; do echo $lun $(cat $lun/write_protect) $(readlink -f $lun/[!sw]*); done"
        ))
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        drop(self.shell.kill());
        drop(self.shell.wait());
    }
}

/// Somebody who writes.
struct Writer {
    rounds: Receiver<()>,
    thread: JoinHandle<io::Result<u8>>,
}

impl Writer {
    /// `number` tells its blocks from other writers'. It makes so many rounds of writes before it waits for [`Self::goes_on`].
    fn new(mut session: Session, number: u8, ahead: usize) -> Self {
        assert_eq!(session.write_full_of(1, number * AT_ONCE).unwrap(), 0);
        let (done, rounds) = sync_channel(ahead);
        let thread = std::thread::spawn(move || write_on(&mut session, number * AT_ONCE, &done));
        Self { rounds, thread }
    }

    /// Waits until writes go through that were begun from now on.
    fn goes_on(&self) {
        self.rounds.try_iter().for_each(drop);
        for _ in 0..2 {
            self.rounds.recv_timeout(DEADLINE).expect("it writes no more");
        }
    }

    /// How it was stopped: its session ended, or this status was answered.
    fn end(self) -> io::Result<u8> {
        drop(self.rounds);
        self.thread.join().unwrap()
    }
}

/// Until a write does not go through, or nobody wants to know.
fn write_on(session: &mut Session, first: u8, done: &SyncSender<()>) -> io::Result<u8> {
    for fill in (1..=200).cycle() {
        for block in first..first + AT_ONCE {
            session.say(&writing(fill, block))?;
        }
        for _ in 0..AT_ONCE {
            let status = session.hear()?.status;
            if status != 0 {
                return Ok(status);
            }
        }
        if done.send(()).is_err() {
            break;
        }
    }
    Ok(0)
}

/// Orders an off that has to wait at the target, and loses the connection while it does.
async fn order_off_and_leave(mut array: Array, initiator: &str) -> Array {
    let mut device = array.device(initiator);
    let waits = format!(
        "p=$(pidof rmdir) && tr '\\000' ' ' </proc/$p/cmdline | grep -q 'acls/{initiator} $' && grep -q '^State:.D' /proc/$p/status"
    );
    let seen = tokio::task::spawn_blocking(move || {
        array.wait_for(&waits);
        array
    });
    tokio::select! {
        array = seen => array.unwrap(),
        done = run(&mut device, Command::Off) => panic!("an order that waited for nothing: {done:?}"),
    }
}

/// Whether a reading says off; one that waits says nothing.
async fn is_off(device: &mut Lun) -> bool {
    let reading = device.run(Command::Read, (tokio::time::Instant::now() + SHORT).into()).await;
    reading == Ok(Response::Reads(Reading::Off))
}

/// What it waited for is over.
async fn reads_off_at_last(device: &mut Lun) {
    let until = Instant::now() + DEADLINE;
    while run(device, Command::Read).await != Ok(Response::Reads(Reading::Off)) {
        assert!(Instant::now() < until, "still not off");
    }
}

fn is_shut_out(login: io::Result<Session>) -> bool {
    login.is_err_and(|error| error.to_string() == SHUT_OUT)
}

#[tokio::test]
#[ignore = "at a LIO: cargo lab guests lun"]
async fn lio_sessions_that_write_are_ended_and_let_in_again_and_a_neighbours_goes_on() {
    let mut array = Array::fresh();
    let (before, neighbours) = (array.acl(B), array.acl(C));
    assert!(before.contains("lun_7 1 /sys/kernel/config/target/iscsi/"), "{before}");
    let mut device = array.device(B);
    let Ok(Response::Proven(proven)) = run(&mut device, Command::Prove).await else { panic!("not proven") };
    assert_eq!((proven.may_fence, proven.reads), (true, Reading::On));
    assert_eq!(device.run(Command::Off, holds_for(1)).await, Err(Failure::Cancelled), "SAFE-2");
    let neighbour = Writer::new(array.session(C, 1).unwrap(), 3, 0);
    let writers =
        [1, 2].map(|number| Writer::new(array.session(B, number).unwrap(), number, WITHOUT_A_PAUSE));
    assert!(array.inquires(B, "") && array.inquires(C, ""));
    for writer in [&neighbour, &writers[0], &writers[1]] {
        writer.goes_on();
    }

    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::Off);
    let stored = array.stored();
    for writer in writers {
        let end = writer.end();
        assert!(!matches!(end, Ok(0)), "{end:?}");
    }
    assert!(is_shut_out(array.session(B, 1)) && !array.inquires(B, ""));
    neighbour.goes_on();
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::AlreadySo));
    assert_eq!((array.acl(B), array.acl(C)), (String::new(), neighbours.clone()));
    let now = array.stored();
    assert_eq!(now[4..12], stored[4..12], "what b wrote");
    assert!(now[4..12].iter().all(|fill| *fill != 0), "{now:?}");

    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::On);
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::AlreadySo));
    assert_eq!((array.acl(B), array.acl(C)), (before, neighbours));
    assert_eq!(array.session(B, 1).unwrap().write_full_of(231, 4).unwrap(), 0);
    assert_eq!(array.stored()[4], 231);
    assert!(array.inquires(B, ""));
    // On the session that it had from the beginning.
    neighbour.goes_on();
    assert_eq!(neighbour.end().unwrap(), 0);
}

#[tokio::test]
#[ignore = "at a LIO: cargo lab guests lun"]
async fn lio_passwords_and_settings_come_back_as_they_were() {
    let mut array = Array::fresh();
    // As its tools write them: without an end of line, which would be a part of them.
    array.sh(&format!(
        "cd acls/{B}; printf a-tag >tag; echo 32 >cmdsn_depth; echo 1 >attrib/authentication
         printf b >auth/userid; printf 'its own secret' >auth/password
         printf store >auth/userid_mutual; printf store-secret >auth/password_mutual"
    ));
    let before = array.acl(B);
    let credentials = "b%its own secret@";
    assert!(
        array.inquires(B, credentials) && !array.inquires(B, "") && !array.inquires(B, "b%wrong-secret-@")
    );
    let mut device = array.device(B);
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::Off);
    assert!(!array.inquires(B, credentials));
    // SAFE-6: a password lies where only root reads it.
    assert_eq!(array.sh("stat -c %a /run/palisade-lun"), "700");
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    assert_eq!(array.acl(B), before);
    assert!(array.inquires(B, credentials) && !array.inquires(B, ""));
    // An on that broke off after its first step lets in nobody to anything, and is finished.
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    array.sh(&format!("mkdir acls/{B}"));
    assert_eq!(reads(&mut device).await, Reading::Unknown);
    assert_ne!(array.session(B, 1).unwrap().write_full_of(241, 1).unwrap(), 0);
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    assert_eq!((reads(&mut device).await, array.acl(B)), (Reading::On, before));
    assert_ne!(array.stored()[1], 241);
}

/// SAFE-4: each of these lets the initiator in, or might.
#[tokio::test]
#[ignore = "at a LIO: cargo lab guests lun"]
async fn lio_safe_4_a_target_that_lets_in_otherwise_is_not_off() {
    let mut array = Array::fresh();
    let mut device = array.device(B);
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::Off);
    assert!(is_shut_out(array.session(B, 1)));

    // Demo mode lets in anybody, and who was let in stays.
    array.sh("echo 1 >attrib/generate_node_acls");
    let mut session = array.session(B, 1).expect("this is why");
    assert_eq!(session.write_full_of(221, 1).unwrap(), 0);
    is_refused(&mut device, "demo mode").await;
    array.sh("echo 0 >attrib/generate_node_acls");
    assert_eq!(session.write_full_of(222, 1).unwrap(), 0);
    end(&mut array, session);
    // Whom it has let in is let in again, though nothing tells of it: the kernel has begun to cache them by itself.
    assert_eq!(array.sh("cat attrib/generate_node_acls attrib/cache_dynamic_acls"), "0\n1");
    is_refused(&mut device, "cache_dynamic_acls=0").await;
    let mut session = array.session(B, 1).expect("this is why");
    assert_eq!(session.write_full_of(223, 1).unwrap(), 0);
    array.sh("echo 0 >attrib/cache_dynamic_acls");
    is_refused(&mut device, "end the sessions that it has let in").await;
    assert_eq!(session.write_full_of(224, 1).unwrap(), 0);
    end(&mut array, session);
    assert!(is_shut_out(array.session(B, 1)));
    assert_eq!(reads(&mut device).await, Reading::Off);
    // Write-protected, it lets in anybody all the same.
    array.sh("echo 1 >attrib/demo_mode_write_protect; echo 1 >attrib/generate_node_acls");
    let mut session = array.session(B, 1).unwrap();
    assert_ne!(session.write_full_of(225, 1).unwrap(), 0);
    is_refused(&mut device, "demo mode").await;
    array.sh("for setting in generate_node_acls cache_dynamic_acls demo_mode_write_protect; do echo 0 >attrib/$setting; done");
    end(&mut array, session);
    assert!(is_shut_out(array.session(B, 1)));

    // A portal group without ACLs of ours.
    array.sh("mkdir ../tpgt_2");
    is_refused(&mut device, "2 portal groups").await;
    array.sh("rmdir ../tpgt_2");
    assert_eq!(reads(&mut device).await, Reading::Off);

    // One that the target never knew was never cut off.
    let mut mistyped = array.device("iqn.2026-01.example:bb");
    is_refused(&mut mistyped, "has no ACL").await;
    let failure = run(&mut mistyped, Command::On).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Garbage { detail } if detail.contains("nothing was taken")),
        "{failure}"
    );

    // An ACL that somebody has made anew, with a session, is not off, and is cut.
    array.sh(&format!("mkdir acls/{B} acls/{B}/lun_0; ln -s $PWD/lun/lun_0 acls/{B}/lun_0/anew"));
    let writer = Writer::new(array.session(B, 1).unwrap(), 1, WITHOUT_A_PAUSE);
    assert_eq!(reads(&mut device).await, Reading::Unknown);
    writer.goes_on();
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::Off);
    let end = writer.end();
    assert!(!matches!(end, Ok(0)), "{end:?}");
}

/// Ends a session that demo mode has let in.
fn end(array: &mut Array, session: Session) {
    drop(session);
    array.wait_for("[ -z \"$(tr -d '\\000' <dynamic_sessions)\" ]");
}

/// Reads unknown, and no off is ordered.
async fn is_refused(device: &mut Lun, words: &str) {
    assert_eq!(reads(device).await, Reading::Unknown, "{words}");
    let failure = run(device, Command::Off).await.unwrap_err();
    assert!(matches!(&failure, Failure::Refused { code } if code.contains(words)), "{failure}");
}

/// SAFE-4: what the target has taken on is not revoked before it has been done, whoever still waits for the order.
#[tokio::test]
#[ignore = "at a LIO: cargo lab guests lun"]
async fn lio_safe_4_a_write_under_way_keeps_the_reading_from_off() {
    let mut array = Array::fresh();
    // LUN 0 of b lies on a file system that can be told to take nothing on.
    array.sh(&format!(
        "modprobe loop; modprobe ext4
         dd if=/dev/zero of=/tmp/image bs=1M count=8; mke2fs -F /tmp/image; mkdir -p /mnt; mount -t ext2 -o loop /tmp/image /mnt
         dd if=/dev/zero of=/mnt/disk bs=1M count=1; losetup /dev/loop7 /mnt/disk
         disk=/sys/kernel/config/target/core/iblock_7/disk; mkdir -p $disk; echo udev_path=/dev/loop7 >$disk/control; echo 1 >$disk/enable
         mkdir lun/lun_9; ln -s $disk lun/lun_9/disk; rm acls/{B}/lun_0/here; ln -s $PWD/lun/lun_9 acls/{B}/lun_0/here"
    ));
    let mut device = array.device(B);
    let mut session = array.session(B, 1).unwrap();
    assert_eq!(session.write_full_of(11, 1).unwrap(), 0);
    let on_disk = "sync; od -An -tu1 -j512 -N1 /mnt/disk";
    assert_eq!(array.sh(on_disk).trim(), "11");

    array.sh("fsfreeze --freeze /mnt");
    session.say(&writing(21, 1)).unwrap();
    array.wait_for("grep -q ' 1$' /sys/block/loop7/inflight");
    let mut array = order_off_and_leave(array, B).await;
    let was_off = is_off(&mut device).await;
    let under_way = array.sh("cat /sys/block/loop7/inflight; fsfreeze --unfreeze /mnt");
    assert!(!was_off && under_way.ends_with(" 1"), "{under_way}");
    reads_off_at_last(&mut device).await;
    assert!(session.hear().and_then(|_| session.write_full_of(31, 1)).is_err());
    assert!(is_shut_out(array.session(B, 1)));
    assert_eq!(array.sh(on_disk).trim(), "21");
}

/// SAFE-4: who was about to be let in reaches nothing, and is not taken for gone.
#[tokio::test]
#[ignore = "at a LIO: cargo lab guests lun"]
async fn lio_safe_4_a_login_that_began_before_the_cut_keeps_the_reading_from_off() {
    let array = Array::fresh();
    let mut device = array.device(B);
    let login = Session::begin(&array.place, B, 1).unwrap();
    let mut array = order_off_and_leave(array, B).await;
    let mut session = login.finish(1).unwrap();
    let before = array.stored();
    assert_ne!(session.write_full_of(211, 1).unwrap(), 0);
    assert_eq!(array.stored(), before);
    assert!(!is_off(&mut device).await);
    drop(session);
    reads_off_at_last(&mut device).await;
    assert!(is_shut_out(array.session(B, 1)));
}
