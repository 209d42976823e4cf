//! The link of an endpoint: made in the host's namespace, moved by its engine into that of a container and back, deleted here.

use super::apply::{bears, create_link, single};
use super::detach::delete;
use super::netns::NetnsFile;
use crate::error::{self, Error, Result};
use crate::ledger::attached::Attached;
use crate::net::driver::Kind;
use crate::net::link::Link;
use crate::net::mark::Mark;
use crate::net::name::{ContainerId, IfName};
use crate::net::seal::Key;
use crate::netlink::{Socket, message, refused};
use crate::plan::CreateLink;

/// Makes the link of `attached`, down, marked with `mark`, in the namespace of `host`. The seal is one for the host's namespace,
/// `host_netns`: it proves nothing in another one.
///
/// # Errors
/// What was made is left for [`delete_endpoint_link`].
pub(crate) fn make_endpoint_link(
    mark: Mark,
    attached: &Attached,
    key: Option<&Key>,
    host_netns: &NetnsFile,
    host: &mut Socket,
) -> Result<Link> {
    let name = IfName::of_endpoint(&mark.container);
    if host.link(&name)?.is_some() {
        let text = format!("link {name} exists on this host, and is not underlay's");
        return Err(Error::new(error::Kind::Taken, text).hint("rename it, or delete it"));
    }
    let mtu = attached.mtu.or(leased_mtu(attached, host)?);
    let create = CreateLink { name, mtu, ..CreateLink::of(attached, mark.group()) };
    let (link, _) = create_link(&create, None, host, &mut Socket::open()?, host_netns)?;
    let plain = mark.to_string();
    let alias = key.map_or(plain, |key| key.seal(mark, &link, &host_netns.describe(None)).to_string());
    match single(host, message::mark_alone(link.ifindex, &alias)?)? {
        None => Ok(link),
        Some(refusal) => Err(refused(&format!("mark link {}", link.name), &refusal)),
    }
}

/// The MTU of the lease that `attached` has, if its link takes it.
fn leased_mtu(attached: &Attached, host: &mut Socket) -> Result<Option<u32>> {
    let Some(dhcp) = attached.dhcp.as_ref().filter(|dhcp| dhcp.mtu(u32::MAX).is_some()) else {
        return Ok(None);
    };
    let parent = host.link_by_index(attached.parent_index)?;
    Ok(parent.and_then(|parent| dhcp.mtu(parent.mtu)))
}

/// Deletes the link of the endpoint `id`, if it is in the namespace of `host`. Returns true if it was. It is known by its name: a
/// container can change the mark while it has the link, and the engine gives the link its name back.
pub(crate) fn delete_endpoint_link(id: &ContainerId, host: &mut Socket) -> Result<bool> {
    let link = host.link(&IfName::of_endpoint(id))?;
    match link.filter(|link| link.kind.as_deref().is_some_and(|kind| kind.parse::<Kind>().is_ok())) {
        Some(link) => delete(link.ifindex, host).map(|()| true),
        None => Ok(false),
    }
}

/// Returns the link with `mark` in the namespace of `inside`, whatever its name and number are.
pub(crate) fn link_with(mark: &Mark, inside: &mut Socket) -> Result<Option<Link>> {
    Ok(inside.links()?.into_iter().find(|link| bears(link, mark)))
}
