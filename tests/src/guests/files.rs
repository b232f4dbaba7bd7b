//! Files that a guest finds at its start: an archive (cpio, "newc") that its kernel unpacks after the image.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::lab::shell;
use crate::lab::trouble::{Context, Result, Trouble};

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;

/// What a guest gets beside the image.
#[derive(Debug, Default)]
pub struct Files {
    archive: Vec<u8>,
    there: BTreeSet<PathBuf>,
    count: u32,
}

impl Files {
    /// A program of this machine at `path` in the guest, with the libraries that it is linked with.
    ///
    /// # Errors
    /// It, or one of its libraries, cannot be read.
    pub fn program(&mut self, program: &Path, path: &str) -> Result<&mut Self> {
        self.copy(program, path)?;
        let linked = shell::call("ldd", &[&program.display().to_string()])?;
        if linked.text.contains("not a dynamic executable") || linked.text.contains("statically linked") {
            return Ok(self);
        }
        for library in libraries(&linked.text).during(program.display())? {
            self.copy(Path::new(&library), &library)?;
        }
        Ok(self)
    }

    /// A file of this machine at `path` in the guest.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn copy(&mut self, file: &Path, path: &str) -> Result<&mut Self> {
        let content = fs::read(file).during(file.display())?;
        let mode = fs::metadata(file).during(file.display())?.permissions().mode();
        self.write(path, &content, mode & 0o777)
    }

    /// A folder of this machine at the same place in the guest, but for these below it; shared objects with their libraries.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn tree(&mut self, folder: &Path, but: &[&str]) -> Result<&mut Self> {
        for entry in fs::read_dir(folder).during(folder.display())? {
            let entry = entry.during(folder.display())?;
            let path = entry.path();
            let text = path.display().to_string();
            if but.iter().any(|but| entry.file_name().to_str() == Some(but)) {
                continue;
            }
            if path.is_dir() {
                self.tree(&path, but)?;
            } else if path.extension().is_some_and(|extension| extension == "so") {
                self.program(&path, &text)?;
            } else {
                self.copy(&path, &text)?;
            }
        }
        Ok(self)
    }

    /// A file with this content at `path` in the guest; the first one of several at one path stays.
    ///
    /// # Errors
    /// It is too big for the archive.
    pub fn write(&mut self, path: &str, content: &[u8], mode: u32) -> Result<&mut Self> {
        let path = Path::new(path.trim_start_matches('/'));
        let mut above: Vec<&Path> =
            path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()).collect();
        above.reverse();
        for directory in above {
            if self.there.insert(directory.to_owned()) {
                self.entry(directory, DIRECTORY, &[])?;
            }
        }
        if self.there.insert(path.to_owned()) {
            self.entry(path, REGULAR | mode, content)?;
        }
        Ok(self)
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry(Path::new("TRAILER!!!"), 0, &[])?;
        Ok(self.archive)
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        let name = path.to_str().during(format!("{}: a name in UTF-8", path.display()))?;
        let size = u32::try_from(content.len()).during(format!("{name}: its size"))?;
        self.count += 1;
        // inode, mode, uid, gid, links, time, size, device, node, length of the name with its zero, checksum (none).
        let header = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
            self.count,
            0,
            0,
            1,
            0,
            0,
            0,
            0,
            0,
            name.len() + 1,
            0
        );
        self.archive.extend(header.bytes());
        self.archive.extend(name.bytes());
        self.archive.push(0);
        self.align();
        self.archive.extend(content);
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        self.archive.resize(self.archive.len().next_multiple_of(4), 0);
    }
}

/// The files that `ldd` names: `libc.so.6 => /lib/.../libc.so.6 (0x...)`, or the loader alone.
fn libraries(text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.contains("not found") {
            return Err(Trouble::new(format!("ldd: {line}")));
        }
        let file = line.split_once("=> ").map_or(line, |(_, file)| file);
        if let Some(file) = file.split(" (0x").next().filter(|file| file.starts_with('/')) {
            found.push(file.to_owned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_every_directory_once_and_before_its_files() {
        let mut files = Files::default();
        files.write("/opt/a/one", b"1", 0o755).unwrap().write("/opt/a/two", b"22", 0o644).unwrap();
        files.write("/opt/a/two", b"again", 0o644).unwrap();
        let archive = files.finish().unwrap();
        assert_eq!(archive.len() % 4, 0);
        let text = String::from_utf8(archive).unwrap();
        let places: Vec<usize> = ["opt\0", "opt/a\0", "opt/a/one\0", "opt/a/two\0", "TRAILER!!!\0"]
            .map(|name| text.find(name).unwrap())
            .into();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(text.matches("070701").count(), 5);
    }

    #[test]
    fn libraries_are_read_from_ldd_and_a_missing_one_is_named() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            libraries(text).unwrap(),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
        let missing = libraries("\tlibsgutils2.so => not found\n").unwrap_err();
        assert!(missing.to_string().contains("libsgutils2.so"));
    }
}
