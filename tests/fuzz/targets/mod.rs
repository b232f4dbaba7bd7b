//! What is fuzzed, and the properties that hold for every input. Each target takes bytes and panics if one does not.

mod cluster_config;
mod engine_heartbeat;
mod heartbeat_wire;

use palisade_devices::fuzz as devices;

/// One target: its name is its file's in `fuzz_targets` and its folder's in `corpus`.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const ALL: &[Target] = &[
    ("agent_reply", devices::agent_reply),
    ("cluster_config", cluster_config::target),
    ("engine_heartbeat", engine_heartbeat::target),
    ("fence_certificate", palisade::fuzz::fence_certificate),
    ("heartbeat_sealed", palisade::fuzz::heartbeat_sealed),
    ("heartbeat_wire", heartbeat_wire::target),
    ("hypervisor_reply", devices::hypervisor_reply),
    ("ipmi_dialogue", devices::ipmi_dialogue),
    ("ipmi_reply", devices::ipmi_reply),
    ("lun_reply", devices::lun_reply),
    ("nft_reply", devices::nft_reply),
    ("redfish_reply", devices::redfish_reply),
    ("scsi_reply", devices::scsi_reply),
    ("nvme_reply", devices::nvme_reply),
    ("haproxy_reply", devices::haproxy_reply),
    ("switch_reply", devices::switch_reply),
    ("journal_file", palisade::fuzz::journal_file),
    ("journal_line", palisade::fuzz::journal_line),
    ("order_from_afar", palisade::fuzz::order_from_afar),
    ("local_api", palisade::fuzz::local_api),
    ("route_reply", devices::route_reply),
    ("ssh_words", devices::ssh_words),
    ("standing_file", palisade::fuzz::standing_file),
    ("witness_answer", palisade::fuzz::witness_answer),
    ("witness_ask", palisade_witness::fuzz::witness_ask),
    ("witness_config", palisade_witness::fuzz::witness_config),
];
