//! The operators' words in the records, and whose signature is under each.

use palisade_core::config::Operator;
use palisade_core::record::Event;

use crate::api::why::Entry;
use crate::statement::{self, Refusal, Statement};

/// Where a signature begins in what the journal keeps.
const SIGNATURE: &str = "-----BEGIN SSH SIGNATURE-----";

/// What an operator stated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// The record.
    pub(crate) n: u64,
    /// Of which host, and what was checked.
    pub(crate) host: String,
    pub(crate) checked: String,
    /// Whose signature it is; `None`: nobody signed.
    pub(crate) signer: Option<String>,
    /// Signed, but by a key that was not given: whose word it is cannot be told.
    pub(crate) unknown_key: bool,
}

/// Every statement. A signature that does not fit the words above it is an error, at the place of its record.
pub(crate) fn words(entries: &[Entry], operators: &[Operator]) -> Result<Vec<Word>, (usize, String)> {
    let mut words = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let Ok(Event::Operator { statement: Some(stated), .. }) = serde_json::from_value(entry.event.clone())
        else {
            continue;
        };
        let (text, signature) = match stated.find(SIGNATURE) {
            Some(begins) => (stated.get(..begins).unwrap_or_default(), stated.get(begins..)),
            None => (stated.as_str(), None),
        };
        let parsed = Statement::parse(text).map_err(|refusal| (at, refusal.to_string()))?;
        let (signer, unknown_key) =
            match signature.map(|signature| statement::signer(operators, text, signature)) {
                None => (None, false),
                Some(Ok(operator)) => (Some(operator.name().to_owned()), false),
                Some(Err(Refusal::NoOperator)) => (None, true),
                Some(Err(refusal)) => return Err((at, refusal.to_string())),
            };
        words.push(Word { n: entry.n, host: parsed.host, checked: parsed.checked, signer, unknown_key });
    }
    Ok(words)
}
