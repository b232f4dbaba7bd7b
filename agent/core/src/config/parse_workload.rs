//! Workloads and storages, checked.

use std::path::Path;

use palisade_ladder::{Effect, Identity};
use palisade_proto::{Duration, HostId, MAX_WORKLOADS, WorkloadId};
use toml::Spanned;

use super::{
    Host, Storage, Workload, WorkloadKind,
    error::ConfigError,
    raw::{RawStorage, RawWorkload, Text},
    source::{Seen, Source, shown},
};

/// The most storages of a cluster.
const STORAGES_MAX: usize = 64;
/// The most logical units of one storage.
const LUNS_MAX: usize = 32;
/// The most words of one command.
const WORDS_MAX: usize = 64;

impl Source<'_> {
    pub(super) fn storages(&self, raw: &[Spanned<RawStorage>]) -> Result<Vec<Storage>, ConfigError> {
        if let Some(storage) = raw.get(STORAGES_MAX) {
            let help = "name only the storages that workloads need";
            return Err(self.error(storage.span(), format!("more than {STORAGES_MAX} storages"), help));
        }
        let mut names = Seen::new();
        let mut storages = Vec::with_capacity(raw.len());
        for raw in raw.iter().map(Spanned::get_ref) {
            let name = self.label(&raw.name, "storage")?;
            let help = "give each storage a name of its own";
            self.once(&mut names, name.clone(), raw.name.span(), &format!("storage `{name}`"), help)?;
            let mut luns: Vec<String> = Vec::with_capacity(raw.luns.len());
            if let Some(lun) = raw.luns.get(LUNS_MAX) {
                let what = format!("storage `{name}` has more than {LUNS_MAX} logical units");
                return Err(self.error(lun.span(), what, "make storages of them: each is fenced for itself"));
            }
            for text in &raw.luns {
                let lun = self.lun(text)?;
                if luns.contains(&lun) {
                    return Err(self.error(
                        text.span(),
                        format!("`{lun}` is named twice"),
                        "name each logical unit once",
                    ));
                }
                luns.push(lun);
            }
            storages.push(Storage { name, path: self.absolute(&raw.path)?, luns });
        }
        Ok(storages)
    }

    fn lun(&self, text: &Text) -> Result<String, ConfigError> {
        if let Some(Identity(lun)) = Identity::of_lun(text.get_ref()) {
            return Ok(lun);
        }
        let what = format!("`{}` is no name of a logical unit", shown(text.get_ref()));
        let help = "write it as `cat /sys/block/sdX/device/wwid` tells it, such as \"naa.6001405123456789\", or for NVMe `cat \
                    /sys/block/nvmeXnY/wwid`";
        Err(self.error(text.span(), what, help))
    }

    pub(super) fn workloads(
        &self,
        raw: &[Spanned<RawWorkload>],
        hosts: &[Host],
        storages: &[Storage],
    ) -> Result<Vec<Workload>, ConfigError> {
        if let Some(workload) = raw.get(MAX_WORKLOADS) {
            let help = "split the workloads between several clusters";
            return Err(self.error(workload.span(), format!("more than {MAX_WORKLOADS} workloads"), help));
        }
        let (mut ids, mut names) = (Seen::new(), Seen::new());
        let mut named: Vec<(WorkloadId, &str)> = Vec::with_capacity(raw.len());
        for raw in raw.iter().map(Spanned::get_ref) {
            let id: u8 = self.number(&raw.id, 0..=255, "workload id")?;
            let help = "give each workload an id of its own; an id is permanent, so change that of the newer workload";
            self.once(&mut ids, id, raw.id.span(), &format!("workload id {id}"), help)?;
            let name = self.label(&raw.name, "workload")?;
            let what = format!("workload `{name}`");
            self.once(&mut names, name, raw.name.span(), &what, "give each workload a name of its own")?;
            named.push((WorkloadId(id), raw.name.get_ref()));
        }
        let mut workloads = Vec::with_capacity(raw.len());
        for (raw, (id, _)) in raw.iter().zip(&named) {
            workloads.push(self.workload(raw, *id, hosts, storages, &named)?);
        }
        self.refuse_circles(raw, &workloads)?;
        workloads.sort_by_key(Workload::id);
        Ok(workloads)
    }

    fn workload(
        &self,
        spanned: &Spanned<RawWorkload>,
        id: WorkloadId,
        hosts: &[Host],
        storages: &[Storage],
        named: &[(WorkloadId, &str)],
    ) -> Result<Workload, ConfigError> {
        let raw = spanned.get_ref();
        let name = raw.name.get_ref().clone();
        let mut start_after = Vec::new();
        for text in &raw.start_after {
            start_after.push(self.reference(text, "workload", named, |(_, name)| name)?.0);
        }
        let mut storage = Vec::new();
        for text in &raw.storage {
            storage.push(self.reference(text, "storage", storages, Storage::name)?.name.clone());
        }
        let priority = raw.priority.as_ref();
        Ok(Workload {
            proofs: self.proofs(raw, &name, &storage)?,
            id,
            hosts: self.places(&name, &raw.hosts, hosts)?,
            priority: priority.map_or(Ok(0), |number| self.number(number, -1000..=1000, "priority"))?,
            start_after,
            anti_affinity: raw.anti_affinity.as_ref().map(|text| self.label(text, "group")).transpose()?,
            storage,
            start_timeout: self.duration_or(raw.start_timeout.as_ref(), Duration::secs(30))?,
            stop_timeout: self.duration_or(raw.stop_timeout.as_ref(), Duration::secs(60))?,
            kind: self.workload_kind(spanned, &name)?,
            name,
        })
    }

    /// Which isolation suffices; unless written, that of its storage.
    fn proofs(&self, raw: &RawWorkload, name: &str, storage: &[String]) -> Result<Vec<Effect>, ConfigError> {
        let Some(written) = &raw.proofs else {
            return Ok(if storage.is_empty() { Vec::new() } else { vec![Effect::Storage] });
        };
        let choices = [("storage_revoked", Effect::Storage), ("network_cut", Effect::Network)];
        let mut proofs = Vec::new();
        for text in written.get_ref() {
            let effect = self.choice(text, "proof short of death", &choices)?;
            if effect == Effect::Storage && storage.is_empty() {
                let what = format!("workload `{name}` names no storage that could be revoked");
                return Err(self.error(text.span(), what, "name its `storage`, or leave this proof out"));
            }
            if !proofs.contains(&effect) {
                proofs.push(effect);
            }
        }
        Ok(proofs)
    }

    fn places(
        &self,
        name: &str,
        raw: &Spanned<Vec<Text>>,
        hosts: &[Host],
    ) -> Result<Vec<HostId>, ConfigError> {
        if raw.get_ref().is_empty() {
            let what = format!("workload `{name}` may run nowhere");
            return Err(self.error(raw.span(), what, "name its hosts, the preferred one first"));
        }
        let mut seen = Seen::new();
        for text in raw.get_ref() {
            let id = self.reference(text, "host", hosts, Host::name)?.id();
            self.once(
                &mut seen,
                id,
                text.span(),
                &format!("host `{}`", text.get_ref()),
                "name each host once",
            )?;
        }
        Ok(seen.into_iter().map(|(id, _)| id).collect())
    }

    fn workload_kind(&self, spanned: &Spanned<RawWorkload>, name: &str) -> Result<WorkloadKind, ConfigError> {
        let raw = spanned.get_ref();
        match (&raw.command, &raw.systemd, &raw.libvirt) {
            (Some(command), None, None) => {
                let command = command.get_ref();
                Ok(WorkloadKind::Command {
                    start: self.words(&command.start)?,
                    stop: self.words(&command.stop)?,
                    status: self.words(&command.status)?,
                })
            }
            (None, Some(systemd), None) => {
                Ok(WorkloadKind::Systemd { unit: self.unit(&systemd.get_ref().unit)? })
            }
            (None, None, Some(libvirt)) => {
                let libvirt = libvirt.get_ref();
                let domain = self.label(&libvirt.domain, "domain")?;
                Ok(WorkloadKind::Libvirt { domain, xml: self.absolute(&libvirt.xml)? })
            }
            (None, None, None) | (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                let what =
                    format!("workload `{name}` needs exactly one of `command`, `systemd` and `libvirt`");
                Err(self.error(raw.name.span(), what, "say how it is started in one of these tables"))
            }
        }
    }

    pub(super) fn words(&self, raw: &Spanned<Vec<Text>>) -> Result<Vec<String>, ConfigError> {
        let words = raw.get_ref();
        let Some(program) = words.first() else {
            let help = "write the program's absolute path and its arguments, such as [\"/bin/true\"]";
            return Err(self.error(raw.span(), "an empty command", help));
        };
        self.absolute(program)?;
        if words.len() > WORDS_MAX {
            let what = format!("a command of {} words", words.len());
            return Err(self.error(raw.span(), what, format!("use at most {WORDS_MAX}, or a script")));
        }
        if let Some(word) = words.iter().find(|word| word.get_ref().contains('\0')) {
            return Err(self.error(word.span(), "a zero byte in a command", "remove it"));
        }
        Ok(words.iter().map(|word| word.get_ref().clone()).collect())
    }

    pub(super) fn unit(&self, text: &Text) -> Result<String, ConfigError> {
        const UNIT_MAX: usize = 255;
        let unit = text.get_ref();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        let service = Path::new(unit).extension().is_some_and(|end| end == "service");
        if unit.len() > UNIT_MAX || !unit.bytes().all(allowed) || !service {
            let what = format!("`{}` is no service unit", shown(unit));
            return Err(self.error(text.span(), what, "write the unit's full name, such as \"db.service\""));
        }
        Ok(unit.clone())
    }

    /// Refuses a workload that waits for itself, however far around.
    fn refuse_circles(
        &self,
        raw: &[Spanned<RawWorkload>],
        workloads: &[Workload],
    ) -> Result<(), ConfigError> {
        // Take away whatever waits for nothing that is left; what remains, if anything, waits in a circle.
        let mut left: Vec<(&Workload, &RawWorkload)> =
            workloads.iter().zip(raw.iter().map(Spanned::get_ref)).collect();
        loop {
            let waiting: Vec<WorkloadId> = left.iter().map(|(workload, _)| workload.id).collect();
            let before = left.len();
            left.retain(|(workload, _)| workload.start_after.iter().any(|id| waiting.contains(id)));
            if left.len() == before {
                break;
            }
        }
        let Some((workload, raw)) = left.first() else { return Ok(()) };
        let names: Vec<&str> = left.iter().map(|(workload, _)| workload.name.as_str()).collect();
        let span = raw.start_after.first().map_or_else(|| raw.name.span(), Spanned::span);
        let what = format!("workload `{}` waits for itself through start_after", workload.name);
        Err(self.error(span, what, format!("break the circle among: {}", names.join(", "))))
    }
}
