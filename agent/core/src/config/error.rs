//! How a mistake in the configuration reads: where it is, what is wrong, the way out.

use core::{fmt, ops::Range};

use super::contradiction::Contradiction;

/// The most characters of a line that a message shows.
const EXCERPT_MAX: usize = 120;

/// What a line says that may hold a secret, or a setting's name that is one.
pub(super) const SECRET_WORDS: [&str; 6] = ["passw", "kg", "key", "secret", "token", "community"];

/// A configuration that does not check. Displayed as a whole message of several lines, without a final newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub(super) Box<Mistake>);

/// The parts of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) file: String,
    pub(super) place: Option<Place>,
    pub(super) what: String,
    pub(super) also: Vec<String>,
    pub(super) help: String,
    pub(super) contradictions: Vec<Contradiction>,
}

impl ConfigError {
    /// Line and column, both from 1, the column in characters; `None` where no single place is to blame.
    #[must_use]
    pub fn line_column(&self) -> Option<(usize, usize)> {
        self.0.place.as_ref().map(|place| (place.line, place.column))
    }

    /// What is wrong, in one line and without the place.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// The time-outs that contradict one another (SAFE-10), if that is what is wrong.
    #[must_use]
    pub fn contradictions(&self) -> &[Contradiction] {
        &self.0.contradictions
    }

    /// The same without the line's text.
    pub(super) fn without_excerpt(mut self) -> Self {
        if let Some(place) = &mut self.0.place {
            place.excerpt = None;
        }
        self
    }

    /// The same without the line's text if the line may hold a secret.
    pub(super) fn without_excerpt_of_secret(self) -> Self {
        let excerpt = self.0.place.as_ref().and_then(|place| place.excerpt.as_deref());
        let may_hold = excerpt.is_some_and(|line| SECRET_WORDS.iter().any(|word| line.contains(word)));
        if may_hold { self.without_excerpt() } else { self }
    }

    /// The same with the line's text up to a byte of the whole text.
    pub(super) fn with_excerpt_until(mut self, text: &str, end: usize) -> Self {
        let start = text.get(..end).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        if let (Some(place), Some(part)) = (&mut self.0.place, text.get(start..end)) {
            place.excerpt = place.excerpt.is_some().then(|| excerpt(part));
        }
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.place {
            Some(place) => {
                write!(f, "{}:{}:{}: {}{place}", self.0.file, place.line, place.column, self.0.what)?
            }
            None => write!(f, "{}: {}", self.0.file, self.0.what)?,
        }
        for also in &self.0.also {
            write!(f, "\n  and: {also}")?;
        }
        write!(f, "\n  way out: {}", self.0.help)
    }
}

impl std::error::Error for ConfigError {}

/// A place in the text with the line that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    line: usize,
    column: usize,
    excerpt: Option<String>,
    carets: usize,
}

/// The start of a line, without what a terminal would obey.
fn excerpt(line: &str) -> String {
    line.chars().take(EXCERPT_MAX).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

impl Place {
    /// The place of a byte range; a range outside of the text is its end.
    pub(super) fn of(text: &str, span: &Range<usize>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line = 1 + before.matches('\n').count();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = 1 + before.get(line_start..).map_or(0, |part| part.chars().count());
        let whole = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or("");
        let marked = text
            .get(span.clone())
            .and_then(|part| part.lines().next())
            .map_or(0, |part| part.chars().count());
        let excerpt = excerpt(whole);
        let carets = marked.clamp(1, (excerpt.chars().count() + 1).saturating_sub(column).max(1));
        Self { line, column, excerpt: Some(excerpt), carets }
    }

    pub(super) fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(excerpt) = &self.excerpt else { return Ok(()) };
        let margin = self.line.to_string().len();
        write!(f, "\n{} | {excerpt}", self.line)?;
        if self.column <= EXCERPT_MAX + 1 {
            let indent = self.column.saturating_sub(1);
            write!(f, "\n{:margin$} | {:indent$}{}", "", "", "^".repeat(self.carets))?;
        }
        Ok(())
    }
}
