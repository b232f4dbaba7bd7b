//! The recording's files: names, the next one, the bound on all of them.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Options, SEGMENTS_MAX};

/// The segments in `dir`, oldest first.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        if let Some(number) = number.and_then(|digits| digits.parse().ok()) {
            segments.push((number, entry.path()));
        }
    }
    segments.sort();
    Ok(segments)
}

/// Makes the next segment, and removes the oldest ones so that it has room within the limits.
pub(super) fn next(options: &Options) -> io::Result<(PathBuf, File)> {
    let dir = &options.dir;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    let mut kept = Vec::new();
    for (number, path) in list(dir)? {
        let bytes = fs::metadata(&path)?.len();
        kept.push((number, path, bytes));
    }
    let last = kept.last().map_or(0, |(number, ..)| *number);
    let mut total: u64 = kept.iter().map(|(.., bytes)| *bytes).sum();
    let mut count = kept.len();
    for (_, path, bytes) in &kept {
        // SAFE-12: the bound on all segments together.
        if total.saturating_add(options.segment_bytes) <= options.total_bytes && count < SEGMENTS_MAX {
            break;
        }
        fs::remove_file(path)?;
        total -= bytes;
        count -= 1;
    }
    let path = dir.join(format!("{:08}.seg", last + 1));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    Ok((path, file))
}
