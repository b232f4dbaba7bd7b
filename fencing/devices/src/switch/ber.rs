//! The few shapes of ASN.1's basic encoding rules (X.690) that SNMP uses. Pure.

use std::ops::Range;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OBJECT: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// An object identifier has no more parts (RFC 2578 section 3.5).
const PARTS_MAX: usize = 128;

/// An object identifier, by its parts.
pub(super) type Oid = Vec<u32>;

/// Why something could not be read.
pub(super) type Wrong = &'static str;

/// `content` under its tag and length.
pub(super) fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match u8::try_from(content.len()) {
        Ok(len @ 0..0x80) => bytes.push(len),
        Ok(_) | Err(_) => {
            let len = content.len().to_be_bytes();
            let used = len.iter().skip_while(|byte| **byte == 0);
            bytes.push(0x80 | u8::try_from(used.clone().count()).unwrap_or(0x7f));
            bytes.extend(used);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

pub(super) fn sequence(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    tagged(tag, &parts.concat())
}

pub(super) fn integer(number: i64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    // As short as the sign allows.
    let mut content = bytes.as_slice();
    while let [first, rest @ ..] = content
        && let [next, ..] = rest
        && ((*first == 0 && *next < 0x80) || (*first == 0xff && *next >= 0x80))
    {
        content = rest;
    }
    tagged(INTEGER, content)
}

pub(super) fn octets(bytes: &[u8]) -> Vec<u8> {
    tagged(OCTETS, bytes)
}

pub(super) fn object(parts: &[u32]) -> Vec<u8> {
    let mut content = Vec::new();
    let (first, rest) = match parts {
        [first, second, rest @ ..] => (first.saturating_mul(40).saturating_add(*second), rest),
        [] | [_] => (0, [].as_slice()),
    };
    for part in [first].iter().chain(rest) {
        let groups = [28, 21, 14, 7, 0].map(|shift| u8::try_from((part >> shift) & 0x7f).unwrap_or(0));
        let begin = groups.iter().position(|group| *group != 0).unwrap_or(groups.len() - 1);
        for (at, group) in groups.iter().enumerate().skip(begin) {
            content.push(if at + 1 == groups.len() { *group } else { group | 0x80 });
        }
    }
    tagged(OBJECT, &content)
}

/// Reads one thing after the other, and knows where in the whole it stands.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    whole: &'a [u8],
    left: Range<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(whole: &'a [u8]) -> Self {
        Self { whole, left: 0..whole.len() }
    }

    /// What is left, and where it stands in the whole.
    pub(super) fn rest(&self) -> (&'a [u8], Range<usize>) {
        (self.whole.get(self.left.clone()).unwrap_or_default(), self.left.clone())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// The tag of what comes next.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest().0.first().copied()
    }

    /// The content of what comes next, whatever it is.
    pub(super) fn any(&mut self) -> Result<(u8, Self), Wrong> {
        let tag = self.byte()?;
        let mut len = usize::from(self.byte()?);
        if len >= 0x80 {
            let count = len & 0x7f;
            if !(1..=4).contains(&count) {
                return Err("a length that is none");
            }
            len = 0;
            for _ in 0..count {
                len = (len << 8) | usize::from(self.byte()?);
            }
        }
        let end = self.left.start.checked_add(len).filter(|end| *end <= self.left.end);
        let end = end.ok_or("it ends in the middle")?;
        let content = Self { whole: self.whole, left: self.left.start..end };
        self.left.start = end;
        Ok((tag, content))
    }

    /// The content of what comes next, which must be this.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Self, Wrong> {
        match self.any()? {
            (found, content) if found == tag => Ok(content),
            (_, _) => Err("something else than SNMP has there"),
        }
    }

    pub(super) fn octets(&mut self) -> Result<&'a [u8], Wrong> {
        Ok(self.expect(OCTETS)?.rest().0)
    }

    pub(super) fn integer(&mut self) -> Result<i64, Wrong> {
        number(self.expect(INTEGER)?.rest().0)
    }

    fn byte(&mut self) -> Result<u8, Wrong> {
        let byte = self.peek().ok_or("it ends in the middle")?;
        self.left.start += 1;
        Ok(byte)
    }
}

/// An integer's content.
pub(super) fn number(content: &[u8]) -> Result<i64, Wrong> {
    let Some(first) = content.first().filter(|_| content.len() <= 8) else {
        return Err("an integer that is none");
    };
    let sign = if *first < 0x80 { 0 } else { -1 };
    Ok(content.iter().fold(sign, |number: i64, byte| (number << 8) | i64::from(*byte)))
}

/// An object identifier's content.
pub(super) fn parts(content: &[u8]) -> Result<Oid, Wrong> {
    const NONE: Wrong = "an object identifier that is none";
    let mut parts: Oid = Vec::new();
    let mut part: u64 = 0;
    for byte in content {
        part = (part << 7) | u64::from(byte & 0x7f);
        if part > u64::from(u32::MAX) || parts.len() >= PARTS_MAX {
            return Err(NONE);
        }
        if byte & 0x80 != 0 {
            continue;
        }
        let whole = u32::try_from(part).map_err(|_| NONE)?;
        if parts.is_empty() {
            let first = (whole / 40).min(2);
            parts.extend([first, whole - first * 40]);
        } else {
            parts.push(whole);
        }
        part = 0;
    }
    match content.last() {
        Some(0..0x80) => Ok(parts),
        Some(_) | None => Err(NONE),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_x_690_shows_is_written_and_read_so() {
        assert_eq!(integer(0), [2, 1, 0]);
        assert_eq!(integer(127), [2, 1, 127]);
        assert_eq!(integer(128), [2, 2, 0, 128]);
        assert_eq!(integer(-128), [2, 1, 0x80]);
        assert_eq!(integer(-129), [2, 2, 0xff, 0x7f]);
        assert_eq!(object(&[1, 3, 6, 1, 4, 1, 8072]), [6, 7, 0x2b, 6, 1, 4, 1, 0xbf, 0x08]);
        assert_eq!(parts(&[0x88, 0x37, 3]), Ok(vec![2, 999, 3]));
        assert_eq!(octets(&[7; 200])[..3], [4, 0x81, 200]);
        assert_eq!(octets(&[7; 300])[..4], [4, 0x82, 1, 44]);
        let long = [2, 0x84, 0, 0, 0, 1, 5];
        assert_eq!(Reader::new(&long).integer(), Ok(5), "a length may be longer than it must");
        for none in
            [&[][..], &[2], &[2, 2, 1], &[2, 0x80, 1], &[2, 0x85, 0, 0, 0, 0, 1, 1], &[2, 0], &[4, 1, 1]]
        {
            assert!(Reader::new(none).integer().is_err(), "{none:?}");
        }
        for none in [&[][..], &[0x80], &[0x2b, 0xff], &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]] {
            assert!(parts(none).is_err(), "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(number: i64, mut oid in proptest::collection::vec(any::<u32>(), 2..20)) {
            oid[0] %= 3;
            oid[1] %= 40;
            prop_assert_eq!(Reader::new(&integer(number)).integer(), Ok(number));
            let bytes = object(&oid);
            prop_assert_eq!(parts(Reader::new(&bytes).expect(OBJECT).unwrap().rest().0), Ok(oid));
        }
    }
}
