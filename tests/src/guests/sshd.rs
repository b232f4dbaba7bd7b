//! A guest's sshd, as this machine has it, at a card of its own: root's shell and the programs that scripts expect on any host.

use std::path::{Path, PathBuf};

use super::{Guest, Hardware, Rack};
use crate::lab::shell;
use crate::lab::trouble::{Context, Result};

/// Programs of a host beside busybox's, which are found first.
const PROGRAMS: [&str; 7] = ["cat", "find", "ln", "mkdir", "readlink", "rm", "rmdir"];
/// With an account of its own for what the network says, and one key for root.
const CONFIG: &str = "HostKey /etc/ssh/host_key\nAuthorizedKeysFile /etc/ssh/authorized_keys\nStrictModes no\nUsePAM no\nUseDNS no\n\
                      PidFile none\nPermitRootLogin prohibit-password\nPrintMotd no\n";
const ACCOUNTS: &str = "root:*:0:0::/:/usr/bin/sh\nsshd:*:101:101::/run/sshd:/bin/false\n";

/// Where and how to log in to a guest.
#[derive(Debug)]
pub struct Sshd {
    port: u16,
    folder: PathBuf,
}

impl Sshd {
    /// Puts it on a machine that is to be started. One of a rack.
    ///
    /// # Errors
    /// A program is missing, or no key can be made.
    pub fn install(rack: &Rack, hardware: &mut Hardware) -> Result<Self> {
        let (port, folder) = (rack.port(), rack.dir().join("login"));
        shell::make_dir(&folder)?;
        let path = |name: &str| folder.join(name).display().to_string();
        for key in ["id", "host_key"] {
            shell::run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", &path(key)])
                .during("ssh-keygen (package openssh-client)")?;
        }
        let host_key = shell::read(&folder.join("host_key.pub"))?;
        shell::write(&folder.join("known_hosts"), &format!("[127.0.0.1]:{port} {host_key}"), 0o600)?;

        let files = &mut hardware.files;
        let way_out = "`sh tests/setup.sh` installs what is missing";
        files.program(Path::new("/usr/sbin/sshd"), "/usr/sbin/sshd").during(way_out)?;
        // Not busybox's, which would take its own programs for all others.
        files.program(Path::new("/bin/sh"), "/usr/bin/sh").during(way_out)?;
        for program in PROGRAMS {
            files
                .program(&Path::new("/usr/bin").join(program), &format!("/usr/bin/{program}"))
                .during(way_out)?;
        }
        files.copy(&folder.join("host_key"), "/etc/ssh/host_key")?;
        files.copy(&folder.join("id.pub"), "/etc/ssh/authorized_keys")?;
        files.write("/etc/ssh/sshd_config", CONFIG.as_bytes(), 0o644)?;
        files.write("/etc/passwd", ACCOUNTS.as_bytes(), 0o644)?;
        files.write("/etc/group", b"root:x:0:\n", 0o644)?;
        let network = format!("user,id=login,restrict=on,net=10.0.3.0/24,hostfwd=tcp:127.0.0.1:{port}-:22");
        // Cards are numbered by their place: this one comes after all that have none of their own.
        hardware.device(["-netdev", &network, "-device", "virtio-net-pci,netdev=login,romfile=,addr=0x1c"]);
        Ok(Self { port, folder })
    }

    /// Starts it in that guest, where `card` is the one that was added.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, guest: &mut Guest, card: &str) -> Result<()> {
        guest.run(&format!(
            "mkdir -p /run/sshd && ip link set {card} up && ip addr add 10.0.3.15/24 dev {card} && /usr/sbin/sshd"
        ))?;
        Ok(())
    }

    /// Where it answers in the rack.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder with root's private key, `id`, and with `known_hosts`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
