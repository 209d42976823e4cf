//! Makes and deletes the host's own links, and its routes to containers.

use std::net::IpAddr;

use nix::libc;

use super::apply::{attach_to_host, single};
use super::detach::delete;
use super::netns::NetnsFile;
use crate::error::{Error, Kind, Result};
use crate::ledger::host_link::{HostLink, HostRoute};
use crate::net::link::Link;
use crate::net::name::IfName;
use crate::netlink::message;
use crate::netlink::reply::Refusal;
use crate::netlink::{Socket, refused};
use crate::plan::LinkPlan;
use crate::plan::host::HostOp;

/// Makes `link` on the host, with its addresses, marked and up. Deletes an older one first. After an error the link is
/// deleted.
pub(crate) fn make_host_link(link: &HostLink, host_netns: &NetnsFile, host: &mut Socket) -> Result<Link> {
    delete_host_link(link, host)?;
    refuse_taken(link, host)?;
    let made = attach_to_host(&LinkPlan::of_host(link), host, host_netns);
    if made.is_err() {
        if let Err(error) = delete_host_link(link, host) {
            log::warn!("{} was made and could not be deleted: {error}", link.name);
        }
    }
    made
}

/// Returns an error if another link of the host has one of the addresses.
fn refuse_taken(link: &HostLink, host: &mut Socket) -> Result<()> {
    let taken = host.addresses()?.into_iter().find(|address| link.addresses.contains(address));
    let Some(address) = taken else { return Ok(()) };
    let text =
        format!("address {address}, the host's in network {}, is on another link of the host", link.network);
    Err(Error::new(Kind::Taken, text)
        .hint("name an address in host_access that the host does not have, or none to have one picked"))
}

/// Deletes the host's link, complete or half made, whatever its name is. A link that is not ours is left alone.
pub(crate) fn delete_host_link(link: &HostLink, host: &mut Socket) -> Result<()> {
    for found in host.links()?.iter().filter(|found| link.is(found)) {
        log::debug!("{}", HostOp::DeleteLink(link.name.clone()));
        delete(found.ifindex, host)?;
    }
    Ok(())
}

/// Adds routes by the host's link with the number `ifindex`. An existing one is replaced. It is an error if
/// the host has a route to a container by another link.
pub(crate) fn add_host_routes(
    link: &IfName,
    ifindex: u32,
    routes: &[HostRoute],
    host: &mut Socket,
) -> Result<()> {
    for &route in routes {
        log::debug!("{}", HostOp::AddRoute(link.clone(), route));
        let to = route.to;
        let mut refusal = single(host, message::add_host_route(ifindex, route)?)?;
        if matches!(refusal, Some(Refusal { errno: libc::EEXIST, .. })) {
            delete_host_routes(link, ifindex, &[to], host)?;
            refusal = single(host, message::add_host_route(ifindex, route)?)?;
        }
        match refusal {
            None => {}
            Some(refusal) if refusal.errno == libc::EEXIST => {
                let text = format!("the host has a route to {to} already, and not by {link} ({refusal})");
                return Err(Error::new(Kind::Taken, text).hint(format!(
                    "see it with `ip route get {to}`; delete it, or have the container ask for another address"
                )));
            }
            Some(refusal) => return Err(refused(&format!("route {to} by {link}"), &refusal)),
        }
    }
    Ok(())
}

/// Deletes routes by the host's link with the number `ifindex`. A missing one is not an error.
pub(crate) fn delete_host_routes(
    link: &IfName,
    ifindex: u32,
    routes: &[IpAddr],
    host: &mut Socket,
) -> Result<()> {
    for &to in routes {
        log::debug!("{}", HostOp::DeleteRoute(link.clone(), to));
        match single(host, message::delete_host_route(ifindex, to)?)? {
            Some(Refusal { errno: libc::ESRCH | libc::ENODEV, .. }) | None => {}
            Some(refusal) => return Err(refused(&format!("delete the route to {to} by {link}"), &refusal)),
        }
    }
    Ok(())
}
