//! The operators' words in the records, and whose signature is under each.

use palisade_core::config::Operator;
use palisade_core::record::Event;

use crate::afar::written::{PURPOSE, Written, split};
use crate::api::why::Entry;
use crate::statement::{self, Refusal, Statement};

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
        let (text, signatures) = split(&stated);
        let order = Written::parse(text).ok();
        let purpose = if order.is_some() { PURPOSE } else { statement::NAMESPACE };
        let (host, checked) = match order {
            Some(order) => (order.about.clone(), format!("order from afar: {}", order.words())),
            None => {
                let parsed = Statement::parse(text).map_err(|refusal| (at, refusal.to_string()))?;
                (parsed.host, parsed.checked)
            }
        };
        let (mut signers, mut unknown_key) = (Vec::new(), false);
        for signature in signatures {
            match statement::signer(purpose, operators, text, signature) {
                Ok(operator) => signers.push(operator.name()),
                Err(Refusal::NoOperator) => unknown_key = true,
                Err(refusal) => return Err((at, refusal.to_string())),
            }
        }
        let signer = (!signers.is_empty()).then(|| signers.join(" and "));
        words.push(Word { n: entry.n, host, checked, signer, unknown_key });
    }
    Ok(words)
}
