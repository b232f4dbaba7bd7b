//! The demonstration: three hosts, a witness, a broker and three BMCs; one host dies, and everybody's journal tells how.

use std::time::{Duration, Instant};

use palisade_core::record::Event;

use super::{kill_and_wait, ready};
use crate::lab::Lab;
use crate::lab::hardware::Hardware;
use crate::lab::journal::Line;
use crate::lab::trouble::{Context, Result};
use crate::scenario::check::Mark;
use crate::scenario::step::Condition;

/// The host that dies: the coordinator, running the workload.
const VICTIM: &str = "a";
/// After that, the victim's own boot is another story.
const TOLD_FOR: Duration = Duration::from_secs(2);

/// Plays it and prints the time line.
///
/// # Errors
/// Something did not happen as it should.
pub fn run() -> Result<()> {
    let start = Instant::now();
    say("Three hosts (a, b, c), each with a BMC of its own; a broker and a witness beside them. Power on.");
    let lab = ready(&Hardware::plain(3, true, "default"))?;
    say(&format!(
        "After {:.1} s: one cluster, quorate, every fence path proven, the workload `db` runs on {VICTIM}.\n",
        start.elapsed().as_secs_f64()
    ));
    say(&format!("Now {VICTIM} dies: its wires go dead and all its processes are killed, in one instant.\n"));
    let death = kill_and_wait(&lab, VICTIM)?;
    // What is written within the next moment still belongs to the story (the order to switch on again).
    let mark = Mark::now(&lab)?;
    super::wait(&lab, &mark, Duration::from_secs(30), &Condition::On(vec![VICTIM.into()]))?;
    println!("      ms  host  what it wrote down");
    println!("       0  {VICTIM}     dies");
    for line in told(&lab, death.killed_ms)? {
        println!("{:8}  {}     {}", line.boot_ms.saturating_sub(death.killed_ms), line.host, sentence(&line));
    }
    println!();
    say(&format!(
        "The workload runs on {} {} ms after the death of {VICTIM}, whose power was read off before.",
        death.survivor,
        death.total_ms()
    ));
    say(&format!("\nWhat an operator is told on {}: palisade why {VICTIM}\n", death.survivor));
    println!("{}", lab.cli(&death.survivor, &["why", VICTIM])?.text.trim_end());
    say(&format!("\n{VICTIM} has its power back and will be admitted as a new life. The lab is taken down."));
    Ok(())
}

/// What the survivors wrote from the death on, by time.
fn told(lab: &Lab, killed_ms: u64) -> Result<Vec<Line>> {
    let until_ms =
        killed_ms + u64::try_from((super::RECOVERY_LIMIT + TOLD_FOR).as_millis()).during("a time")?;
    let lines = lab.journals()?.into_iter();
    Ok(lines.filter(|line| line.host != VICTIM && (killed_ms..until_ms).contains(&line.boot_ms)).collect())
}

/// A record in the agent's own words.
fn sentence(line: &Line) -> String {
    serde_json::from_value::<Event>(line.event.clone())
        .map_or_else(|_| line.text(), |event| event.to_string())
}

fn say(words: &str) {
    println!("{words}");
}
