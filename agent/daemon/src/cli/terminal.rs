//! The operator's terminal: how large it is.

use std::io::IsTerminal;
use std::os::fd::AsRawFd;

/// What a terminal has that does not say.
pub(super) const COLUMNS: usize = 80;
/// See [`COLUMNS`].
pub(super) const ROWS: usize = 24;

nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);

/// Columns and rows of the terminal on standard output; `None` if that is none.
pub(super) fn size() -> Option<(usize, usize)> {
    let output = std::io::stdout();
    if !output.is_terminal() {
        return None;
    }
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open, and the kernel writes a `winsize` where one is.
    let asked = unsafe { window_size(output.as_raw_fd(), &raw mut size) };
    let known = |count: u16, otherwise: usize| if count == 0 { otherwise } else { usize::from(count) };
    Some(match asked {
        Ok(_) => (known(size.ws_col, COLUMNS), known(size.ws_row, ROWS)),
        Err(_) => (COLUMNS, ROWS),
    })
}

/// The text in lines of at most `width` characters, broken between words; a longer word stands alone.
pub(super) fn fold(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// The text, cut to `width` characters; that it was cut shows.
pub(super) fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('~');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_folded_between_words_and_clipped_where_it_must_be() {
        assert_eq!(fold("one two three", 7), ["one two", "three"]);
        assert_eq!(fold("incomprehensible", 4), ["incomprehensible"]);
        assert_eq!(fold("", 4), [""]);
        assert_eq!([clip("four", 4), clip("fives", 4)], ["four", "fiv~"]);
    }
}
