//! A whole cluster of guests: hosts with agents of their own, at the disks of one array, with a BMC each.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::{Bmc, Guest, Hardware, Lio, Lun, Rack, bmc};
use crate::lab::Binaries;
use crate::lab::cluster::{Keys, NAME};
use crate::lab::trouble::{Context, Result, Trouble};

/// The disk that they share.
const LUN: Lun = Lun { serial: "f0000000000000000000000000000006" };
/// The hosts, in the order of their ids.
const HOSTS: [&str; 3] = ["a", "b", "c"];
/// UDP, on the wire between them.
const PEER_PORT: u16 = 7703;
/// Where a guest finds what is on the loopback of its rack.
const RACK: &str = "10.0.2.2";
/// Three emulated machines that start an agent each, on two processors.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

/// A shell condition: see [`Cluster::settle`].
const SETTLED: &str = "palisade status >/tmp/status && grep -q 'stands with a, b, c' /tmp/status && ! grep -q 'NOT \\| never' /tmp/status";

/// What [`Cluster::start`] is made of, beside three hosts and a disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// The storage's cut does not wait for the power to fail.
    pub race: bool,
}

/// A running cluster: three hosts by themselves, and two workloads. `db` writes its host's name to the shared disk, over and over;
/// `log` runs, and has nothing to do with the disk.
#[derive(Debug)]
pub struct Cluster<'a> {
    rack: &'a Rack,
    array: Lio,
    plan: Plan,
    keys: Keys,
    bmcs: Vec<Bmc>,
    guests: Vec<Option<Guest>>,
    /// How many guests were started: each needs a name of its own in the rack.
    started: usize,
}

impl<'a> Cluster<'a> {
    /// Starts all of it, and waits until the hosts stand together and may act.
    ///
    /// # Errors
    /// A part does not come up.
    pub fn start(rack: &'a Rack, plan: Plan) -> Result<Self> {
        let array = Lio::start(rack, "array", &[LUN])?;
        let bmcs = HOSTS.iter().enumerate();
        let bmcs = bmcs.map(|(id, name)| Bmc::start(rack, &format!("bmc-{name}"), &guid(id)));
        let bmcs = bmcs.collect::<Result<Vec<_>>>()?;
        let guests = HOSTS.iter().map(|_| None).collect();
        let mut cluster = Self { rack, array, plan, keys: Keys::fresh()?, bmcs, guests, started: 0 };
        for name in HOSTS {
            cluster.switch_on(name)?;
        }
        cluster.settle()?;
        Ok(cluster)
    }

    /// Waits until all three stand together and each has proven how it fences the others.
    ///
    /// # Errors
    /// A host is not taken in, or a device does not answer.
    pub fn settle(&mut self) -> Result<()> {
        HOSTS.iter().try_for_each(|name| self.wait(name, SETTLE_LIMIT, SETTLED))
    }

    /// Pulls a host's plug, without a word to anybody, its BMC's included.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn switch_off(&mut self, name: &str) -> Result<()> {
        let id = id(name)?;
        self.guests.get_mut(id).map(Option::take).map(drop).during(format!("the machine of {name}"))
    }

    /// Gives a host power: a machine that boots, with nothing left of its last life.
    ///
    /// # Errors
    /// It does not come up.
    pub fn switch_on(&mut self, name: &str) -> Result<()> {
        let id = id(name)?;
        let mut hardware = Hardware::default();
        hardware.device(["-uuid", &machine(id)]).lan(id).reaches_rack();
        // The first one has two paths: both have to be cut.
        let paths = if id == 0 { 2 } else { 1 };
        for _ in 0..paths {
            hardware.path(&self.array, 0, &format!("iqn.2026-11.lab:{name}"));
        }
        let palisade = Binaries::beside()?.palisade;
        hardware.files.program(&palisade, "/opt/palisade")?.program(Path::new("/bin/dd"), "/opt/dd")?;
        for (file, text) in [
            ("cluster.toml", self.file()?),
            ("cluster.key", format!("{}\n", self.keys.cluster)),
            ("bmc.pass", format!("{}\n", bmc::PASSWORD)),
        ] {
            hardware.files.write(&format!("/etc/palisade/{file}"), text.as_bytes(), 0o600)?;
        }
        hardware.files.copy(&super::scripts().join("workload"), "/opt/workload")?;
        self.started += 1;
        let mut guest = Guest::start(self.rack, &format!("{name}-{}", self.started), hardware)?;
        guest.load_disks(paths)?;
        guest.run(&format!(
            "hostname {name} && mkdir -p /var/lib/palisade /srv && modprobe virtio_net && \
             mount -t cgroup2 cgroup /sys/fs/cgroup && \
             ip addr add {}/24 dev eth0 && ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth1 && ip link set eth1 up",
            address(id)
        ))?;
        guest.run("setsid palisade agent >/tmp/agent.log 2>&1 &")?;
        self.guests.insert(id, Some(guest));
        self.guests.remove(id + 1);
        Ok(())
    }

    /// A host's machine.
    ///
    /// # Errors
    /// It has no power, or there is none of this name.
    pub fn guest(&mut self, name: &str) -> Result<&mut Guest> {
        let id = id(name)?;
        self.guests.get_mut(id).and_then(Option::as_mut).during(format!("the machine of {name}"))
    }

    /// A host's BMC.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn bmc(&self, name: &str) -> Result<&Bmc> {
        let id = id(name)?;
        self.bmcs.get(id).during(format!("the BMC of {name}"))
    }

    /// The array.
    pub fn array(&mut self) -> &mut Lio {
        &mut self.array
    }

    /// Waits until a shell condition holds on a host; what does not come is told with what its agent said last.
    ///
    /// # Errors
    /// It does not within `limit`.
    pub fn wait(&mut self, name: &str, limit: Duration, condition: &str) -> Result<()> {
        let guest = self.guest(name)?;
        guest.wait_for(limit, condition).map_err(|trouble| {
            let words = guest.call(
                "palisade status; tail -n 5 /tmp/agent.log; tail -n 12 /var/lib/palisade/journal/*.jsonl",
            );
            Trouble::new(format!("{trouble}\n{}", words.map(|words| words.text).unwrap_or_default()))
        })
    }

    fn file(&self) -> Result<String> {
        let mut file = format!(
            "[cluster]\nname = \"{NAME}\"\nkeys = [ {{ id = 1, file = \"/etc/palisade/cluster.key\" }} ]\n\n\
             [[storage]]\nname = \"images\"\npath = \"/srv\"\nluns = [\"{}\"]\n\n",
            LUN.wwid()
        );
        for (id, name) in HOSTS.iter().enumerate() {
            let port = self.bmc(name)?.port();
            let _ = write!(
                file,
                "[[host]]\nid = {id}\nname = \"{name}\"\nmachine = \"{}\"\nlinks = [\"{}:{PEER_PORT}\"]\n\n\
                 [[device]]\nname = \"bmc-{name}\"\nkind = \"ipmi\"\nfences = \"{name}\"\naddress = \"{RACK}:{port}\"\n\
                 user = \"{}\"\npassword = {{ file = \"/etc/palisade/bmc.pass\" }}\ncipher_suite = 3\nguid = \"{}\"\n\n\
                 [[device]]\nname = \"keys-{name}\"\nkind = \"scsi\"\nfences = \"{name}\"\nlevel = 2\nstorage = [\"images\"]\n\
                 race = {}\n\n",
                machine(id),
                address(id),
                bmc::USER,
                guid(id),
                self.plan.race
            );
        }
        for (id, name, settings) in [(1, "db", "storage = [\"images\"]\n"), (2, "log", "")] {
            let _ = write!(
                file,
                "[[workload]]\nid = {id}\nname = \"{name}\"\nhosts = [\"a\", \"b\", \"c\"]\n{settings}[workload.command]\n"
            );
            for order in ["start", "stop", "status"] {
                let _ = writeln!(file, "{order} = [\"/opt/workload\", \"{name}\", \"{order}\"]");
            }
            file.push('\n');
        }
        Ok(file)
    }
}

fn id(name: &str) -> Result<usize> {
    HOSTS.iter().position(|known| *known == name).during(format!("a host {name}"))
}

fn address(id: usize) -> String {
    format!("10.77.1.{}", id + 1)
}

fn machine(id: usize) -> String {
    format!("a1b2c3d4-0000-4000-8000-00000000000{}", id + 1)
}

fn guid(id: usize) -> String {
    format!("b123456789abcdefa123456789abcde{}", id + 1)
}
