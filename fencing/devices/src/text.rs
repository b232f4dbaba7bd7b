//! Words from outside.

/// The most characters of them that are passed on.
pub(crate) const WORDS_MAX: usize = 200;

/// Short, and without what would act on a terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect()
}
