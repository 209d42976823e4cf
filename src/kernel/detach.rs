//! Detach: deletes the links of a container, and what would outlive them.

use nix::libc;

use super::apply::{bears, single};
use crate::error::Result;
use crate::net::link::Link;
use crate::netlink::message;
use crate::netlink::reply::Refusal;
use crate::netlink::{Socket, explain, refused};
use crate::plan::persistent::Persistent;
use crate::plan::{OurLink, Removal};

/// What a detach has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detached {
    /// All links, and it has deleted them.
    All,
    /// A link where one was made, but not all of ours: others may be elsewhere, or bear another mark.
    Part,
    /// No link: the namespace is gone, or is being taken apart.
    Nothing,
}

/// Carries out the plan of a detach in the container's namespace, which is that of `socket`; or in the one that the host,
/// whose socket this is, knows by the number `nsid`: then nothing leads into it, and rules and routes go with it. Deletes
/// each link that still exists and is ours by kind and mark, or by kind and the mark's group if it was never marked. Other
/// links are left alone. Persistent rules and routes are deleted if their protocol is ours. An error does not keep the rest
/// from being deleted.
pub(crate) fn detach(plan: &[Removal], nsid: Option<i32>, socket: &mut Socket) -> Result<Detached> {
    let mut links = Links { socket, nsid, all: None, any: false, deleted: 0 };
    let mut outcome = Ok(());
    for step in plan {
        let done = match step {
            Removal::Link(ours) => links.delete(step, ours),
            Removal::Persistent(_) if nsid.is_some() => Ok(()),
            Removal::Persistent(persistent) => delete_persistent(step, persistent, links.socket),
        };
        outcome = done.and(outcome);
    }
    let made = plan.iter().filter(|step| matches!(step, Removal::Link(_))).count();
    outcome.map(|()| match links.any {
        true if links.deleted == made => Detached::All,
        true => Detached::Part,
        false => Detached::Nothing,
    })
}

/// Returns true if a link of the detach plan `plan` exists in the namespace that `host` knows by the number `nsid`.
pub(crate) fn has_links(plan: &[Removal], nsid: i32, host: &mut Socket) -> Result<bool> {
    let mut links = Links { socket: host, nsid: Some(nsid), all: None, any: false, deleted: 0 };
    for step in plan {
        let Removal::Link(ours) = step else { continue };
        if links.find(ours)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The links in the namespace of `socket`, or in the one that this knows by the number `nsid`.
struct Links<'a> {
    socket: &'a mut Socket,
    nsid: Option<i32>,
    /// All of them, once they are needed: after a killed attach, whose links may have any name.
    all: Option<Vec<Link>>,
    /// True if there was a link where one was made, ours or not.
    any: bool,
    /// How many of ours were deleted.
    deleted: usize,
}

impl Links<'_> {
    /// Returns the link `ours`.
    fn find(&mut self, ours: &OurLink) -> Result<Option<Link>> {
        if let Some(ifindex) = ours.ifindex {
            let link = match self.nsid {
                Some(nsid) => self.socket.link_in(nsid, ifindex)?,
                None => self.socket.link_by_index(ifindex)?,
            };
            self.any |= link.is_some();
            return Ok(link.filter(|link| {
                let is_ours = is_ours(link, ours);
                if !is_ours {
                    log::info!("link {} is not {}, which was made: left alone", link.name, ours.name);
                }
                is_ours
            }));
        }
        let all = match (self.all.take(), self.nsid) {
            (Some(all), _) => all,
            (None, Some(nsid)) => self.socket.links_in(nsid)?,
            (None, None) => self.socket.links()?,
        };
        self.any |= !all.is_empty();
        Ok(self.all.insert(all).iter().find(|link| is_ours(link, ours)).cloned())
    }

    fn delete(&mut self, step: &Removal, ours: &OurLink) -> Result<()> {
        let Some(Link { ifindex, .. }) = self.find(ours)? else { return Ok(()) };
        log::debug!("{}", step.line());
        delete_in(self.nsid, ifindex, self.socket)?;
        self.deleted += 1;
        Ok(())
    }
}

fn delete_persistent(step: &Removal, persistent: &Persistent, inside: &mut Socket) -> Result<()> {
    log::debug!("{}", step.line());
    let message = match persistent {
        Persistent::Rule { from, table } => message::delete_rule(*from, *table)?,
        Persistent::Route { route, table } => message::delete_route(None, *route, *table)?,
    };
    match single(inside, message)? {
        // Deleted before, never made, or not ours; or the namespace has no IPv6.
        Some(Refusal { errno: libc::ENOENT | libc::ESRCH | libc::EAFNOSUPPORT, .. }) | None => Ok(()),
        Some(refusal) => Err(explain::removal(step, &refusal)),
    }
}

fn is_ours(link: &Link, OurLink { kind, mark, .. }: &OurLink) -> bool {
    let known = match &link.alias {
        // The ledger has the same mark, so no seal is needed.
        Some(_) => bears(link, mark),
        None => link.group == mark.group(),
    };
    known && link.kind.as_deref() == Some(&kind.to_string())
}

/// Deletes a link. A missing one is not an error.
pub(super) fn delete(ifindex: u32, socket: &mut Socket) -> Result<()> {
    delete_in(None, ifindex, socket)
}

fn delete_in(nsid: Option<i32>, ifindex: u32, socket: &mut Socket) -> Result<()> {
    match single(socket, message::delete_link(ifindex, nsid)?)? {
        // Deleted with its namespace, or by another process.
        Some(Refusal { errno: libc::ENODEV | libc::EINVAL, .. }) | None => Ok(()),
        Some(refusal) => Err(refused(&format!("delete link {ifindex}"), &refusal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::Kind as DriverKind;
    use crate::net::mark::Mark;

    /// Mark and kind together, or group and kind as long as there is no mark: what is anything else is left alone.
    #[test]
    fn whose_a_link_is() {
        let mark: Mark = "underlay:web:0:7:8:lan".parse().unwrap();
        let (name, kind) = ("eth0".parse().unwrap(), DriverKind::Macvlan);
        let made = OurLink { name, ifindex: None, kind, mark: mark.clone() };
        let ours = Link {
            kind: Some("macvlan".to_owned()),
            alias: Some(mark.to_string()),
            ..crate::net::link::eth0()
        };
        let unmarked = Link { alias: None, group: mark.group(), ..ours.clone() };
        let alias = |text: &str| Some(text.to_owned());
        for (link, expected) in [
            (ours.clone(), true),
            (Link { name: "lan".to_owned(), group: 7, up: false, mtu: 68, ..ours.clone() }, true),
            (unmarked.clone(), true),
            (Link { kind: Some("veth".to_owned()), ..ours.clone() }, false),
            (Link { kind: Some("macvtap".to_owned()), ..ours.clone() }, false),
            (Link { kind: Some("ipvlan".to_owned()), ..ours.clone() }, false),
            (Link { kind: None, ..ours.clone() }, false),
            (Link { kind: Some("veth".to_owned()), ..unmarked.clone() }, false),
            (Link { group: 0, ..unmarked.clone() }, false),
            (Link { group: mark.group() ^ 2, ..unmarked.clone() }, false),
            // The mark of another link counts more than the group.
            (Link { alias: alias("underlay:web:1:7:8:lan"), ..unmarked.clone() }, false),
            (Link { alias: alias("underlay:web:0:7:9:lan"), ..ours.clone() }, false),
            (Link { alias: alias("mine"), ..unmarked.clone() }, false),
            (Link { alias: alias(""), ..unmarked }, false),
        ] {
            assert_eq!(is_ours(&link, &made), expected, "{link:?}");
        }
    }
}
