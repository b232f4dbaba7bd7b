use palisade_core::config::Level;
use palisade_core::health::Verdict;
use palisade_core::record::{Event, Lost, What, Who};
use palisade_ladder::Command;
use palisade_proto::WorkloadId;

use super::*;
use crate::api::why::Entry;

/// A journal in the making: each record some milliseconds after the one before.
struct Journal {
    host: &'static str,
    life: String,
    ms: u64,
    entries: Vec<Entry>,
}

fn who(host: &str) -> Who {
    Who { host: host.to_owned(), life: format!("{host}111111111111111") }
}

fn what(name: &str) -> What {
    What { id: WorkloadId(1), name: name.to_owned() }
}

fn all(hosts: &[&str]) -> Vec<Who> {
    hosts.iter().map(|host| who(host)).collect()
}

impl Journal {
    fn of(host: &'static str) -> Self {
        Self { host, life: who(host).life, ms: 10_000, entries: Vec::new() }
    }

    fn says(mut self, after_ms: u64, event: Event) -> Self {
        self.ms += after_ms;
        let zero = humantime::parse_rfc3339("2026-11-30T14:03:00Z").unwrap();
        let time =
            humantime::format_rfc3339_millis(zero + std::time::Duration::from_millis(self.ms)).to_string();
        self.entries.push(Entry {
            n: self.entries.len() as u64 + 1,
            time,
            boot_ms: self.ms,
            host: self.host.to_owned(),
            life: self.life.clone(),
            event: serde_json::to_value(event).unwrap(),
        });
        self
    }

    fn stands(self, after_ms: u64, quorate: bool, votes: &[&str], needed: &str) -> Self {
        let event =
            Event::Standing { quorate, votes: all(votes), witness: false, needed: format!("{needed} votes") };
        self.says(after_ms, event)
    }

    fn views(self, after_ms: u64, view: &[&str]) -> Self {
        self.says(after_ms, Event::View { view: all(view), lost: Vec::new() })
    }

    fn loses(self, after_ms: u64, host: &str, silent_ms: u64, view: &[&str]) -> Self {
        self.says(after_ms, Event::View { view: all(view), lost: vec![Lost { who: who(host), silent_ms }] })
    }

    fn decides(self, after_ms: u64, host: &str, because: &str) -> Self {
        self.says(after_ms, Event::FenceDecided { victim: who(host), because: because.to_owned() })
    }

    fn orders(self, after_ms: u64, host: &str, device: &str) -> Self {
        let (victim, device) = (who(host), device.to_owned());
        self.says(after_ms, Event::OrderIntended { victim, device, command: Command::Off, attempt: 1 })
    }

    fn answers(self, after_ms: u64, host: &str, device: &str, command: Command, answer: &str) -> Self {
        let (victim, device, answer) = (who(host), device.to_owned(), answer.to_owned());
        self.says(after_ms, Event::OrderAnswered { victim, device, command, answer, took_ms: after_ms })
    }

    fn proves(self, after_ms: u64, host: &str, proof: &str, evidence: &str) -> Self {
        let (victim, proof, evidence) = (who(host), proof.to_owned(), evidence.to_owned());
        self.says(after_ms, Event::Dead { victim, proof, evidence })
    }

    fn withholds(self, after_ms: u64, what: &str, why: &str) -> Self {
        self.says(after_ms, Event::Withheld { what: what.to_owned(), why: why.to_owned() })
    }

    fn fails(self, after_ms: u64, host: &str, why: &str) -> Self {
        self.says(after_ms, Event::FenceFailed { victim: who(host), why: why.to_owned(), retry_in_ms: 1_000 })
    }

    fn runs(self, after_ms: u64, workload: &str) -> Self {
        let (state, detail) = ("running".to_owned(), String::new());
        self.says(after_ms, Event::Workload { workload: what(workload), state, detail })
    }

    fn asked(self, after_ms: u64, asked: &str, outcome: &str) -> Self {
        let (by, asked, outcome) = ("root (process 12)".to_owned(), asked.to_owned(), outcome.to_owned());
        self.says(after_ms, Event::Operator { by, asked, outcome, statement: None })
    }

    fn alarms(self, after_ms: u64, what: &str) -> Self {
        self.says(after_ms, Event::Alarm { what: what.to_owned() })
    }

    fn in_life(mut self, life: &str) -> Self {
        self.life = life.to_owned();
        self
    }
}

/// `a` among three, quorate.
fn three() -> Journal {
    Journal::of("a").views(0, &["a", "b", "c"]).stands(0, true, &["a", "b"], "2 of 3")
}

/// The same, and `b` falls silent.
fn silent_b() -> Journal {
    three()
        .loses(60_000, "b", 1_020, &["a", "c"])
        .stands(0, false, &["a"], "1 of 3")
        .stands(10, true, &["a", "c"], "2 of 3")
        .decides(0, "b", "not heard for 1030 ms")
}

fn told(journals: Vec<Journal>, host: &str) -> Account {
    let moments = merge(journals.into_iter().map(|journal| journal.entries).collect());
    of_host(&moments, host, &Names::default())
}

#[track_caller]
fn is_told(journal: Journal, host: &str, cause: Cause, headline: &str) -> Account {
    let account = told(vec![journal], host);
    assert_eq!((account.cause, account.headline.as_str()), (cause, headline));
    account
}

#[test]
fn a_fence_names_who_did_not_hear_whom_the_proof_and_what_runs_again() {
    let journal = silent_b()
        .answers(5, "b", "bmc-b", Command::Read, "reads on")
        .orders(0, "b", "bmc-b")
        .answers(200, "b", "bmc-b", Command::Off, "acknowledged")
        .answers(35, "b", "bmc-b", Command::Read, "reads off")
        .proves(0, "b", "power_off", "bmc-b acknowledged the off and then read off")
        .runs(30, "db");
    let account = is_told(
        journal,
        "b",
        Cause::Fenced,
        "b was fenced at 14:04:10: not heard for 1.03 s by a (coordinator, quorate 2 of 3); proven off by bmc-b 240 ms later; \
         db runs on a, 1.30 s after b was last heard",
    );
    assert!(account.not_done.is_empty(), "{:?}", account.not_done);
    let texts: Vec<(i64, &str)> = account.steps.iter().map(|step| (step.at_ms, step.text.as_str())).collect();
    assert_eq!(texts.first(), Some(&(0, "b is last heard by a")));
    assert!(
        texts.contains(&(1_270, "PROOF power_off: bmc-b acknowledged the off and then read off")),
        "{texts:?}"
    );
    // The burst of standings is one.
    assert_eq!(texts.iter().filter(|(_, text)| text.contains("quorate")).count(), 1, "{texts:?}");
}

#[test]
fn a_host_that_had_no_power_is_not_said_to_have_been_cut_off() {
    let journal = silent_b().proves(
        9,
        "b",
        "power_off",
        "bmc-b acknowledged the off and then read off (it was off before)",
    );
    let account = is_told(
        journal,
        "b",
        Cause::FoundOff,
        "b was found without power at 14:04:10: not heard for 1.03 s by a (coordinator, quorate 2 of 3); read off by bmc-b 9 ms later",
    );
    assert!(
        account.not_done.iter().any(|text| text.contains("nobody cut its power")),
        "{:?}",
        account.not_done
    );
}

#[test]
fn a_fence_that_failed_is_told_as_one_and_what_it_led_to() {
    let why = "no level could prove: bmc-b: no answer within 4000 ms";
    let failed = || {
        silent_b()
            .orders(500, "b", "bmc-b")
            .answers(4_000, "b", "bmc-b", Command::Off, "no answer within 4000 ms")
            .withholds(0, "taking b for dead by fence level 1", "bmc-b: no answer within 4000 ms")
            .fails(0, "b", why)
    };
    let account = is_told(
        failed(),
        "b",
        Cause::NotFenced,
        "b was NOT fenced: no level could prove: bmc-b: no answer within 4000 ms; not heard for 1.03 s by a (coordinator, quorate 2 \
         of 3) at 14:04:10",
    );
    assert!(account.not_done.iter().any(|text| text.starts_with("taking b for dead on time alone")));
    let later = failed().proves(9_000, "b", "power_off", "bmc-b acknowledged the off and then read off");
    let headline = told(vec![later], "b").headline;
    assert!(
        headline.contains("proven off by bmc-b 13.50 s later (after 1 try without a proof: no level"),
        "{headline}"
    );
    let stated =
        failed().proves(9_000, "b", "operator", "operator root (process 12) states: burnt; checked: cords");
    let headline = told(vec![stated], "b").headline;
    assert!(headline.starts_with(
        "operator root stated at 14:04:23 that b is dead: burnt; checked: cords; no device proved it"
    ));
    let back = failed().views(1_000, &["a", "b", "c"]).withholds(
        0,
        "the fence of b goes no further",
        "it is back in the view",
    );
    let headline = told(vec![back], "b").headline;
    assert!(headline.starts_with("b was NOT fenced: it is back in the view"), "{headline}");
}

#[test]
fn what_held_a_fence_back_is_the_cause_of_no_fence() {
    let shadow = silent_b().withholds(
        0,
        "sending off to bmc-b (level 1)",
        "fencing is in shadow mode: it would have been sent",
    );
    let headline = told(vec![shadow], "b").headline;
    assert!(
        headline.starts_with("b was NOT fenced: fencing is in shadow mode; not heard for 1.03 s by a"),
        "{headline}"
    );
    let spent = silent_b()
        .alarms(0, "the fence budget of 1 in 600 s is spent: hosts are fenced only if they read off already")
        .withholds(2, "cutting the power of b", "the fence budget is spent and bmc-b reads on");
    let account = told(vec![spent], "b");
    assert!(account.headline.starts_with("b was NOT fenced: the fence budget is spent and bmc-b reads on; "));
    assert_eq!(account.not_done.len(), 2, "{:?}", account.not_done);
    let disarmed = silent_b().withholds(
        0,
        "sending off to bmc-b (level 1)",
        "an operator has disarmed fencing: it is sent once that is over",
    );
    let headline = told(vec![disarmed], "b").headline;
    assert!(headline.starts_with("b was NOT fenced: an operator has disarmed fencing"), "{headline}");
    let full = three()
        .loses(60_000, "b", 1_020, &["a", "c"])
        .alarms(10, "automatic fencing stands still: the journal cannot be written (no space)");
    let headline = told(vec![full], "b").headline;
    assert!(
        headline
            .starts_with("b was NOT fenced: automatic fencing stands still: the journal cannot be written")
    );
}

#[test]
fn who_has_no_quorum_fences_nobody_and_ends_its_own_workloads() {
    let split = || {
        Journal::of("a")
            .views(0, &["a", "b"])
            .stands(0, true, &["a", "b"], "2 of 2")
            .loses(60_000, "b", 1_020, &["a"])
            .stands(0, false, &["a"], "1 of 2")
            .says(3_000, Event::SelfFenced { why: "no quorum for 3 s".to_owned() })
    };
    is_told(
        split(),
        "a",
        Cause::SelfFenced,
        "a ended its workloads at 14:04:13: no quorum for 3 s (it had 1 of 2 votes and had lost b)",
    );
    let account = is_told(
        split(),
        "b",
        Cause::NotFenced,
        "b was NOT fenced by a, which had no quorum (1 of 2 votes), and ended its own workloads at 14:04:13; not heard for 1.02 s \
         by a at 14:04:10",
    );
    assert_eq!(account.not_done, ["fencing b: a had 1 of 2 votes, and without a quorum it sends nothing"]);
    let kept = Journal::of("a")
        .stands(0, true, &["a"], "2 of 2")
        .stands(10, false, &["a"], "1 of 2")
        .views(9_000, &["a"]);
    let headline = told(vec![kept], "a").headline;
    assert!(headline.starts_with("a had no quorum from 14:03:10 and has none since"), "{headline}");
}

#[test]
fn a_cut_is_no_death_and_a_death_after_it_tells_of_both() {
    let cut = || {
        silent_b().says(
            3_000,
            Event::Isolated {
                victim: who("b"),
                proof: "network_cut".to_owned(),
                evidence: "port-b acknowledged the off and then read off".to_owned(),
                frees: vec![what("db")],
            },
        )
    };
    let account = told(vec![cut().runs(20, "db")], "b");
    assert_eq!(account.cause, Cause::Isolated);
    assert!(
        account
            .headline
            .contains("proven cut from the network by port-b, which proves no death; db runs on a")
    );
    assert!(
        account.not_done.iter().any(|text| text.contains("not taken for dead")),
        "{:?}",
        account.not_done
    );
    let headline = told(
        vec![cut().proves(1_000, "b", "power_off", "bmc-b acknowledged the off and then read off")],
        "b",
    )
    .headline;
    assert!(
        headline.contains("; cut from the network 3.00 s later; proven off by bmc-b 4.00 s later"),
        "{headline}"
    );
}

#[test]
fn other_ends_name_who_ended_it() {
    let left =
        three().proves(60_000, "b", "left", "its own word").loses(0, "b", 0, &["a", "c"]).runs(50, "db");
    is_told(
        left,
        "b",
        Cause::Left,
        "b left by its own word at 14:04:10; nobody fenced it; db runs on a, 50 ms later",
    );
    let by_hand = three()
        .decides(60_000, "b", "operator root (process 8): smoke")
        .asked(0, "fence b (smoke)", "the fence of b has begun")
        .proves(11, "b", "power_off", "bmc-b acknowledged the off and then read off")
        .loses(0, "b", 74, &["a", "c"]);
    is_told(
        by_hand,
        "b",
        Cause::Fenced,
        "operator root had b fenced at 14:04:10 by a: smoke; proven off by bmc-b 11 ms later",
    );
    let reborn = silent_b().proves(2_000, "b", "reborn", "the same machine speaks as life 22");
    assert!(told(vec![reborn], "b").headline.starts_with("b was NOT fenced: it began a new life by itself"));
    let bitten = silent_b().proves(
        9_000,
        "b",
        "watchdog_expired",
        "not in the view for 9 s, its watchdog's bound is 8 s",
    );
    assert!(told(vec![bitten], "b").headline.starts_with("b was reset by its own watchdog by 14:04:19"));
    let heard_of =
        three().loses(60_000, "b", 1_020, &["a", "c"]).proves(20, "b", "gossiped", "c holds the proof");
    let headline = told(vec![heard_of], "b").headline;
    assert!(
        headline.ends_with("is proven dead since 14:04:10: c holds the proof, and its journal tells how"),
        "{headline}"
    );
}

fn probe(verdict: Verdict, why: &str) -> Event {
    Event::Probe { probe: "gateway".to_owned(), level: Level::L2, verdict, why: why.to_owned() }
}

#[test]
fn what_a_host_found_wrong_with_itself_is_the_cause_of_what_it_did() {
    let ill = || three().says(60_000, probe(Verdict::Failed, "no answer"));
    let headline = told(vec![ill()], "a").headline;
    assert_eq!(headline, "nothing happened to a, but its gateway has failed since 14:04:10: no answer");
    let detail = "this host gives it away: gateway has failed: no answer".to_owned();
    let stopping = Event::Workload { workload: what("db"), state: "stopping".to_owned(), detail };
    let b = Journal::of("b")
        .says(61_000, Event::Placed { workload: what("db"), on: who("b"), because: String::new() });
    let drained = told(vec![ill().says(500, stopping), b.runs(50, "db")], "a");
    assert_eq!(drained.cause, Cause::Drained);
    assert_eq!(
        drained.headline,
        "a gave its workloads away at 14:04:10: gateway has failed: no answer; nobody fenced it; db runs on b, 550 ms later"
    );
    let reboots = ill().says(500, Event::Reboots { why: "memory has failed: uncorrected errors".to_owned() });
    let account = told(vec![reboots], "a");
    assert_eq!(account.cause, Cause::Rebooted);
    assert!(
        account.headline.starts_with("a fenced itself by a reboot at 14:04:10: memory has failed"),
        "{}",
        account.headline
    );
    // Health before: what it had found stands in the story of its end.
    let ended = ill().says(70_000, Event::SelfFenced { why: "no quorum for 3 s".to_owned() });
    let steps = told(vec![ended], "a").steps;
    assert!(steps.iter().any(|step| step.text.starts_with("before that, l2 gateway is failed")), "{steps:?}");
}

#[test]
fn a_life_that_ended_without_a_word_is_told_by_the_next_one() {
    let started = Event::Started { me: Who { host: "a".to_owned(), life: "2".repeat(16) }, resumed: false };
    let anew = three().in_life(&"2".repeat(16)).says(90_000, started.clone());
    let headline = told(vec![anew], "a").headline;
    assert!(
        headline.starts_with(
            "a began a new life at 14:04:40; the one before ended without a word after 14:03:10"
        )
    );
    let said = three().says(1_000, Event::Left { why: "the agent is stopped".to_owned() });
    let headline = told(vec![said.in_life(&"2".repeat(16)).says(90_000, started)], "a").headline;
    assert!(headline.starts_with("a left by its own word at 14:03:11 (the agent is stopped)"), "{headline}");
}

#[test]
fn lesser_things_do_not_hide_graver_ones_and_nothing_is_said_to_be_nothing() {
    let refused = three().asked(5_000, "fence b (typo)", "refused: it is not counted");
    let headline = told(vec![refused], "b").headline;
    assert_eq!(
        headline,
        "b was NOT touched: operator root asked at 14:03:15 to fence b (typo), refused: it is not counted"
    );
    let both = silent_b().proves(9, "b", "power_off", "bmc-b acknowledged the off and then read off").asked(
        90_000,
        "fence b (typo)",
        "refused: it is not counted",
    );
    assert_eq!(told(vec![both], "b").cause, Cause::Fenced);
    let warned = three().alarms(9, "the fence path bmc-b does not work: login refused");
    let names = Names { devices: [("bmc-b".to_owned(), "b".to_owned())].into(), hosts: vec!["b".to_owned()] };
    let account = of_host(&merge(vec![warned.entries]), "b", &names);
    assert_eq!(account.cause, Cause::Alarm);
    let nothing = told(vec![three()], "b");
    assert!(
        nothing.headline.starts_with("nothing happened to b since 2026-11-30T14:03:10.000Z"),
        "{}",
        nothing.headline
    );
    assert!(told(Vec::new(), "b").headline.contains("the journal is empty"));
}

#[test]
fn journals_of_several_hosts_are_one_story() {
    let c = Journal::of("c")
        .stands(0, true, &["c", "a"], "2 of 3")
        .loses(60_000, "b", 1_020, &["a", "c"])
        .proves(300, "b", "gossiped", "a holds the proof")
        .runs(20, "db");
    let a = silent_b().proves(240, "b", "power_off", "bmc-b acknowledged the off and then read off");
    let account = told(vec![c, a], "b");
    assert!(account.headline.contains("by a (coordinator, quorate 2 of 3)"), "{}", account.headline);
    assert!(
        account.headline.ends_with("db runs on c, 1.34 s after b was last heard"),
        "{}",
        account.headline
    );
    assert_eq!(account.told_by, ["a", "c"]);
}

#[test]
fn a_second_life_has_a_story_of_its_own_and_a_record_leads_to_its_incident() {
    let proof = "bmc-b acknowledged the off and then read off";
    let mut journal = silent_b().proves(9, "b", "power_off", proof);
    let first = journal.entries.len() as u64;
    let again = Who { host: "b".to_owned(), life: "2".repeat(16) };
    journal = journal
        .says(9_000, Event::Electorate { joined: vec![again.clone()], removed: Vec::new(), count: 3 })
        .views(0, &["a", "b", "c"]);
    let lost = vec![Lost { who: again.clone(), silent_ms: 1_020 }];
    journal = journal
        .says(9_000, Event::View { view: all(&["a", "c"]), lost })
        .says(0, Event::FenceDecided { victim: again.clone(), because: "not heard for 1030 ms".to_owned() })
        .says(9, Event::Dead { victim: again, proof: "power_off".to_owned(), evidence: proof.to_owned() });
    let last = journal.entries.len() as u64;
    let moments = merge(vec![journal.entries]);
    let names = Names::default();
    assert_eq!(super::all(&moments, &names).len(), 2);
    let of = |n| of_record(&moments, n, None, &names).unwrap();
    assert_eq!(of(first).life.as_deref(), Some("b111111111111111"));
    assert_eq!(of(last).life, Some("2".repeat(16)));
    assert_eq!(of_host(&moments, "b", &names).life, Some("2".repeat(16)));
    assert!(of_record(&moments, last + 1, None, &names).is_none());
    assert!(of_record(&moments, first, Some("q"), &names).is_none());
}

/// A clock that is set in the middle of an incident changes no time between.
#[test]
fn times_between_come_from_the_boots_own_clock() {
    let mut journal =
        silent_b().proves(240, "b", "power_off", "bmc-b acknowledged the off and then read off");
    for entry in journal.entries.iter_mut().rev().take(1) {
        entry.time = "2027-01-01T00:00:00.000Z".to_owned();
    }
    assert!(told(vec![journal], "b").headline.contains("proven off by bmc-b 240 ms later"));
}

#[test]
fn a_hosts_name_is_found_where_the_agents_sentences_have_one() {
    for about in [
        "a cannot be fenced (x)",
        "the fence of a goes no further",
        "cutting the power of a",
        "another machine speaks under the name of a: check for a cloned host",
        "fence a (why)",
    ] {
        assert!(incident::mentions(about, "a"), "{about}");
    }
    for not in ["a new one was read", "workload db is a failure", "check for a cloned host", "fence b (a)"] {
        assert_eq!(incident::mentions(not, "a"), not.starts_with("a "), "{not}");
    }
    assert!(incident::has_word("the path bmc-a does not work: x", "bmc-a"));
    assert!(!incident::has_word("the path bmc-ab does not work", "bmc-a"));
}

/// A copy of a journal may have any number in it.
#[test]
fn numbers_beyond_all_reason_break_no_story() {
    let mut journal =
        silent_b().loses(5, "b", u64::MAX, &["a"]).proves(9, "b", "power_off", "x read off").runs(1, "db");
    for (at, entry) in journal.entries.iter_mut().enumerate() {
        entry.boot_ms = if at % 2 == 0 { u64::MAX } else { 0 };
    }
    // In which order they stand is anybody's guess.
    assert!(!told(vec![journal], "b").headline.is_empty());
    let early = Journal::of("a").loses(0, "b", u64::MAX, &["a"]).decides(60_000, "b", "x").runs(60_000, "db");
    assert_eq!(told(vec![early], "b").cause, Cause::NotFenced);
}
