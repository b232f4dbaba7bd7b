//! Addresses cut off by nftables, over a real ssh login, with real packets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows a test only inside #[test]")]

mod enforcing;

use enforcing::points::nft;
use enforcing::{FLOWS, Flow, Lab, STOPPED, datagram, datagram_by, holds_for, no_datagram, reads, run};
use palisade_devices::Device as _;
use palisade_devices::nft::{Nft, NftPoint};
use palisade_devices::ssh::Site;
use palisade_ladder::{Command, Failure, Reading, Response};

fn victims(lab: &Lab) -> Nft {
    nft(lab.ssh(), &["10.0.0.2", "fd00::2"])
}

#[tokio::test]
async fn packets_stop_and_flow_again_and_a_neighbour_is_left_alone() {
    let lab = Lab::new();
    let mut device = victims(&lab);
    let Ok(Response::Proven(proven)) = run(&mut device, Command::Prove).await else { panic!("not proven") };
    assert_eq!(proven.identity.0, "root@10.9.0.2:2222 for 10.0.0.2, fd00::2");
    assert_eq!((proven.may_fence, proven.reads), (true, Reading::On));
    let mut flows = [
        Flow::new(&lab, "10.0.0.2:0", &lab.host, "10.0.0.1:700"),
        Flow::new(&lab, "10.0.0.2:0", &lab.behind, "10.1.0.2:700"),
        Flow::new(&lab, "[fd00::2]:0", &lab.host, "[fd00::1]:700"),
        Flow::new(&lab, "[fd00::2]:0", &lab.behind, "[fd01::2]:700"),
    ];
    let mut neighbour = Flow::new(&lab, "10.0.0.3:0", &lab.host, "10.0.0.1:701");
    assert!(flows.iter_mut().all(Flow::arrives) && neighbour.arrives());

    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::Off);
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::AlreadySo));
    assert!(flows.iter_mut().all(Flow::is_stopped), "an established flow is cut as well");
    assert!(neighbour.arrives());
    for (victim, host) in [("10.0.0.2:900", "10.0.0.1:900"), ("[fd00::2]:900", "[fd00::1]:900")] {
        assert!(no_datagram(&lab.victim, victim, &lab.host, host), "in");
        assert!(no_datagram(&lab.host, host, &lab.victim, victim), "out");
    }
    assert!(no_datagram(&lab.victim, "10.0.0.2:900", &lab.behind, "10.1.0.2:900"), "through");
    assert!(no_datagram(&lab.behind, "10.1.0.2:900", &lab.victim, "10.0.0.2:900"), "and back");

    // Somebody else's cut comes and goes in the same table.
    let mut other = nft(lab.ssh(), &["10.0.0.3"]);
    assert_eq!(reads(&mut other).await, Reading::On);
    assert_eq!(run(&mut other, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut other).await, Reading::Off);
    assert!(neighbour.is_stopped());
    assert_eq!(run(&mut other, Command::On).await, Ok(Response::Acknowledged));
    assert_eq!((reads(&mut other).await, reads(&mut device).await), (Reading::On, Reading::Off));

    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::On);
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::AlreadySo));
    assert!(flows.iter_mut().all(Flow::resumes) && neighbour.resumes());
}

/// Also behind an address that is translated: a service that the host forwards to its victim.
#[tokio::test]
async fn a_translated_address_is_no_way_around() {
    let lab = Lab::new();
    lab.host.sh(
        "nft 'add table ip nat; add chain ip nat pre { type nat hook prerouting priority -100; };
              add chain ip nat out { type nat hook output priority -100; };
              add rule ip nat pre ip daddr 10.1.0.9 dnat to 10.0.0.2; add rule ip nat out ip daddr 10.1.0.9 dnat to 10.0.0.2'",
    );
    lab.behind.sh("ip route add 10.1.0.9 via 10.1.0.1");
    let mut device = victims(&lab);
    let translated = |within| {
        [&lab.behind, &lab.host]
            .map(|from| datagram_by(from, "0.0.0.0:0", &lab.victim, "10.0.0.2:900", "10.1.0.9:900", within))
    };
    assert_eq!(translated(FLOWS), [true, true]);
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(translated(STOPPED), [false, false]);
}

/// SAFE-4: each of these lets something through, and an off puts it right.
#[tokio::test]
async fn safe_4_a_table_that_was_changed_by_hand_is_not_off() {
    let lab = Lab::new();
    let mut device = victims(&lab);
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    for (change, left) in [
        ("nft delete element inet palisade cut6 '{ fd00::2 }'", Reading::Unknown),
        ("nft flush chain inet palisade forward", Reading::Unknown),
        ("nft insert rule inet palisade input accept", Reading::Unknown),
        ("nft 'add table inet palisade { flags dormant; }'", Reading::Unknown),
        ("nft 'flush chain inet palisade output; delete chain inet palisade output'", Reading::Unknown),
        ("nft delete table inet palisade", Reading::On),
    ] {
        lab.host.sh(change);
        assert_eq!(reads(&mut device).await, left, "{change}");
        assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged), "{change}");
        assert_eq!(reads(&mut device).await, Reading::Off, "{change}");
    }
    // A set of another kind cannot be used, and nothing of the transaction is.
    lab.host.sh("nft 'delete table inet palisade; add table inet palisade; add set inet palisade cut4 { type inet_service; }'");
    let failure = run(&mut device, Command::Off).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Garbage { detail } if detail.contains("may have been done")),
        "{failure}"
    );
    assert_ne!(reads(&mut device).await, Reading::Off);
    assert!(datagram(&lab.victim, "10.0.0.2:900", &lab.host, "10.0.0.1:900"));
}

/// SAFE-2
#[tokio::test]
async fn safe_2_an_order_without_standing_changes_nothing() {
    let lab = Lab::new();
    let mut device = victims(&lab);
    for (command, before, looks) in
        [(Command::Off, Reading::On, 0), (Command::Off, Reading::On, 1), (Command::On, Reading::Off, 1)]
    {
        if before == Reading::Off {
            assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
        }
        assert_eq!(device.run(command, holds_for(looks)).await, Err(Failure::Cancelled), "{looks} looks");
        assert_eq!(reads(&mut device).await, before);
    }
}

/// What the host itself does about a peer of its own, which is spoken with on port 7411.
fn at_home(lab: &Lab, command: Command) -> Result<Response, Failure> {
    let addresses = ["10.0.0.2", "fd00::2"].map(|address| address.parse().unwrap());
    lab.host.within(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let point = NftPoint::new(&addresses).unwrap().sparing(&[7411]);
        runtime.block_on(async { run(&mut Nft::new(Site::Here, point), command).await })
    })
}

/// Peers go on hearing each other, also where an address is to be found anew, and nothing else passes.
#[test]
fn a_host_keeps_its_peer_out_and_still_hears_it() {
    let lab = Lab::new();
    let Ok(Response::Proven(proven)) = at_home(&lab, Command::Prove) else { panic!("not proven") };
    assert_eq!((proven.identity.0.as_str(), proven.reads), ("this host for 10.0.0.2, fd00::2", Reading::On));
    let mut flows = [
        Flow::new(&lab, "10.0.0.2:0", &lab.host, "10.0.0.1:700"),
        Flow::new(&lab, "[fd00::2]:0", &lab.host, "[fd00::1]:700"),
        Flow::new(&lab, "10.0.0.2:0", &lab.behind, "10.1.0.2:7411"),
    ];
    let mut neighbour = Flow::new(&lab, "10.0.0.3:0", &lab.host, "10.0.0.1:701");
    assert!(flows.iter_mut().all(Flow::arrives) && neighbour.arrives());

    assert_eq!(at_home(&lab, Command::Off), Ok(Response::Acknowledged));
    assert_eq!(at_home(&lab, Command::Read), Ok(Response::Reads(Reading::Off)));
    assert_eq!(at_home(&lab, Command::Off), Ok(Response::AlreadySo));
    assert!(flows.iter_mut().all(Flow::is_stopped) && neighbour.arrives());
    for space in [&lab.host, &lab.victim] {
        space.sh("ip neigh flush all; ip -6 neigh flush all");
    }
    for (victim, host) in [("10.0.0.2", "10.0.0.1"), ("[fd00::2]", "[fd00::1]")] {
        let at = |host: &str, port: u16| format!("{host}:{port}");
        assert!(datagram(&lab.victim, &at(victim, 7411), &lab.host, &at(host, 7411)), "{victim} is heard");
        assert!(datagram(&lab.host, &at(host, 7411), &lab.victim, &at(victim, 7411)), "{victim} hears");
        assert!(no_datagram(&lab.victim, &at(victim, 7411), &lab.host, &at(host, 7412)), "another port");
        assert!(no_datagram(&lab.host, &at(host, 7412), &lab.victim, &at(victim, 7411)), "from another port");
    }
    assert!(no_datagram(&lab.victim, "10.0.0.2:7411", &lab.behind, "10.1.0.2:7411"), "through");

    // SAFE-4: a table with any other exception is not off, and neither is one without.
    for change in [
        "nft insert rule inet palisade input udp dport 2049 accept",
        "nft insert rule inet palisade forward udp dport 7411 accept",
        "nft flush chain inet palisade output",
    ] {
        lab.host.sh(change);
        assert_eq!(at_home(&lab, Command::Read), Ok(Response::Reads(Reading::Unknown)), "{change}");
        assert_eq!(at_home(&lab, Command::Off), Ok(Response::Acknowledged), "{change}");
        assert_eq!(at_home(&lab, Command::Read), Ok(Response::Reads(Reading::Off)), "{change}");
    }
    lab.host.sh("nft flush ruleset");
    assert_eq!(at_home(&lab, Command::Read), Ok(Response::Reads(Reading::On)));
    assert_eq!(at_home(&lab, Command::Off), Ok(Response::Acknowledged));
    assert_eq!(at_home(&lab, Command::On), Ok(Response::Acknowledged));
    assert_eq!(at_home(&lab, Command::Read), Ok(Response::Reads(Reading::On)));
    assert!(neighbour.arrives());
    for (victim, host) in [("10.0.0.2:900", "10.0.0.1:900"), ("[fd00::2]:900", "[fd00::1]:900")] {
        assert!(datagram(&lab.victim, victim, &lab.host, host));
    }
}
