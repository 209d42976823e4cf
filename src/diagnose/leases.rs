//! The leases of DHCP servers: whether containers have theirs, and whether they are renewed. No server is asked.

use std::time::Duration;

use crate::dhcp::lease::{Family, Lease};
use crate::diagnose::agent;
use crate::diagnose::finding::{Area, Finding, Fix, Severity};
use crate::diagnose::system::System;
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::attached::Attached;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::since_boot;
use crate::ledger::wall_clock::rfc3339;
use crate::net::link::Link;

/// What keeps the containers that run from addresses by DHCP. `links` are the host's. A ledger that cannot be read is a finding of
/// its own.
pub(super) fn leases(store: &Store, system: &System, links: &[Link]) -> Vec<Finding> {
    let records = store.records().map(|records| records.sound).unwrap_or_default();
    let is_there =
        |record: &&Record| record.has_dhcp() && record.is_attached() && kernel::is_alive(&record.holder);
    let records: Vec<_> = records.iter().filter(is_there).collect();
    if records.is_empty() {
        return Vec::new();
    }
    let has_agent = store.has_agent().unwrap_or_default();
    let mut findings = Vec::from_iter((!has_agent).then(|| not_renewed(system, &records)));
    for record in records {
        for attached in record.attachments() {
            let parent = links.iter().find(|link| link.ifindex == attached.parent_index);
            if attached.is_asking() {
                findings.push(no_lease(record, attached, parent));
            }
            let troubled = |lease: Lease| match has_agent {
                true => unanswered(record, attached, &lease),
                false => expired(system, record, attached, &lease),
            };
            findings.extend(attached.dhcp_leases().filter_map(troubled));
        }
    }
    findings
}

/// No agent runs.
fn not_renewed(system: &System, records: &[&Record]) -> Finding {
    let is_client = |attached: &&Attached| attached.dhcp_families().next().is_some();
    let clients = records.iter().flat_map(|record| record.attachments()).filter(is_client);
    let leases = clients.clone().flat_map(Attached::dhcp_leases);
    let ends = leases.filter_map(|lease| lease.times().limits).map(|limits| limits.expiry);
    let first = ends.min().map(|end| match end.saturating_sub(since_boot()) {
        Duration::ZERO => format!("; the first lease ended at {}", rfc3339(end)),
        _ => format!("; the first lease ends at {}", rfc3339(end)),
    });
    let count = clients.count();
    let links = if count == 1 {
        "one link has its address".to_owned()
    } else {
        format!("{count} links have addresses")
    };
    Finding::new(
        (Area::Agent, Severity::Warning, "lease-renewal"),
        format!("no agent runs, and {links} by DHCP{}", first.unwrap_or_default()),
        "only the agent renews leases and asks for those that are missing; the kernel takes an address away when its lease is over",
        run_agent(system),
    )
}

fn run_agent(system: &System) -> Fix {
    agent::units_fix(system).unwrap_or_else(|| {
        "have the host's service manager run `underlay agent`, and start it again when it ends; or cron `underlay agent --once`"
            .into()
    })
}

/// A lease that has ended without an agent, so that the ledger still has it.
fn expired(system: &System, record: &Record, attached: &Attached, lease: &Lease) -> Option<Finding> {
    let limits = lease.times().limits.filter(|limits| limits.expiry <= since_boot())?;
    Some(Finding::new(
        (Area::Containers, Severity::Error, "lease-expired"),
        format!(
            "container {} has lost {} of network {}: its DHCP lease ended at {}",
            record.container,
            lease.address().addr(),
            attached.network,
            rfc3339(limits.expiry)
        ),
        "no agent has renewed it, and the kernel has taken the address away",
        run_agent(system),
    ))
}

/// A container that has no address. What is said of the network is what can be seen from here.
fn no_lease(record: &Record, attached: &Attached, parent: Option<&Link>) -> Finding {
    let trouble = attached.dhcp.as_ref().and_then(|dhcp| dhcp.trouble.as_deref());
    let trouble = trouble.unwrap_or("no DHCP server has answered yet");
    let (network, parent_name) = (&attached.network, &attached.parent);
    let why = match parent.is_some_and(Link::is_connected) {
        false => format!("parent {parent_name} is not connected, so no server hears the container; the agent asks again when it is"),
        true => "a server is silent if its range is used up or it does not know the client; a switch drops frames until its port \
                 forwards (spanning tree), and for good those of MAC addresses that it does not allow, as virtual switches do"
            .to_owned(),
    };
    Finding::new(
        (Area::Containers, Severity::Error, "no-lease"),
        format!("container {} has no address of network {network} by DHCP: {trouble}", record.container),
        why,
        format!(
            "look at what is asked and answered with `tcpdump -eni {parent_name} {}`, and at the log of the server",
            Family::V4.ports()
        ),
    )
}

/// A lease that no server renews, though the agent asks all of them.
fn unanswered(record: &Record, attached: &Attached, lease: &Lease) -> Option<Finding> {
    let limits = lease.times().limits.filter(|limits| limits.t2 <= since_boot())?;
    let (address, server) = (lease.address().addr(), lease.server());
    Some(Finding::new(
        (Area::Containers, Severity::Warning, "lease-unanswered"),
        format!(
            "no DHCP server renews {address} of container {}, not {server} either, which gave it; it ends at {}",
            record.container,
            rfc3339(limits.expiry)
        ),
        "the container loses the address then",
        format!(
            "see whether {server} runs, and what it answers: `tcpdump -eni {} {}`",
            attached.parent,
            lease.family().ports()
        ),
    ))
}
