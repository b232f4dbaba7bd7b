//! Doing what a step says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::budget;
use super::step::{Action, AgentAct, BmcKnob, DiskAct, Service, ServiceAct};
use crate::lab::trouble::{Context, Result, Trouble};
use crate::lab::{Lab, disk, packets, shell, wait};

/// Where the intruder sits: a machine of the same network that is none of the hosts.
const INTRUDER: &str = "broker";
/// Random datagrams for each host.
const NONSENSE: usize = 300;

/// Does one thing to the lab; `scenario` is the folder that files are taken from.
///
/// # Errors
/// The lab could not do it: no such host, no such service, no agent to signal.
pub fn perform(lab: &mut Lab, scenario: &Path, action: &Action) -> Result<()> {
    match action {
        Action::Kill(hosts) => kill_together(lab, hosts),
        Action::PowerOff(hosts) => hosts.iter().try_for_each(|host| lab.machine(host)?.switch_off()),
        Action::Boot(hosts) => hosts.iter().try_for_each(|host| lab.machine(host)?.switch_on()),
        Action::Freeze(host) => lab.machine(host)?.freeze(true),
        Action::Thaw(host) => lab.machine(host)?.freeze(false),
        Action::Cut(one, others) => lab.network.part(std::slice::from_ref(one), others),
        Action::Flush(host) => lab.network.flush(host),
        Action::CutOneWay(one, other) => lab.network.cut(one, other),
        Action::Lose(percent, one, other) => lab.network.lose(one, other, *percent),
        Action::Heal(end) => lab.network.heal(end.as_deref()),
        Action::Bmc(host, knob) => turn(lab, host, knob),
        Action::Agent(host, act) => agent(lab, host, *act),
        Action::Service(service, act) => serve(lab, *service, *act),
        Action::Reload => lab.load_whole_file(),
        Action::SwapMachine(host) => lab.swap_machine(host),
        Action::Disk(host, act) => disturb(&lab.machine(host)?.dir, *act),
        Action::Listen(time) => {
            lab.heard.extend(packets::listen(&lab.network.netns("switch"), *time)?);
            if lab.heard.is_empty() { Err(Trouble::new("the intruder heard nothing")) } else { Ok(()) }
        }
        Action::Replay => packets::send(&lab.network.netns(INTRUDER), &lab.heard),
        Action::Babble => {
            let hosts: Vec<_> =
                lab.heard.iter().map(|packet| packet.to).collect::<BTreeSet<_>>().into_iter().collect();
            let mut noise = packets::mangled(&lab.heard);
            noise.extend(packets::nonsense(&hosts, NONSENSE)?);
            packets::send(&lab.network.netns(INTRUDER), &noise)
        }
        Action::Lay { file, host, name, mode } => {
            let text = shell::read(&scenario.join(file))?;
            shell::write(&lab.machine(host)?.dir.join("etc").join(name), &text, *mode)
        }
        Action::Run(host, command) => lab.shell(host, command),
        Action::WatchSecrets => lab.watch_secrets(),
        Action::Measure(time) => budget::hold(lab, *time),
        Action::Pass(time) => {
            wait::pause(*time);
            Ok(())
        }
        // The player keeps the mark.
        Action::Mark => Ok(()),
    }
}

/// All at one instant, as far as this machine's cores allow.
fn kill_together(lab: &Lab, hosts: &[String]) -> Result<()> {
    let machines = hosts.iter().map(|host| lab.machine(host)).collect::<Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        let deaths: Vec<_> = machines.iter().map(|machine| scope.spawn(|| machine.die_silently())).collect();
        deaths.into_iter().try_for_each(|death| death.join().unwrap_or(Ok(())))
    })
}

fn turn(lab: &mut Lab, host: &str, knob: &BmcKnob) -> Result<()> {
    let hosts = lab.hardware.hosts.clone();
    let end = format!("bmc-{host}");
    match knob {
        BmcKnob::Delay(time) => lab.bmc(host)?.knob("delay", Some(&time.as_secs().to_string())),
        BmcKnob::Lie => lab.bmc(host)?.knob("lie", Some("")),
        BmcKnob::Fail => lab.bmc(host)?.knob("fail", Some("")),
        BmcKnob::Honest => {
            lab.network.heal(Some(&end))?;
            ["delay", "lie", "fail"].iter().try_for_each(|name| lab.bmc(host)?.knob(name, None))
        }
        BmcKnob::Unplug => {
            lab.bmc(host)?.stop();
            Ok(())
        }
        BmcKnob::PlugIn => lab.bmc(host)?.start(),
        BmcKnob::NewPassword => lab.bmc(host)?.rotate_password(),
        BmcKnob::Unreachable => lab.network.part(&[end], &hosts),
    }
}

fn agent(lab: &Lab, host: &str, act: AgentAct) -> Result<()> {
    match act {
        AgentAct::Restart => lab.signal(host, "USR2"),
        AgentAct::Reload => lab.signal(host, "HUP"),
        AgentAct::Crash => lab.signal(host, "KILL"),
        AgentAct::Upgrade => {
            // As a package manager does: a new file takes the name, the running process keeps the old one.
            let binary = lab.machine(host)?.dir.join("palisade");
            let fresh = binary.with_extension("new");
            fs::copy(&binary, &fresh).during(fresh.display())?;
            fs::rename(&fresh, &binary).during(binary.display())?;
            lab.signal(host, "USR2")
        }
        AgentAct::Stop => lab.want_agent(host, false),
        AgentAct::Start => lab.want_agent(host, true),
    }
}

fn serve(lab: &mut Lab, service: Service, act: ServiceAct) -> Result<()> {
    let service = match service {
        Service::Witness => lab.witness.as_mut().during("the witness (set `witness = true`)")?,
        Service::Broker => lab.broker.as_mut().during("the broker (set `witness = true`)")?,
    };
    match act {
        ServiceAct::Stop => {
            service.stop();
            Ok(())
        }
        ServiceAct::Start => service.start(),
        ServiceAct::Restart => {
            service.stop();
            service.start()
        }
    }
}

fn disturb(host_dir: &Path, act: DiskAct) -> Result<()> {
    match act {
        DiskAct::Fill => disk::fill(host_dir),
        DiskAct::Free => disk::free(host_dir),
        DiskAct::Hang => disk::hang(host_dir),
        DiskAct::GoOn => {
            disk::release(host_dir);
            Ok(())
        }
    }
}
