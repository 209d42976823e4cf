//! A link of its own in a namespace of its own, for a while: what a new container would hear, and what one that is gone would say.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;

use super::apply;
use super::detach;
use super::netns::NetnsFile;
use super::packet_socket::PacketSocket;
use crate::error::{Error, Kind, Result};
use crate::net::link::Link;
use crate::netlink::{Socket, is_address_in_use};
use crate::plan::LinkPlan;

/// How long the kernel may take to delete a link with its namespace.
const GONE: Duration = Duration::from_secs(2);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Makes the link of `plan` in a new namespace, and opens packet sockets on it for `addresses`. The kernel deletes link and
/// namespace when the sockets are closed, also by a kill. `host` is a socket of the host's namespace.
pub(crate) fn open_apart(plan: &LinkPlan, addresses: &[IpAddr], host: &mut Socket) -> Result<PacketSocket> {
    // If it were opened later, it would be one of the new namespace.
    host.connect()?;
    NetnsFile::thrown_away(|| {
        let made = make(plan, host, &mut Socket::open()?)?;
        let mac = made.mac.ok_or_else(|| {
            Error::input(format!("link {} was made and has no MAC address", plan.create.name))
        })?;
        PacketSocket::open(made.ifindex, mac, addresses)
    })
}

/// Runs `work` on a thread in a new namespace, which has the link of `plan` alone. One that has, or had, the same place on the parent
/// or the same MAC address must be gone. `host` is a socket of the host's namespace.
pub(crate) fn with_link_apart<T: Send>(
    plan: &LinkPlan,
    host: &mut Socket,
    work: impl FnOnce(&Link) -> Result<T> + Send,
) -> Result<T> {
    host.connect()?;
    NetnsFile::thrown_away(|| {
        let mut inside = Socket::open()?;
        let until = Instant::now() + GONE;
        let made = loop {
            match make(plan, host, &mut inside) {
                Err(error) if is_in_the_way(plan, &error) && Instant::now() < until => thread::sleep(PAUSE),
                made => break made?,
            }
        };
        let worked = work(&made);
        // The kernel takes the namespace apart later, and the link would answer, and have its MAC address, until then.
        detach::delete(made.ifindex, &mut inside)?;
        worked
    })
}

fn make(plan: &LinkPlan, host: &mut Socket, inside: &mut Socket) -> Result<Link> {
    let made = apply::attach(std::slice::from_ref(plan), None, host, inside, &NetnsFile::own()?)?;
    let (links, _) = made;
    links.into_iter().next().ok_or_else(|| Error::bug("a link was made, and is not known"))
}

/// Whether `error` is that of a link which the kernel may be deleting: a passthru link has its parent alone.
fn is_in_the_way(plan: &LinkPlan, error: &Error) -> bool {
    is_address_in_use(error) || plan.create.driver.is_alone() && error.kind() == Kind::Kernel(libc::EINVAL)
}
