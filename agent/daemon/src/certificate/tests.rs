use std::ops::ControlFlow;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use palisade_core::config::Verb;
use palisade_core::record::{Event, Lost, Who};
use proptest::prelude::*;

use super::*;
use crate::afar::written::{PURPOSE, Written};
use crate::journal::{Journal, Options};
use crate::statement::{NAMESPACE, Statement, tests as keys};
use crate::testing::{TempDir, run};

fn b() -> Who {
    Who { host: "b".to_owned(), life: "0123456789abcdef".to_owned() }
}

fn events() -> Vec<Event> {
    let because = "not heard for 1030 ms".to_owned();
    let evidence = "bmc-b acknowledged the off and then read off".to_owned();
    vec![
        Event::View { view: Vec::new(), lost: vec![Lost { who: b(), silent_ms: 1020 }] },
        Event::FenceDecided { victim: b(), because },
        Event::Alarm { what: "\u{fc}ber \"alles\"".to_owned() },
        Event::Dead { victim: b(), proof: "power_off".to_owned(), evidence },
    ]
}

fn stated(text: &str) -> Event {
    let (by, asked) = ("root".to_owned(), "confirm that b is dead (x)".to_owned());
    let outcome = "b is taken for dead by your word".to_owned();
    Event::Operator { by, asked, outcome, statement: Some(text.to_owned()) }
}

/// The lines that a real journal has of these events, and its newest.
fn lines(events: &[Event]) -> (Vec<Vec<u8>>, (u64, LineHash)) {
    let dir = TempDir::new();
    let (mut journal, _durable) = Journal::open(Options::new(dir.path().to_owned(), "a", [7; 8])).unwrap();
    events.iter().for_each(|event| journal.try_append(event, None).unwrap());
    run(async { journal.close().await.unwrap() });
    let (mut lines, mut newest) = (Vec::new(), (0, LineHash::NONE));
    journal::scan_raw(dir.path(), |raw, hash, line| {
        lines.push(raw.to_vec());
        newest = (line.n, hash);
        ControlFlow::Continue(())
    })
    .unwrap();
    (lines, newest)
}

fn certificate(lines: &[Vec<u8>], newest: (u64, LineHash)) -> Vec<u8> {
    make("b", "a", "b was fenced", lines, 1, newest, "2026-11-30T14:03:22Z").unwrap()
}

fn sound() -> Vec<u8> {
    static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let (lines, newest) = lines(&events());
        certificate(&lines, newest)
    });
    SOUND.clone()
}

#[test]
fn a_certificate_holds_and_shows_the_records_as_they_were() {
    let shown = check(&sound(), &[]).unwrap();
    let kinds: Vec<_> = shown.entries.iter().filter_map(|entry| entry.event.get("kind")?.as_str()).collect();
    assert_eq!(kinds, ["view", "fence_decided", "alarm", "dead"]);
    assert_eq!((shown.missing(), shown.head.about.as_str()), (0, "b"));
    assert!(is_one(&sound()) && !is_one(b"{\"n\":1}"));
}

/// Every byte is under a hash: of its record, or of the seal. None is harmless.
#[test]
fn each_byte_that_is_changed_or_cut_off_is_found() {
    let sound = sound();
    for at in 0..sound.len() {
        for with in [1, 0x20, 0x80] {
            let mut changed = sound.clone();
            changed[at] ^= with;
            assert!(check(&changed, &[]).is_err(), "byte {at} changed by {with}");
        }
        assert!(check(&sound[..at], &[]).is_err(), "cut at {at}");
    }
}

proptest! {
    #[test]
    fn any_byte_put_in_taken_out_or_changed_is_found(at in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0..3) {
        let mut changed = sound();
        let at = at.index(changed.len());
        match how {
            0 if changed[at] == byte => return Ok(()),
            0 => changed[at] = byte,
            1 => changed.insert(at, byte),
            _ => drop(changed.remove(at)),
        }
        // Put in beside the same one, it is the same file.
        prop_assume!(changed != sound());
        prop_assert!(check(&changed, &[]).is_err());
    }

    #[test]
    fn no_bytes_at_all_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(check(&bytes, &[]).is_err());
        let mut after = sound();
        after.extend(bytes);
        drop(check(&after, &[]));
    }
}

/// What somebody makes of it who can compute hashes, too: the seal is always right.
fn resealed(edit: impl FnOnce(&mut Vec<Vec<u8>>)) -> Result<Shown, Flaw> {
    let (mut lines, newest) = lines(&events());
    edit(&mut lines);
    check(&certificate(&lines, newest), &[])
}

#[test]
fn records_taken_out_moved_or_put_in_are_found_and_the_first_is_named() {
    for at in 0..4 {
        let found = resealed(|lines| drop(lines.remove(at)));
        match (at, found) {
            // Without its newest record it holds, and says that one is missing.
            (3, found) => assert_eq!(found.unwrap().missing(), 1),
            (at, found) => {
                let (line, n) = (at as u64 + 2, at as u64 + 1);
                let what = What::NotNext { expected: n, found: n + 1 };
                assert_eq!(found.unwrap_err(), Flaw { line, what });
            }
        }
    }
    for at in 0..3 {
        assert_eq!(resealed(|lines| lines.swap(at, at + 1)).unwrap_err().line, at as u64 + 2);
        let twice = resealed(|lines| lines.insert(at, lines[at].clone())).unwrap_err();
        assert_eq!(twice.line, at as u64 + 3, "{twice}");
    }
    // One of another journal with the same number.
    let (others, _) = lines(&[Event::Away, Event::Away, Event::Away, Event::Away]);
    let found = resealed(|lines| lines[2] = others[2].clone()).unwrap_err();
    assert_eq!(found, Flaw { line: 4, what: What::Unchained });
    let found = resealed(|lines| lines[3] = others[3].clone()).unwrap_err();
    assert_eq!(found, Flaw { line: 5, what: What::Unchained });
}

#[test]
fn another_chain_from_the_beginning_is_not_that_of_the_head() {
    let (_, newest) = lines(&events());
    let mut other = events();
    other[3] = Event::Away;
    let (rewritten, its_own) = lines(&other);
    let found = check(&certificate(&rewritten, newest), &[]).unwrap_err();
    assert_eq!(found, Flaw { line: 5, what: What::OtherEnd });
    // With the head rewritten as well it holds: that is what a certificate cannot show, and what other hosts' are for.
    assert!(check(&certificate(&rewritten, its_own), &[]).is_ok());
    let of_c = make("b", "c", "b was fenced", &rewritten, 1, its_own, "2026-11-30T14:03:22Z").unwrap();
    assert_eq!(check(&of_c, &[]).unwrap_err().what, What::OtherHost("a".to_owned()));
}

#[test]
fn an_operators_signature_is_held_against_the_words_and_the_keys() {
    let dir = TempDir::new();
    let key = |name: &str| {
        let file = dir.path().join(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-C", name, "-t", "ed25519", "-f"])
            .arg(&file)
            .status();
        assert!(made.expect("ssh-keygen (package openssh-client)").success());
        Operator::of(name, &std::fs::read_to_string(file.with_extension("pub")).unwrap()).unwrap()
    };
    let (anna, bert) = (key("anna"), key("bert"));
    let statement = Statement {
        cluster: "edge".to_owned(),
        host: "b".to_owned(),
        life: b().life,
        checked: "both cords are out".to_owned(),
        reason: "burnt".to_owned(),
        time: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    };
    let text = statement.text();
    let message = dir.path().join("message");
    std::fs::write(&message, &text).unwrap();
    let mut signing = Command::new("ssh-keygen");
    signing.args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"]).arg(dir.path().join("anna"));
    let signed =
        signing.stdin(std::fs::File::open(&message).unwrap()).stderr(Stdio::inherit()).output().unwrap();
    let signature = String::from_utf8(signed.stdout).unwrap();
    let shown = |text: &str, operators: &[Operator]| {
        let (lines, newest) = lines(&[stated(text)]);
        check(&certificate(&lines, newest), operators)
    };
    let word = |text: &str, operators: &[Operator]| {
        let word = shown(text, operators).unwrap().words.remove(0);
        (word.signer, word.unknown_key)
    };
    let whole = format!("{text}{signature}");
    let both = [anna, bert.clone()];
    assert_eq!(word(&whole, &both), (Some("anna".to_owned()), false));
    assert_eq!(word(&whole, &[bert]), (None, true), "whose key that is cannot be told");
    assert_eq!(word(&text, &both), (None, false));
    // SAFE-7: rewritten with a new chain, the words are no longer those that were signed.
    let forged = whole.replace("both cords are out", "no cord is out");
    let found = shown(&forged, &both).unwrap_err();
    assert!(found.line == 2 && found.to_string().contains("anna"), "{found}");
}

/// An order from afar stands in the record as its signers signed it.
#[test]
fn an_order_from_afar_is_held_against_its_signatures() {
    let dir = TempDir::new();
    let operators =
        ["anna", "bert"].map(|name| Operator::of(name, &keys::key(&dir, name, "ed25519")).unwrap());
    let made = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let [cluster, to, about, reason] = ["edge", "a", "b", "hangs"].map(str::to_owned);
    let written = Written {
        cluster,
        to,
        verb: Verb::Fence,
        about,
        length_ms: 0,
        reason,
        nonce: "0".repeat(32),
        made,
        expires: made + Duration::from_secs(60),
    };
    let text = written.text();
    let sign = |name: &str| keys::sign(&dir, name, PURPOSE, &text);
    let whole = format!("{text}{}{}", sign("anna"), sign("bert"));
    let shown = |text: &str, operators: &[Operator]| {
        let (lines, newest) = lines(&[stated(text)]);
        check(&certificate(&lines, newest), operators).map(|shown| shown.words)
    };
    let words = shown(&whole, &operators).unwrap();
    assert_eq!(words[0].signer.as_deref(), Some("anna and bert"));
    assert_eq!(
        (words[0].host.as_str(), words[0].checked.as_str()),
        ("b", "order from afar: fence b (hangs)")
    );
    assert!(shown(&whole.replace("about: b", "about: c"), &operators).is_err());
}

#[test]
fn hosts_that_heard_of_a_proof_are_held_against_the_one_that_had_it() {
    let of = |host: &str, proof: &str, evidence: &str, ms: u64| {
        let time = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string();
        let event = Event::Dead { victim: b(), proof: proof.to_owned(), evidence: evidence.to_owned() };
        let event = serde_json::to_value(event).unwrap();
        let entry = Entry { n: 1, time, boot_ms: ms, host: host.to_owned(), life: "x".to_owned(), event };
        let head = Head {
            kind: KIND.to_owned(),
            version: VERSION,
            about: "b".to_owned(),
            journal_of: host.to_owned(),
            headline: String::new(),
            first: 1,
            newest: 1,
            newest_hash: String::new(),
            made: String::new(),
        };
        Shown { head, entries: vec![entry], last_hash: LineHash::NONE, words: Vec::new() }
    };
    let proof = of("a", "power_off", "bmc-b read off", 1_000_000);
    let word = |ms| of("c", "gossiped", "a holds the proof", ms);
    let (teller, prover, victim) = ("c".to_owned(), "a".to_owned(), "b".to_owned());
    let agree = cross::Finding::Agree {
        teller: teller.clone(),
        prover: prover.clone(),
        victim: victim.clone(),
        proof: "power_off".to_owned(),
    };
    assert_eq!(cross::check(&[word(1_000_020)]).len(), 1);
    assert_eq!(cross::check(&[proof, word(1_000_020)]), [agree]);
    let late = of("a", "power_off", "bmc-b read off", 1_000_000);
    let contradict =
        cross::Finding::Contradict { teller: teller.clone(), prover: prover.clone(), victim: victim.clone() };
    assert_eq!(cross::check(&[late, word(2_000_000)]), [contradict]);
    assert_eq!(cross::check(&[word(0)]), [cross::Finding::Unheard { teller, prover, victim }]);
}
