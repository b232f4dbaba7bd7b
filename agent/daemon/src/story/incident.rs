//! Which records belong together: from the first sign that something is wrong with a host to what followed from its end.

use std::collections::{BTreeMap, BTreeSet};

use palisade_core::health::Verdict;
use palisade_core::record::{Event, Who};
use palisade_ladder::Command;

use super::facts::OUTAGE_MS;
use super::{Moment, Names};

/// What happens so soon after an incident is over belongs to it: placements, starts, power that comes back.
const AFTERMATH_MS: i64 = 60_000;
/// Whoever was heard so lately was not silent: it said that it goes, or another host's word changed the view.
pub(super) const SILENT_MS: i64 = 500;
/// How a workload is said to be stopped because its host cannot serve.
pub(super) const GIVES_AWAY: &str = "this host gives it away";
/// How far before its own loss of standing the host's lost peers are looked for.
const PRELUDE_MS: i64 = 5_000;
const PRELUDE_RECORDS: usize = 64;
/// The life of an order that is about a host, whichever life it has (a cold start's).
const ANY_LIFE: &str = "0000000000000000";

/// Records of one thing that happened to a host.
#[derive(Clone, Debug)]
pub(super) struct Incident {
    /// To which host.
    pub(super) host: String,
    /// Which of its lives.
    pub(super) life: Option<String>,
    /// Something happened to the host, rather than that somebody asked or warned.
    pub(super) grave: bool,
    /// Places among the moments, oldest first.
    pub(super) moments: Vec<usize>,
}

/// What a record is to an incident of the host.
enum Role<'a> {
    /// It can begin one.
    Opens { life: Option<&'a str>, grave: bool },
    /// The life is over.
    Ends { life: &'a str },
    /// It belongs to one that has begun.
    Joins,
    /// The host is back.
    Back,
    /// It is about something else.
    Aside,
}

/// Every host that a record names.
pub(crate) fn hosts(moments: &[Moment]) -> BTreeSet<String> {
    let named = moments.iter().filter_map(|moment| moment.event.as_ref()).flat_map(subjects);
    let writers = moments.iter().map(Moment::writer);
    named.chain(writers).map(str::to_owned).collect()
}

/// The hosts that something happens to in this record, the first one first.
pub(super) fn subjects(event: &Event) -> Vec<&str> {
    match event {
        Event::FenceDecided { victim, .. }
        | Event::OrderIntended { victim, .. }
        | Event::OrderAnswered { victim, .. }
        | Event::Dead { victim, .. }
        | Event::Isolated { victim, .. }
        | Event::FenceFailed { victim, .. } => vec![&victim.host],
        Event::View { lost, view } => {
            let lost = lost.iter().map(|lost| &lost.who);
            lost.chain(view).map(|who| who.host.as_str()).collect()
        }
        Event::Started { me, .. } => vec![&me.host],
        Event::Placed { .. }
        | Event::Lock { .. }
        | Event::Founded { .. }
        | Event::Admitted { .. }
        | Event::Electorate { .. }
        | Event::Standing { .. }
        | Event::Witness { .. }
        | Event::Withheld { .. }
        | Event::Claimed { .. }
        | Event::ClaimDropped { .. }
        | Event::StartIntended { .. }
        | Event::Workload { .. }
        | Event::SelfFenced { .. }
        | Event::Reboots { .. }
        | Event::Probe { .. }
        | Event::Left { .. }
        | Event::Away
        | Event::Desired { .. }
        | Event::Wished { .. }
        | Event::Alarm { .. }
        | Event::AlarmCleared { .. }
        | Event::Configuration { .. }
        | Event::Operator { .. } => Vec::new(),
    }
}

/// The incidents of a host, oldest first.
pub(super) fn find(moments: &[Moment], host: &str, names: &Names) -> Vec<Incident> {
    let outages = outages(moments, host);
    let devices = devices(moments, names);
    let mut finder = Finder {
        host,
        devices,
        lost_by: BTreeSet::new(),
        own_life: None,
        left: false,
        open: None,
        done: Vec::new(),
    };
    for (at, moment) in moments.iter().enumerate() {
        finder.close_if_over(moment.ms);
        match finder.role(moment, outages.contains(&at)) {
            Role::Opens { life, grave } => finder.open(moments, at, life, grave),
            Role::Ends { life } => {
                finder.open(moments, at, Some(life), true);
                finder.resolve(moment.ms, true);
            }
            Role::Joins => finder.join(at),
            Role::Back => {
                finder.join(at);
                finder.resolve(moment.ms, false);
            }
            Role::Aside => {}
        }
        finder.note_life(moment);
    }
    finder.close();
    finder.done
}

/// When the host itself had no quorum for a while: places of the records that say so.
fn outages(moments: &[Moment], host: &str) -> BTreeSet<usize> {
    let mut outages = BTreeSet::new();
    let mut since: Option<(usize, i64)> = None;
    let own = moments.iter().enumerate().filter(|(_, moment)| moment.writer() == host);
    for (at, moment) in own {
        let ended = match moment.event.as_ref() {
            Some(Event::Standing { quorate: false, .. }) => {
                since.get_or_insert((at, moment.ms));
                continue;
            }
            Some(Event::Standing { quorate: true, .. } | Event::Started { .. }) => since.take(),
            // What it did for want of a quorum shows that it had none.
            Some(Event::SelfFenced { .. }) => {
                outages.extend(since.map(|(at, _)| at));
                continue;
            }
            Some(_) | None => continue,
        };
        outages.extend(ended.filter(|(_, from)| moment.ms - from >= OUTAGE_MS).map(|(at, _)| at));
    }
    let now = moments.last().map_or(0, |moment| moment.ms);
    outages.extend(since.filter(|(_, from)| now - from >= OUTAGE_MS).map(|(at, _)| at));
    outages
}

/// Which host each device fences, by the configuration and by the orders on record, which tell of devices that were removed since.
fn devices(moments: &[Moment], names: &Names) -> BTreeMap<String, String> {
    let mut devices = names.devices.clone();
    for moment in moments {
        if let Some(
            Event::OrderIntended { victim, device, .. } | Event::OrderAnswered { victim, device, .. },
        ) = &moment.event
        {
            devices.insert(device.clone(), victim.host.clone());
        }
    }
    devices
}

struct Finder<'a> {
    host: &'a str,
    devices: BTreeMap<String, String>,
    /// Whose views the host fell out of, and is not back in.
    lost_by: BTreeSet<String>,
    /// The life that the host's own journal is in, and whether it has said that it ends.
    own_life: Option<&'a str>,
    left: bool,
    open: Option<Open>,
    done: Vec<Incident>,
}

struct Open {
    incident: Incident,
    /// Since when it is over, as far as the records go.
    over: Option<i64>,
    dead: bool,
}

impl<'a> Finder<'a> {
    /// Notes the host's own life, as long as it has not said that it ends.
    fn note_life(&mut self, moment: &'a Moment) {
        if moment.writer() == self.host {
            let said = matches!(moment.event, Some(Event::Left { .. }));
            let known = self.own_life == Some(&moment.entry.life);
            self.left = said || known && self.left;
            self.own_life = Some(&moment.entry.life);
        }
    }

    fn role(&mut self, moment: &'a Moment, outage: bool) -> Role<'a> {
        let unsaid = self.own_life.filter(|life| *life != moment.entry.life && !self.left);
        let Some(event) = &moment.event else { return Role::Aside };
        let own = moment.writer() == self.host;
        let is_host = |who: &Who| who.host == self.host;
        let opens = |life: &'a str, grave| Role::Opens { life: (life != ANY_LIFE).then_some(life), grave };
        let if_own = |role: Role<'a>| if own { role } else { Role::Aside };
        match event {
            Event::View { view, lost } => match lost.iter().find(|lost| is_host(&lost.who)) {
                Some(lost) => {
                    self.lost_by.insert(moment.entry.host.clone());
                    opens(&lost.who.life, i64::try_from(lost.silent_ms).is_ok_and(|ms| ms >= SILENT_MS))
                }
                None if view.iter().any(is_host) && self.lost_by.remove(moment.writer()) => Role::Back,
                None => if_own(Role::Joins),
            },
            Event::Standing { .. } if outage => opens(&moment.entry.life, true),
            Event::Standing { quorate: true, .. } if own => {
                if self.lost_by.is_empty() {
                    Role::Back
                } else {
                    Role::Joins
                }
            }
            Event::Standing { .. } | Event::Witness { .. } | Event::ClaimDropped { .. } => {
                if own || self.lost_by.contains(moment.writer()) { Role::Joins } else { Role::Aside }
            }
            Event::Reboots { .. } => if_own(opens(&moment.entry.life, true)),
            Event::Probe { verdict: Verdict::Failed, .. } => if_own(opens(&moment.entry.life, false)),
            Event::Probe { verdict: Verdict::Healthy, .. } if own && self.lost_by.is_empty() => Role::Back,
            Event::Probe { .. } => if_own(Role::Joins),
            // What runs well is taken away only for a reason.
            Event::Workload { detail, .. } if own && detail.starts_with(GIVES_AWAY) => {
                opens(&moment.entry.life, true)
            }
            Event::SelfFenced { .. } if own => opens(&moment.entry.life, true),
            Event::SelfFenced { .. } if self.lost_by.contains(moment.writer()) => Role::Joins,
            Event::SelfFenced { .. } => Role::Aside,
            Event::FenceDecided { victim, .. }
            | Event::FenceFailed { victim, .. }
            | Event::Isolated { victim, .. }
                if is_host(victim) =>
            {
                opens(&victim.life, true)
            }
            Event::Dead { victim, .. } if is_host(victim) => Role::Ends { life: &victim.life },
            Event::OrderIntended { victim, command, .. } | Event::OrderAnswered { victim, command, .. }
                if is_host(victim) =>
            {
                match command {
                    Command::Off => opens(&victim.life, true),
                    Command::On | Command::Read | Command::Prove => Role::Joins,
                }
            }
            Event::FenceDecided { .. }
            | Event::FenceFailed { .. }
            | Event::Isolated { .. }
            | Event::Dead { .. }
            | Event::OrderIntended { .. }
            | Event::OrderAnswered { .. } => Role::Aside,
            Event::Withheld { what, why } => {
                if self.is_about(what) || self.is_about(why) {
                    Role::Opens { life: None, grave: true }
                } else {
                    self.aside_if_about_others(&format!("{what} {why}"))
                }
            }
            Event::Alarm { what } if self.is_about(what) => Role::Opens { life: None, grave: false },
            Event::AlarmCleared { what } if self.is_about(what) => Role::Joins,
            Event::Alarm { what } | Event::AlarmCleared { what } => self.aside_if_about_others(what),
            Event::Operator { asked, outcome, .. } if self.is_about(asked) => {
                Role::Opens { life: None, grave: !outcome.starts_with("refused") }
            }
            Event::Operator { .. } => Role::Aside,
            Event::Left { .. } => if_own(opens(&moment.entry.life, true)),
            Event::Away | Event::Started { resumed: true, .. } => if_own(opens(&moment.entry.life, false)),
            Event::Started { .. } if own && self.open.is_none() && unsaid.is_some() => {
                Role::Opens { life: unsaid, grave: true }
            }
            // A new life, which nothing has happened to.
            Event::Started { .. } | Event::Admitted { .. } => if_own(Role::Back),
            Event::Electorate { joined, .. } if joined.iter().any(is_host) => Role::Back,
            Event::Electorate { removed, .. } => {
                if removed.iter().any(is_host) {
                    Role::Joins
                } else {
                    Role::Aside
                }
            }
            Event::Placed { .. }
            | Event::Claimed { .. }
            | Event::StartIntended { .. }
            | Event::Workload { .. }
            | Event::Desired { .. }
            | Event::Wished { .. } => Role::Joins,
            Event::Lock { .. } | Event::Founded { .. } | Event::Configuration { .. } => Role::Aside,
        }
    }

    /// Whether the words speak of the host, or of a device that fences it. A host's name may be a word of the language too ("a"),
    /// so it counts only where the agent's sentences have one.
    fn is_about(&self, text: &str) -> bool {
        mentions(text, self.host)
            || self.devices.iter().any(|(device, host)| host == self.host && has_word(text, device))
    }

    /// Words that name nobody (a budget that is spent, a journal that fails) belong to whatever goes on.
    fn aside_if_about_others(&self, text: &str) -> Role<'a> {
        let other = self
            .devices
            .iter()
            .any(|(device, host)| has_word(text, device) || (host != self.host && mentions(text, host)));
        if other { Role::Aside } else { Role::Joins }
    }

    fn open(&mut self, moments: &[Moment], at: usize, life: Option<&str>, grave: bool) {
        let now = moments.get(at).map_or(0, |moment| moment.ms);
        if let Some(open) = &mut self.open {
            let same_life =
                life.is_none() || open.incident.life.is_none() || open.incident.life.as_deref() == life;
            let goes_on = if open.dead { same_life } else { open.over.is_none() || same_life };
            if goes_on {
                open.incident.moments.push(at);
                open.incident.grave |= grave;
                if let (None, Some(life)) = (&open.incident.life, life) {
                    open.incident.life = Some(life.to_owned());
                }
                if !open.dead {
                    // A refusal, a warning or a restart is over at once.
                    open.over = (!open.incident.grave).then_some(now);
                }
                return;
            }
            self.close();
        }
        let mut places = self.prelude(moments, at);
        places.push(at);
        let incident =
            Incident { host: self.host.to_owned(), life: life.map(str::to_owned), grave, moments: places };
        self.open = Some(Open { incident, over: (!grave).then_some(now), dead: false });
    }

    /// Whom the host had lost just before it lost its quorum, and what stood against it before.
    fn prelude(&self, moments: &[Moment], at: usize) -> Vec<usize> {
        let Some(first) = moments.get(at) else { return Vec::new() };
        let mut places = Vec::new();
        for (place, moment) in moments.iter().enumerate().take(at).skip(at.saturating_sub(PRELUDE_RECORDS)) {
            let lately = first.ms - moment.ms <= PRELUDE_MS && moment.writer() == self.host;
            if let Some(Event::View { lost, .. }) = &moment.event
                && lately
                && first.writer() == self.host
                && !lost.is_empty()
            {
                places.push(place);
            }
        }
        places
    }

    fn join(&mut self, at: usize) {
        if let Some(open) = &mut self.open {
            open.incident.moments.push(at);
        }
    }

    fn resolve(&mut self, ms: i64, dead: bool) {
        if let Some(open) = &mut self.open {
            open.dead |= dead;
            open.over = Some(ms);
        }
    }

    fn close_if_over(&mut self, now: i64) {
        let over = self.open.as_ref().and_then(|open| open.over);
        if over.is_some_and(|since| now - since > AFTERMATH_MS) {
            self.close();
        }
    }

    fn close(&mut self) {
        self.done.extend(self.open.take().map(|open| open.incident));
    }
}

/// The places of a host's name in the agent's sentences.
pub(super) fn mentions(text: &str, host: &str) -> bool {
    let follows = |before: &str, after: &str| text.contains(&format!("{before}{host}{after}"));
    text.strip_prefix(host).is_some_and(|rest| rest.starts_with([' ', ':']))
        || follows("the fence of ", " ")
        || follows("the isolation of ", " ")
        || follows("the power of ", "")
        || follows("under the name of ", ":")
        || follows("taking ", " for ")
        || follows("giving ", " ")
        || follows("cutting ", " from ")
        || follows("waits for ", ":")
        || follows("serve on ", ":")
        || follows(" of ", " has failed")
        || follows("unfence ", " ")
        || follows("fence ", " (")
        || follows("confirm that ", " is dead")
        || follows("maintenance of ", " ")
}

/// Whether a name stands in the text by itself.
pub(super) fn has_word(text: &str, name: &str) -> bool {
    let part = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
    text.split(|char| !part(char)).any(|word| word.trim_end_matches('.') == name)
}
