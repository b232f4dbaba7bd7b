//! The login's six messages: Open Session and RAKP 1 to 4 (IPMI 2.0 sections 13.17 to 13.24, 13.31, 13.32). Pure.
//!
//! Both sides prove that they know the password without sending it: the BMC in message 2, we in message 3. Message 4
//! proves that both hold the same Kg.

use zeroize::Zeroizing;

use super::crypto::{Mac, SessionKeys, Suite};
use super::rmcp::Ignored;

/// The requester role byte's "name-only lookup" (section 13.20): the BMC finds the user by name, whatever the level.
const NAME_ONLY_LOOKUP: u8 = 0x10;

/// What one login knows from its start. `console_session` and `console_random` are fresh for each.
pub(super) struct Login<'a> {
    pub(super) suite: Suite,
    pub(super) user: &'a [u8],
    pub(super) password: &'a [u8],
    /// The BMC's own key; where none is set, the password stands for it (section 13.31).
    pub(super) kg: Option<&'a [u8]>,
    pub(super) privilege: u8,
    pub(super) tag: u8,
    pub(super) console_session: u32,
    pub(super) console_random: [u8; 16],
}

/// What the BMC said in message 2, once its proof held.
pub(super) struct Challenge {
    bmc_random: [u8; 16],
    /// The BMC's GUID, which that proof covers.
    pub(super) guid: [u8; 16],
}

/// Why a login step went no further. None of these is a datagram to pass over: each answers the step just sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// The BMC's RMCP+ status code (section 13.24, table 13-15).
    Status(u8),
    /// It answered with other algorithms than the ones asked.
    Algorithms([u8; 3]),
    /// Its proof does not hold: another password (message 2) or another Kg (message 4), or a forger.
    Proof,
}

/// A step's outcome that is no answer: wait on, or stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ignore(Ignored),
    Denied(Denied),
}

impl From<Ignored> for Step {
    fn from(ignored: Ignored) -> Self {
        Self::Ignore(ignored)
    }
}

impl Login<'_> {
    /// Open Session Request (section 13.17).
    pub(super) fn open_session(&self) -> Vec<u8> {
        let [authentication, integrity, confidentiality] = self.suite.algorithms();
        let mut body = vec![self.tag, self.privilege, 0, 0];
        body.extend_from_slice(&self.console_session.to_le_bytes());
        for (kind, algorithm) in [(0, authentication), (1, integrity), (2, confidentiality)] {
            body.extend_from_slice(&[kind, 0, 0, 8, algorithm, 0, 0, 0]);
        }
        body
    }

    /// Open Session Response (section 13.18): the BMC's session id.
    pub(super) fn opened(&self, body: &[u8]) -> Result<u32, Step> {
        let rest = self.answer_to_us(body)?;
        let garbage = Ignored::Garbage("open session response cut off");
        let (bmc_session, payloads) = rest.split_first_chunk().ok_or(garbage)?;
        let bmc_session = u32::from_le_bytes(*bmc_session);
        if bmc_session == 0 {
            return Err(Ignored::Garbage("BMC session id 0").into());
        }
        match payloads {
            [0, _, _, 8, a, _, _, _, 1, _, _, 8, i, _, _, _, 2, _, _, 8, c, _, _, _, ..] => {
                // A BMC that answers with another suite than asked is refused, never followed down.
                let chosen = [a & 0x3f, i & 0x3f, c & 0x3f];
                if chosen == self.suite.algorithms() {
                    Ok(bmc_session)
                } else {
                    Err(Step::Denied(Denied::Algorithms(chosen)))
                }
            }
            _ => Err(garbage.into()),
        }
    }

    /// RAKP message 1 (section 13.20).
    pub(super) fn message_1(&self, bmc_session: u32) -> Vec<u8> {
        let mut body = vec![self.tag, 0, 0, 0];
        body.extend_from_slice(&bmc_session.to_le_bytes());
        body.extend_from_slice(&self.console_random);
        body.extend_from_slice(&[self.role(), 0, 0, self.user_len()]);
        body.extend_from_slice(self.user);
        body
    }

    /// RAKP message 2 (section 13.21): checks that the BMC knows the password.
    pub(super) fn challenged(&self, bmc_session: u32, body: &[u8]) -> Result<Challenge, Step> {
        let rest = self.answer_to_us(body)?;
        let garbage = Ignored::Garbage("RAKP message 2 cut off");
        let (bmc_random, rest) = rest.split_first_chunk::<16>().ok_or(garbage)?;
        let (guid, proof) = rest.split_first_chunk::<16>().ok_or(garbage)?;
        let expected = self.suite.mac(
            self.password,
            &[
                &self.console_session.to_le_bytes(),
                &bmc_session.to_le_bytes(),
                &self.console_random,
                bmc_random,
                guid,
                &[self.role(), self.user_len()],
                self.user,
            ],
        );
        if !expected.matches(self.suite.digest_len(), proof) {
            return Err(Step::Denied(Denied::Proof));
        }
        Ok(Challenge { bmc_random: *bmc_random, guid: *guid })
    }

    /// RAKP message 3 (section 13.22): our own proof.
    pub(super) fn message_3(&self, bmc_session: u32, challenge: &Challenge) -> Vec<u8> {
        let mut body = vec![self.tag, 0, 0, 0];
        body.extend_from_slice(&bmc_session.to_le_bytes());
        let proof = self.suite.mac(
            self.password,
            &[
                &challenge.bmc_random,
                &self.console_session.to_le_bytes(),
                &[self.role(), self.user_len()],
                self.user,
            ],
        );
        body.extend_from_slice(proof.bytes());
        body
    }

    /// RAKP message 3 with a status and no proof: the BMC may forget the half-open session at once.
    pub(super) fn give_up(&self, bmc_session: u32) -> Vec<u8> {
        const INVALID_INTEGRITY_CHECK: u8 = 0x0f;
        let mut body = vec![self.tag, INVALID_INTEGRITY_CHECK, 0, 0];
        body.extend_from_slice(&bmc_session.to_le_bytes());
        body
    }

    /// RAKP message 4 (section 13.23): checks that the BMC holds the same keys, and leaves them.
    pub(super) fn finished(
        &self,
        bmc_session: u32,
        challenge: &Challenge,
        body: &[u8],
    ) -> Result<SessionKeys, Step> {
        let proof = self.answer_to_us(body)?;
        let session_integrity_key = self.session_integrity_key(challenge);
        let expected = self.suite.mac(
            session_integrity_key.bytes(),
            &[&self.console_random, &bmc_session.to_le_bytes(), &challenge.guid],
        );
        if !expected.matches(self.suite.tag_len(), proof) {
            return Err(Step::Denied(Denied::Proof));
        }
        Ok(SessionKeys::derive(self.suite, session_integrity_key.bytes()))
    }

    fn session_integrity_key(&self, challenge: &Challenge) -> Mac {
        self.suite.mac(
            self.kg.unwrap_or(self.password),
            &[&self.console_random, &challenge.bmc_random, &[self.role(), self.user_len()], self.user],
        )
    }

    /// Checks tag, status and our session id, which stand at the head of all three answers.
    fn answer_to_us<'b>(&self, body: &'b [u8]) -> Result<&'b [u8], Step> {
        match body {
            [tag, ..] if *tag != self.tag => Err(Ignored::NotOurs.into()),
            [_, 0, _, _, s0, s1, s2, s3, rest @ ..] => {
                if u32::from_le_bytes([*s0, *s1, *s2, *s3]) == self.console_session {
                    Ok(rest)
                } else {
                    Err(Ignored::NotOurs.into())
                }
            }
            // An error may come without the rest of the message, and some BMCs leave our session id zero in it.
            [_, _, _, _, s0, s1, s2, s3, ..]
                if ![0, self.console_session].contains(&u32::from_le_bytes([*s0, *s1, *s2, *s3])) =>
            {
                Err(Ignored::NotOurs.into())
            }
            [_, status, ..] if *status != 0 => Err(Step::Denied(Denied::Status(*status))),
            _ => Err(Ignored::Garbage("login answer cut off").into()),
        }
    }

    fn role(&self) -> u8 {
        NAME_ONLY_LOOKUP | self.privilege
    }

    fn user_len(&self) -> u8 {
        u8::try_from(self.user.len()).unwrap_or(u8::MAX)
    }
}

/// The words of table 13-15.
pub(super) fn status_name(status: u8) -> &'static str {
    match status {
        0x01 => "insufficient resources to create a session",
        0x02 => "invalid session id",
        0x03 => "invalid payload type",
        0x04 => "invalid authentication algorithm",
        0x05 => "invalid integrity algorithm",
        0x06 => "no matching authentication payload",
        0x07 => "no matching integrity payload",
        0x08 => "inactive session id",
        0x09 => "invalid role",
        0x0a => "unauthorized role or privilege level requested",
        0x0b => "insufficient resources to create a session at the requested role",
        0x0c => "invalid name length",
        0x0d => "unauthorized name",
        0x0e => "unauthorized GUID",
        0x0f => "invalid integrity check value",
        0x10 => "invalid confidentiality algorithm",
        0x11 => "no cipher suite match with proposed security algorithms",
        0x12 => "illegal or unrecognized parameter",
        _ => "status reserved by IPMI 2.0",
    }
}

/// A random number for a login. Fails only if the system has no randomness.
pub(super) fn random<const LEN: usize>() -> Result<Zeroizing<[u8; LEN]>, ring::error::Unspecified> {
    let mut bytes = Zeroizing::new([0; LEN]);
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut *bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BMC_SESSION: u32 = 0x0a0b_0c0d;

    fn login(suite: Suite) -> Login<'static> {
        Login {
            suite,
            user: b"admin",
            password: b"secret",
            kg: None,
            privilege: 3,
            tag: 0x7e,
            console_session: 0x0102_0304,
            console_random: [0x11; 16],
        }
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    /// RAKP 2, RAKP 3, SIK and RAKP 4 as tests/peers/golden_rmcp.py computes them.
    fn golden(suite: Suite) -> Vec<Vec<u8>> {
        match suite {
            Suite::Three => include_str!("golden/rakp_suite_3.hex"),
            Suite::Seventeen => include_str!("golden/rakp_suite_17.hex"),
        }
        .lines()
        .map(bytes)
        .collect()
    }

    fn message_2(suite: Suite) -> Vec<u8> {
        let mut body = bytes("7e00000004030201");
        body.extend([0x22; 16]);
        body.extend([0x33; 16]);
        body.extend(&golden(suite)[0]);
        body
    }

    #[test]
    fn requests_are_golden() {
        assert_eq!(
            login(Suite::Three).open_session(),
            bytes("7e03000004030201000000080100000001000008010000000200000801000000")
        );
        assert_eq!(
            login(Suite::Seventeen).open_session(),
            bytes("7e03000004030201000000080300000001000008040000000200000801000000")
        );
        let message_1 = login(Suite::Three).message_1(BMC_SESSION);
        assert_eq!(message_1[..8], bytes("7e0000000d0c0b0a")[..]);
        assert_eq!(message_1[8..24], [0x11; 16]);
        assert_eq!(message_1[24..], bytes("1300000561646d696e")[..], "role: operator, by name only");
    }

    #[test]
    fn a_whole_login_with_golden_proofs() {
        for suite in [Suite::Three, Suite::Seventeen] {
            let login = login(suite);
            let golden = golden(suite);
            let challenge = login.challenged(BMC_SESSION, &message_2(suite)).ok().unwrap();
            assert_eq!(challenge.guid, [0x33; 16]);
            assert_eq!(login.message_3(BMC_SESSION, &challenge)[8..], golden[1][..]);
            assert_eq!(login.session_integrity_key(&challenge).bytes(), &golden[2][..]);
            let mut message_4 = bytes("7e00000004030201");
            message_4.extend(&golden[3]);
            assert!(login.finished(BMC_SESSION, &challenge, &message_4).is_ok());
            let other_kg = Login { kg: Some(b"other"), ..login };
            let denied = other_kg.finished(BMC_SESSION, &challenge, &message_4).err();
            assert_eq!(denied, Some(Step::Denied(Denied::Proof)), "wrong Kg shows in message 4");
        }
    }

    #[test]
    fn a_wrong_password_shows_in_message_2() {
        let wrong = Login { password: b"Secret", ..login(Suite::Three) };
        let denied = wrong.challenged(BMC_SESSION, &message_2(Suite::Three)).err();
        assert_eq!(denied, Some(Step::Denied(Denied::Proof)));
    }

    #[test]
    fn another_suite_than_asked_is_refused() {
        let opened = |algorithms: [u8; 3]| {
            let [a, i, c] = algorithms;
            let mut body = bytes("7e000300040302010d0c0b0a");
            body.extend([0, 0, 0, 8, a, 0, 0, 0, 1, 0, 0, 8, i, 0, 0, 0, 2, 0, 0, 8, c, 0, 0, 0]);
            login(Suite::Seventeen).opened(&body)
        };
        assert_eq!(opened([3, 4, 1]), Ok(BMC_SESSION));
        for downgrade in [[1, 1, 1], [3, 0, 0], [3, 4, 0], [0, 0, 0], [3, 4, 2]] {
            assert_eq!(opened(downgrade), Err(Step::Denied(Denied::Algorithms(downgrade))));
        }
    }

    #[test]
    fn answers_to_others_are_passed_over_and_errors_are_not() {
        let login = login(Suite::Three);
        assert_eq!(
            login.opened(&bytes("7f00030004030201")),
            Err(Step::Ignore(Ignored::NotOurs)),
            "other tag"
        );
        assert_eq!(
            login.opened(&bytes("7e00030004030202")),
            Err(Step::Ignore(Ignored::NotOurs)),
            "other session"
        );
        assert_eq!(login.opened(&bytes("7e11")), Err(Step::Denied(Denied::Status(0x11))));
        assert_eq!(login.opened(&bytes("7e0d000004030201")), Err(Step::Denied(Denied::Status(0x0d))));
        assert_eq!(
            login.opened(&bytes("7e0d000009090909")),
            Err(Step::Ignore(Ignored::NotOurs)),
            "an error for another session"
        );
        assert!(matches!(login.opened(&[]), Err(Step::Ignore(Ignored::Garbage(_)))));
        assert!(matches!(
            login.opened(&bytes("7e0003000403020100000000")),
            Err(Step::Ignore(Ignored::Garbage(_)))
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_can_panic_or_log_in(tail in proptest::collection::vec(any::<u8>(), 0..120), real: bool) {
            let mut body = if real { bytes("7e00000004030201") } else { Vec::new() };
            body.extend(tail);
            let login = login(Suite::Seventeen);
            let _ = login.opened(&body);
            prop_assert!(login.challenged(BMC_SESSION, &body).is_err());
            let challenge = Challenge { bmc_random: [0; 16], guid: [0; 16] };
            prop_assert!(login.finished(BMC_SESSION, &challenge, &body).is_err());
        }

        #[test]
        fn a_cut_answer_never_passes(len in 0usize..72) {
            let whole = message_2(Suite::Seventeen);
            prop_assert_eq!(whole.len(), 72);
            prop_assert!(login(Suite::Seventeen).challenged(BMC_SESSION, &whole[..len]).is_err());
        }
    }
}
