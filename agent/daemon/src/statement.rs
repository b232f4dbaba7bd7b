//! An operator's statement that a host is dead and can do no more harm: a text of a few lines that a person can read, and a signature
//! over it that `ssh-keygen -Y sign` makes and `ssh-keygen -Y verify` checks (OpenSSH, PROTOCOL.sshsig), so that the journal still
//! shows years later who said what.
//!
//! Reads what the text says, and whose signature it is. Never: whether a word counts; that is the engine's, which refuses one that
//! nobody signed where operators are named, and one about a host that somebody hears.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use palisade_core::config::Operator;
use ring::signature::{ED25519, UnparsedPublicKey};

/// What a signature is for (`ssh-keygen -Y sign -n`): one for something else is none of ours.
pub(crate) const NAMESPACE: &str = "palisade";
/// A statement that is older, or younger, is refused: an old one could be brought forward again.
const FRESH: Duration = Duration::from_secs(600);
/// Instead of a life that nobody knows.
pub(crate) const NO_LIFE: &str = "-";
const TITLE: &str = "palisade statement, version 1";
const SAYS: &str = "this host is dead and can do no more harm";
/// PROTOCOL.sshsig: `MAGIC_PREAMBLE`, and the only version.
const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
const ALGORITHM: &[u8] = b"ssh-ed25519";
pub(crate) const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

/// What is stated, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// The host's name.
    pub(crate) host: String,
    /// Its life, as `palisade status` shows it; `-` when none is known.
    pub(crate) life: String,
    /// What the operator looked at.
    pub(crate) checked: String,
    /// Why it is stated.
    pub(crate) reason: String,
    /// When, in whole seconds.
    pub(crate) time: SystemTime,
}

/// Why a statement is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The text is none that this version writes.
    NoStatement {
        /// The line that is missing or otherwise, from 1.
        line: usize,
    },
    /// It is about something else.
    Other {
        /// Which line.
        what: &'static str,
        /// What it says there.
        says: String,
        /// What is so here.
        here: String,
    },
    /// It was made too long ago, or in the future.
    Stale {
        /// When it was made.
        made: SystemTime,
        /// What time it is here.
        now: SystemTime,
    },
    /// What came for a signature is none.
    NoSignature {
        /// What is wrong.
        what: &'static str,
    },
    /// The key that signed is no operator's.
    NoOperator,
    /// The signature is not one over this text.
    Forged {
        /// Whose key it names.
        operator: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStatement { line } => {
                write!(f, "the statement's line {line} is not what it should be: take the `palisade` of this agent's version")
            }
            Self::Other { what, says, here } => {
                write!(f, "the statement is about {what} `{says}`, and here it is `{here}`: make another")
            }
            Self::Stale { made, now } => write!(
                f,
                "the statement was made at {}, and it is {} here: it is too old, or the clocks differ; make another, or set the clock",
                humantime::format_rfc3339_seconds(*made),
                humantime::format_rfc3339_seconds(*now)
            ),
            Self::NoSignature { what } => write!(f, "the signature cannot be read: {what}"),
            Self::NoOperator => {
                f.write_str("the key that signed is no operator's: add it to the configuration ([[operator]]), or take another")
            }
            Self::Forged { operator } => {
                write!(f, "the signature names the key of {operator} and is none of that key over this statement")
            }
        }
    }
}

impl std::error::Error for Refusal {}

impl Statement {
    /// The text that is signed.
    pub(crate) fn text(&self) -> String {
        let Self { cluster, host, life, checked, reason, time } = self;
        let time = humantime::format_rfc3339_seconds(*time);
        format!(
            "{TITLE}\ncluster: {cluster}\nhost: {host}\nlife: {life}\nsays: {SAYS}\nchecked: {checked}\nreason: {reason}\ntime: {time}\n"
        )
    }

    /// Reads the text back, letter by letter: another text says nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let names = ["", "cluster", "host", "life", "says", "checked", "reason", "time"];
        let [title, cluster, host, life, says, checked, reason, time] =
            fields(text, names).map_err(|line| Refusal::NoStatement { line })?;
        let time = humantime::parse_rfc3339(&time).map_err(|_| Refusal::NoStatement { line: 8 })?;
        let statement = Self { cluster, host, life, checked, reason, time };
        match () {
            () if title != TITLE => Err(Refusal::NoStatement { line: 1 }),
            () if says != SAYS => Err(Refusal::NoStatement { line: 5 }),
            () if statement.text() != text => Err(Refusal::NoStatement { line: 9 }),
            () => Ok(statement),
        }
    }

    /// SAFE-7: whether it is about this (the cluster, the host, its life as this agent knows it, and the reason), and made just now.
    pub(crate) fn is_about(&self, this: [&str; 4], now: SystemTime) -> Result<(), Refusal> {
        let says = [
            ("cluster", &self.cluster),
            ("host", &self.host),
            ("life", &self.life),
            ("reason", &self.reason),
        ];
        for ((what, says), here) in says.into_iter().zip(this) {
            if says != here {
                return Err(Refusal::Other { what, says: says.clone(), here: here.to_owned() });
            }
        }
        let apart = now.duration_since(self.time).unwrap_or_else(|error| error.duration());
        if apart > FRESH {
            return Err(Refusal::Stale { made: self.time, now });
        }
        Ok(())
    }
}

/// The values of a text's lines, each behind its name and a colon, or bare where the name is empty; or which line, from 1, is not so.
pub(crate) fn fields<const N: usize>(text: &str, names: [&str; N]) -> Result<[String; N], usize> {
    let mut lines = text.lines();
    let mut values = Vec::with_capacity(N);
    for (at, name) in names.into_iter().enumerate() {
        // Nothing that a terminal would obey: it is shown to people.
        let line = lines.next().filter(|line| !line.chars().any(char::is_control));
        let value = line.and_then(|line| match name {
            "" => Some(line),
            _ => line.strip_prefix(name)?.strip_prefix(": "),
        });
        values.push(value.filter(|value| !value.is_empty()).ok_or(at + 1)?.to_owned());
    }
    values.try_into().map_err(|_| N)
}

/// SAFE-7: the operator whose signature over `text` this is. `armoured` is what `ssh-keygen -Y sign -n PURPOSE` writes.
pub(crate) fn signer<'a>(
    purpose: &str,
    operators: &'a [Operator],
    text: &str,
    armoured: &str,
) -> Result<&'a Operator, Refusal> {
    let no = |what| Refusal::NoSignature { what };
    let body = armoured.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let body: String = body.ok_or(no("no SSH SIGNATURE block"))?.split_whitespace().collect();
    let blob = STANDARD.decode(body).map_err(|_| no("not base64"))?;
    let mut rest = blob.strip_prefix(MAGIC).ok_or(no("no SSHSIG"))?;
    let version = rest.split_first_chunk().map(|(version, after)| {
        rest = after;
        u32::from_be_bytes(*version)
    });
    if version != Some(VERSION) {
        return Err(no("of another version"));
    }
    let mut field = || string(&mut rest).ok_or(no("cut short"));
    let (key, namespace, _reserved, hash, signature) = (field()?, field()?, field()?, field()?, field()?);
    if namespace != purpose.as_bytes() {
        return Err(no("made for another purpose (ssh-keygen -Y sign -n)"));
    }
    let hashed = match hash {
        b"sha512" => ring::digest::digest(&ring::digest::SHA512, text.as_bytes()),
        b"sha256" => ring::digest::digest(&ring::digest::SHA256, text.as_bytes()),
        _ => return Err(no("with a hash that is neither sha512 nor sha256")),
    };
    let key = of_ed25519(key).ok_or(no("no Ed25519 key (ssh-keygen -t ed25519)"))?;
    let signature = of_ed25519(signature).ok_or(no("no Ed25519 signature"))?;
    let operator = operators.iter().find(|operator| operator.key() == key).ok_or(Refusal::NoOperator)?;
    let mut signed = MAGIC.to_vec();
    for part in [purpose.as_bytes(), b"", hash, hashed.as_ref()] {
        signed.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        signed.extend(part);
    }
    UnparsedPublicKey::new(&ED25519, key)
        .verify(&signed, signature)
        .map_err(|_| Refusal::Forged { operator: operator.name().to_owned() })?;
    Ok(operator)
}

/// An SSH `string` (RFC 4251, 5): its length in four bytes, then itself.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (bytes, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

/// The second part of a key or signature whose first part says `ssh-ed25519` (RFC 8709, 4 and 6).
fn of_ed25519(mut blob: &[u8]) -> Option<&[u8]> {
    let algorithm = string(&mut blob)?;
    let bytes = string(&mut blob)?;
    (algorithm == ALGORITHM && blob.is_empty()).then_some(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::{Command, Stdio};

    use palisade_core::config::Cluster;

    use super::*;
    use crate::testing::TempDir;

    const TEXT: &str = "palisade statement, version 1\ncluster: edge-7\nhost: b\nlife: b/0102030405060708\n\
                        says: this host is dead and can do no more harm\nchecked: both power cords are out\n\
                        reason: its BMC burnt\ntime: 2026-11-29T07:00:00Z\n";

    fn statement() -> Statement {
        let words = ["edge-7", "b", "b/0102030405060708", "both power cords are out", "its BMC burnt"];
        let [cluster, host, life, checked, reason] = words.map(str::to_owned);
        let time = humantime::parse_rfc3339("2026-11-29T07:00:00Z").unwrap();
        Statement { cluster, host, life, checked, reason, time }
    }

    #[test]
    fn the_text_is_written_and_read_letter_by_letter() {
        assert_eq!(statement().text(), TEXT);
        assert_eq!(Statement::parse(TEXT), Ok(statement()));
        for (from, to, line) in [
            ("version 1", "version 2", 1),
            ("cluster: edge-7\n", "", 2),
            ("host: b", "host: ", 3),
            ("dead", "fine", 5),
            ("power cords", "\u{1b}[2J", 6),
            ("checked:", "checked", 6),
            ("2026-11-29", "yesterday", 8),
            ("00Z\n", "00.5Z\n", 9),
            ("00Z\n", "00Z\nand more\n", 9),
            ("00Z\n", "00Z", 9),
        ] {
            let other = TEXT.replacen(from, to, 1);
            assert_eq!(Statement::parse(&other), Err(Refusal::NoStatement { line }), "{other}");
        }
    }

    /// SAFE-7
    #[test]
    fn it_counts_for_what_it_names_and_for_ten_minutes() {
        let this = ["edge-7", "b", "b/0102030405060708", "its BMC burnt"];
        let made = statement().time;
        for seconds in [0, 599] {
            let apart = Duration::from_secs(seconds);
            assert_eq!(statement().is_about(this, made + apart), Ok(()));
            assert_eq!(statement().is_about(this, made - apart), Ok(()));
        }
        let hour = Duration::from_secs(3600);
        for now in [made + hour, made - hour] {
            let stale = statement().is_about(this, now).unwrap_err();
            assert_eq!(stale, Refusal::Stale { made, now });
            assert!(
                stale.to_string().contains("2026-11-29T07:00:00Z")
                    && stale.to_string().contains("set the clock")
            );
        }
        for at in 0..this.len() {
            let mut other = this;
            other[at] = "x";
            let refused = statement().is_about(other, made).unwrap_err();
            assert!(matches!(&refused, Refusal::Other { here, .. } if here == "x"), "{refused}");
        }
    }

    /// A key of this kind in `dir`, and the line of its public part.
    pub(crate) fn key(dir: &TempDir, name: &str, kind: &str) -> String {
        let file = dir.path().join(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-C", name, "-t", kind, "-f"])
            .arg(&file)
            .status();
        assert!(made.expect("ssh-keygen (package openssh-client)").success());
        std::fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned()
    }

    /// What the real `ssh-keygen` makes of a text.
    pub(crate) fn sign(dir: &TempDir, name: &str, namespace: &str, text: &str) -> String {
        let message = dir.path().join("message");
        std::fs::write(&message, text).unwrap();
        let signed = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(dir.path().join(name))
            .stdin(std::fs::File::open(&message).unwrap())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(signed.status.success());
        String::from_utf8(signed.stdout).unwrap()
    }

    /// Two hosts, and these operators.
    pub(crate) fn configuration(keys: &[(&str, &str)]) -> String {
        let mut file = String::from(
            "[cluster]\nname = \"edge-7\"\nkeys = [ { id = 1, file = \"/etc/palisade/cluster.key\" } ]\n",
        );
        for id in 0..2 {
            file.push_str(&format!(
                "[[host]]\nid = {id}\nname = \"h{id}\"\nmachine = \"4c4c4544-0051-3510-8052-b4c04f4d313{id}\"\n\
                 links = [\"10.0.0.{id}:7411\"]\n"
            ));
        }
        for (name, key) in keys {
            file.push_str(&format!("[[operator]]\nname = \"{name}\"\nkey = \"{key}\"\n"));
        }
        file
    }

    fn operators(keys: &[(&str, &str)]) -> Vec<Operator> {
        Cluster::parse(&configuration(keys), "test").unwrap().operators().to_vec()
    }

    /// SAFE-7
    #[test]
    fn a_signature_of_ssh_keygen_names_its_operator_and_no_other_does() {
        let dir = TempDir::new();
        let (anna, bert) = (key(&dir, "anna", "ed25519"), key(&dir, "bert", "ed25519"));
        key(&dir, "mallory", "ed25519");
        key(&dir, "old", "rsa");
        let known = operators(&[("anna", &anna), ("bert", &bert)]);
        let by = |name: &str| sign(&dir, name, NAMESPACE, TEXT);
        for name in ["anna", "bert"] {
            assert_eq!(signer(NAMESPACE, &known, TEXT, &by(name)).unwrap().name(), name);
        }
        let other = TEXT.replacen("host: b", "host: c", 1);
        let forged = signer(NAMESPACE, &known, &other, &by("anna")).unwrap_err();
        assert_eq!(forged, Refusal::Forged { operator: "anna".to_owned() });
        assert_eq!(signer(NAMESPACE, &known, TEXT, &by("mallory")), Err(Refusal::NoOperator));
        let no = |what| Err(Refusal::NoSignature { what });
        assert_eq!(signer(NAMESPACE, &known, TEXT, &by("old")), no("no Ed25519 key (ssh-keygen -t ed25519)"));
        let for_git = sign(&dir, "anna", "git", TEXT);
        assert_eq!(
            signer(NAMESPACE, &known, TEXT, &for_git),
            no("made for another purpose (ssh-keygen -Y sign -n)")
        );
        assert_eq!(signer(NAMESPACE, &known, TEXT, "anna"), no("no SSH SIGNATURE block"));
        assert_eq!(
            signer(NAMESPACE, &known, TEXT, &format!("{BEGIN}\nU1NIU0lHAA==\n{END}")),
            no("of another version")
        );
        // The other way round: what the journal keeps, OpenSSH's own verifier takes.
        let signature = dir.path().join("signature");
        std::fs::write(&signature, by("bert")).unwrap();
        let allowed = dir.path().join("allowed");
        std::fs::write(&allowed, format!("bert {bert}\n")).unwrap();
        let verified = Command::new("ssh-keygen")
            .args(["-q", "-Y", "verify", "-n", NAMESPACE, "-I", "bert", "-f"])
            .arg(&allowed)
            .arg("-s")
            .arg(&signature)
            .stdin(std::fs::File::open(dir.path().join("message")).unwrap())
            .status()
            .unwrap();
        assert!(verified.success());
    }

    /// SAFE-7
    #[test]
    fn a_signature_cut_short_or_changed_anywhere_is_refused() {
        let dir = TempDir::new();
        let anna = key(&dir, "anna", "ed25519");
        let known = operators(&[("anna", &anna)]);
        let armoured = sign(&dir, "anna", NAMESPACE, TEXT);
        let body: String =
            armoured.trim().trim_start_matches(BEGIN).trim_end_matches(END).split_whitespace().collect();
        let blob = STANDARD.decode(body).unwrap();
        let wrap = |blob: &[u8]| format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(blob));
        assert!(signer(NAMESPACE, &known, TEXT, &wrap(&blob)).is_ok());
        for at in 0..blob.len() {
            assert!(signer(NAMESPACE, &known, TEXT, &wrap(&blob[..at])).is_err(), "cut at {at}");
            let mut changed = blob.clone();
            changed[at] ^= 1;
            assert!(signer(NAMESPACE, &known, TEXT, &wrap(&changed)).is_err(), "changed at {at}");
        }
    }
}
