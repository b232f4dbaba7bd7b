//! When two worlds are the same: a hash of everything that can decide what happens next, with what only names or counts
//! replaced by what it stands for.
//!
//! Times become distances from now, and beyond [`OLD_MS`] in the past all are one. Seqs become their rank among those of their
//! owner (only their order is ever looked at). Lives are named in the order in which they appear. Left out: what is only shown
//! (alarms, answers of the witness, records), counters that only name, and what no scene reaches: the fence budget, and the
//! beacons (a cold start's consent waits ten minutes). A beacon takes a seq, though: with a witness, which of two such worlds
//! stands for both depends on the order of the work, and the number of states varies by about one in a thousand.

use core::fmt;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};

use serde::ser::{self, Serialize};

use super::world::World;

/// Longer than any time-out of [`super::world::setup`] that a scene can reach.
const OLD_MS: u64 = 1600;
/// An ask of a host counts for one lease after it was sent, one to the witness makes an incumbent for three more.
const ASK_MS: u64 = 4 * super::world::STEP_MS;
const WITNESS_ASK_MS: u64 = 4 * ASK_MS;
/// A seq has its host in the bits from here on; nothing else is as large.
const SEQ_OWNER_BITS: u32 = 48;
const SEQ_PROCESS_BITS: u32 = 24;
/// Names of orders and tickets lie above all seqs.
const COUNTER: u64 = 1 << 60;

/// The first seq of a process.
pub(super) fn first_seq(host: usize, process: u64) -> u64 {
    ((host as u64 + 1) << SEQ_OWNER_BITS) | (process << SEQ_PROCESS_BITS)
}

/// Fields that decide nothing, by type.
const LEFT_OUT: &[(&str, &[&str])] = &[
    (
        "Engine",
        &[
            "wake",
            "alarms",
            "clones",
            "next_ticket",
            "fence_times",
            "told_votes",
            "pending_asks",
            "witness_answered",
            "witness_verdict",
            "next_beacon",
            "life",
            "digest",
            "machine",
            "desired",
            "storages",
            "next_feed",
            "next_arm",
        ],
    ),
    ("Fences", &["next_order", "paths"]),
    ("Running", &["setbacks"]),
    ("Saved", &["life", "fences", "desired_version"]),
    ("Arbiter", &["quiet_since", "lease", "drift"]),
    ("Heard", &["at"]),
    (
        "Heartbeat",
        &["machine", "digest", "lease", "drift", "speaks", "quorate", "load", "desired", "watchdog_bound"],
    ),
];

impl World {
    /// Equal for worlds that are the same.
    pub(super) fn fingerprint(&self, scratch: &mut Scratch) -> u64 {
        scratch.bytes.clear();
        scratch.counted.clear();
        scratch.lives.clear();
        let mut writer = Writer {
            now: self.body.now.0,
            owner: 0,
            kind: Kind::Plain,
            life: Vec::new(),
            ask_ms: ASK_MS,
            last_time: 0,
            scratch,
        };
        self.body.serialize(&mut writer).expect("plain data");
        for (host, engine) in self.engines.iter().enumerate() {
            writer.owner = host as u64 + 1;
            engine.serialize(&mut writer).expect("plain data");
        }
        scratch.finish()
    }
}

/// Room that is used again and again.
#[derive(Default)]
pub(super) struct Scratch {
    bytes: Vec<u8>,
    /// Seqs and names of orders, in the order in which they appear.
    counted: Vec<u64>,
    sorted: Vec<u64>,
    lives: BTreeMap<Vec<u8>, u8>,
}

impl Scratch {
    fn finish(&mut self) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.bytes);
        self.sorted.clone_from(&self.counted);
        self.sorted.sort_unstable();
        self.sorted.dedup();
        for value in &self.counted {
            let owner = value >> SEQ_OWNER_BITS;
            let rank = self.sorted.partition_point(|other| other < value);
            let first = self.sorted.partition_point(|other| other >> SEQ_OWNER_BITS < owner);
            hasher.write_u32((owner as u32) << 16 | (rank - first) as u32);
        }
        hasher.finish()
    }
}

/// What the next number means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Time,
    Counter,
    Life,
}

struct Writer<'a> {
    now: u64,
    /// Whose engine is written, from 1.
    owner: u64,
    kind: Kind,
    life: Vec<u8>,
    /// Beyond this age an ask counts for nothing.
    ask_ms: u64,
    /// The last time that was written, as it was.
    last_time: u64,
    scratch: &'a mut Scratch,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.scratch.bytes.extend_from_slice(bytes);
    }

    fn put_time(&mut self, at: u64) {
        self.last_time = at;
        if at.saturating_add(OLD_MS) < self.now {
            return self.put(&[0xff]);
        }
        // No time-out that counts is as long as this: what lies further ahead never comes.
        let distance = at.wrapping_sub(self.now) as i64;
        self.put(&i32::try_from(distance).unwrap_or(i32::MAX).to_le_bytes());
    }

    fn put_counter(&mut self, value: u64) {
        self.put(&[0xfe]);
        self.scratch.counted.push(value);
    }
}

/// Nothing fails here.
#[derive(Debug)]
pub(super) struct Never;

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot be")
    }
}
impl std::error::Error for Never {}
impl ser::Error for Never {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// A struct on its way; what is not to be seen of it is taken back at its end.
struct Fields<'w, 'a> {
    writer: &'w mut Writer<'a>,
    name: &'static str,
    left_out: &'static [&'static str],
    from: (usize, usize),
}

impl ser::SerializeStruct for Fields<'_, '_> {
    type Ok = ();
    type Error = Never;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Never> {
        if self.left_out.contains(&key) {
            return Ok(());
        }
        if self.name == "Support" {
            self.writer.ask_ms = if key == "witness_asks" { WITNESS_ASK_MS } else { ASK_MS };
        }
        value.serialize(&mut *self.writer)
    }
    fn end(self) -> Result<(), Never> {
        let writer = self.writer;
        if self.name == "SentAsk" && writer.last_time + writer.ask_ms <= writer.now {
            writer.scratch.bytes.truncate(self.from.0);
            writer.scratch.counted.truncate(self.from.1);
        }
        Ok(())
    }
}

macro_rules! numbers {
    ($($name:ident $kind:ty),*) => {
        $(fn $name(self, v: $kind) -> Result<(), Never> {
            self.put(&v.to_le_bytes());
            Ok(())
        })*
    };
}

/// What holds elements writes them one by one; its end needs a mark only where the length varies.
macro_rules! parts {
    ($($trait:ident $method:ident $mark:expr),*) => {
        $(impl ser::$trait for &mut Writer<'_> {
            type Ok = ();
            type Error = Never;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
                value.serialize(&mut **self)
            }
            fn end(self) -> Result<(), Never> {
                self.put($mark);
                Ok(())
            }
        })*
    };
}

parts!(SerializeSeq serialize_element &[0xf8], SerializeTuple serialize_element &[], SerializeTupleStruct serialize_field &[], SerializeTupleVariant serialize_field &[]);

impl ser::SerializeMap for &mut Writer<'_> {
    type Ok = ();
    type Error = Never;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Never> {
        key.serialize(&mut **self)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
        value.serialize(&mut **self)
    }
    fn end(self) -> Result<(), Never> {
        self.put(&[0xf8]);
        Ok(())
    }
}

impl ser::SerializeStructVariant for &mut Writer<'_> {
    type Ok = ();
    type Error = Never;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Never> {
        value.serialize(&mut **self)
    }
    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

impl<'w, 'a> ser::Serializer for &'w mut Writer<'a> {
    type Ok = ();
    type Error = Never;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Fields<'w, 'a>;
    type SerializeStructVariant = Self;

    numbers!(serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_u16 u16, serialize_u32 u32, serialize_f32 f32, serialize_f64 f64);

    fn serialize_u8(self, v: u8) -> Result<(), Never> {
        if self.kind == Kind::Life {
            self.life.push(v);
        } else {
            self.put(&[v]);
        }
        Ok(())
    }
    fn serialize_u64(self, v: u64) -> Result<(), Never> {
        match std::mem::replace(&mut self.kind, Kind::Plain) {
            Kind::Time => self.put_time(v),
            Kind::Counter => self.put_counter(COUNTER | self.owner << SEQ_OWNER_BITS | v),
            Kind::Plain | Kind::Life if v >> SEQ_OWNER_BITS != 0 && v < COUNTER => self.put_counter(v),
            Kind::Plain | Kind::Life => self.put(&v.to_le_bytes()),
        }
        Ok(())
    }
    fn serialize_bool(self, v: bool) -> Result<(), Never> {
        self.put(&[u8::from(v)]);
        Ok(())
    }
    fn serialize_char(self, v: char) -> Result<(), Never> {
        self.serialize_u32(v as u32)
    }
    fn serialize_str(self, v: &str) -> Result<(), Never> {
        self.put(v.as_bytes());
        self.put(&[0]);
        Ok(())
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<(), Never> {
        self.put(v);
        Ok(())
    }
    fn serialize_none(self) -> Result<(), Never> {
        self.put(&[0xfd]);
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Never> {
        self.put(&[0xfc]);
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Never> {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Never> {
        Ok(())
    }
    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), Never> {
        self.put(&[0xfb, index as u8]);
        Ok(())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Never> {
        self.kind = match name {
            "Time" => Kind::Time,
            "OrderId" | "Ticket" => Kind::Counter,
            "LifeName" => Kind::Life,
            _ => Kind::Plain,
        };
        value.serialize(&mut *self)?;
        if std::mem::replace(&mut self.kind, Kind::Plain) == Kind::Life {
            let next = self.scratch.lives.len() as u8;
            let life = std::mem::take(&mut self.life);
            let short = *self.scratch.lives.entry(life).or_insert(next);
            self.put(&[short]);
        }
        Ok(())
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Never> {
        self.put(&[0xfb, index as u8]);
        value.serialize(self)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Never> {
        Ok(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self, Never> {
        Ok(self)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Never> {
        Ok(self)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Never> {
        self.put(&[0xfb, index as u8]);
        Ok(self)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self, Never> {
        Ok(self)
    }
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Fields<'w, 'a>, Never> {
        let left_out = LEFT_OUT.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, fields)| fields);
        let from = (self.scratch.bytes.len(), self.scratch.counted.len());
        Ok(Fields { writer: self, name, left_out, from })
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Never> {
        self.put(&[0xfb, index as u8]);
        Ok(self)
    }
}
