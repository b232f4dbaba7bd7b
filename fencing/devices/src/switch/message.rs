//! What SNMP asks and answers: PDUs (RFC 3416 section 3), and the message of version 2c around one (RFC 1901 section 3). Pure.

use super::ber::{self, Oid, Reader, Wrong};

/// The version of 2c in a message, and of 3.
pub(super) const VERSION_2C: i64 = 1;
pub(super) const VERSION_3: i64 = 3;

/// What a PDU is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    GetBulk,
    Set,
    Response,
    Report,
}

impl Kind {
    const fn tag(self) -> u8 {
        match self {
            Self::Get => 0xa0,
            Self::Response => 0xa2,
            Self::Set => 0xa3,
            Self::GetBulk => 0xa5,
            Self::Report => 0xa8,
        }
    }
}

/// What stands at an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Integer(i64),
    Text(Vec<u8>),
    /// In a question: to be told. In an answer: nothing.
    Null,
    /// There is no such object or instance, or none follows it.
    Absent,
    /// Of a type that nothing here asks for.
    Other,
}

pub(super) type Binding = (Oid, Value);

/// One question or answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pdu {
    pub(super) kind: Kind,
    /// The answer carries the question's.
    pub(super) request: i64,
    /// The error's status; in a GetBulk the number of objects that are asked for once.
    pub(super) status: i64,
    /// Which binding it is about, from 1; in a GetBulk how often the others are asked for.
    pub(super) index: i64,
    pub(super) bindings: Vec<Binding>,
}

impl Pdu {
    pub(super) fn write(&self) -> Vec<u8> {
        let binding = |(object, value): &Binding| {
            let value = match value {
                Value::Integer(number) => ber::integer(*number),
                Value::Text(text) => ber::octets(text),
                Value::Null | Value::Absent | Value::Other => ber::tagged(ber::NULL, &[]),
            };
            ber::sequence(ber::SEQUENCE, &[ber::object(object), value])
        };
        let bindings: Vec<Vec<u8>> = self.bindings.iter().map(binding).collect();
        let numbers = [self.request, self.status, self.index].map(ber::integer);
        let bindings = ber::sequence(ber::SEQUENCE, &bindings);
        ber::tagged(self.kind.tag(), &[numbers.concat(), bindings].concat())
    }

    /// Reads an answer.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Wrong> {
        let (tag, mut content) = reader.any()?;
        let kinds = [Kind::Response, Kind::Report];
        let kind = kinds.into_iter().find(|kind| kind.tag() == tag).ok_or("no answer")?;
        let (request, status, index) = (content.integer()?, content.integer()?, content.integer()?);
        let mut list = content.expect(ber::SEQUENCE)?;
        let mut bindings = Vec::new();
        while !list.is_empty() {
            let mut binding = list.expect(ber::SEQUENCE)?;
            let object = ber::parts(binding.expect(ber::OBJECT)?.rest().0)?;
            let (tag, content) = binding.any()?;
            let content = content.rest().0;
            let value = match tag {
                ber::INTEGER => Value::Integer(ber::number(content)?),
                ber::OCTETS => Value::Text(content.to_vec()),
                ber::NULL => Value::Null,
                // noSuchObject, noSuchInstance, endOfMibView
                0x80..=0x82 => Value::Absent,
                _ => Value::Other,
            };
            bindings.push((object, value));
        }
        Ok(Self { kind, request, status, index, bindings })
    }
}

/// A question of version 2c.
pub(super) fn in_community(community: &[u8], pdu: &Pdu) -> Vec<u8> {
    let parts = [ber::integer(VERSION_2C), ber::octets(community), pdu.write()];
    ber::sequence(ber::SEQUENCE, &parts)
}

/// An answer of version 2c, which must carry the community of the question.
pub(super) fn of_community(community: &[u8], bytes: &[u8]) -> Result<Pdu, Wrong> {
    let mut message = Reader::new(bytes).expect(ber::SEQUENCE)?;
    if message.integer()? != VERSION_2C {
        return Err("another version than 2c");
    }
    if message.octets()? != community {
        return Err("another community");
    }
    match Pdu::read(&mut message)? {
        pdu if pdu.kind == Kind::Response => Ok(pdu),
        _ => Err("no answer"),
    }
}

/// The error of an answer, as RFC 3416 section 3 names it.
pub(super) fn error_name(status: i64) -> &'static str {
    match status {
        0 => "noError",
        1 => "tooBig",
        2 => "noSuchName",
        3 => "badValue",
        4 => "readOnly",
        5 => "genErr",
        6 => "noAccess",
        7 => "wrongType",
        8 => "wrongLength",
        9 => "wrongEncoding",
        10 => "wrongValue",
        11 => "noCreation",
        12 => "inconsistentValue",
        13 => "resourceUnavailable",
        14 => "commitFailed",
        15 => "undoFailed",
        16 => "authorizationError",
        17 => "notWritable",
        18 => "inconsistentName",
        _ => "an error that SNMP does not know",
    }
}

/// Whether an error says that the login may not write there. The first two are what version 1 said for it.
pub(super) fn says_no_right(status: i64) -> bool {
    matches!(status, 2 | 4 | 6 | 16 | 17)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    /// A question for sysName.0 and its answer, laid out by hand after RFC 1901 and RFC 3416.
    #[test]
    fn the_standards_bytes_are_written_and_read() {
        let asked = hex(
            "30 26 02 01 01 04 06 70 75 62 6C 69 63 A0 19 02 01 07 02 01 00 02 01 00 30 0E 30 0C 06 08 2B 06 01 02 01 01 05 00 05 00",
        );
        let sys_name = vec![1, 3, 6, 1, 2, 1, 1, 5, 0];
        let bindings = vec![(sys_name.clone(), Value::Null)];
        let pdu = Pdu { kind: Kind::Get, request: 7, status: 0, index: 0, bindings };
        assert_eq!(in_community(b"public", &pdu), asked);
        let answered = hex(
            "30 27 02 01 01 04 06 70 75 62 6C 69 63 A2 1A 02 01 07 02 01 00 02 01 00 30 0F 30 0D 06 08 2B 06 01 02 01 01 05 00 04 01 62",
        );
        let answer = of_community(b"public", &answered).unwrap();
        assert_eq!(answer.bindings, [(sys_name, Value::Text(b"b".to_vec()))]);
        assert_eq!((answer.kind, answer.request), (Kind::Response, 7));
        assert_eq!(of_community(b"private", &answered), Err("another community"));
        assert!(of_community(b"public", &asked).is_err(), "a question is no answer");
        for len in 0..answered.len() {
            assert!(of_community(b"public", &answered[..len]).is_err(), "cut to {len}");
        }
    }
}
