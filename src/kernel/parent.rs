//! Makes and deletes parents on the host: VLAN sub-interfaces and dummy links.

use std::path::Path;

use super::apply::single;
use super::detach::delete;
use crate::error::{Error, Result};
use crate::net::link::Link;
use crate::net::mark;
use crate::net::parent::{MadeParent, ParentSpec};
use crate::netlink::Socket;
use crate::netlink::explain;
use crate::netlink::message;
use crate::plan::host::HostOp;

/// Makes `parent` on the host, marks it as ours and sets it up. It gets its name together with the mark, so
/// that a link of that name without the mark is never ours. After an error the link is deleted.
pub(crate) fn make_parent(parent: &MadeParent, base: Option<&Link>, host: &mut Socket) -> Result<Link> {
    let op = HostOp::MakeParent { name: parent.name.clone(), recipe: parent.recipe.clone() };
    log::debug!("{op}");
    let create = match (&parent.recipe, base) {
        (ParentSpec::Vlan { id, protocol, .. }, Some(base)) => {
            message::create_vlan(&parent.born_as, base.ifindex, *id, *protocol)?
        }
        (ParentSpec::Vlan { .. }, None) => return Err(Error::bug(format!("{} has no base", parent.name))),
        (ParentSpec::Dummy, _) => message::create_dummy(&parent.born_as)?,
    };
    // Left by a killed process.
    if let Some(left) = host.link(&parent.born_as)? {
        delete(left.ifindex, host)?;
    }
    if let Some(refusal) = single(host, create)? {
        return Err(explain::make_parent(parent, &op, &refusal));
    }
    let link = host.link(&parent.born_as)?;
    let link = link.ok_or_else(|| Error::input(format!("{} was made and is gone", parent.name)))?;
    let finished = finish(&op, &link, parent, host);
    if finished.is_err() {
        if let Err(error) = delete(link.ifindex, host) {
            log::warn!("{} was made and could not be deleted: {error}", parent.born_as);
        }
    }
    finished
}

fn finish(op: &HostOp, link: &Link, parent: &MadeParent, host: &mut Socket) -> Result<Link> {
    if let Some(refusal) = single(host, message::name_and_mark(link.ifindex, &parent.name, mark::PARENT)?)? {
        return Err(explain::make_parent(parent, op, &refusal));
    }
    match single(host, message::set_up(link.ifindex, mark::PARENT)?)? {
        // A VLAN cannot be up while its base is down; the kernel sets it up with its base.
        Some(refusal) if refusal.errno == nix::libc::ENETDOWN => {
            log::warn!("{} is down until its base is set up", parent.name);
        }
        Some(refusal) => return Err(explain::make_parent(parent, op, &refusal)),
        None => {}
    }
    let link = host.link_by_index(link.ifindex)?;
    link.ok_or_else(|| Error::input(format!("{} was made and is gone", parent.name)))
}

/// Returns true if the host's `link` is wireless. Only sysfs says that. Links with an `IFLA_INFO_KIND` are
/// virtual.
pub(crate) fn is_wireless(link: &Link) -> bool {
    link.kind.is_none() && Path::new("/sys/class/net").join(&link.name).join("phy80211").exists()
}

/// Deletes a half-made `parent` that a killed process has left. The parent itself stays.
pub(crate) fn delete_leftover(parent: &MadeParent, host: &mut Socket) -> Result<()> {
    match host.link(&parent.born_as)?.filter(|left| parent.has_left(left)) {
        Some(left) => {
            log::debug!("{}", HostOp::DeleteParent(parent.born_as.clone()));
            delete(left.ifindex, host)
        }
        None => Ok(()),
    }
}

/// Deletes `parent`, if it is still the link that was made.
pub(crate) fn delete_parent(parent: &MadeParent, host: &mut Socket) -> Result<()> {
    for name in [&parent.name, &parent.born_as] {
        let Some(link) = host.link(name)? else { continue };
        // A link without a mark is ours only if it has the temporary name.
        if parent.is(&link) || link.name == parent.born_as.as_str() {
            log::debug!("{}", HostOp::DeleteParent(name.clone()));
            delete(link.ifindex, host)?;
        } else {
            log::info!("link {name} is not the one that was made: left alone");
        }
    }
    Ok(())
}
