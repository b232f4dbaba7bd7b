//! One guest: a QEMU process in a cgroup of its own, a serial port that takes commands, and QEMU's monitor.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::bmc::Bmc;
use super::files::Files;
use super::process::Process;
use super::qmp::Qmp;
use super::wire::Wire;
use super::{Kernel, Lio, Rack};
use crate::lab::shell::{self, Finished};
use crate::lab::trouble::{Context, Result, Trouble};
use crate::lab::wait;

/// A guest is up after 3 s, after 10 s where others compute as well.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// Commands in a guest take as long unless more is said.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// QEMU connects its sockets before anything else.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// QEMU ends at once when it refuses its arguments.
const END_LIMIT: Duration = Duration::from_secs(2);
/// A disk is there a fraction of a second after its driver.
const DISKS_LIMIT: Duration = Duration::from_secs(20);
/// What an error shows of the console.
const CONSOLE_LINES: usize = 15;

/// What a guest is made of.
#[derive(Debug)]
pub struct Hardware {
    /// What it boots.
    pub boots: Kernel,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// More words for the kernel's command line.
    pub kernel: String,
    /// More arguments for QEMU: devices, and what is behind them.
    pub devices: Vec<String>,
    /// Files beside the image's.
    pub files: Files,
    /// A TCP port of the guest that gets one at the rack's 127.0.0.1.
    pub forward: Option<u16>,
    paths: usize,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            boots: Kernel::Stable,
            memory_mib: 256,
            kernel: String::new(),
            devices: Vec::new(),
            files: Files::default(),
            forward: None,
            paths: 0,
        }
    }
}

impl Hardware {
    /// Adds arguments for QEMU.
    pub fn device<'a>(&mut self, arguments: impl IntoIterator<Item = &'a str>) -> &mut Self {
        self.devices.extend(arguments.into_iter().map(str::to_owned));
        self
    }

    /// Adds a path to a logical unit of a target: a SCSI disk whose commands QEMU passes on, under this initiator's name. Two
    /// paths are two I_T nexuses, also with one name: each session has an ISID of its own, and a new one after a restart.
    pub fn path(&mut self, target: &Lio, lun: usize, initiator: &str) -> &mut Self {
        if self.paths == 0 {
            self.device(["-device", "virtio-scsi-pci,id=scsi"]);
        }
        let node = format!("path{}", self.paths);
        self.paths += 1;
        let disk = format!(
            "driver=iscsi,node-name={node},transport=tcp,portal={},target={},lun={lun},initiator-name={initiator},cache.direct=on",
            target.portal(),
            target.iqn()
        );
        let device = format!("scsi-block,bus=scsi.0,drive={node},share-rw=on");
        self.device(["-blockdev", &disk, "-device", &device])
    }

    /// A card on the wire that all guests of a rack have in common, which is Ethernet in UDP packets to a group of the loopback.
    /// Its address ends with `number`.
    pub fn lan(&mut self, number: usize) -> &mut Self {
        self.device(["-netdev", "socket,id=lan,mcast=230.0.0.1:9999,localaddr=127.0.0.1"]);
        self.device([
            "-device",
            &format!("virtio-net-pci,netdev=lan,romfile=,mac=52:54:00:00:00:{number:02x}"),
        ])
    }

    /// A card by which the guest reaches what is on its rack's loopback, at 10.0.2.2.
    pub fn reaches_rack(&mut self) -> &mut Self {
        self.device(["-netdev", "user,id=rack", "-device", "virtio-net-pci,netdev=rack,romfile="])
    }

    /// Connects the board to its BMC; with the modules `ipmi_si` and `ipmi_devintf` the guest has `/dev/ipmi0`.
    ///
    /// # Errors
    /// QEMU cannot be asked what it calls the option.
    pub fn bmc(&mut self, bmc: &Bmc) -> Result<&mut Self> {
        // QEMU 7.2 crashes when it need not connect again; 9.2 has another name for it.
        let known = shell::run("qemu-system-x86_64", &["-help"])?;
        let again = if known.contains("reconnect-ms") { "reconnect-ms=500" } else { "reconnect=1" };
        let socket = format!("socket,id=bmc,host=127.0.0.1,port={},{again}", bmc.system_port());
        let device = "ipmi-bmc-extern,id=board,chardev=bmc";
        Ok(self.device(["-chardev", &socket, "-device", device, "-device", "isa-ipmi-kcs,bmc=board"]))
    }
}

/// A running guest; it is killed when dropped.
#[derive(Debug)]
pub struct Guest {
    name: String,
    dir: PathBuf,
    process: Process,
    qmp: Qmp,
    commands: Wire,
    /// A command that has not answered: the next answer would be its.
    unanswered: Option<String>,
    port: Option<u16>,
}

impl Guest {
    /// Starts a guest and waits until it takes commands.
    ///
    /// # Errors
    /// QEMU refuses the hardware, or the guest does not come up.
    pub fn start(rack: &Rack, name: &str, hardware: Hardware) -> Result<Self> {
        let dir = rack.dir().join(name);
        if dir.exists() {
            return Err(Trouble::new(format!("guest {name}: there is one of this name, or was one")));
        }
        shell::make_dir(&dir)?;
        let image = Rack::image(hardware.boots)?;
        let initrd = dir.join("initrd");
        fs::copy(image.join("initrd"), &initrd).during("copying the image")?;
        let mut appended = File::options().append(true).open(&initrd).during(initrd.display())?;
        appended.write_all(&hardware.files.finish()?).during(initrd.display())?;
        let words = format!(
            "console=ttyS0 rdinit=/init panic=-1 mitigations=off nokaslr tsc_early_khz=2000000 lpj=4000000 no_timer_check {}",
            hardware.kernel
        );
        let arguments = [
            ("-machine", "q35"),
            ("-accel", "tcg"),
            ("-cpu", "Nehalem,-spec-ctrl"),
            ("-smp", "1"),
            ("-display", "none"),
            ("-chardev", &format!("file,id=console,path={}", dir.join("console").display())),
            ("-serial", "chardev:console"),
            ("-chardev", &format!("socket,id=commands,path={}", dir.join("commands").display())),
            ("-serial", "chardev:commands"),
            ("-chardev", &format!("socket,id=monitor,path={}", dir.join("monitor").display())),
            ("-mon", "chardev=monitor,mode=control"),
            ("-m", &hardware.memory_mib.to_string()),
            ("-kernel", &image.join("vmlinux").display().to_string()),
            ("-initrd", &initrd.display().to_string()),
            ("-append", &words),
        ]
        .map(|(name, value)| [name.to_owned(), value.to_owned()]);
        let mut arguments: Vec<String> = arguments.into_iter().flatten().collect();
        arguments.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
        arguments.extend(hardware.devices);
        Self::boot(rack, name, &dir, arguments, hardware.forward).during(format!("guest {name}"))
    }

    fn boot(
        rack: &Rack,
        name: &str,
        dir: &Path,
        mut arguments: Vec<String>,
        forward: Option<u16>,
    ) -> Result<Self> {
        let listen = |socket: &str| {
            let path = dir.join(socket);
            let _ = fs::remove_file(&path);
            let listener = UnixListener::bind(&path).during(path.display())?;
            listener.set_nonblocking(true).during(path.display())?;
            Ok(listener)
        };
        let (commands, monitor) = (listen("commands")?, listen("monitor")?);
        let port = forward.map(|_| rack.port());
        if let (Some(inside), Some(port)) = (forward, port) {
            let network = format!("user,id=network,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:{inside}");
            let card = "virtio-net-pci,netdev=network,romfile=";
            arguments.extend(["-netdev", &network, "-device", card].map(str::to_owned));
        }
        let mut process = Process::start(rack, name, dir, "qemu-system-x86_64", &arguments)?;
        let commands = Wire::new(accept(&commands, &mut process)?);
        let monitor = accept(&monitor, &mut process)?;
        let qmp = Qmp::greet(monitor).map_err(|trouble| {
            // What it says when it ends comes after its sockets are closed.
            wait::until_quick(Instant::now() + END_LIMIT, || process.has_ended());
            process.said(trouble)
        })?;
        let (name, dir) = (name.to_owned(), dir.to_owned());
        let mut guest = Self { name, dir, process, qmp, commands, unanswered: None, port };
        match guest.commands.line(Instant::now() + BOOT_LIMIT) {
            Ok(Some(word)) if word == "ready" => Ok(guest),
            Ok(Some(word)) => Err(guest.with_console(format!("its init said: {word}"))),
            Ok(None) => Err(guest.with_console(format!("not up after {} s", BOOT_LIMIT.as_secs()))),
            Err(trouble) => Err(guest.with_console(trouble)),
        }
    }

    /// Runs one line of shell in the guest and gives its exit code and words. Nothing else runs meanwhile; end it with `&` to
    /// let it go on (and give it files for its words).
    ///
    /// # Errors
    /// The guest does not answer.
    pub fn call(&mut self, command: &str) -> Result<Finished> {
        self.call_within(COMMAND_LIMIT, command)
    }

    /// As [`Guest::call`], for what takes longer.
    ///
    /// # Errors
    /// The guest does not answer within `limit`.
    pub fn call_within(&mut self, limit: Duration, command: &str) -> Result<Finished> {
        if command.contains('\n') {
            return Err(Trouble::new(format!("guest {}: a command is one line: {command}", self.name)));
        }
        if let Some(before) = &self.unanswered {
            return Err(self.trouble(format!("it has not answered yet to: {before}")));
        }
        self.unanswered = Some(command.to_owned());
        let answer = self.commands.send(command).and_then(|()| self.answer(Instant::now() + limit));
        match answer {
            Ok(Some(done)) => {
                self.unanswered = None;
                Ok(done)
            }
            Ok(None) => Err(self.trouble(format!("no answer after {} s to: {command}", limit.as_secs()))),
            Err(trouble) => Err(self.trouble(format!("{command}: {trouble}"))),
        }
    }

    /// Runs one line of shell that has to succeed, and gives its words.
    ///
    /// # Errors
    /// The guest does not answer, or the exit code is not 0.
    pub fn run(&mut self, command: &str) -> Result<String> {
        let done = self.call(command)?;
        match done.code {
            Some(0) => Ok(done.text),
            code => Err(Trouble::new(format!(
                "guest {}: {command}: exit {code:?}: {}",
                self.name,
                done.text.trim()
            ))),
        }
    }

    /// Waits until a shell condition holds in the guest.
    ///
    /// # Errors
    /// It does not within `limit`, or the guest does not answer.
    pub fn wait_for(&mut self, limit: Duration, condition: &str) -> Result<()> {
        let looks = limit.as_millis() / 20;
        let command =
            format!("n=0; until {condition}; do [ $((n+=1)) -lt {looks} ] || exit 1; usleep 20000; done");
        let done = self.call_within(limit + COMMAND_LIMIT, &command)?;
        if done.code == Some(0) {
            return Ok(());
        }
        Err(self.trouble(format!("not so within {} s: {condition} {}", limit.as_secs(), done.text.trim())))
    }

    /// Loads the drivers of [`Hardware::path`]'s disks and waits for as many of them: `/dev/sda`, `/dev/sdb`, ...
    ///
    /// # Errors
    /// There are not so many.
    pub fn load_disks(&mut self, count: usize) -> Result<()> {
        self.run("for driver in virtio_pci virtio_scsi sd_mod sg; do modprobe $driver || exit 1; done")?;
        self.wait_for(DISKS_LIMIT, &format!("[ $(ls /dev/sd[a-z] 2>/dev/null | wc -l) -eq {count} ]"))
    }

    /// Stops QEMU where it is, as a host stands still that hangs: nothing of it moves, its connections stay.
    ///
    /// # Errors
    /// It does not freeze.
    pub fn freeze(&self) -> Result<()> {
        self.process.set_frozen(true)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not thaw.
    pub fn thaw(&self) -> Result<()> {
        self.process.set_frozen(false)
    }

    /// Sends a line of shell and does not wait for its answer: the guest is not expected to live on. No other may follow.
    ///
    /// # Errors
    /// The guest is gone already.
    pub fn order(&mut self, command: &str) -> Result<()> {
        self.unanswered = Some(command.to_owned());
        self.commands.send(command)
    }

    /// QEMU's monitor.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// The port at the rack's 127.0.0.1 that leads to [`Hardware::forward`].
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Waits until QEMU has ended by itself; says whether it has.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let process = &mut self.process;
        wait::until_quick(Instant::now() + limit, || process.has_ended())
    }

    /// What the kernel wrote to its console.
    #[must_use]
    pub fn console(&self) -> String {
        let bytes = fs::read(self.dir.join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn answer(&mut self, deadline: Instant) -> Result<Option<Finished>> {
        let Some(head) = self.commands.line(deadline)? else { return Ok(None) };
        let (code, length) = head.split_once(' ').during(format!("an answer's head in {head:?}"))?;
        let length = length.trim().parse().during(format!("a length in {head:?}"))?;
        let code = code.parse().during(format!("an exit code in {head:?}"))?;
        let words = self.commands.bytes(length, deadline)?;
        Ok(words
            .map(|words| Finished { code: Some(code), text: String::from_utf8_lossy(&words).into_owned() }))
    }

    fn trouble(&self, what: impl std::fmt::Display) -> Trouble {
        self.with_console(format!("guest {}: {what}", self.name))
    }

    fn with_console(&self, what: impl std::fmt::Display) -> Trouble {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        let last = lines.get(lines.len().saturating_sub(CONSOLE_LINES)..).unwrap_or_default().join("\n");
        self.process.said(format!("{what}\n{last}"))
    }
}

fn accept(listener: &UnixListener, process: &mut Process) -> Result<UnixStream> {
    let mut connected = None;
    wait::until_quick(Instant::now() + CONNECT_LIMIT, || {
        connected = listener.accept().ok();
        connected.is_some() || process.has_ended()
    });
    let Some((stream, _)) = connected else { return Err(process.said("QEMU did not start:")) };
    stream.set_nonblocking(false).during("a socket of QEMU's")?;
    Ok(stream)
}
