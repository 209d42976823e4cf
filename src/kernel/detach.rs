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

/// Carries out the plan of a detach in the container's namespace. Deletes each link that still exists and is ours by
/// kind and mark, or by kind and the mark's group if it was never marked. Other links are left alone. Persistent rules
/// and routes are deleted if their protocol is ours. An error does not keep the rest from being deleted.
pub(crate) fn detach(plan: &[Removal], inside: &mut Socket) -> Result<()> {
    let mut outcome = Ok(());
    // Needed after a killed attach only: its links may have any name.
    let mut all = None;
    for step in plan {
        let done = match step {
            Removal::Persistent(persistent) => delete_persistent(step, persistent, inside),
            Removal::Link(ours) => find(ours, &mut all, inside).and_then(|found| match found {
                Some(link) => {
                    log::debug!("{}", step.line());
                    delete(link.ifindex, inside)
                }
                None => Ok(()),
            }),
        };
        outcome = done.and(outcome);
    }
    outcome
}

/// Returns the link `ours` in the namespace of `inside`. `all` caches the links there.
fn find(ours: &OurLink, all: &mut Option<Vec<Link>>, inside: &mut Socket) -> Result<Option<Link>> {
    if let Some(ifindex) = ours.ifindex {
        return Ok(inside.link_by_index(ifindex)?.filter(|link| is_it(link, ours)));
    }
    let all = match all {
        Some(all) => all,
        none => none.insert(inside.links()?),
    };
    Ok(all.iter().find(|link| is_ours(link, ours)).cloned())
}

/// Carries out as much of the plan of a detach as can be done from the host, whose socket `host` is: deletes the links in
/// the namespace `nsid`, into which nothing leads. Rules and routes go with the namespace. Returns true if
/// the namespace is there.
///
/// # Errors
/// As [`detach`].
pub(crate) fn detach_from_host(plan: &[Removal], nsid: i32, host: &mut Socket) -> Result<bool> {
    let mut outcome = Ok(());
    let (found, is_there) = look(plan, nsid, host)?;
    for link in found {
        let deleted = single(host, message::delete_link_in(nsid, link.ifindex)?)?;
        outcome = answered(deleted, link.ifindex).and(outcome);
    }
    outcome.map(|()| is_there)
}

/// Returns true if a link of the detach plan `plan` exists in the namespace `nsid`.
pub(crate) fn has_links(plan: &[Removal], nsid: i32, host: &mut Socket) -> Result<bool> {
    look(plan, nsid, host).map(|(found, _)| !found.is_empty())
}

/// Returns the links of the detach plan `plan` that exist in the namespace `nsid`, and whether there is a link where one
/// was made, ours or not: then the namespace is there.
fn look(plan: &[Removal], nsid: i32, host: &mut Socket) -> Result<(Vec<Link>, bool)> {
    let (mut found, mut is_there) = (Vec::new(), false);
    // Of an attach that was cut short: its links may have any name.
    let mut all = None;
    for step in plan {
        let Removal::Link(ours) = step else { continue };
        if let Some(ifindex) = ours.ifindex {
            let link = host.link_in(nsid, ifindex)?;
            is_there |= link.is_some();
            found.extend(link.filter(|link| is_it(link, ours)));
            continue;
        }
        let all = match &mut all {
            Some(all) => all,
            none => none.insert(host.links_in(nsid)?),
        };
        is_there |= !all.is_empty();
        found.extend(all.iter().find(|link| is_ours(link, ours)).cloned());
    }
    Ok((found, is_there))
}

fn delete_persistent(step: &Removal, persistent: &Persistent, inside: &mut Socket) -> Result<()> {
    log::debug!("{}", step.line());
    let message = match persistent {
        Persistent::Rule { from, table } => message::delete_rule(*from, *table)?,
        Persistent::Route { route, table } => message::delete_route(*route, *table)?,
    };
    match single(inside, message)? {
        // Deleted before, never made, or not ours; or the namespace has no IPv6.
        Some(Refusal { errno: libc::ENOENT | libc::ESRCH | libc::EAFNOSUPPORT, .. }) | None => Ok(()),
        Some(refusal) => Err(explain::removal(step, &refusal)),
    }
}

/// Returns true if `link`, which has the recorded number, is the link that was made.
fn is_it(link: &Link, ours: &OurLink) -> bool {
    let is_it = is_ours(link, ours);
    if !is_it {
        log::info!("link {} is not {}, which was made: left alone", link.name, ours.name);
    }
    is_it
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
pub(super) fn delete(ifindex: u32, inside: &mut Socket) -> Result<()> {
    answered(single(inside, message::delete_link(ifindex)?)?, ifindex)
}

/// Interprets the kernel's answer to the deletion of a link.
fn answered(refusal: Option<Refusal>, ifindex: u32) -> Result<()> {
    match refusal {
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
