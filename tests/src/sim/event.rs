//! What can happen next, and the queue that says when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use palisade_core::action::{DeviceOrder, OrderId, Ticket};
use palisade_ladder::{Failure, Response};
use palisade_proto::{Answer, Ask, Heartbeat, Incarnation, WorkloadId};

use super::Micros;

/// When an order was given, and what it was about then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) at: Micros,
    /// The boot of who gave it.
    pub(super) by_boot: u64,
    /// The boot of its victim, if that had power.
    pub(super) victim_boot: Option<u64>,
    /// The life that was to lose its power: the one that the orderer counts, otherwise the one that was there.
    pub(super) victim: Option<Incarnation>,
}

/// One event. Those for a process name it, and die with it.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Packet {
        to: usize,
        heartbeat: Arc<Heartbeat>,
    },
    Ask(Arc<Ask>),
    Answer {
        to: usize,
        answer: Answer,
    },
    Tick {
        host: usize,
        process: u64,
    },
    Durable {
        host: usize,
        process: u64,
        ticket: Ticket,
    },
    /// A BMC carries a command out: the moment of truth.
    BmcActs {
        by: usize,
        process: u64,
        order: DeviceOrder,
        given: Given,
        say_at: Micros,
    },
    BmcSays {
        to: usize,
        process: u64,
        order: OrderId,
        answer: Result<Response, Failure>,
    },
    WorkloadDone {
        host: usize,
        boot: u64,
        id: WorkloadId,
        step: u64,
        fails: bool,
    },
    DogBites {
        host: usize,
        boot: u64,
        fed: u64,
    },
    Boot {
        host: usize,
    },
    StartAgent {
        host: usize,
        boot: u64,
    },
    Look {
        host: usize,
        process: u64,
    },
    Sample {
        host: usize,
        process: u64,
    },
    Thaw {
        host: usize,
        boot: u64,
    },
    WitnessStarts,
    BrokerBack,
    Fault(usize),
    Judge,
}

impl Event {
    /// The machine that must not be frozen for this to happen.
    pub(super) fn needs(&self) -> Option<usize> {
        match self {
            Self::Packet { to, .. } | Self::Answer { to, .. } | Self::BmcSays { to, .. } => Some(*to),
            Self::Tick { host, .. }
            | Self::Durable { host, .. }
            | Self::WorkloadDone { host, .. }
            | Self::StartAgent { host, .. }
            | Self::Look { host, .. }
            | Self::Sample { host, .. } => Some(*host),
            Self::Ask(_)
            | Self::BmcActs { .. }
            | Self::DogBites { .. }
            | Self::Boot { .. }
            | Self::Thaw { .. }
            | Self::WitnessStarts
            | Self::BrokerBack
            | Self::Fault(_)
            | Self::Judge => None,
        }
    }
}

struct Entry {
    at: Micros,
    serial: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.serial) == (other.at, other.serial)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

/// Events by time; those of one instant in the order in which they were put in.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    serial: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: Micros, event: Event) {
        self.serial += 1;
        self.heap.push(Reverse(Entry { at, serial: self.serial, event }));
    }

    pub(super) fn pop(&mut self) -> Option<(Micros, Event)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}
