//! The leases of DHCP servers, as `underlay inspect` and `underlay ps` show them.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use serde::Serialize;

use crate::dhcp::client_id::ClientId;
use crate::dhcp::domain_name::DomainName;
use crate::ledger::attached::Attached;
use crate::ledger::dhcp_link::DhcpLink;
use crate::ledger::wall_clock::rfc3339;
use crate::net::name::{IfName, NetworkName};

/// What a link has by DHCP, or asks for. Times are RFC 3339.
#[derive(Serialize)]
pub(super) struct Lease<'a> {
    network: &'a NetworkName,
    ifname: &'a IfName,
    state: State,
    client_id: &'a ClientId,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_name: Option<&'a DomainName>,
    /// Why it has none, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<&'a str>,
    #[serde(flatten)]
    given: Option<Given<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Leased,
    Asking,
}

/// What a server has given.
#[derive(Serialize)]
struct Given<'a> {
    address: IpNet,
    server: Ipv4Addr,
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
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    dns: &'a [Ipv4Addr],
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a DomainName>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    search: &'a [DomainName],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ntp: &'a [Ipv4Addr],
}

/// The leases of `attachments`.
pub(super) fn of(attachments: &[Attached]) -> Vec<Lease<'_>> {
    attachments.iter().filter_map(shown).collect()
}

fn shown(attached: &Attached) -> Option<Lease<'_>> {
    let dhcp = attached.dhcp.as_ref()?;
    let given = given(dhcp);
    Some(Lease {
        network: &attached.network,
        ifname: &attached.ifname,
        state: if given.is_some() { State::Leased } else { State::Asking },
        client_id: &dhcp.client_id,
        host_name: dhcp.host_name.as_ref(),
        trouble: dhcp.trouble.as_deref(),
        given,
    })
}

fn given(dhcp: &DhcpLink) -> Option<Given<'_>> {
    let lease = dhcp.lease.as_ref()?;
    let limits = lease.times.limits;
    Some(Given {
        address: lease.address.into(),
        server: lease.server,
        since: rfc3339(lease.times.obtained),
        renewal: limits.map(|limits| rfc3339(limits.t1)),
        rebinding: limits.map(|limits| rfc3339(limits.t2)),
        until: limits.map(|limits| rfc3339(limits.expiry)),
        dns: &lease.dns,
        domain: lease.domain.as_ref(),
        search: &lease.search,
        ntp: &lease.ntp,
    })
}
