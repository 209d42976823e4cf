//! What podman is told of a container that was attached: it shows this, and writes the name servers into resolv.conf.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::dhcp::domain_name::DomainName;
use crate::ledger::attached::Attached;
use crate::ledger::record::Record;
use crate::net::mac::MacAddr;
use crate::net::name::IfName;

/// netavark's status block.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    interfaces: BTreeMap<IfName, Interface>,
    dns_server_ips: BTreeSet<IpAddr>,
    dns_search_domains: BTreeSet<DomainName>,
}

#[derive(Debug, Serialize)]
struct Interface {
    mac_address: Option<MacAddr>,
    subnets: Vec<Address>,
}

#[derive(Debug, Serialize)]
struct Address {
    ipnet: IpNet,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

impl Status {
    /// The status of the links of `record`.
    pub(super) fn of(record: &Record) -> Self {
        let all = record.attachments();
        let leases = || all.iter().flat_map(Attached::told_leases);
        Self {
            interfaces: all.iter().map(|attached| (attached.ifname.clone(), interface(attached))).collect(),
            dns_server_ips: leases().flat_map(|lease| lease.dns()).collect(),
            dns_search_domains: leases().flat_map(|lease| lease.search().to_vec()).collect(),
        }
    }
}

fn interface(attached: &Attached) -> Interface {
    let gateway = |net: &IpNet| {
        let is_default = |to: IpNet| to.prefix_len() == 0 && to.addr().is_ipv4() == net.addr().is_ipv4();
        attached.routes.iter().find(|route| is_default(route.to)).and_then(|route| route.via)
    };
    let address = |net: &IpNet| Address { ipnet: *net, gateway: gateway(net) };
    Interface { mac_address: attached.mac, subnets: attached.addresses.iter().map(address).collect() }
}
