//! Makes and deletes the host's own links, and its routes to containers.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Instant;

use ipnet::IpNet;
use nix::libc;

use super::apply::{PATIENCE, PAUSE, await_local, single};
use super::detach::delete;
use super::netns::NetnsFile;
use crate::error::{Error, Kind, Result};
use crate::ledger::host_link::{HostLink, HostRoute};
use crate::net::link::Link;
use crate::net::name::IfName;
use crate::netlink::explain;
use crate::netlink::message;
use crate::netlink::{Socket, refused};
use crate::plan::CreateLink;
use crate::plan::host::HostOp;

/// Makes `link` on the host, with its addresses, marked and up. Deletes an older one first. The link gets its
/// name together with the mark, so that a link of that name without the mark is never ours. After an error
/// the link is deleted.
pub(crate) fn make_host_link(link: &HostLink, host_netns: &NetnsFile, host: &mut Socket) -> Result<Link> {
    log::debug!("{}", HostOp::MakeLink(Box::new(link.clone())));
    delete_host_link(link, host)?;
    refuse_taken(link, host)?;
    let create = CreateLink::of_host(link);
    let temporary = CreateLink { name: link.born_as.clone(), ..create.clone() };
    if let Some(refusal) = single(host, message::create_link(&temporary, host_netns.as_fd())?)? {
        return Err(explain::create_link(&create, &refusal));
    }
    let made = finish(link, host_netns, host);
    if made.is_err() {
        if let Err(error) = delete_host_link(link, host) {
            log::warn!("{} was made and could not be deleted: {error}", link.name);
        }
    }
    made
}

fn finish(link: &HostLink, host_netns: &NetnsFile, host: &mut Socket) -> Result<Link> {
    let gone = || Error::input(format!("{} was made and is gone", link.name));
    let Link { ifindex, .. } = host.link(&link.born_as)?.ok_or_else(gone)?;
    // The thread of a hook is in the container's namespace, and so is its /proc/sys.
    host_netns.inside(|| set_sysctls(&link.sysctls(&link.born_as)))?;
    for &address in &link.addresses {
        add_address(link, ifindex, address, host)?;
    }
    if let Some(refusal) = single(host, message::name_and_mark(ifindex, &link.name, &link.mark())?)? {
        let error = refused(&format!("name the host's link {}", link.name), &refusal);
        return Err(error.hint("a link of that name may be there: see it with `ip link`"));
    }
    if let Some(refusal) = single(host, message::set_up(ifindex, &link.mark())?)? {
        return Err(refused(&format!("set {} up", link.name), &refusal));
    }
    await_local(link.addresses.iter().copied().filter(IpAddr::is_ipv6), host)?;
    host.link_by_index(ifindex)?.ok_or_else(gone)
}

/// Adds an address to the host's link. Retries while a dying namespace still holds the address on an ipvlan
/// parent.
fn add_address(link: &HostLink, ifindex: u32, address: IpAddr, host: &mut Socket) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while let Some(refusal) = single(host, message::add_host_address(ifindex, address)?)? {
        if refusal.errno != libc::EADDRINUSE || Instant::now() >= until {
            let error =
                refused(&format!("give the host's link {} the address {address}", link.name), &refusal);
            return Err(
                error.hint("something on its parent may have it: name another address in host_access")
            );
        }
        thread::sleep(PAUSE);
    }
    Ok(())
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

/// Writes `settings` in the namespace of this thread. Sysctls that the kernel lacks, or that are read-only,
/// are skipped.
fn set_sysctls(settings: &[(String, &str)]) -> Result<()> {
    for (setting, value) in settings {
        let path = format!("/proc/sys/net/{setting}");
        match fs::write(&path, value) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                log::debug!("{path}: {error}");
            }
            written => written.map_err(|error| Error::io("write", path.as_ref(), &error))?,
        }
    }
    Ok(())
}

/// Deletes the host's link, complete or half made. A link that is not ours is left alone.
pub(crate) fn delete_host_link(link: &HostLink, host: &mut Socket) -> Result<()> {
    for name in [&link.name, &link.born_as] {
        let Some(found) = host.link(name)? else { continue };
        // A link without a mark is ours only if it has the temporary name.
        if link.is(&found) || found.name == link.born_as.as_str() {
            log::debug!("{}", HostOp::DeleteLink(name.clone()));
            delete(found.ifindex, host)?;
        } else {
            log::info!("link {name} is not the host's of network {}: left alone", link.network);
        }
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
    // The kernel does not answer an empty datagram.
    if routes.is_empty() {
        return Ok(());
    }
    let messages = routes.iter().map(|route| message::add_host_route(ifindex, *route));
    let answers = host.transact(messages.collect::<Result<_>>()?)?;
    let mut known = None;
    for (route, refusal) in routes.iter().zip(answers) {
        log::debug!("{}", HostOp::AddRoute(link.clone(), *route));
        let Some(refusal) = refusal else { continue };
        if refusal.errno != libc::EEXIST {
            return Err(refused(&format!("route {} by {link}", route.to), &refusal));
        }
        let known = match &mut known {
            Some(known) => known,
            none => none.insert(host.routes_of(ifindex, None)?),
        };
        if !known.iter().any(|known| known.to == IpNet::from(route.to)) {
            let text = format!("the host has a route to {} already, and not by {link} ({refusal})", route.to);
            return Err(Error::new(Kind::Taken, text).hint(format!(
                "see it with `ip route get {}`; delete it, or have the container ask for another address",
                route.to
            )));
        }
        delete_host_routes(link, ifindex, &[route.to], host)?;
        if let Some(refusal) = single(host, message::add_host_route(ifindex, *route)?)? {
            return Err(refused(&format!("route {} by {link}", route.to), &refusal));
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
    if routes.is_empty() {
        return Ok(());
    }
    let messages = routes.iter().map(|&to| message::delete_host_route(ifindex, to));
    let answers = host.transact(messages.collect::<Result<_>>()?)?;
    for (&to, refusal) in routes.iter().zip(answers) {
        log::debug!("{}", HostOp::DeleteRoute(link.clone(), to));
        match refusal {
            Some(refusal) if ![libc::ESRCH, libc::ENODEV].contains(&refusal.errno) => {
                return Err(refused(&format!("delete the route to {to} by {link}"), &refusal));
            }
            _ => {}
        }
    }
    Ok(())
}
