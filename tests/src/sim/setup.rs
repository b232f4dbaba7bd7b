//! One cluster to simulate: how many hosts, which timings, which clocks. Everything is drawn from the seed, and becomes a
//! configuration as an operator would write it.

use std::fmt::Write as _;
use std::sync::Arc;

use palisade_core::config::Cluster;

use super::Rng;

/// One in so many drawn clusters has all 32 hosts: such a history costs as much as hundreds of others.
const LARGE_IN: u64 = 4000;
const ISOLATIONS: [Isolation; 3] = [Isolation::After, Isolation::Race, Isolation::Before];
/// How fast or slow a clock is that keeps no bound.
const WILD_PPM: i64 = 300_000;

/// Names of hosts, by id.
pub const NAMES: [&str; 32] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u",
    "v", "w", "x", "y", "z", "aa", "ab", "ac", "ad", "ae", "af",
];

/// When a host's network is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Once its BMC has failed.
    After,
    /// Together with its power.
    Race,
    /// Before its power, which is one level further.
    Before,
}

/// The parameters of one cluster.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many hosts.
    pub hosts: usize,
    /// Whether there is a witness.
    pub witness: bool,
    /// In ms: heartbeat, lease, suspect.
    pub heartbeat: u64,
    /// Ls.
    pub lease: u64,
    /// After how much silence a host is suspected.
    pub suspect: u64,
    /// The drift bound, in parts per million.
    pub drift_ppm: u64,
    /// In ms.
    pub rejoin_hold: u64,
    /// In ms.
    pub join_timeout: u64,
    /// In ms.
    pub boot_wait: u64,
    /// In ms.
    pub restart_hold: u64,
    /// In ms.
    pub cold_off_wait: u64,
    /// In ms.
    pub grace: u64,
    /// The hardware watchdog's time-out in seconds, where there is one.
    pub watchdog: Option<u64>,
    /// Fences within `budget_window`.
    pub budget: u64,
    /// In ms.
    pub budget_window: u64,
    /// After so many fences a host waits for an operator; 0: never.
    pub quarantine_after: u64,
    /// Whether power comes back after a fence.
    pub after_off_on: bool,
    /// Of each BMC, in ms.
    pub deadline: u64,
    /// How many workloads.
    pub workloads: usize,
    /// Beside its BMC each host has a device that cuts its network; every other workload has no other way to shared state.
    pub isolation: Option<Isolation>,
    /// The network of a host is cut by every other one's own firewall, in place of a device.
    pub walls: bool,
    /// Each host looks at two things, of which one drains it and one has it fence itself.
    pub probes: bool,
    /// Rate of each host's clock and of the witness's (last), in parts per million.
    pub clock_ppm: Vec<i64>,
    /// The clocks differ by more than the drift bound until everything is mended: then quorum promises nothing, but nobody is
    /// taken for dead who lives and nothing runs twice (PROTOCOL, "Acting": proofs and claims give I2 by themselves).
    pub wild: bool,
}

impl Setup {
    /// The default profile, undisturbed: what an operator gets who sets nothing.
    #[must_use]
    pub fn plain(hosts: usize, witness: bool, fast: bool) -> Self {
        let (heartbeat, lease, suspect) = if fast { (50, 250, 260) } else { (200, 1000, 1020) };
        Self {
            hosts,
            witness,
            heartbeat,
            lease,
            suspect,
            drift_ppm: 10_000,
            rejoin_hold: 10_000,
            join_timeout: 10_000,
            boot_wait: 2000,
            restart_hold: 5000,
            cold_off_wait: 600_000,
            grace: 3000,
            watchdog: None,
            budget: (hosts as u64 / 2).max(1),
            budget_window: 600_000,
            quarantine_after: 0,
            after_off_on: true,
            deadline: 4000,
            workloads: 1,
            isolation: None,
            walls: false,
            probes: false,
            clock_ppm: vec![0; hosts + 1],
            wild: false,
        }
    }

    /// A cluster drawn from the seed. The long waits are drawn shorter than an operator's, so that more happens in less time;
    /// every relation that the configuration checks still holds.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let large = rng.below(LARGE_IN) == 0;
        let few = rng.pick(&[2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 6, 7]);
        let hosts: usize = if large { palisade_proto::MAX_HOSTS } else { few };
        let witness = if hosts.is_multiple_of(2) { rng.chance(850) } else { rng.chance(400) };
        let drift_ppm = rng.pick(&[10_000, 10_000, 50_000]);
        let (heartbeat, lease): (u64, u64) =
            rng.pick(&[(200, 1000), (200, 1000), (200, 800), (50, 250), (250, 1000)]);
        let voter = (lease * (1_000_000 + drift_ppm)).div_ceil(1_000_000) + 1;
        let suspect = voter + rng.pick(&[0, 9, 9, 50, lease / 2]);
        let deadline = rng.pick(&[1000, 2000, 4000]);
        let rejoin_hold = (suspect + rng.pick(&[1, 200, 1000])).max(deadline);
        let wild = rng.chance(40);
        // A watchdog's bound is a matter of clocks: beyond the drift bound it proves nothing.
        let watchdog =
            (rng.chance(400) && !wild).then(|| (lease * 5).div_ceil(1000).max(rng.pick(&[6, 7, 10])));
        // Grace and the kill end before the watchdog does.
        let most_grace = |timeout: u64| timeout * 1000 - palisade_core::config::KILL.0 - 1;
        let grace = watchdog.map_or(3000, |timeout| most_grace(timeout).min(3000));
        // The ratio of two rates stays within the bound: (1+r)/(1-r) <= 1+drift.
        let most = (drift_ppm * 1_000_000 / (2_000_000 + drift_ppm)) as i64 - 1;
        let most = if wild { WILD_PPM } else { most };
        let extreme = rng.chance(300);
        let mut clock = |_| match extreme {
            true => rng.pick(&[-most, most]),
            false => rng.range(0, 2 * most as u64) as i64 - most,
        };
        let clock_ppm = (0..=hosts).map(&mut clock).collect();
        Self {
            witness,
            heartbeat,
            lease,
            suspect,
            drift_ppm,
            rejoin_hold,
            join_timeout: rng.pick(&[3000, 5000, 10_000]),
            boot_wait: rng.pick(&[500, 1000, 2000]),
            restart_hold: watchdog.map_or(3000, |timeout| (timeout * 1000 - 1).min(3000)),
            cold_off_wait: rng.pick(&[5000, 20_000, 600_000]),
            grace,
            watchdog,
            budget: if rng.chance(150) { (hosts as u64 / 2).max(1) } else { 31 },
            budget_window: rng.pick(&[10_000, 30_000]),
            quarantine_after: rng.aside(3).pick(&[0, 0, 0, 0, 0, 0, 0, 1, 2, 3]),
            after_off_on: rng.chance(800),
            deadline,
            workloads: rng.range(1, 4) as usize,
            // Of a stream of its own: what a seed drew before there was isolation it draws now, too.
            isolation: rng.aside(1).chance(250).then(|| rng.aside(2).pick(&ISOLATIONS)),
            walls: rng.aside(4).chance(500),
            probes: rng.aside(5).chance(200),
            clock_ppm,
            wild,
            hosts,
        }
    }

    /// Whether the network is the only way of a workload to its shared state.
    #[must_use]
    pub fn by_network(&self, workload: usize) -> bool {
        self.isolation.is_some() && workload.is_multiple_of(2)
    }

    /// The configuration.
    ///
    /// # Panics
    /// If the configuration refuses it: then this module draws what it must not.
    #[must_use]
    pub fn cluster(&self) -> Arc<Cluster> {
        let text = self.text();
        Arc::new(Cluster::parse(&text, "drawn").unwrap_or_else(|error| panic!("{error}\n{text}")))
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let ms = |n: u64| format!("\"{n}ms\"");
        let _ = write!(text, "[cluster]\nname = \"sim\"\nkeys = [ {{ id = 1, file = \"/k\" }} ]\n[timing]\n");
        for (name, value) in [
            ("heartbeat", self.heartbeat),
            ("lease", self.lease),
            ("suspect", self.suspect),
            ("grace", self.grace),
            ("rejoin_hold", self.rejoin_hold),
            ("join_timeout", self.join_timeout),
            ("boot_wait", self.boot_wait),
            ("restart_hold", self.restart_hold),
            ("cold_off_wait", self.cold_off_wait),
            ("order_deadline", self.deadline * 3 + 1000),
            ("broker_round_trip", self.lease / 5),
        ] {
            let _ = writeln!(text, "{name} = {}", ms(value));
        }
        let _ = writeln!(text, "drift = \"{}%\"", self.drift_ppm / 10_000);
        if let Some(timeout) = self.watchdog {
            let _ = writeln!(
                text,
                "[watchdog]\ndevice = \"/dev/watchdog\"\ntimeout = \"{timeout}s\"\nmargin = \"1s\"\nruns_while_frozen = true"
            );
        }
        if self.witness {
            let _ = writeln!(
                text,
                "[witness]\nbroker = \"mqtt://10.0.0.9\"\nkeys = [ {{ id = 1, file = \"/w\" }} ]"
            );
        }
        let after_off = if self.after_off_on { "on" } else { "off" };
        let _ = writeln!(
            text,
            "[fencing]\nbudget = {}\nbudget_window = {}\nafter_off = \"{after_off}\"\nquarantine_after = {}",
            self.budget,
            ms(self.budget_window),
            self.quarantine_after
        );
        for (id, name) in NAMES.iter().enumerate().take(self.hosts) {
            let _ = writeln!(
                text,
                "[[host]]\nid = {id}\nname = \"{name}\"\nmachine = \"4c4c4544-0051-3510-8052-b4c04f4d31{id:02x}\"\nlinks = [\"10.0.0.{}:7411\"]",
                id + 1
            );
            let _ = writeln!(
                text,
                "[[device]]\nname = \"bmc-{name}\"\nkind = \"ipmi\"\nfences = \"{name}\"\naddress = \"10.0.1.{}:623\"\nuser = \"u\"\n\
                 password = {{ file = \"/p\" }}\nguid = \"a123456789abcdefa123456789abcd{id:02x}\"\ndeadline = {}\nretries = 3",
                id + 1,
                ms(self.deadline)
            );
            let Some(isolation) = self.isolation else { continue };
            let how = match isolation {
                Isolation::After => "level = 2",
                Isolation::Race => "level = 2\nrace = true",
                Isolation::Before => "level = 1",
            };
            if isolation == Isolation::Before {
                // The BMC's level, above.
                text = text.replacen(
                    &format!("name = \"bmc-{name}\"\n"),
                    &format!("name = \"bmc-{name}\"\nlevel = 2\n"),
                    1,
                );
            }
            if self.walls {
                let _ = writeln!(
                    text,
                    "[[device]]\nname = \"net-{name}\"\nkind = \"nft\"\non = \"survivors\"\nfences = \"{name}\"\n\
                     addresses = [\"10.0.0.{}\"]\ndeadline = {}\nretries = 3\n{how}",
                    id + 1,
                    ms(self.deadline)
                );
                continue;
            }
            let _ = writeln!(
                text,
                "[[device]]\nname = \"net-{name}\"\nkind = \"agent\"\nfences = \"{name}\"\nagent = \"/fence\"\noptions = {{ plug = {id} }}\n\
                 proof = \"network_cut\"\ndeadline = {}\nretries = 3\n{how}",
                ms(self.deadline)
            );
        }
        if self.probes {
            text.push_str(&super::ailing::text());
        }
        for id in 0..self.workloads {
            // Each prefers another host, so that load is spread and every host has something to lose.
            let order: Vec<String> =
                (0..self.hosts).map(|n| format!("\"{}\"", NAMES[(id + n) % self.hosts])).collect();
            let proofs = if self.by_network(id) { "\"network_cut\"" } else { "" };
            let _ = writeln!(
                text,
                "[[workload]]\nid = {id}\nname = \"w{id}\"\nhosts = [{}]\nproofs = [{proofs}]\n[workload.command]\nstart = [\"/s\"]\nstop = [\"/s\"]\nstatus = [\"/s\"]",
                order.join(", ")
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drawn_cluster_is_one_that_the_configuration_accepts() {
        for seed in 0..500 {
            let setup = Setup::draw(&mut Rng::new(seed));
            assert_eq!(setup.cluster().hosts().len(), setup.hosts);
        }
        for (hosts, witness, fast) in [(3, false, false), (2, true, true)] {
            assert_eq!(
                Setup::plain(hosts, witness, fast).cluster().timing().lease().0,
                if fast { 250 } else { 1000 }
            );
        }
    }
}
