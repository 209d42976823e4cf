//! Carries out a plan, and undoes it when a step fails.

use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::libc;

use super::netns::NetnsFile;
use super::sysctl;
use crate::error::{Error, Result};
use crate::net::driver::Kind as DriverKind;
use crate::net::link::Link;
use crate::net::mac::MacAddr;
use crate::net::mark::Mark;
use crate::net::name::IfName;
use crate::net::seal::{Alias, Key};
use crate::netlink::Socket;
use crate::netlink::message::{self, Message, NewLink};
use crate::netlink::reply::Refusal;
use crate::netlink::{explain, refused};
use crate::plan::Op;
use crate::plan::persistent::Persistent;

/// For how long the kernel is waited for where it does something by and by: it takes namespaces apart some time
/// after their last process is gone, usually within 100 ms.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How long to pause between two tries.
pub(super) const PAUSE: Duration = Duration::from_millis(2);

/// A link that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CreatedLink {
    /// Its number in the container.
    pub ifindex: u32,
    /// Its MAC address.
    pub mac: Option<MacAddr>,
}

/// Carries out the plan of an attach, from inside the container's namespace. `host` is a socket of the host's
/// namespace, `inside` one of the container's. Marks are sealed with `key`, if there is one. Returns the links, and the
/// number by which the host's namespace knows that of the container, if it has one.
///
/// # Errors
/// That of the first step that failed; what was made before is left for [`detach`].
pub(crate) fn attach(
    plan: &[Op],
    key: Option<&Key>,
    host: &mut Socket,
    inside: &mut Socket,
    netns: &NetnsFile,
) -> Result<(Vec<CreatedLink>, Option<i32>)> {
    let mut made = Vec::new();
    let nsid = number(netns, host)?;
    // Each link with what is done to it: the create alone, the rest in one batch.
    for steps in plan.chunk_by(|_, next| !matches!(next, Op::CreateLink { .. })) {
        let Some((create, rest)) = steps.split_first() else { continue };
        let link = create_link(create, host, inside, netns)?;
        finish(link.ifindex, rest, |op| sealed(op, key, &link, netns), inside)?;
        made.push(CreatedLink { ifindex: link.ifindex, mac: link.mac });
    }
    Ok((made, nsid))
}

/// The number by which the host's namespace, that of the socket `host`, knows `netns`. The kernel keeps it as long as
/// both are there, whatever keeps them. `None` if it cannot be had.
///
/// # Errors
/// When the kernel's answer is not understood.
pub(crate) fn number(netns: &NetnsFile, host: &mut Socket) -> Result<Option<i32>> {
    // As unique as the inode, so that it leads to no other namespace later. Small ones are the kernel's own choice, and
    // are used again.
    let nsid = (netns.inode() & 0x7fff_ffff) as i32;
    match single(host, message::set_nsid(netns.as_fd(), nsid)?)? {
        None => Ok(Some(nsid)),
        // It has one: of another attach, or of an engine that has looked at a link of it.
        Some(Refusal { errno: libc::EEXIST, .. }) => host.nsid(netns),
        Some(refusal) => {
            log::warn!("{}", refused("number the container's network namespace", &refusal));
            Ok(None)
        }
    }
}

/// The same operation with the seal of its mark, if it has one: by what `link` is, now that it is there.
fn sealed(op: &Op, key: Option<&Key>, link: &Link, netns: &NetnsFile) -> Op {
    match (op, key) {
        (Op::SetUp { link: name, alias }, Some(key)) => {
            let alias = key.seal(alias.mark.clone(), link, &netns.describe(None));
            Op::SetUp { link: name.clone(), alias }
        }
        _ => op.clone(),
    }
}

/// Seals the mark `mark` of the link `ifindex`, in the namespace `netns` that this thread is in, if it bears that very
/// mark, and is `expected` otherwise; whether it is.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn reseal(
    mark: &Mark,
    ifindex: u32,
    key: &Key,
    netns: &NetnsFile,
    expected: impl Fn(&Link) -> bool,
) -> Result<bool> {
    let mut inside = Socket::open()?;
    let found = inside.link_by_index(ifindex)?;
    let Some(link) = found.filter(|link| bears(link, mark) && expected(link)) else { return Ok(false) };
    let alias = key.seal(mark.clone(), &link, &netns.describe(None));
    match single(&mut inside, message::mark(ifindex, &alias.to_string())?)? {
        None => Ok(true),
        Some(refusal) => Err(refused(&format!("mark link {}", link.name), &refusal)),
    }
}

/// Whether the alias of `link` is `mark`, whatever its seal.
fn bears(link: &Link, mark: &Mark) -> bool {
    let alias = link.alias.as_deref().and_then(|alias| alias.parse::<Alias>().ok());
    alias.is_some_and(|alias| alias.mark == *mark)
}

/// Does what is left to do to a link that was made: the plan of [`plan::settle`](crate::plan::settle).
///
/// # Errors
/// That of the first step that failed.
pub(crate) fn settle(plan: &[Op], link: &CreatedLink, inside: &mut Socket) -> Result<()> {
    finish(link.ifindex, plan, Op::clone, inside)
}

/// Carries out the plan of a detach, from inside the container's namespace: deletes each link that is still
/// there and is ours by kind and mark, or by kind and the mark's group if it was never marked. A link that is somebody
/// else's is left alone. Rules and routes that outlive links go if their protocol is ours.
///
/// # Errors
/// That of the last thing that could not be deleted; the others are deleted all the same.
pub(crate) fn detach(plan: &[Op], inside: &mut Socket) -> Result<()> {
    let mut outcome = Ok(());
    let mut all = None;
    for op in plan {
        let done = match op {
            Op::DeleteLasting(_) => delete_persistent(op, inside),
            _ => delete_ours(op, None, inside, |inside| {
                // An attach that was cut short: the link may have any name.
                let all = match &mut all {
                    Some(all) => all,
                    none => none.insert(inside.links()?),
                };
                Ok(all.clone())
            }),
        };
        outcome = done.and(outcome);
    }
    outcome
}

/// Carries out as much of the plan of a detach as can be done from the host, whose socket `host` is: deletes the links in
/// the namespace `nsid`, into which nothing leads. Rules and routes go with the namespace.
///
/// # Errors
/// As [`detach`].
pub(crate) fn detach_from_host(plan: &[Op], nsid: i32, host: &mut Socket) -> Result<()> {
    let mut outcome = Ok(());
    for op in plan.iter().filter(|op| matches!(op, Op::DeleteLink { .. })) {
        outcome = delete_ours(op, Some(nsid), host, |_| Ok(Vec::new())).and(outcome);
    }
    outcome
}

/// Whether a link that `plan`, that of a detach, deletes is still in the namespace that the host knows by `nsid`.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn remains(plan: &[Op], nsid: i32, host: &mut Socket) -> Result<bool> {
    for op in plan {
        let Op::DeleteLink { ifindex: Some(ifindex), kind, mark, .. } = op else { continue };
        match host.link_in(nsid, *ifindex)? {
            Some(link) if is_ours(&link, *kind, mark) => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
}

fn delete_persistent(op: &Op, inside: &mut Socket) -> Result<()> {
    log::debug!("{op}");
    match single(inside, encode(op, 0)?)? {
        // Gone already, never made, or not ours; or there is no IPv6 here.
        Some(Refusal { errno: libc::ENOENT | libc::ESRCH | libc::EAFNOSUPPORT, .. }) | None => Ok(()),
        Some(refusal) => Err(explain(op, &refusal)),
    }
}

/// Deletes a link, in the namespace `nsid` of others than that of `socket`, if it is ours.
fn delete_ours(
    op: &Op,
    nsid: Option<i32>,
    socket: &mut Socket,
    mut all: impl FnMut(&mut Socket) -> Result<Vec<Link>>,
) -> Result<()> {
    let Op::DeleteLink { name, ifindex, kind, mark } = op else {
        return Err(Error::input(format!("`{op}` takes nothing away")));
    };
    let found = match (ifindex, nsid) {
        (Some(ifindex), None) => socket.link_by_index(*ifindex)?,
        (Some(ifindex), Some(nsid)) => socket.link_in(nsid, *ifindex)?,
        (None, _) => all(socket)?.into_iter().find(|link| is_ours(link, *kind, mark)),
    };
    let Some(link) = found else { return Ok(()) };
    if !is_ours(&link, *kind, mark) {
        log::info!("link {} is not {name}, which was made: left alone", link.name);
        return Ok(());
    }
    log::debug!("{op}");
    match nsid {
        None => delete(link.ifindex, socket),
        Some(nsid) => answered(single(socket, message::delete_link_in(nsid, link.ifindex)?)?, link.ifindex),
    }
}

fn is_ours(link: &Link, kind: DriverKind, mark: &Mark) -> bool {
    let known = match &link.alias {
        // The ledger says the same: that needs no proof.
        Some(_) => bears(link, mark),
        None => link.group == mark.group(),
    };
    known && link.kind.as_deref() == Some(&kind.to_string())
}

/// Does the rest to the link `ifindex`, which was made; what is `sealed` is not shown as it is.
fn finish(ifindex: u32, steps: &[Op], sealed: impl Fn(&Op) -> Op, inside: &mut Socket) -> Result<()> {
    let mut batch = Vec::with_capacity(steps.len());
    for op in steps {
        log::debug!("{op}");
        match op {
            Op::SetIpv6 { link, advertised } => sysctl::set_ipv6(link, advertised.as_ref())?,
            Op::SetNotify { link, is_v4 } => sysctl::set_notify(link, *is_v4)?,
            Op::SetSysctl { link, sysctl, value } => sysctl::set(link, sysctl, value)?,
            Op::AddAddress { .. } | Op::SetUp { .. } | Op::AddRoute { .. } | Op::AddRule { .. } => {
                batch.push(sealed(op));
            }
            Op::CreateLink { .. }
            | Op::DeleteLasting(_)
            | Op::DeleteLink { .. }
            | Op::MakeParent { .. }
            | Op::DeleteParent { .. } => {
                return Err(Error::input(format!("`{op}` is nothing that is done to a link that was made")));
            }
        }
    }
    run_batch(&batch, ifindex, inside)?;
    await_addresses(steps, inside)
}

/// Waits until the container can be spoken to at its IPv6 addresses: the kernel makes their local routes in a
/// work queue of its own (addrconf_dad_work), though nothing is detected, and drops what comes in before.
fn await_addresses(plan: &[Op], inside: &mut Socket) -> Result<()> {
    let address = |op: &Op| match op {
        Op::AddAddress { address: IpNet::V6(address), .. } => Some(address.addr().into()),
        _ => None,
    };
    await_local(plan.iter().filter_map(address), inside)
}

/// Waits until packets to `addresses` are taken in.
pub(super) fn await_local(addresses: impl IntoIterator<Item = IpAddr>, socket: &mut Socket) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    for address in addresses {
        while !socket.is_local(address)? && Instant::now() < until {
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Makes a link with its final name. Kernels before 6.15 compare that name with the host's links too; so when
/// it is taken, the link is made under another name and renamed where only the container's links count.
fn create_link(op: &Op, host: &mut Socket, inside: &mut Socket, netns: &NetnsFile) -> Result<Link> {
    let Op::CreateLink { name, parent_index, driver, mac, mtu, bclim, tuning, group, .. } = op else {
        return Err(Error::input(format!("a plan begins with {op}, which makes no link")));
    };
    log::debug!("{op}");
    let create = |name: &IfName| {
        let (parent_index, driver, mac) = (*parent_index, *driver, *mac);
        let (mtu, bclim, group) = (*mtu, *bclim, *group);
        message::create_link(
            NewLink { name, parent_index, driver, mac, mtu, bclim, tuning, group },
            netns.as_fd(),
        )
    };
    let mut born_as = name.clone();
    let mut refusal = single(host, create(&born_as)?)?;
    if refusal.as_ref().is_some_and(|refusal| refusal.errno == nix::libc::EEXIST) {
        born_as = IfName::temporary(std::process::id());
        refusal = single(host, create(&born_as)?)?;
    }
    if let Some(refusal) = refusal {
        return Err(explain(op, &refusal));
    }
    let link = inside.link(&born_as)?;
    let link = link.ok_or_else(|| Error::input(format!("link {born_as} was made and is gone")))?;
    if born_as != *name {
        if let Some(refusal) = single(inside, message::rename_link(link.ifindex, name)?)? {
            return Err(explain(op, &refusal));
        }
    }
    Ok(link)
}

/// Sends all of `ops` at once. Where the first failure is that a dying namespace still holds an address, what
/// failed is sent again for a while; what came after it may have failed only for want of it.
fn run_batch(ops: &[Op], ifindex: u32, inside: &mut Socket) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut rest: Vec<&Op> = ops.iter().collect();
    while !rest.is_empty() {
        let messages = rest.iter().map(|op| encode(op, ifindex)).collect::<Result<Vec<_>>>()?;
        let answers = inside.transact(messages)?;
        let failed: Vec<_> =
            rest.iter().zip(&answers).filter_map(|(&op, no)| Some((op, no.as_ref()?))).collect();
        if let Some((op, refusal)) = failed.first() {
            if refusal.errno != nix::libc::EADDRINUSE || Instant::now() >= until {
                return Err(explain(op, refusal));
            }
            thread::sleep(PAUSE);
        }
        rest = failed.into_iter().map(|(op, _)| op).collect();
    }
    Ok(())
}

fn encode(op: &Op, ifindex: u32) -> Result<Message> {
    match op {
        Op::AddAddress { address, .. } => message::add_address(ifindex, *address),
        Op::SetUp { alias, .. } => message::set_up(ifindex, &alias.to_string()),
        Op::AddRoute { route, table, .. } => message::add_route(ifindex, *route, *table),
        Op::AddRule { from, table } => message::add_rule(*from, *table),
        Op::DeleteLasting(Persistent::Rule { from, table }) => message::delete_rule(*from, *table),
        Op::DeleteLasting(Persistent::Route { route, table }) => message::delete_route(*route, *table),
        Op::CreateLink { .. }
        | Op::SetIpv6 { .. }
        | Op::SetSysctl { .. }
        | Op::SetNotify { .. }
        | Op::DeleteLink { .. }
        | Op::MakeParent { .. }
        | Op::DeleteParent { .. } => Err(Error::input(format!("{op} is not done in a batch"))),
    }
}

/// Deletes a link; one that is gone is no error.
pub(super) fn delete(ifindex: u32, inside: &mut Socket) -> Result<()> {
    answered(single(inside, message::delete_link(ifindex)?)?, ifindex)
}

/// What the kernel says to the deletion of a link.
fn answered(refusal: Option<Refusal>, ifindex: u32) -> Result<()> {
    match refusal {
        // Gone with its namespace, or by another's hand.
        Some(Refusal { errno: libc::ENODEV | libc::EINVAL, .. }) | None => Ok(()),
        Some(refusal) => Err(refused(&format!("delete link {ifindex}"), &refusal)),
    }
}

pub(super) fn single(socket: &mut Socket, message: Message) -> Result<Option<Refusal>> {
    Ok(socket.transact(vec![message])?.into_iter().flatten().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mark and kind together, or group and kind as long as there is no mark: what is anything else is left alone.
    #[test]
    fn whose_a_link_is() {
        let mark: Mark = "underlay:web:0:7:8:lan".parse().unwrap();
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
            // A mark of another one tells more than the group.
            (Link { alias: alias("underlay:web:1:7:8:lan"), ..unmarked.clone() }, false),
            (Link { alias: alias("underlay:web:0:7:9:lan"), ..ours.clone() }, false),
            (Link { alias: alias("mine"), ..unmarked.clone() }, false),
            (Link { alias: alias(""), ..unmarked }, false),
        ] {
            assert_eq!(is_ours(&link, DriverKind::Macvlan, &mark), expected, "{link:?}");
        }
    }
}
