//! Values of networking: names, addresses, links, routes, frames. Nothing here does anything.

pub mod address_range;
pub mod claim;
pub mod driver;
pub mod frame;
pub mod ipv6;
pub mod link;
pub mod mac;
pub mod mark;
pub mod name;
pub mod neighbour;
pub mod parent;
pub mod route;
pub mod seal;
pub mod subnet;
pub mod tuning;
pub mod vlan;
pub mod ways;
