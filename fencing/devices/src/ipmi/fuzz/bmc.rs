//! A BMC that follows a script: honest where the script is silent, and else late, deaf, damaged or lying.

use palisade_ladder::Reading;
use palisade_proto::fuzz::Bytes;

use super::super::Suite;
use super::super::crypto::SessionKeys;
use super::super::rmcp::{self, Payload};

/// As configured for the driver.
pub(super) const GUID: [u8; 16] = [0xa1; 16];
pub(super) const USER: &str = "admin";
pub(super) const PASSWORD: &[u8] = b"secret";
const BMC_RANDOM: [u8; 16] = [0x22; 16];
const CHASSIS: u8 = 0x00;
const APP: u8 = 0x06;

/// What it has said in answers that the driver must believe, since the last [`Told::default`].
#[derive(Default)]
pub(super) struct Told {
    /// Readings of the power.
    pub(super) readings: Vec<Reading>,
    /// Acknowledged orders: true is on.
    pub(super) acknowledged: Vec<bool>,
    /// Orders that came, each copy.
    pub(super) ordered: Vec<bool>,
}

/// One login that got as far as Open Session.
struct Login {
    tag: u8,
    console: [u8; 4],
    console_random: [u8; 16],
    role: u8,
    user: Vec<u8>,
}

pub(super) struct Bmc<'script> {
    script: Bytes<'script>,
    suite: Suite,
    guid: [u8; 16],
    /// The GUID of the configuration was said under a seal, or in a proven login.
    pub(super) named_itself: bool,
    pub(super) told: Told,
    power: bool,
    sessions: u8,
    sequence: u32,
    login: Option<Login>,
    keys: Option<SessionKeys>,
}

/// What becomes of one answer.
enum Turn {
    Honest,
    Silent,
    Twice,
    Damaged,
    Code,
    Lying,
    Noise,
}

impl<'script> Bmc<'script> {
    pub(super) fn new(suite: Suite, guid: [u8; 16], script: Bytes<'script>) -> Self {
        Self {
            script,
            suite,
            guid,
            named_itself: false,
            told: Told::default(),
            power: true,
            sessions: 0,
            sequence: 0,
            login: None,
            keys: None,
        }
    }

    /// What it sends back for one datagram.
    pub(super) fn hear(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let turn = match self.script.byte() {
            0x00..=0x8f => Turn::Honest,
            0x90..=0x9f => Turn::Silent,
            0xa0..=0xaf => Turn::Twice,
            0xb0..=0xbf => Turn::Damaged,
            0xc0..=0xcf => Turn::Code,
            0xd0..=0xef => Turn::Lying,
            0xf0..=0xff => Turn::Noise,
        };
        let Some(mut answer) = self.answer(datagram, &turn) else { return Vec::new() };
        match turn {
            Turn::Honest | Turn::Code | Turn::Lying => vec![answer],
            Turn::Silent => Vec::new(),
            Turn::Twice => vec![answer.clone(), answer],
            Turn::Damaged => {
                let at = usize::from(self.script.short()) % answer.len();
                answer[at] ^= self.script.byte().max(1);
                vec![answer]
            }
            Turn::Noise => vec![self.script.part().to_vec(), answer],
        }
    }

    fn answer(&mut self, datagram: &[u8], turn: &Turn) -> Option<Vec<u8>> {
        if let Ok(body) = rmcp::parse_login(Payload::OpenSessionRequest, datagram) {
            self.login = Some(Login {
                tag: body[0],
                console: body[4..8].try_into().ok()?,
                console_random: [0; 16],
                role: 0,
                user: Vec::new(),
            });
            self.sessions = self.sessions.wrapping_add(1).max(1);
            let [a, i, c] = self.suite.algorithms();
            let mut rest = vec![self.sessions, 7, 7, 7];
            rest.extend([0, 0, 0, 8, a, 0, 0, 0, 1, 0, 0, 8, i, 0, 0, 0, 2, 0, 0, 8, c, 0, 0, 0]);
            return self.login_answer(Payload::OpenSessionResponse, rest, turn);
        }
        if let Ok(body) = rmcp::parse_login(Payload::Rakp1, datagram) {
            let login = self.login.as_mut()?;
            login.console_random = body[8..24].try_into().ok()?;
            (login.role, login.user) = (body[24], body[28..].to_vec());
            let proof = self.proof_2()?;
            let rest = [&BMC_RANDOM[..], &self.guid, &proof].concat();
            return self.login_answer(Payload::Rakp2, rest, turn);
        }
        if let Ok(body) = rmcp::parse_login(Payload::Rakp3, datagram) {
            if body[1] != 0 {
                return None;
            }
            let rest = self.finish()?;
            return self.login_answer(Payload::Rakp4, rest, turn);
        }
        let (_, request) =
            rmcp::open(self.keys.as_ref()?, u32::from_le_bytes(self.bmc_session()), datagram).ok()?;
        self.execute(&request, turn)
    }

    fn bmc_session(&self) -> [u8; 4] {
        [self.sessions, 7, 7, 7]
    }

    fn login_answer(&mut self, payload: Payload, mut rest: Vec<u8>, turn: &Turn) -> Option<Vec<u8>> {
        let login = self.login.as_ref()?;
        let status = if matches!(turn, Turn::Code) { self.script.byte() } else { 0 };
        if matches!(turn, Turn::Lying) {
            rest = self.script.part().to_vec();
        }
        let mut body = vec![login.tag, status, 3, 0];
        body.extend_from_slice(&login.console);
        body.extend(rest);
        Some(rmcp::frame_login(payload, &body))
    }

    fn proof_2(&self) -> Option<Vec<u8>> {
        let login = self.login.as_ref()?;
        let user_len = [login.role, login.user.len() as u8];
        let (session, random) = (self.bmc_session(), login.console_random);
        let parts: [&[u8]; 7] =
            [&login.console, &session, &random, &BMC_RANDOM, &self.guid, &user_len, &login.user];
        Some(self.suite.mac(PASSWORD, &parts).bytes().to_vec())
    }

    /// The proof of message 4; from here on the session's keys hold.
    fn finish(&mut self) -> Option<Vec<u8>> {
        let login = self.login.as_ref()?;
        let user_len = [login.role, login.user.len() as u8];
        let parts: [&[u8]; 4] = [&login.console_random, &BMC_RANDOM, &user_len, &login.user];
        let key = self.suite.mac(PASSWORD, &parts);
        let proof = self.suite.mac(key.bytes(), &[&login.console_random, &self.bmc_session(), &self.guid]);
        self.keys = Some(SessionKeys::derive(self.suite, key.bytes()));
        self.named_itself |= self.guid == GUID;
        Some(proof.truncated(self.suite.tag_len()).to_vec())
    }

    fn execute(&mut self, request: &[u8], turn: &Turn) -> Option<Vec<u8>> {
        let [_, netfn, _, _, number, command, data @ ..] = request else { return None };
        let netfn = netfn >> 2;
        let mut answer = match (netfn, command) {
            (CHASSIS, 0x01) => vec![u8::from(self.power), 0, 0],
            (CHASSIS, 0x02) => {
                let on = data.first() == Some(&1);
                self.told.ordered.push(on);
                self.power = on;
                Vec::new()
            }
            (APP, 0x37) => self.guid.to_vec(),
            (APP, 0x3b) => vec![4],
            _ => Vec::new(),
        };
        let completion = if matches!(turn, Turn::Code) { self.script.byte() } else { 0 };
        if matches!(turn, Turn::Lying) {
            answer = self.script.part().iter().copied().take(64).collect();
        }
        self.note(netfn, *command, data, completion, &answer);
        let mut bytes = vec![0x81, (netfn + 1) << 2];
        bytes.push(sum(&bytes));
        let mut tail = vec![0x20, *number, *command, completion];
        tail.extend(answer);
        tail.push(sum(&tail));
        bytes.extend(tail);
        self.sequence += 1;
        let console = u32::from_le_bytes(self.login.as_ref()?.console);
        Some(rmcp::seal(self.keys.as_ref()?, console, self.sequence, [9; 16], &bytes))
    }

    /// What the driver may conclude from this answer.
    fn note(&mut self, netfn: u8, command: u8, data: &[u8], completion: u8, answer: &[u8]) {
        match (netfn, command, completion) {
            (CHASSIS, 0x01, 0) if answer.len() >= 3 => {
                self.told.readings.push(if answer[0] & 1 == 1 { Reading::On } else { Reading::Off });
            }
            (CHASSIS, 0x02, 0 | 0xcf) => self.told.acknowledged.push(data.first() == Some(&1)),
            (APP, 0x37, 0) if answer == GUID => self.named_itself = true,
            _ => {}
        }
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}
