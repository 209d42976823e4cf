//! `underlay doctor`: everything between the kernel and the engines is examined, one area after the other. Nothing is
//! changed, and nothing is sent.

use std::collections::BTreeSet;

use crate::diagnose::finding::Finding;
use crate::diagnose::system::System;
use crate::diagnose::{agent, containers, docker, hooks, leases, modules, networks, parents, state};
use crate::error::Result;
use crate::ledger::Store;
use crate::netlink::Socket;

/// Everything that is found wrong, by area, the worst first. Two networks on one parent have the same findings of it, which
/// are told once.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn doctor(store: &Store, system: &System) -> Result<Vec<Finding>> {
    let mut host = Socket::open()?;
    let (defined, mut findings) = networks::networks(store, &mut host)?;
    let links = host.links()?;
    findings.extend(modules::modules(&defined)?);
    findings.extend(parents::parents(store, &defined, &links));
    findings.extend(containers::containers(store, &defined, &links, &mut host)?);
    findings.extend(hooks::hooks(system));
    findings.extend(hooks::of_cdi(system));
    findings.extend(docker::docker(store, system, !defined.is_empty()));
    findings.extend(agent::agent(store, system));
    findings.extend(leases::leases(store, system, &links));
    findings.extend(state::state(store));
    let mut told = BTreeSet::new();
    findings.retain(|finding| told.insert((finding.id, finding.what.clone(), finding.fix.to_string())));
    findings.sort_by_key(|finding| (finding.subject, finding.severity));
    Ok(findings)
}
