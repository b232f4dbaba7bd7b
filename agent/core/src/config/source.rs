//! Reads single values out of the text, each with its place for the message when it is wrong.

use core::ops::{Range, RangeInclusive};
use std::{net::SocketAddr, path::PathBuf};

use palisade_proto::{Drift, Duration};

use super::{
    error::{ConfigError, Mistake, Place},
    raw::{Number, Text},
};

/// The longest time that any setting may name.
const DURATION_MAX: Duration = Duration::secs(24 * 3600);
/// The largest drift, in ppm: clocks further apart than this are broken, not drifting.
const DRIFT_MAX_PPM: u32 = 200_000;
const MIB: u64 = 1024 * 1024;
/// The longest name of a host, device, storage or workload.
const LABEL_MAX: usize = 64;

/// The most characters of what the TOML reader says: room for every key that a table can have.
const READER_MAX: usize = 1000;

/// The text being read and the name of its file.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    pub(super) name: &'a str,
}

/// The values met so far of something that must not occur twice, each with its place.
pub(super) type Seen<T> = Vec<(T, Range<usize>)>;

impl Source<'_> {
    pub(super) fn error(
        &self,
        span: Range<usize>,
        what: impl Into<String>,
        help: impl Into<String>,
    ) -> ConfigError {
        let mut error = self.placeless(what, help);
        error.0.place = Some(Place::of(self.text, &span));
        error
    }

    pub(super) fn placeless(&self, what: impl Into<String>, help: impl Into<String>) -> ConfigError {
        ConfigError(Box::new(Mistake {
            file: self.name.to_owned(),
            place: None,
            what: what.into(),
            also: Vec::new(),
            help: help.into(),
            contradictions: Vec::new(),
        }))
    }

    /// What the TOML reader found wrong, in our form.
    pub(super) fn toml_error(&self, error: &toml::de::Error) -> ConfigError {
        // The reader speaks to programmers; who edits the file is not one.
        let what =
            error.message().trim().replace('\n', "; ").replace("expected i64", "expected a whole number");
        // It repeats a key as it is written, whatever that is.
        let what = printable(&what, READER_MAX);
        let Some(span) = error.span() else { return self.placeless(what, "correct the TOML") };
        if what.ends_with("a table that says where the secret lies")
            || what.ends_with("a table that says where the key lies")
        {
            // SAFE-6: a secret written here by mistake is not repeated, neither by the reader's message nor by ours.
            let what = "a secret never stands in the configuration itself";
            let help = "put it in a file of root's with mode 0600 and write { file = \"/path\" }; \
                        a secret that stood here should be changed";
            return self.error(span, what, help).without_excerpt();
        }
        if what.starts_with("unknown field") {
            // SAFE-6: what follows an unknown key may be a secret.
            let end = span.end;
            return self
                .error(span, what, "correct its spelling or remove it")
                .with_excerpt_until(self.text, end);
        }
        let help = if what.starts_with("missing field") {
            "add it"
        } else if what.contains("expected a string") {
            "put it in quotes; a length of time needs its unit, such as \"200ms\""
        } else if what.starts_with("invalid type") {
            "write a value of the expected type"
        } else if what.starts_with("duplicate key") {
            "keep one of the two"
        } else {
            "correct the TOML at this place"
        };
        // SAFE-6: the place of a syntax error may lie within a secret.
        self.error(span, what, help).without_excerpt_of_secret()
    }

    /// Refuses a value that was already there.
    pub(super) fn once<T: PartialEq>(
        &self,
        seen: &mut Seen<T>,
        value: T,
        span: Range<usize>,
        what: &str,
        help: &str,
    ) -> Result<(), ConfigError> {
        if let Some((_, first)) = seen.iter().find(|(earlier, _)| *earlier == value) {
            let line = Place::of(self.text, first).line();
            return Err(self.error(span, format!("{what} is already in line {line}"), help));
        }
        seen.push((value, span));
        Ok(())
    }

    pub(super) fn duration(&self, text: &Text) -> Result<Duration, ConfigError> {
        let written = text.get_ref();
        let help = "write a whole number with its unit: ms, s, min or h, such as \"200ms\" or \"10min\"";
        let Some(length) = duration(written) else {
            return Err(self.error(text.span(), format!("`{}` is no length of time", shown(written)), help));
        };
        if length == Duration(0) {
            return Err(self.error(text.span(), "a length of time must be more than zero", help));
        }
        if length > DURATION_MAX {
            return Err(self.error(text.span(), format!("`{written}` is too long"), "write at most \"24h\""));
        }
        Ok(length)
    }

    pub(super) fn duration_or(
        &self,
        text: Option<&Text>,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        text.map_or(Ok(default), |text| self.duration(text))
    }

    /// A size within a range, in bytes.
    pub(super) fn size(&self, text: &Text, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        let written = text.get_ref();
        let help = format!(
            "write a whole number with its unit, KiB, MiB or GiB, from \"{}MiB\" to \"{}MiB\"",
            range.start() / MIB,
            range.end() / MIB
        );
        match size(written) {
            Some(bytes) if range.contains(&bytes) => Ok(bytes),
            Some(_) => Err(self.error(text.span(), format!("`{}` is out of range", shown(written)), &help)),
            None => Err(self.error(text.span(), format!("`{}` is no size", shown(written)), &help)),
        }
    }

    pub(super) fn drift(&self, text: &Text) -> Result<Drift, ConfigError> {
        drift(text.get_ref()).filter(|drift| drift.ppm <= DRIFT_MAX_PPM).ok_or_else(|| {
            let what = format!("`{}` is no drift", shown(text.get_ref()));
            self.error(
                text.span(),
                what,
                "write a percentage from \"0%\" to \"20%\", such as \"1%\" or \"0.5%\"",
            )
        })
    }

    pub(super) fn number<T: TryFrom<i64>>(
        &self,
        number: &Number,
        range: RangeInclusive<i64>,
        what: &str,
    ) -> Result<T, ConfigError> {
        let value = *number.get_ref();
        range.contains(&value).then_some(value).and_then(|value| T::try_from(value).ok()).ok_or_else(|| {
            let help = format!("write a number from {} to {}", range.start(), range.end());
            self.error(number.span(), format!("{what} {value} is out of range"), help)
        })
    }

    /// A name that can stand in a topic, a unit's name and a file's name.
    pub(super) fn label(&self, text: &Text, what: &str) -> Result<String, ConfigError> {
        let name = text.get_ref();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=LABEL_MAX).contains(&name.len()) && name.bytes().all(allowed) {
            return Ok(name.clone());
        }
        let what = format!("`{}` cannot be the name of a {what}", shown(name));
        Err(self.error(text.span(), what, "use 1 to 64 letters, digits, dots, underscores and hyphens"))
    }

    pub(super) fn choice<T: Copy>(
        &self,
        text: &Text,
        what: &str,
        choices: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        choices.iter().find(|(name, _)| name == text.get_ref()).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            let what = format!("unknown {what} `{}`", shown(text.get_ref()));
            self.error(text.span(), what, format!("write {}", names.join(" or ")))
        })
    }

    /// What a name refers to, among what is configured.
    pub(super) fn reference<'v, T>(
        &self,
        text: &Text,
        what: &str,
        values: &'v [T],
        name: impl Fn(&T) -> &str,
    ) -> Result<&'v T, ConfigError> {
        values.iter().find(|value| name(value) == text.get_ref()).ok_or_else(|| {
            let known: Vec<&str> = values.iter().map(&name).collect();
            let help = if known.is_empty() {
                format!("add a [[{what}]] of that name")
            } else {
                format!("add a [[{what}]] of that name, or write one of: {}", known.join(", "))
            };
            self.error(text.span(), format!("there is no {what} `{}`", shown(text.get_ref())), help)
        })
    }

    pub(super) fn address(&self, text: &Text, what: &str) -> Result<SocketAddr, ConfigError> {
        let help = "write a numeric address with its port, such as \"10.0.0.1:7411\" or \"[fd00::1]:7411\"; \
                    a name would need a resolver in the middle of an incident";
        let Ok(address) = text.get_ref().parse::<SocketAddr>() else {
            return Err(self.error(text.span(), format!("`{}` is no {what}", shown(text.get_ref())), help));
        };
        if address.ip().is_unspecified() || address.ip().is_multicast() || address.port() == 0 {
            return Err(self.error(text.span(), format!("{address} names no single {what}"), help));
        }
        Ok(address)
    }

    pub(super) fn absolute(&self, text: &Text) -> Result<PathBuf, ConfigError> {
        let written = text.get_ref();
        if !written.starts_with('/') || written.contains('\0') {
            let what = format!("`{}` is no absolute path", shown(written));
            return Err(self.error(text.span(), what, "write the whole path, from the first slash"));
        }
        Ok(PathBuf::from(written))
    }
}

/// A value as a message shows it: short, and without what would act on a terminal.
pub(super) fn shown(text: &str) -> String {
    printable(text, 60)
}

/// At most `max` characters of a text, none of which a terminal obeys.
fn printable(text: &str, max: usize) -> String {
    let mut shown: String =
        text.chars().take(max).map(|char| if char.is_control() { '?' } else { char }).collect();
    if text.chars().count() > max {
        shown.push_str("...");
    }
    shown
}

/// `200ms`, `1s`, `10min`, `2h`; also with one space before the unit.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit.strip_prefix(' ').unwrap_or(unit) {
        "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).map(Duration)
}

/// `64MiB`; also with one space before the unit.
fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit.strip_prefix(' ').unwrap_or(unit) {
        "KiB" => 1024,
        "MiB" => MIB,
        "GiB" => 1024 * MIB,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A percentage with at most four digits after the point, so that it is a whole number of ppm.
fn drift(text: &str) -> Option<Drift> {
    let number = text.strip_suffix('%')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 4 {
        return None;
    }
    let part = format!("{part:0<4}").parse::<u32>().ok()?;
    let ppm = whole.parse::<u32>().ok()?.checked_mul(10_000)?.checked_add(part)?;
    Some(Drift { ppm })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_a_whole_number_with_its_unit() {
        for (text, ms) in [("200ms", 200), ("1s", 1000), ("10 min", 600_000), ("2h", 7_200_000), ("0s", 0)] {
            assert_eq!(duration(text), Some(Duration(ms)), "{text}");
        }
        for text in ["", "1", "s", "1.5s", "-1s", "1  s", "1S", "99999999999999999999s", "1sx", "１s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_is_a_whole_number_with_its_unit() {
        for (text, bytes) in [("1KiB", 1024), ("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("0MiB", 0)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "1", "MiB", "64MB", "64M", "1.5MiB", "-1MiB", "1  MiB", "99999999999999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn a_drift_is_a_percentage() {
        for (text, ppm) in [("1%", 10_000), ("0.5%", 5_000), ("0%", 0), ("0.0001%", 1), ("5.25%", 52_500)] {
            assert_eq!(drift(text), Some(Drift { ppm }), "{text}");
        }
        for text in ["", "1", "%", ".5%", "1.%", "0.00001%", "-1%", "1e3%"] {
            assert_eq!(drift(text), None, "{text}");
        }
    }
}
