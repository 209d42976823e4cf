//! The leases of DHCP servers, as `underlay inspect` and `underlay ps` show them.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::dhcp::client_id::{ClientId, Duid};
use crate::dhcp::domain_name::DomainName;
use crate::dhcp::lease::{Family, Lease as Leased, Server};
use crate::ledger::attached::Attached;
use crate::ledger::segment_hints::since_boot;
use crate::ledger::wall_clock::rfc3339;
use crate::net::name::{IfName, NetworkName};

/// What a link has by DHCP, or asks for. Times are RFC 3339.
#[derive(Serialize)]
pub(super) struct Lease<'a> {
    network: &'a NetworkName,
    ifname: &'a IfName,
    state: State,
    /// How the server knows the client: by its client id, or its DUID with DHCPv6.
    client_id: Client<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_name: Option<&'a DomainName>,
    /// Why it has none, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<&'a str>,
    #[serde(flatten)]
    given: Option<Given>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Leased,
    /// No agent has renewed it in time.
    Expired,
    Asking,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Client<'a> {
    V4(&'a ClientId),
    V6(&'a Duid),
}

/// What a server has given.
#[derive(Serialize)]
struct Given {
    address: IpNet,
    server: Server,
    /// When it was given, or renewed last.
    since: String,
    /// When it is renewed (T1); not for one without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal: Option<String>,
    /// When any server is asked to renew it (T2).
    #[serde(skip_serializing_if = "Option::is_none")]
    rebinding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dns: Vec<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<DomainName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    search: Vec<DomainName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ntp: Vec<IpAddr>,
}

/// The leases of `attachments`.
pub(super) fn of(attachments: &[Attached]) -> Vec<Lease<'_>> {
    attachments.iter().flat_map(|attached| [v4(attached), v6(attached)]).flatten().collect()
}

fn v4(attached: &Attached) -> Option<Lease<'_>> {
    let dhcp = attached.dhcp.as_ref()?;
    let (client, name) = (Client::V4(&dhcp.client_id), dhcp.host_name.as_ref());
    Some(shown(attached, Family::V4, client, name, dhcp.trouble.as_deref()))
}

fn v6(attached: &Attached) -> Option<Lease<'_>> {
    let dhcp = attached.dhcp6.as_ref()?;
    let (client, name) = (Client::V6(&dhcp.duid), dhcp.host_name.as_ref());
    Some(shown(attached, Family::V6, client, name, dhcp.trouble.as_deref()))
}

fn shown<'a>(
    attached: &'a Attached,
    family: Family,
    client_id: Client<'a>,
    host_name: Option<&'a DomainName>,
    trouble: Option<&'a str>,
) -> Lease<'a> {
    let lease = attached.dhcp_lease(family);
    let state = match &lease {
        Some(lease) if lease.times().is_over(since_boot()) => State::Expired,
        Some(_) => State::Leased,
        None => State::Asking,
    };
    Lease {
        network: &attached.network,
        ifname: &attached.ifname,
        state,
        client_id,
        host_name,
        trouble,
        given: lease.map(given),
    }
}

fn given(lease: Leased) -> Given {
    let (times, address, server, dns) = (lease.times().clone(), lease.address(), lease.server(), lease.dns());
    let (domain, search, ntp): (_, _, Vec<IpAddr>) = match lease {
        Leased::V4(lease) => (lease.domain, lease.search, lease.ntp.into_iter().map(IpAddr::from).collect()),
        Leased::V6(lease) => (None, lease.search, lease.ntp.into_iter().map(IpAddr::from).collect()),
    };
    let limits = times.limits;
    Given {
        address,
        server,
        since: rfc3339(times.obtained),
        renewal: limits.map(|limits| rfc3339(limits.t1)),
        rebinding: limits.map(|limits| rfc3339(limits.t2)),
        until: limits.map(|limits| rfc3339(limits.expiry)),
        dns,
        domain,
        search,
        ntp,
    }
}
