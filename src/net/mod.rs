//! Values of networking: names, addresses, links, marks, routes, frames. They are checked when they are made. No I/O.

pub(crate) mod arp_nd;
pub(crate) mod checksum;
pub(crate) mod driver;
pub(crate) mod host_routing;
pub(crate) mod ipv6;
pub(crate) mod lease_key;
pub(crate) mod link;
pub(crate) mod link_options;
pub(crate) mod mac;
pub(crate) mod mark;
pub(crate) mod name;
pub(crate) mod neighbour;
pub(crate) mod netns;
pub(crate) mod parent;
pub(crate) mod route;
pub(crate) mod seal;
pub(crate) mod special_purpose;
pub(crate) mod subnet;
pub(crate) mod trunk;
pub(crate) mod value;
pub(crate) mod vlan;
