//! systemd's manager over D-Bus: the few calls that workloads and a stopping agent need. Connected on first use: a host whose
//! workloads are not systemd's never pays for it.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use zbus::export::futures_core::Stream;
use zbus::wire::{OwnedObjectPath, OwnedVariant, Variant};
use zbus::{Connection, MatchRule, Message, MessageStream};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
const SERVICE_INTERFACE: &str = "org.freedesktop.systemd1.Service";
/// systemd answers in a millisecond; what takes long is a job, and jobs are waited for apart.
const CALL: Duration = Duration::from_secs(5);

/// systemd did not do or say what was asked.
#[derive(Debug)]
pub(crate) struct BusError {
    what: &'static str,
    of: String,
    source: zbus::Error,
}

impl BusError {
    /// Whether systemd knows no such unit.
    pub(crate) fn is_no_such_unit(&self) -> bool {
        self.is_named("NoSuchUnit")
    }

    fn is_named(&self, ending: &str) -> bool {
        let zbus::Error::MethodError(name, _, _) = &self.source else { return false };
        name.as_str().rsplit('.').next() == Some(ending)
    }
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "systemd, over D-Bus: {} {}: {}", self.what, self.of, self.source)
    }
}

impl std::error::Error for BusError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

fn error(what: &'static str, of: &str) -> impl Fn(zbus::Error) -> BusError {
    let of = of.to_owned();
    move |source| BusError { what, of: of.clone(), source }
}

/// A connection to the manager.
#[derive(Clone, Debug)]
pub(crate) struct Systemd(Connection);

/// A unit that exists until it ends.
pub(crate) struct Transient<'a> {
    /// With its suffix: `x.service`.
    pub(crate) name: &'a str,
    /// For people.
    pub(crate) description: &'a str,
    /// Program and arguments.
    pub(crate) start: &'a [String],
    /// What `StopUnit` runs first.
    pub(crate) stop: Option<&'a [String]>,
    /// `NAME=value`.
    pub(crate) environment: &'a [String],
    /// systemd kills a start that takes longer.
    pub(crate) start_timeout: Duration,
    /// systemd kills what a stop leaves after this.
    pub(crate) stop_timeout: Duration,
}

impl Systemd {
    /// Connects to the system bus.
    pub(crate) async fn connect() -> Result<Self, BusError> {
        let fail = error("connect", "to the system bus");
        let builder = zbus::connection::Builder::system().method_timeout(CALL);
        let connected = tokio::time::timeout(CALL, builder.build()).await;
        let late = |_| zbus::Error::Failure(format!("no answer in {} s", CALL.as_secs()));
        connected.map_err(late).flatten().map(Self).map_err(fail)
    }

    async fn manager<B>(&self, method: &'static str, of: &str, body: &B) -> Result<Message, BusError>
    where
        B: serde::Serialize + zbus::wire::DynamicType + Sync,
    {
        let call = self.0.call_method(Some(SYSTEMD), MANAGER, Some(MANAGER_INTERFACE), method, body);
        call.await.map_err(error(method, of))
    }

    async fn manager_path<B>(
        &self,
        method: &'static str,
        of: &str,
        body: &B,
    ) -> Result<OwnedObjectPath, BusError>
    where
        B: serde::Serialize + zbus::wire::DynamicType + Sync,
    {
        let reply = self.manager(method, of, body).await?;
        reply.body().deserialize().map_err(error(method, of))
    }

    async fn property<T>(
        &self,
        unit: &str,
        path: &OwnedObjectPath,
        interface: &str,
        name: &'static str,
    ) -> Result<T, BusError>
    where
        T: TryFrom<OwnedVariant>,
        zbus::Error: From<T::Error>,
    {
        let fail = error(name, unit);
        let properties = Some("org.freedesktop.DBus.Properties");
        let reply = self
            .0
            .call_method(Some(SYSTEMD), path, properties, "Get", &(interface, name))
            .await
            .map_err(&fail)?;
        let value: OwnedVariant = reply.body().deserialize().map_err(&fail)?;
        T::try_from(value).map_err(|source| fail(source.into()))
    }

    /// The unit that this process belongs to.
    pub(crate) async fn unit_of_process(&self, pid: u32) -> Result<OwnedObjectPath, BusError> {
        self.manager_path("GetUnitByPID", &pid.to_string(), &pid).await
    }

    /// The type of the job queued for a unit (`start`, `stop`, `restart`...), if there is one.
    pub(crate) async fn queued_job(&self, unit: &OwnedObjectPath) -> Result<Option<String>, BusError> {
        let named = unit.as_str();
        let job: OwnedVariant = self.property(named, unit, UNIT_INTERFACE, "Job").await?;
        let (id, path) = <(u32, OwnedObjectPath)>::try_from(job).map_err(error("Job", named))?;
        if id == 0 {
            return Ok(None);
        }
        self.property(named, &path, "org.freedesktop.systemd1.Job", "JobType").await.map(Some)
    }

    /// `active`, `inactive`, `failed`, `activating`, ... and where its processes are in the cgroup tree (empty: nowhere).
    pub(crate) async fn state(&self, unit: &str) -> Result<(String, String), BusError> {
        let path = self.manager_path("LoadUnit", unit, &unit).await?;
        let state = self.property(unit, &path, UNIT_INTERFACE, "ActiveState").await?;
        let cgroup = self.property(unit, &path, SERVICE_INTERFACE, "ControlGroup").await?;
        Ok((state, cgroup))
    }

    /// How a oneshot unit's main process ended: its exit status, or `None` if it was killed.
    pub(crate) async fn exit_status(&self, unit: &str) -> Result<Option<i32>, BusError> {
        const CLD_EXITED: i32 = 1;
        let path = self.manager_path("LoadUnit", unit, &unit).await?;
        let code: i32 = self.property(unit, &path, SERVICE_INTERFACE, "ExecMainCode").await?;
        let status: i32 = self.property(unit, &path, SERVICE_INTERFACE, "ExecMainStatus").await?;
        Ok((code == CLD_EXITED).then_some(status))
    }

    /// `enabled`, `disabled`, `static`, ...: whether the boot starts it.
    pub(crate) async fn unit_file_state(&self, unit: &str) -> Result<String, BusError> {
        let reply = self.manager("GetUnitFileState", unit, &unit).await?;
        reply.body().deserialize().map_err(error("GetUnitFileState", unit))
    }

    /// The units that pull a unit in when they start themselves, or trigger it.
    pub(crate) async fn started_by(&self, unit: &str) -> Result<Vec<String>, BusError> {
        let path = self.manager_path("LoadUnit", unit, &unit).await?;
        let mut by = Vec::new();
        for property in ["WantedBy", "RequiredBy", "UpheldBy", "TriggeredBy"] {
            match self.property::<Vec<String>>(unit, &path, UNIT_INTERFACE, property).await {
                Ok(units) => by.extend(units),
                // A systemd older than `Upholds=` (249).
                Err(error) if error.is_named("UnknownProperty") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(by)
    }

    /// Starts a unit and waits for the job; its result: `done`, `failed`, `timeout`, `dependency`...
    pub(crate) async fn start(&self, unit: &str) -> Result<String, BusError> {
        self.job("StartUnit", unit, &(unit, "replace")).await
    }

    /// Stops a unit and waits for the job.
    pub(crate) async fn stop(&self, unit: &str) -> Result<String, BusError> {
        self.job("StopUnit", unit, &(unit, "replace")).await
    }

    /// SIGKILL to every process of a unit.
    pub(crate) async fn kill(&self, unit: &str) -> Result<(), BusError> {
        self.manager("KillUnit", unit, &(unit, "all", 9_i32)).await.map(drop)
    }

    /// Forgets that a unit failed, so that its name is free again.
    pub(crate) async fn reset_failed(&self, unit: &str) -> Result<(), BusError> {
        match self.manager("ResetFailedUnit", unit, &unit).await {
            Err(error) if !error.is_no_such_unit() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Makes and starts a oneshot service that stays active after its program has ended, and waits for the job. One of this
    /// name that is still there is stopped first.
    pub(crate) async fn run(&self, unit: &Transient<'_>) -> Result<String, BusError> {
        let usec = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mut properties = vec![
            ("Description", Variant::from(unit.description)),
            ("Type", Variant::from("oneshot")),
            ("RemainAfterExit", Variant::from(true)),
            ("ExecStart", exec(unit.start)),
            ("Environment", Variant::from(unit.environment.to_vec())),
            ("TimeoutStartUSec", Variant::from(usec(unit.start_timeout))),
            ("TimeoutStopUSec", Variant::from(usec(unit.stop_timeout))),
        ];
        if let Some(stop) = unit.stop {
            properties.push(("ExecStop", exec(stop)));
        }
        let no_others: &[(&str, Vec<(&str, Variant<'_>)>)] = &[];
        let body = (unit.name, "replace", properties, no_others);
        match self.job("StartTransientUnit", unit.name, &body).await {
            // An earlier one of this name stays after its program has ended, failed or been cut short.
            Err(error) if error.is_named("UnitExists") => {
                self.stop(unit.name).await?;
                self.reset_failed(unit.name).await?;
                self.job("StartTransientUnit", unit.name, &body).await
            }
            other => other,
        }
    }

    /// Asks for a job and waits until systemd says how it ended. Without a limit of its own: the caller sets one.
    async fn job<B>(&self, method: &'static str, unit: &str, body: &B) -> Result<String, BusError>
    where
        B: serde::Serialize + zbus::wire::DynamicType + Sync,
    {
        let fail = error(method, unit);
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .interface(MANAGER_INTERFACE)
            .member("JobRemoved")
            .build()
            .map_err(&fail)?;
        // Listening first: a short job ends before its reply is read.
        let mut signals = MessageStream::for_match_rule(rule, &self.0, None).await.map_err(&fail)?;
        // Once a connection is enough; systemd refuses further ones, which is as good.
        if let Err(error) = self.manager("Subscribe", unit, &()).await
            && !error.is_named("AlreadySubscribed")
        {
            return Err(error);
        }
        let job = self.manager_path(method, unit, body).await?;
        loop {
            let signal = poll_fn(|context| Pin::new(&mut signals).poll_next(context)).await;
            let closed = || zbus::Error::Failure("the bus closed the connection".into());
            let signal = signal.ok_or_else(closed).flatten().map_err(&fail)?;
            let body = signal.body();
            let (_, ended, _, result): (u32, OwnedObjectPath, String, String) =
                body.deserialize().map_err(&fail)?;
            if ended == job {
                return Ok(result);
            }
        }
    }
}

/// `ExecStart=` as D-Bus wants it: program, arguments, and whether a failure is ignored.
fn exec(command: &[String]) -> Variant<'static> {
    let program = command.first().cloned().unwrap_or_default();
    Variant::from(vec![(program, command.to_vec(), false)])
}
