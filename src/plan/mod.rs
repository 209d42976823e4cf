//! Plans: steps as values. `kernel` carries them out. `line` returns the equivalent command, which `plan`,
//! `gc --dry-run` and `boot` print.
//!
//! `container.rs` is about a container's network namespace, `host.rs` about the host's.

mod configure;
mod container;
mod create_link;
pub(crate) mod host;
pub(crate) mod persistent;

use std::fmt::Display;
use std::net::IpAddr;

use crate::escape::shell::Line;
use crate::net::name::IfName;

pub(crate) use configure::Configure;
pub(crate) use container::*;
pub(crate) use create_link::CreateLink;

/// Returns `ip` for the family of `address`; IPv4 needs no option.
fn ip(address: IpAddr) -> Line {
    if address.is_ipv4() { Line::of("ip") } else { Line::of("ip -6") }
}

/// Marks `link` and sets it up.
fn set_up(link: &IfName, mark: &dyn Display) -> Line {
    Line::of("ip link set").named("dev", link).text("alias").word(mark).text("up")
}
