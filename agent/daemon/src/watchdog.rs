//! The hardware watchdog: opened, fed and disarmed when told to. When that may happen is the core's business; this module
//! never feeds on its own account, and it keeps away from a device that it could not stop again.
//!
//! Opening a watchdog device starts it, so what can be learnt without opening (the driver's options in sysfs) is checked
//! first. Setting a time-out feeds it, so an adopted device is only read.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;

/// WDIOF_MAGICCLOSE of linux/watchdog.h: the driver stops on a `V` before close.
const MAGIC_CLOSE: u32 = 0x0100;
/// The name under which systemd keeps the device's descriptor for our next process.
pub(crate) const STORED_NAME: &str = "watchdog";

/// Why the watchdog is not armed, or does not answer.
#[derive(Debug)]
pub(crate) enum WatchdogError {
    /// Another process has it.
    Owned {
        /// The device.
        device: PathBuf,
    },
    /// The driver cannot be stopped by closing it.
    NoMagicClose {
        /// The device.
        device: PathBuf,
    },
    /// The driver was told never to stop.
    NoWayOut {
        /// The device.
        device: PathBuf,
    },
    /// The driver runs with another time-out than configured.
    TimeoutDiffers {
        /// The device.
        device: PathBuf,
        /// As configured.
        wanted_s: u32,
        /// As the driver says.
        found_s: u32,
    },
    /// The driver acts before the time-out is over (some take 9 s off by default).
    Early {
        /// The device.
        device: PathBuf,
        /// So long before.
        pretimeout_s: u32,
    },
    /// The device refuses a step.
    Device {
        /// The device.
        device: PathBuf,
        /// Which step.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl fmt::Display for WatchdogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned { device } => write!(
                f,
                "{}: another process feeds it; if that is systemd, set RuntimeWatchdogSec=0 in /etc/systemd/system.conf and \
                 reboot",
                device.display()
            ),
            Self::NoMagicClose { device } => write!(
                f,
                "{}: its driver has no magic close, so a planned stop would reset the host; use another watchdog",
                device.display()
            ),
            Self::NoWayOut { device } => write!(
                f,
                "{}: its driver is loaded with nowayout, so a planned stop would reset the host; load it with nowayout=0",
                device.display()
            ),
            Self::TimeoutDiffers { device, wanted_s, found_s } => write!(
                f,
                "{}: time-out {wanted_s} s is configured, the driver has {found_s} s; configure what the driver can do",
                device.display()
            ),
            Self::Early { device, pretimeout_s } => write!(
                f,
                "{}: its driver interrupts the kernel {pretimeout_s} s before the time-out, so a host that is fed in time may fall; \
                 load it with pretimeout=0",
                device.display()
            ),
            Self::Device { device, step, source } => write!(f, "{}: {step}: {source}", device.display()),
        }
    }
}

impl std::error::Error for WatchdogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Device { source, .. } => Some(source),
            Self::Owned { .. }
            | Self::NoMagicClose { .. }
            | Self::NoWayOut { .. }
            | Self::TimeoutDiffers { .. }
            | Self::Early { .. } => None,
        }
    }
}

/// What an open watchdog device can be asked.
pub(crate) trait Device {
    /// The driver's WDIOF options.
    fn options(&self) -> io::Result<u32>;
    /// The time-out in seconds.
    fn timeout_s(&self) -> io::Result<u32>;
    /// Sets the time-out, and feeds; returns what the driver made of it.
    fn set_timeout_s(&self, seconds: u32) -> io::Result<u32>;
    /// How many seconds before the time-out it acts already; 0 where it cannot.
    fn pretimeout_s(&self) -> io::Result<u32>;
    /// Feeds.
    fn keep_alive(&self) -> io::Result<()>;
    /// Writes to the device.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// An open watchdog: it runs, and resets the host unless it is fed.
#[derive(Debug)]
pub(crate) struct Watchdog<D = Kernel> {
    device: D,
    path: PathBuf,
}

impl Watchdog {
    /// Opens `path`, which starts it, and sets its time-out to whole seconds. Only right after a check says quorate, or at
    /// admission. Store its descriptor at once ([`Self::as_fd`]).
    pub(crate) fn open(path: &Path, timeout: Duration) -> Result<Self, WatchdogError> {
        check_unopened(path, &sysfs_of(path))?;
        let mut options = OpenOptions::new();
        let file = options.write(true).custom_flags(libc::O_CLOEXEC).open(path).map_err(|source| {
            if source.raw_os_error() == Some(libc::EBUSY) {
                WatchdogError::Owned { device: path.to_owned() }
            } else {
                WatchdogError::Device { device: path.to_owned(), step: "open", source }
            }
        })?;
        Watchdog::arm(Kernel(file), path, timeout)
    }

    /// Takes over the descriptor that the process before us opened, and says whether it is as configured. It runs on unfed
    /// until [`Self::feed`] or [`Self::rearm`].
    pub(crate) fn adopt(fd: OwnedFd, path: &Path, timeout: Duration) -> (Self, Result<(), WatchdogError>) {
        Watchdog::take_over(Kernel(File::from(fd)), path, timeout)
    }

    /// The descriptor, to be stored with systemd under [`STORED_NAME`].
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.0.as_fd()
    }
}

impl<D: Device> Watchdog<D> {
    fn arm(device: D, path: &Path, timeout: Duration) -> Result<Self, WatchdogError> {
        let watchdog = Self { device, path: path.to_owned() };
        match watchdog.check_armed(timeout) {
            Ok(()) => Ok(watchdog),
            Err(error) => {
                // It runs since it was opened: a device that is refused is stopped, as far as it can be.
                match watchdog.disarm() {
                    Ok(()) => Err(error),
                    Err((_, and_then)) => {
                        tracing::error!(%and_then, "a watchdog that is not used could not be stopped");
                        Err(error)
                    }
                }
            }
        }
    }

    fn check_armed(&self, timeout: Duration) -> Result<(), WatchdogError> {
        self.check_options()?;
        let wanted_s = whole_seconds(timeout);
        let found_s = self.device.set_timeout_s(wanted_s).map_err(self.at("set the time-out"))?;
        self.check_timeout(wanted_s, found_s)?;
        self.check_pretimeout()
    }

    /// Kept whatever the check says: it runs, and nobody but its holder can feed it.
    fn take_over(device: D, path: &Path, timeout: Duration) -> (Self, Result<(), WatchdogError>) {
        let watchdog = Self { device, path: path.to_owned() };
        let checked = watchdog.check_adopted(timeout);
        (watchdog, checked)
    }

    fn check_adopted(&self, timeout: Duration) -> Result<(), WatchdogError> {
        self.check_options()?;
        // Read, never set: setting feeds, and this process does not know yet that it is quorate.
        let found_s = self.device.timeout_s().map_err(self.at("read the time-out"))?;
        self.check_timeout(whole_seconds(timeout), found_s)?;
        self.check_pretimeout()
    }

    /// Feeds a device that is open but not armed as configured, then sets its time-out. Only right after a check says quorate. On
    /// an error it may have been fed all the same: a driver that cannot do the time-out must not reset a healthy host.
    pub(crate) fn rearm(&self, timeout: Duration) -> Result<(), WatchdogError> {
        self.feed()?;
        self.check_armed(timeout)
    }

    fn check_options(&self) -> Result<(), WatchdogError> {
        let options = self.device.options().map_err(self.at("ask for its options"))?;
        if options & MAGIC_CLOSE == 0 {
            return Err(WatchdogError::NoMagicClose { device: self.path.clone() });
        }
        Ok(())
    }

    fn check_timeout(&self, wanted_s: u32, found_s: u32) -> Result<(), WatchdogError> {
        if found_s != wanted_s {
            return Err(WatchdogError::TimeoutDiffers { device: self.path.clone(), wanted_s, found_s });
        }
        Ok(())
    }

    fn check_pretimeout(&self) -> Result<(), WatchdogError> {
        match self.device.pretimeout_s().map_err(self.at("read the pretimeout"))? {
            0 => Ok(()),
            pretimeout_s => Err(WatchdogError::Early { device: self.path.clone(), pretimeout_s }),
        }
    }

    /// Feeds it. Only right after a check says quorate.
    pub(crate) fn feed(&self) -> Result<(), WatchdogError> {
        self.device.keep_alive().map_err(self.at("feed"))
    }

    /// Stops it by magic close. On an error it still runs, and comes back to be fed or tried again. A descriptor kept by
    /// systemd must be removed from there as well: the device stops with its last descriptor.
    pub(crate) fn disarm(mut self) -> Result<(), (Self, WatchdogError)> {
        match self.device.write(b"V") {
            Ok(()) => Ok(()),
            Err(source) => {
                let error = self.at("stop")(source);
                Err((self, error))
            }
        }
    }

    fn at(&self, step: &'static str) -> impl FnOnce(io::Error) -> WatchdogError {
        let device = self.path.clone();
        move |source| WatchdogError::Device { device, step, source }
    }
}

fn whole_seconds(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX)
}

/// `/dev/watchdog` is the first one's second name.
fn sysfs_of(path: &Path) -> PathBuf {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = if name == "watchdog" { "watchdog0" } else { name };
    Path::new("/sys/class/watchdog").join(name)
}

/// What a kernel with CONFIG_WATCHDOG_SYSFS tells before the device is started by opening it. Without that, the open device is
/// asked.
fn check_unopened(path: &Path, sysfs: &Path) -> Result<(), WatchdogError> {
    let read = |name: &str| std::fs::read_to_string(sysfs.join(name)).ok();
    let options =
        read("options").and_then(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok());
    if options.is_some_and(|options| options & MAGIC_CLOSE == 0) {
        return Err(WatchdogError::NoMagicClose { device: path.to_owned() });
    }
    if read("nowayout").is_some_and(|text| text.trim() == "1") {
        return Err(WatchdogError::NoWayOut { device: path.to_owned() });
    }
    Ok(())
}

/// A device of the kernel's watchdog API.
#[derive(Debug)]
pub(crate) struct Kernel(File);

/// `struct watchdog_info` of linux/watchdog.h.
#[repr(C)]
#[derive(Default)]
struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

mod ioctls {
    use nix::libc::c_int;
    nix::ioctl_read!(get_support, b'W', 0, super::Info);
    nix::ioctl_read!(keep_alive, b'W', 5, c_int);
    nix::ioctl_readwrite!(set_timeout, b'W', 6, c_int);
    nix::ioctl_read!(get_timeout, b'W', 7, c_int);
    #[cfg(test)]
    nix::ioctl_readwrite!(set_pretimeout, b'W', 8, c_int);
    nix::ioctl_read!(get_pretimeout, b'W', 9, c_int);
}

impl Kernel {
    /// Runs one of the ioctls that pass one integer.
    fn integer(
        &self,
        value: u32,
        ioctl: unsafe fn(libc::c_int, *mut libc::c_int) -> nix::Result<libc::c_int>,
    ) -> io::Result<u32> {
        let mut value = libc::c_int::try_from(value).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open, and each of these ioctls reads or writes the one integer behind the pointer.
        unsafe { ioctl(self.0.as_raw_fd(), &raw mut value) }?;
        u32::try_from(value).map_err(io::Error::other)
    }
}

impl Device for Kernel {
    fn options(&self) -> io::Result<u32> {
        let mut info = Info::default();
        // SAFETY: the descriptor is open, and the kernel fills one watchdog_info, whose layout `Info` has.
        unsafe { ioctls::get_support(self.0.as_raw_fd(), &raw mut info) }?;
        Ok(info.options)
    }

    fn timeout_s(&self) -> io::Result<u32> {
        self.integer(0, ioctls::get_timeout)
    }

    fn set_timeout_s(&self, seconds: u32) -> io::Result<u32> {
        self.integer(seconds, ioctls::set_timeout)
    }

    fn pretimeout_s(&self) -> io::Result<u32> {
        match self.integer(0, ioctls::get_pretimeout) {
            // What the watchdog core says of a device that has none; drivers of their own say the other.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY)) => Ok(0),
            answer => answer,
        }
    }

    fn keep_alive(&self) -> io::Result<()> {
        self.integer(0, ioctls::keep_alive).map(drop)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// Keeps a list of what was done to it.
    #[derive(Clone, Debug)]
    struct Fake {
        options: u32,
        timeout_s: u32,
        rounds_to_s: u32,
        pretimeout_s: u32,
        write_fails: bool,
        done: Rc<RefCell<Vec<String>>>,
    }

    impl Fake {
        fn new() -> Self {
            Self {
                options: MAGIC_CLOSE,
                timeout_s: 60,
                rounds_to_s: 1,
                pretimeout_s: 0,
                write_fails: false,
                done: Rc::default(),
            }
        }

        fn note(&self, what: String) {
            self.done.borrow_mut().push(what);
        }
    }

    impl Device for Fake {
        fn options(&self) -> io::Result<u32> {
            Ok(self.options)
        }
        fn timeout_s(&self) -> io::Result<u32> {
            Ok(self.timeout_s)
        }
        fn set_timeout_s(&self, seconds: u32) -> io::Result<u32> {
            self.note(format!("set {seconds}"));
            Ok(seconds.next_multiple_of(self.rounds_to_s))
        }
        fn pretimeout_s(&self) -> io::Result<u32> {
            Ok(self.pretimeout_s)
        }
        fn keep_alive(&self) -> io::Result<()> {
            self.note("feed".into());
            Ok(())
        }
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.note(format!("write {bytes:?}"));
            if self.write_fails { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
        }
    }

    const PATH: &str = "/dev/watchdog7";

    #[test]
    fn it_is_armed_fed_and_stopped_by_magic_close() {
        let fake = Fake::new();
        let watchdog = Watchdog::arm(fake.clone(), Path::new(PATH), Duration::from_secs(10)).unwrap();
        watchdog.feed().unwrap();
        watchdog.disarm().map_err(|(_, error)| error).unwrap();
        assert_eq!(*fake.done.borrow(), ["set 10", "feed", "write [86]"]);
    }

    #[test]
    fn one_that_acts_before_its_time_is_refused_and_stopped() {
        let fake = Fake { pretimeout_s: 9, timeout_s: 10, ..Fake::new() };
        let refused = Watchdog::arm(fake.clone(), Path::new(PATH), Duration::from_secs(10)).unwrap_err();
        assert!(matches!(refused, WatchdogError::Early { pretimeout_s: 9, .. }), "{refused}");
        assert_eq!(*fake.done.borrow(), ["set 10", "write [86]"]);
        let (_, adopted) = Watchdog::take_over(fake, Path::new(PATH), Duration::from_secs(10));
        assert!(matches!(adopted, Err(WatchdogError::Early { .. })));
    }

    #[test]
    fn an_adopted_device_is_not_fed_before_it_is_told() {
        let fake = Fake { timeout_s: 10, ..Fake::new() };
        let (watchdog, as_configured) =
            Watchdog::take_over(fake.clone(), Path::new(PATH), Duration::from_secs(10));
        as_configured.unwrap();
        assert!(fake.done.borrow().is_empty(), "setting the time-out would feed");
        watchdog.feed().unwrap();
        assert_eq!(*fake.done.borrow(), ["feed"]);
    }

    #[test]
    fn an_adopted_device_with_another_timeout_is_set_once_quorate_and_fed_even_if_it_cannot_be() {
        let fake = Fake { timeout_s: 10, ..Fake::new() };
        let wanted = Duration::from_secs(12);
        let (watchdog, as_configured) = Watchdog::take_over(fake.clone(), Path::new(PATH), wanted);
        assert!(matches!(
            as_configured,
            Err(WatchdogError::TimeoutDiffers { wanted_s: 12, found_s: 10, .. })
        ));
        assert!(fake.done.borrow().is_empty(), "neither fed nor stopped: the life before us armed it");
        watchdog.rearm(wanted).unwrap();
        assert_eq!(*fake.done.borrow(), ["feed", "set 12"]);
        let fake = Fake { timeout_s: 10, rounds_to_s: 16, ..Fake::new() };
        let (watchdog, _) = Watchdog::take_over(fake.clone(), Path::new(PATH), wanted);
        let refused = watchdog.rearm(wanted);
        assert!(matches!(refused, Err(WatchdogError::TimeoutDiffers { wanted_s: 12, found_s: 16, .. })));
        assert_eq!(*fake.done.borrow(), ["feed", "set 12"], "fed, and not stopped");
    }

    #[test]
    fn a_device_that_is_refused_is_stopped() {
        let fake = Fake { rounds_to_s: 16, ..Fake::new() };
        let refused = Watchdog::arm(fake.clone(), Path::new(PATH), Duration::from_secs(10));
        assert!(matches!(refused, Err(WatchdogError::TimeoutDiffers { wanted_s: 10, found_s: 16, .. })));
        assert_eq!(*fake.done.borrow(), ["set 10", "write [86]"]);
        let fake = Fake { options: 0x8180 & !MAGIC_CLOSE, ..Fake::new() };
        let refused = Watchdog::arm(fake.clone(), Path::new(PATH), Duration::from_secs(10));
        assert!(matches!(refused, Err(WatchdogError::NoMagicClose { .. })));
    }

    #[test]
    fn a_stop_that_fails_gives_the_device_back() {
        let fake = Fake { write_fails: true, ..Fake::new() };
        let watchdog = Watchdog::arm(fake.clone(), Path::new(PATH), Duration::from_secs(10)).unwrap();
        let (watchdog, error) = watchdog.disarm().map(drop).unwrap_err();
        assert!(error.to_string().contains("/dev/watchdog7: stop"));
        watchdog.feed().unwrap();
    }

    #[test]
    fn what_sysfs_tells_is_refused_before_opening_starts_the_device() {
        let check = |files: &[(&str, &str)]| {
            let dir = TempDir::new();
            for (name, text) in files {
                std::fs::write(dir.path().join(name), text).unwrap();
            }
            check_unopened(Path::new(PATH), dir.path())
        };
        assert!(check(&[]).is_ok());
        assert!(check(&[("options", "0x8180\n"), ("nowayout", "0\n")]).is_ok());
        let no_magic = check(&[("options", "0x8080\n")]);
        assert!(matches!(no_magic, Err(WatchdogError::NoMagicClose { .. })));
        let no_way_out = check(&[("options", "0x8180\n"), ("nowayout", "1\n")]).unwrap_err();
        assert!(no_way_out.to_string().contains("nowayout=0"));
        assert_eq!(sysfs_of(Path::new("/dev/watchdog")), Path::new("/sys/class/watchdog/watchdog0"));
    }

    #[test]
    fn a_missing_device_and_one_in_use_are_told_apart() {
        let missing =
            Watchdog::open(Path::new("/nonexistent/watchdog9"), Duration::from_secs(10)).unwrap_err();
        assert!(missing.to_string().starts_with("/nonexistent/watchdog9: open: No such file"), "{missing}");
        let owned = WatchdogError::Owned { device: "/dev/watchdog0".into() }.to_string();
        assert!(owned.contains("RuntimeWatchdogSec"));
    }

    #[test]
    fn a_file_that_is_no_watchdog_is_refused() {
        let dir = TempDir::new();
        let path = dir.path().join("watchdog5");
        std::fs::write(&path, "").unwrap();
        let error = Watchdog::open(&path, Duration::from_secs(10)).unwrap_err();
        assert!(matches!(error, WatchdogError::Device { step: "ask for its options", .. }), "{error}");
    }

    /// The kernel's own devices. `cargo lab guests` runs each of these in a virtual machine, since some of them end it.
    mod in_a_guest {
        use super::*;

        const FIRST: &str = "/dev/watchdog0";
        const TIMEOUT: Duration = Duration::from_secs(4);
        /// A good while longer than the time-out.
        const PAST: Duration = Duration::from_secs(6);

        fn sysfs(name: &str) -> String {
            let path = sysfs_of(Path::new(FIRST)).join(name);
            std::fs::read_to_string(&path).unwrap().trim().to_owned()
        }

        /// Time is the thing that is tested here: nothing else ends these waits.
        fn pass(time: Duration) {
            let end = std::time::Instant::now() + time;
            while let Some(left) = end.checked_duration_since(std::time::Instant::now()) {
                std::thread::park_timeout(left);
            }
        }

        fn feed_for(watchdog: &Watchdog, time: Duration) {
            let end = std::time::Instant::now() + time;
            while std::time::Instant::now() < end {
                watchdog.feed().unwrap();
                pass(Duration::from_millis(200));
            }
        }

        #[test]
        #[ignore = "needs a guest: cargo lab guests"]
        fn fed_it_holds_and_stopped_it_leaves_the_host_alone() {
            assert_eq!(sysfs("state"), "inactive");
            let watchdog = Watchdog::open(Path::new(FIRST), TIMEOUT).unwrap();
            assert_eq!((sysfs("state").as_str(), sysfs("timeout").as_str()), ("active", "4"));
            let owned = Watchdog::open(Path::new(FIRST), TIMEOUT).unwrap_err();
            assert!(matches!(owned, WatchdogError::Owned { .. }), "{owned}");
            feed_for(&watchdog, PAST);
            // As the next process gets it from systemd: with another time-out it is refused, and fed by nobody meanwhile.
            let stored = || watchdog.as_fd().try_clone_to_owned().unwrap();
            let (_, as_configured) = Watchdog::adopt(stored(), Path::new(FIRST), TIMEOUT);
            as_configured.unwrap();
            let (other, as_configured) = Watchdog::adopt(stored(), Path::new(FIRST), TIMEOUT * 2);
            assert!(matches!(
                as_configured,
                Err(WatchdogError::TimeoutDiffers { wanted_s: 8, found_s: 4, .. })
            ));
            other.rearm(TIMEOUT * 2).unwrap();
            assert_eq!(sysfs("timeout"), "8");
            drop(other);
            watchdog.disarm().map_err(|(_, error)| error).unwrap();
            assert_eq!(sysfs("state"), "inactive");
            pass(PAST + TIMEOUT);
        }

        #[test]
        #[ignore = "needs a guest: cargo lab guests"]
        fn a_timeout_that_it_cannot_do_is_refused_and_it_is_stopped() {
            let refused = Watchdog::open(Path::new(FIRST), Duration::from_secs(100_000)).unwrap_err();
            assert!(matches!(refused, WatchdogError::Device { step: "set the time-out", .. }), "{refused}");
            assert_eq!(sysfs("state"), "inactive");
        }

        #[test]
        #[ignore = "needs a guest: cargo lab guests"]
        fn a_pretimeout_is_refused_and_it_is_stopped() {
            let mut device = Kernel(File::options().write(true).open(FIRST).unwrap());
            device.set_timeout_s(4).unwrap();
            assert_eq!(device.integer(2, ioctls::set_pretimeout).unwrap(), 2);
            device.write(b"V").unwrap();
            drop(device);
            let refused = Watchdog::open(Path::new(FIRST), TIMEOUT).unwrap_err();
            assert!(matches!(refused, WatchdogError::Early { pretimeout_s: 2, .. }), "{refused}");
            assert_eq!(sysfs("state"), "inactive");
        }

        #[test]
        #[ignore = "needs a guest: cargo lab guests"]
        fn nowayout_is_refused_before_it_is_opened() {
            std::fs::write(sysfs_of(Path::new(FIRST)).join("nowayout"), "1").unwrap();
            let refused = Watchdog::open(Path::new(FIRST), TIMEOUT).unwrap_err();
            assert!(matches!(refused, WatchdogError::NoWayOut { .. }), "{refused}");
            assert_eq!(sysfs("state"), "inactive");
        }

        /// The lab ends this one, and then the watchdog its machine.
        #[test]
        #[ignore = "needs a guest: cargo lab guests"]
        fn fed_until_killed() {
            let watchdog = Watchdog::open(Path::new(FIRST), TIMEOUT).unwrap();
            std::fs::write("/tmp/armed", std::process::id().to_string()).unwrap();
            feed_for(&watchdog, PAST * 100);
        }
    }
}
