//! What the fuzzing of the agent calls (tests/fuzz): each function takes bytes from outside and panics if a property that
//! must hold for all of them does not.

pub use crate::afar::fuzz::order_from_afar;
pub use crate::api::fuzz::local_api;
pub use crate::certificate::fuzz::fence_certificate;
pub use crate::journal::fuzz::{journal_file, journal_line};
pub use crate::link::fuzz::heartbeat_sealed;
pub use crate::standing::fuzz::standing_file;
pub use crate::witness::fuzz::witness_answer;

use std::sync::OnceLock;

use palisade_core::config::Cluster;

/// Three hosts with a power device each, the witness, a storage and a workload.
#[expect(clippy::panic, reason = "a constant of this program")]
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let mut text = "[cluster]\nname = \"t\"\nkeys = [ { id = 1, file = \"/k\" } ]\n\
             [witness]\nbroker = \"mqtt://10.0.0.9\"\nkeys = [ { id = 1, file = \"/w\" } ]\n"
            .to_owned();
        for (name, n) in [("a", 1), ("b", 2), ("c", 3)] {
            text += &format!(
                "[[host]]\nid = {}\nname = \"{name}\"\nmachine = \"4c4c4544-0051-3510-8052-00000000000{n}\"\n\
                 links = [\"10.0.0.{n}:7411\"]\n[[device]]\nname = \"bmc-{name}\"\nkind = \"ipmi\"\nfences = \"{name}\"\n\
                 address = \"10.0.1.{n}:623\"\nuser = \"u\"\npassword = {{ file = \"/p\" }}\n\
                 guid = \"a123456789abcdefa123456789abcd0{n}\"\n",
                n - 1
            );
        }
        text += "[[workload]]\nid = 0\nname = \"w\"\nhosts = [\"a\", \"b\"]\n[workload.command]\nstart = [\"/s\"]\n\
             stop = [\"/s\"]\nstatus = [\"/s\"]\n";
        Cluster::parse(&text, "fuzz").unwrap_or_else(|error| panic!("{error}"))
    })
}
