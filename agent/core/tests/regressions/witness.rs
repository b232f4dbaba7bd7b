//! When the witness is asked.

use palisade_core::action::Action;
use palisade_core::record::Event;
use palisade_proto::message::HealthClass;
use palisade_proto::{AskKind, Time};

use crate::common::{Bench, WITNESS, life};

fn asked_at(bench: &Bench, from: u64) -> Option<u64> {
    let mut asks = bench.done.iter().filter_map(|(at, action)| match action {
        Action::Ask(ask) if matches!(ask.kind, AskKind::Ordinary { .. }) => Some(*at),
        _ => None,
    });
    asks.find(|at| *at >= from)
}

fn view_changed_at(bench: &Bench) -> u64 {
    let mut changes = bench.done.iter().filter_map(|(at, action)| match action {
        Action::Record { event, .. } if matches!(**event, Event::View { .. }) => Some(*at),
        _ => None,
    });
    changes.next_back().expect("a view")
}

/// PROTOCOL, "Witness": "the half that ranks worse [...] waits 2*hb before it first asks W for a view", and then asks: it does
/// not wait for its next heartbeat as well.
#[test]
fn the_witness_is_asked_the_moment_the_hesitation_ends() {
    let b = life(1, 1);
    let mut bench = Bench::new(2, WITNESS, &[b]);
    bench.live(2_500, &[b]);
    bench.engine.handle_health(HealthClass::Degraded, 0, Time(bench.now));
    bench.wait(1_020);
    let from = view_changed_at(&bench);
    assert_eq!(bench.engine.view().len(), 1);
    // A heartbeat out of turn, so that no periodic one falls on the end of the hesitation.
    bench.wait(from + 130 - bench.now);
    bench.engine.handle_health(HealthClass::Failed, 0, Time(bench.now));
    bench.drain();
    bench.wait(1_000);
    assert_eq!(asked_at(&bench, from), Some(from + 400));
}

/// A host that may not be armed cannot serve: it weighs itself as it tells others, so both halves agree on which ranks worse.
#[test]
fn an_unfit_half_hesitates() {
    let b = life(1, 1);
    for (unfit, hesitation) in [(false, 0), (true, 400)] {
        let mut bench = Bench::new(2, WITNESS, &[b]);
        bench.live(2_500, &[b]);
        if unfit {
            bench.engine.handle_unfit(vec!["an enabled unit".to_owned()], Time(bench.now));
        }
        bench.wait(1_100);
        let from = view_changed_at(&bench);
        assert_eq!(bench.sent.last().unwrap().health == HealthClass::Failed, unfit);
        bench.wait(1_000);
        assert_eq!(asked_at(&bench, from), Some(from + hesitation), "unfit: {unfit}");
    }
}
