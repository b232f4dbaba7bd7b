//! Addresses cut off by routes, over a real ssh login, with real packets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows a test only inside #[test]")]

mod enforcing;

use enforcing::points::{checking, route};
use enforcing::{FLOWS, Flow, STOPPED, datagram, datagram_of_service, holds_for, no_datagram, reads, run};
use palisade_devices::Device as _;
use palisade_ladder::{Command, Failure, Reading, Response};

#[tokio::test]
async fn packets_stop_and_flow_again_and_a_neighbour_is_left_alone() {
    for way in [1, 2] {
        let lab = checking(way);
        let mut device = route(lab.ssh(), &["10.0.0.2"]);
        let Ok(Response::Proven(proven)) = run(&mut device, Command::Prove).await else {
            panic!("not proven")
        };
        assert_eq!(proven.identity.0, "root@10.9.0.2:2222 for 10.0.0.2");
        assert_eq!((proven.may_fence, proven.reads), (true, Reading::On));
        let mut flows = [
            Flow::new(&lab, "10.0.0.2:0", &lab.host, "10.0.0.1:700"),
            Flow::new(&lab, "10.0.0.2:0", &lab.behind, "10.1.0.2:700"),
        ];
        let mut neighbour = Flow::new(&lab, "10.0.0.3:0", &lab.host, "10.0.0.1:701");
        assert!(flows.iter_mut().all(Flow::arrives) && neighbour.arrives());

        assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
        assert_eq!(reads(&mut device).await, Reading::Off);
        assert_eq!(run(&mut device, Command::Off).await, Ok(Response::AlreadySo));
        assert!(flows.iter_mut().all(Flow::is_stopped), "not even one segment of an established flow");
        assert!(neighbour.arrives());
        for (near, far, victim, other) in [
            (&lab.victim, &lab.host, "10.0.0.2:900", "10.0.0.1:900"),
            (&lab.victim, &lab.behind, "10.0.0.2:900", "10.1.0.2:900"),
        ] {
            assert!(no_datagram(near, victim, far, other), "in");
            assert!(no_datagram(far, other, near, victim), "out");
        }

        // Somebody else's cut comes and goes in the same table.
        let mut other = route(lab.ssh(), &["10.0.0.3"]);
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
}

/// SAFE-4: routes alone let in what needs no answer.
#[tokio::test]
async fn safe_4_where_sources_are_not_checked_nothing_is_ordered_nor_off() {
    let lab = checking(1);
    let mut device = route(lab.ssh(), &["10.0.0.2"]);
    assert!(datagram(&lab.victim, "10.0.0.2:900", &lab.host, "10.0.0.1:900"));
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert!(no_datagram(&lab.victim, "10.0.0.2:900", &lab.host, "10.0.0.1:900"));
    lab.host.sh(
        "echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter; echo 0 >/proc/sys/net/ipv4/conf/victim/rp_filter",
    );
    assert!(datagram(&lab.victim, "10.0.0.2:900", &lab.host, "10.0.0.1:900"), "this is why");
    assert_eq!(reads(&mut device).await, Reading::Unknown);
    for command in [Command::Prove, Command::Off] {
        let failure = run(&mut device, command).await.unwrap_err();
        assert!(
            matches!(&failure, Failure::Refused { code } if code.contains("victim of that host")),
            "{failure}"
        );
    }
    // Its way back is no matter of what comes in.
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::On);
}

/// SAFE-4: each of these leaves a way, and what an off can put right, it does.
#[tokio::test]
async fn safe_4_routes_that_were_changed_by_hand_are_not_off() {
    let lab = checking(1);
    let mut device = route(lab.ssh(), &["10.0.0.2", "10.0.0.3"]);
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    for (change, left) in [
        ("ip route del 10.0.0.3/32 table 7700", Reading::Unknown),
        ("ip route replace 10.0.0.3/32 dev victim table 7700 proto 77", Reading::Unknown),
        ("ip rule del priority 10", Reading::Unknown),
        ("ip route flush table 7700", Reading::On),
    ] {
        lab.host.sh(change);
        assert_eq!(reads(&mut device).await, left, "{change}");
        assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged), "{change}");
        assert_eq!(reads(&mut device).await, Reading::Off, "{change}");
    }
    lab.host.sh("ip rule add priority 5 lookup main");
    assert_eq!(reads(&mut device).await, Reading::Unknown);
    let failure = run(&mut device, Command::Off).await.unwrap_err();
    assert!(matches!(&failure, Failure::Refused { code } if code.contains("comes before ours")), "{failure}");
    lab.host.sh("ip rule del priority 5; ip route add 10.0.0.2/32 dev victim tos 0x10 table 7700");
    assert_eq!(reads(&mut device).await, Reading::Unknown);
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::Off);
}

/// SAFE-4: the kernel's answer for the way to an address is one for the ordinary type of service. A rule before ours that is for
/// another one, at a lower number or at ours and there before, lets in what the answer does not show.
#[tokio::test]
async fn safe_4_a_rule_before_ours_for_some_packets_alone_is_no_off() {
    for priority in [5, 10] {
        let lab = checking(1);
        let mut device = route(lab.ssh(), &["10.0.0.2"]);
        let comes =
            |within| datagram_of_service(&lab.victim, "10.0.0.2:900", &lab.host, "10.0.0.1:900", within);
        // Also so that the victim knows the host's address by ARP, which is not answered any more then.
        assert!(comes(FLOWS));
        assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
        assert!(!comes(STOPPED));
        assert_eq!(reads(&mut device).await, Reading::Off);
        lab.host.sh(&format!(
            "ip rule del priority 10; ip rule add priority {priority} tos 0x08 lookup main
             ip rule add priority 10 lookup 7700"
        ));
        assert!(no_datagram(&lab.victim, "10.0.0.2:900", &lab.host, "10.0.0.1:900"));
        assert!(comes(FLOWS), "this is why");
        assert_eq!(reads(&mut device).await, Reading::Unknown);
        let failure = run(&mut device, Command::Off).await.unwrap_err();
        assert!(
            matches!(&failure, Failure::Refused { code } if code.contains("comes before ours")),
            "{failure}"
        );
        // Behind ours it does no harm.
        lab.host.sh(&format!(
            "ip rule del priority {priority} tos 0x08; ip rule add priority 11 tos 0x08 lookup main"
        ));
        assert!(!comes(STOPPED));
        assert_eq!(reads(&mut device).await, Reading::Off);
    }
}

/// SAFE-4: one that is for a single type of service leaves the others to the routes of everybody.
#[tokio::test]
async fn safe_4_a_route_for_some_packets_alone_is_no_off() {
    let lab = checking(1);
    let mut device = route(lab.ssh(), &["10.0.0.2"]);
    let comes = |within| datagram_of_service(&lab.victim, "10.0.0.2:900", &lab.host, "10.0.0.1:900", within);
    assert!(comes(FLOWS));
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert!(!comes(STOPPED));
    lab.host.sh(
        "ip route del 10.0.0.2/32 table 7700; ip route add unreachable 10.0.0.2/32 tos 0x10 table 7700 proto 77
         ip route add unreachable 10.0.0.2/32; ip route add 10.0.0.2/32 dev victim tos 0x08",
    );
    assert!(no_datagram(&lab.victim, "10.0.0.2:900", &lab.host, "10.0.0.1:900"));
    assert!(comes(FLOWS), "this is why");
    assert_eq!(reads(&mut device).await, Reading::Unknown);
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert!(!comes(STOPPED));
    assert_eq!(reads(&mut device).await, Reading::Off);
    // What our table has for it goes as a whole.
    lab.host.sh("ip route add unreachable 10.0.0.2/32 tos 0x10 table 7700");
    assert_eq!(run(&mut device, Command::On).await, Ok(Response::Acknowledged));
    assert_eq!(reads(&mut device).await, Reading::On);
    assert_eq!(lab.host.sh("ip route show table 7700"), "");
}

/// SAFE-2
#[tokio::test]
async fn safe_2_an_order_without_standing_changes_nothing() {
    let lab = checking(1);
    let mut device = route(lab.ssh(), &["10.0.0.2"]);
    for looks in [0, 1] {
        assert_eq!(
            device.run(Command::Off, holds_for(looks)).await,
            Err(Failure::Cancelled),
            "{looks} looks"
        );
        assert_eq!(reads(&mut device).await, Reading::On);
    }
    assert_eq!(run(&mut device, Command::Off).await, Ok(Response::Acknowledged));
    assert_eq!(device.run(Command::On, holds_for(1)).await, Err(Failure::Cancelled));
    assert_eq!(reads(&mut device).await, Reading::Off);
}
