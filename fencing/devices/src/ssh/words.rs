//! What the ssh client says when no login comes about, and what a shell on the host answers. Pure.

use palisade_ladder::{Failure, Identity};

use crate::text::clean;

/// Why no shell was had: the client's words, with which it ended by itself.
pub(crate) fn no_login(words: &str, known_as: &str, known_hosts: &str) -> Failure {
    let lines = || {
        words.lines().map(|line| line.trim().trim_start_matches('@').trim()).filter(|line| !line.is_empty())
    };
    // The last line says why; those before it may tell more, at length.
    let all = match lines().collect::<Vec<_>>().split_last() {
        None => String::new(),
        Some((last, [])) => clean(last),
        Some((last, before)) => clean(&format!("{last} ({})", before.join("; "))),
    };
    let says = |part: &str| words.contains(part);
    // SAFE-4: a key that is not the pinned one, or of a kind of which none is pinned, is another host's.
    if says("Host key verification failed") {
        let fingerprint = words.split_whitespace().find(|word| word.starts_with("SHA256:"));
        let fingerprint = fingerprint.map(|word| word.trim_end_matches('.'));
        let kind = lines().find_map(|line| line.strip_prefix("No ")?.split_once(" host key is known"));
        let found = match (fingerprint, kind) {
            (Some(fingerprint), _) => format!("another host key, {}", clean(fingerprint)),
            (None, Some((kind, _))) => {
                format!(
                    "a host key of kind {}, of which none stands there: compare it with the host's own, and add it",
                    clean(kind)
                )
            }
            (None, None) => format!("a host key that does not stand there: {all}"),
        };
        let expected = Identity(format!("the host key of {known_as} in {known_hosts}"));
        return Failure::WrongIdentity { expected, found: Identity(clean(&found)) };
    }
    if says("Permission denied") || says("Too many authentication failures") {
        let way_out = "the public key belongs into that user's authorized_keys";
        return Failure::LoginRefused { at: format!("ssh: {all}; {way_out}") };
    }
    if says("banner line")
        || says("remote protocol version")
        || says("Bad packet length")
        || says("Protocol major")
    {
        return Failure::Garbage { detail: format!("ssh: {all}") };
    }
    Failure::Unreachable {
        error: format!("ssh: {}", if all.is_empty() { "the connection was closed" } else { &all }),
    }
}

/// Where the programs of a host are, and their words in English.
const ENVIRONMENT: &str =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C; export PATH LC_ALL";

/// What one script came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its exit status.
    pub(crate) status: u8,
    /// What it printed.
    pub(crate) output: String,
    /// What it complained.
    pub(crate) errors: String,
}

/// A script with what tells its end, and carries its exit status and its complaints. The shell reads it whole before it does any of
/// it, so that half a script does nothing.
pub(crate) fn framed(script: &str, mark: &str) -> String {
    format!(
        "{ENVIRONMENT}\npalisade() {{\n{script}\n}}\n\
         {{ e=$(palisade </dev/null 2>&1 >&3 3>&-); s=$?; }} 3>&1; printf '\\n{mark} %s\\n%s\\n{mark}.\\n' \"$s\" \"$e\"\n"
    )
}

/// The line that ends an answer.
pub(crate) fn last_line(mark: &str) -> String {
    format!("\n{mark}.\n")
}

/// Reads a whole answer, up to its last line. `None`: it is none.
pub(crate) fn answer(text: &str, mark: &str) -> Option<Answer> {
    let text = text.strip_suffix(&last_line(mark))?;
    let (output, rest) = text.split_once(&format!("\n{mark} "))?;
    let (status, errors) = rest.split_once('\n')?;
    Some(Answer {
        status: status.parse().ok()?,
        output: output.to_owned(),
        errors: errors.trim_end().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_says_is_told_apart() {
        let failure = |words: &str| no_login(words, "[10.0.0.1]:2222", "/k");
        let changed = "@@@@@\n@  WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!  @\n@@@@@\nThe fingerprint for the ED25519 key sent \
                       by the remote host is\nSHA256:abc.\nHost key verification failed.\n";
        let Failure::WrongIdentity { expected, found } = failure(changed) else { panic!("SAFE-4") };
        assert_eq!(expected.0, "the host key of [10.0.0.1]:2222 in /k");
        assert_eq!(found.0, "another host key, SHA256:abc");
        let unknown = "No RSA host key is known for x and you have requested strict checking.\r\nHost key verification failed.\r\n";
        let Failure::WrongIdentity { found, .. } = failure(unknown) else { panic!("SAFE-4") };
        assert!(found.0.contains("RSA"), "{found}");
        let denied = failure("x@10.0.0.1: Permission denied (publickey).\r\n");
        let Failure::LoginRefused { at } = denied else { panic!("{denied}") };
        assert!(at.starts_with("ssh: x@10.0.0.1: Permission denied (publickey).; "), "{at}");
        let garbage = failure(
            "kex_exchange_identification: banner line contains invalid characters\r\nbanner exchange: failed",
        );
        assert!(matches!(garbage, Failure::Garbage { .. }));
        for words in ["ssh: connect to host 10.0.0.1 port 22: Connection refused", ""] {
            assert!(matches!(failure(words), Failure::Unreachable { .. }));
        }
    }

    #[test]
    fn only_a_whole_answer_is_one() {
        let whole = "out\n\nM 3\nwhy\n\nM.\n";
        let read = Answer { status: 3, output: "out\n".to_owned(), errors: "why".to_owned() };
        assert_eq!(answer(whole, "M"), Some(read));
        for len in 0..whole.len() {
            assert_eq!(answer(&whole[..len], "M"), None, "{len}");
        }
        for other in ["\nM 0\nwhyM.\n", "\nM x\n\nM.\n", "\nN 0\n\nM.\n", "\nM 0\n\nM.\nmore"] {
            assert_eq!(answer(other, "M"), None);
        }
    }
}
