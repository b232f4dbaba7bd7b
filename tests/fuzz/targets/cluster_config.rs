//! The cluster's configuration: any text is a cluster or a message that an operator can use.

use palisade_core::config::Cluster;
use palisade_proto::fuzz::check_words;
use palisade_proto::{MAX_HOSTS, MAX_WORKLOADS};

/// A cluster that is in itself consistent, or an error with a place in the text, short and harmless to a terminal.
pub(crate) fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = Cluster::parse(text, "cluster.toml");
    assert_eq!(read, Cluster::parse(text, "cluster.toml"), "a text means one thing");
    let cluster = match read {
        Ok(cluster) => cluster,
        Err(error) => {
            check_words(&error);
            assert!(!error.what().is_empty());
            if let Some((line, column)) = error.line_column() {
                let longest = text.split('\n').map(|line| line.chars().count()).max().unwrap_or(0);
                assert!((1..=text.split('\n').count()).contains(&line), "line {line}");
                assert!((1..=longest + 1).contains(&column), "column {column}");
            }
            return;
        }
    };
    let hosts = cluster.hosts();
    assert!((1..=MAX_HOSTS).contains(&hosts.len()) && cluster.workloads().len() <= MAX_WORKLOADS);
    for host in hosts {
        assert_eq!(cluster.host(host.id()), Some(host), "an id stands for one host");
        assert_eq!(cluster.host_named(host.name()), Some(host), "a name stands for one host");
        assert_eq!(cluster.host_of_machine(host.machine()), Some(host), "a machine is one host");
        assert!(!host.links().is_empty());
    }
    for workload in cluster.workloads() {
        assert_eq!(cluster.workload(workload.id()), Some(workload));
        assert_eq!(cluster.workload_named(workload.name()), Some(workload));
    }
    let timing = cluster.timing();
    assert!(timing.heartbeat() < timing.suspect() && timing.lease() <= timing.voter_lease());
    assert_eq!(cluster.digest(), cluster.digest());
    cluster.warnings().iter().for_each(check_words);
}
