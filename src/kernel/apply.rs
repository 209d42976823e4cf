//! Attach: carries out its plan, and undoes what an error leaves.

use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::libc;

use super::netns::NetnsFile;
use super::sysctl;
use crate::dhcp::times::Lifetime;
use crate::error::{Error, Result};
use crate::ledger::attached::Attached;
use crate::net::link::Link;
use crate::net::mark::Mark;
use crate::net::name::IfName;
use crate::net::route::Route;
use crate::net::seal::{Alias, Key};
use crate::netlink::Socket;
use crate::netlink::message::{self, Message};
use crate::netlink::reply::Refusal;
use crate::netlink::{explain, refused};
use crate::plan::{self, Configure, CreateLink, LinkPlan};

/// How long to wait where the kernel works asynchronously: it deletes namespaces some time after their last process
/// exits, usually within 100 ms.
const PATIENCE: Duration = Duration::from_secs(2);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(2);

/// `NETNSA_NSID_NOT_ASSIGNED` of linux/net_namespace.h: the kernel chooses.
const ANY_NSID: i32 = -1;

/// Carries out the plan of an attach, from inside the container's namespace. `host` is a socket of the host's
/// namespace, `inside` one of the container's. Marks are sealed with `key`, if there is one. Returns the links as they are
/// made, and the number by which the host's namespace knows that of the container, if it has one.
///
/// # Errors
/// That of the first step that failed; what was made before is left for [`detach`].
pub(crate) fn attach(
    plan: &[LinkPlan],
    key: Option<&Key>,
    host: &mut Socket,
    inside: &mut Socket,
    netns: &NetnsFile,
) -> Result<(Vec<Link>, Option<i32>)> {
    let mut made = Vec::with_capacity(plan.len());
    let mut nsid = None;
    for (index, plan) in plan.iter().enumerate() {
        // Sent in one datagram with the first link.
        let before =
            (index == 0).then(|| message::set_nsid(netns.as_fd(), usual_number(netns))).transpose()?;
        let (link, refusal) = create_link(&plan.create, before, host, inside, netns)?;
        if index == 0 {
            nsid = numbered(refusal, netns, host)?;
        }
        // The seal covers properties of the link, so it is made when the link exists.
        let sealed =
            plan.mark.clone().zip(key).map(|(mark, key)| key.seal(mark, &link, &netns.describe(None)));
        configure(link.ifindex, &plan.configure, sealed.as_ref(), inside)?;
        made.push(link);
    }
    Ok((made, nsid))
}

/// Carries out the plan of a link in the host's namespace `netns`, which this thread need not be in.
///
/// # Errors
/// As [`attach`].
pub(super) fn attach_to_host(plan: &LinkPlan, host: &mut Socket, netns: &NetnsFile) -> Result<Link> {
    netns.inside(|| {
        let mut inside = Socket::open()?;
        let (link, _) = create_link(&plan.create, None, host, &mut inside, netns)?;
        configure(link.ifindex, &plan.configure, None, &mut inside)?;
        Ok(link)
    })
}

/// The number that is asked for: as unique as the inode, so that it leads to no other namespace later. Those that the
/// kernel chooses are small, and are used again.
pub(crate) fn usual_number(netns: &NetnsFile) -> i32 {
    (netns.inode() & 0x7fff_ffff) as i32
}

/// Returns the number of `netns` after the kernel's answer to the request for `usual_number`.
fn numbered(refusal: Option<Refusal>, netns: &NetnsFile, host: &mut Socket) -> Result<Option<i32>> {
    match refusal {
        None => Ok(Some(usual_number(netns))),
        // It has one, of another attach or of an engine that has looked at a link of it; or another namespace has this
        // number, and the kernel chooses one.
        Some(Refusal { errno: libc::EEXIST, .. }) => match host.nsid(netns)? {
            Some(nsid) => Ok(Some(nsid)),
            None => {
                single(host, message::set_nsid(netns.as_fd(), ANY_NSID)?)?;
                host.nsid(netns)
            }
        },
        Some(refusal) => {
            log::warn!("{}", refused("number the container's network namespace", &refusal));
            Ok(None)
        }
    }
}

/// Seals the mark `mark` of the link `ifindex` in this thread's namespace, `netns`, if the link has that mark and is
/// `expected`. Returns true if it was sealed.
pub(crate) fn reseal(
    mark: &Mark,
    ifindex: u32,
    key: &Key,
    netns: &NetnsFile,
    expected: impl Fn(&Link) -> bool,
) -> Result<bool> {
    let mut inside = Socket::open()?;
    let Some(link) = marked_link(Some(ifindex), mark, &mut inside)?.filter(expected) else {
        return Ok(false);
    };
    let alias = key.seal(mark.clone(), &link, &netns.describe(None));
    match single(&mut inside, message::mark(ifindex, &alias.to_string())?)? {
        None => Ok(true),
        Some(refusal) => Err(refused(&format!("mark link {}", link.name), &refusal)),
    }
}

/// Returns the link `ifindex` in the namespace of `inside`, if it has `mark`.
pub(crate) fn marked_link(ifindex: Option<u32>, mark: &Mark, inside: &mut Socket) -> Result<Option<Link>> {
    let link = ifindex.map(|ifindex| inside.link_by_index(ifindex)).transpose()?.flatten();
    Ok(link.filter(|link| bears(link, mark)))
}

/// Returns true if the alias of `link` is `mark`, with any seal.
pub(super) fn bears(link: &Link, mark: &Mark) -> bool {
    let alias = link.alias.as_deref().and_then(|alias| alias.parse::<Alias>().ok());
    alias.is_some_and(|alias| alias.mark == *mark)
}

/// Carries out the plan of [`plan::finish`](crate::plan::finish) for a link that was made.
pub(crate) fn finish(steps: &[Configure], link: &Link, inside: &mut Socket) -> Result<()> {
    configure(link.ifindex, steps, None, inside)
}

/// Carries out `steps` on the link `ifindex`. Its mark gets `sealed` instead, if that is given.
fn configure(ifindex: u32, steps: &[Configure], sealed: Option<&Alias>, inside: &mut Socket) -> Result<()> {
    let mut batch = Vec::with_capacity(steps.len());
    for step in steps {
        if let Some(message) = carry_out(ifindex, step, sealed)? {
            batch.push((step, message));
        }
    }
    run_batch(batch, inside)?;
    await_addresses(steps, inside)
}

/// Returns the message that carries out `step` on the link `ifindex`. What takes no message is done at once.
fn carry_out(ifindex: u32, step: &Configure, sealed: Option<&Alias>) -> Result<Option<Message>> {
    log::debug!("{}", step.line());
    let message = match step {
        Configure::SetSysctls { settings, needed } => {
            settings.iter().try_for_each(|(path, value)| sysctl::set(path, value, *needed))?;
            return Ok(None);
        }
        Configure::AddAddress { address, lifetime, .. } => {
            message::add_address(ifindex, *address, *lifetime)?
        }
        Configure::SetMtu { mtu, .. } => message::set_mtu(ifindex, *mtu)?,
        Configure::SetUp { alias, .. } => {
            let alias = sealed.map_or_else(|| alias.clone(), ToString::to_string);
            message::set_up(ifindex, &alias)?
        }
        Configure::AddRoute { route, table, .. } => message::add_route(ifindex, *route, *table)?,
        Configure::AddRule { from, table } => message::add_rule(*from, *table)?,
    };
    Ok(Some(message))
}

/// Gives the link `ifindex` the addresses of `attached` in place of the former ones, and its routes in place of `former_routes`,
/// and its rules again: the kernel deletes routes with the last address. All of that is one batch, which a kill leaves done or
/// not begun, and which may be repeated. It gets the MTU of its lease if that is below `most`.
pub(crate) fn readdress(
    (ifindex, most): (u32, u32),
    attached: &Attached,
    former_routes: &[Route],
    now: Duration,
    inside: &mut Socket,
) -> Result<()> {
    let former_routes = former_routes.iter().map(|&route| message::delete_route(Some(ifindex), route, None));
    let mut batch: Vec<_> = former_routes.collect::<Result<_>>()?;
    for &address in &attached.former {
        batch.push(message::delete_address(ifindex, address)?);
        if let Some(table) = &attached.table {
            batch.push(message::delete_rule(address.addr(), table.id)?);
        }
    }
    let deletions = batch.len();
    let steps = plan::readdress(attached, most, now);
    for step in &steps {
        batch.extend(carry_out(ifindex, step, None)?);
    }
    // That one is gone already is no error.
    let answers = inside.transact(batch)?.into_iter().skip(deletions);
    for (step, refusal) in steps.iter().zip(answers) {
        if let Some(refusal) = refusal.filter(|refusal| refusal.errno != libc::EEXIST) {
            return Err(explain::configure(step, &refusal));
        }
    }
    await_addresses(&steps, inside)
}

/// Lets the link `ifindex` have `net` for `lifetime` from now on, or for ever. An address that has expired is added again,
/// without the routes that the kernel has deleted with it.
pub(crate) fn renew_address(
    ifindex: u32,
    net: IpNet,
    lifetime: Option<Lifetime>,
    inside: &mut Socket,
) -> Result<()> {
    match single(inside, message::renew_address(ifindex, net, lifetime)?)? {
        None => Ok(()),
        Some(refusal) => Err(refused(&format!("renew address {net}"), &refusal)),
    }
}

/// Waits until the namespace of `inside` receives packets to its IPv6 addresses. The kernel makes their local routes in a work
/// queue (addrconf_dad_work), even without duplicate address detection, and drops packets that arrive before.
fn await_addresses(steps: &[Configure], inside: &mut Socket) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    for step in steps {
        let Configure::AddAddress { address: IpNet::V6(address), .. } = step else { continue };
        while !inside.is_local(address.addr().into())? && Instant::now() < until {
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Makes a link with its final name. Kernels before 6.15 compare that name with the host's links too. If it is taken,
/// the link is made with a temporary name and renamed in the container. Also returns the answer to the message
/// `before` it.
pub(super) fn create_link(
    create: &CreateLink,
    before: Option<Message>,
    host: &mut Socket,
    inside: &mut Socket,
    netns: &NetnsFile,
) -> Result<(Link, Option<Refusal>)> {
    log::debug!("{}", create.line());
    let mut temp_name = create.name.clone();
    let messages = before.into_iter().chain([message::create_link(create, netns.as_fd())?]).collect();
    let mut answers = host.transact(messages)?;
    let mut refusal = answers.pop().flatten();
    if refusal.as_ref().is_some_and(|refusal| refusal.errno == libc::EEXIST) {
        temp_name = IfName::temporary(std::process::id());
        let renamed = CreateLink { name: temp_name.clone(), ..create.clone() };
        refusal = single(host, message::create_link(&renamed, netns.as_fd())?)?;
    }
    if let Some(refusal) = refusal {
        return Err(explain::create_link(create, &refusal));
    }
    let link = inside.link(&temp_name)?;
    let link = link.ok_or_else(|| Error::input(format!("link {temp_name} was made and is gone")))?;
    if temp_name != create.name {
        if let Some(refusal) = single(inside, message::rename_link(link.ifindex, &create.name)?)? {
            // By this name nothing would find it.
            single(inside, message::delete_link(link.ifindex, None)?)?;
            return Err(explain::create_link(create, &refusal));
        }
    }
    Ok((link, answers.pop().flatten()))
}

/// Sends all of `batch` at once. If the first failure is that a dying namespace still holds an address, all failed
/// messages are sent again for a while: later ones may have failed only because of the first.
fn run_batch(batch: Vec<(&Configure, Message)>, inside: &mut Socket) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut rest = batch;
    loop {
        let answers = inside.transact(rest.iter().map(|(_, message)| message.clone()).collect())?;
        let refused = rest.into_iter().zip(answers).filter_map(|(step, answer)| Some((step, answer?)));
        let refused: Vec<_> = refused.collect();
        let Some(((step, _), refusal)) = refused.first() else { return Ok(()) };
        if refusal.errno != libc::EADDRINUSE || Instant::now() >= until {
            return Err(explain::configure(step, refusal));
        }
        thread::sleep(PAUSE);
        rest = refused.into_iter().map(|(step, _)| step).collect();
    }
}

pub(super) fn single(socket: &mut Socket, message: Message) -> Result<Option<Refusal>> {
    Ok(socket.transact(vec![message])?.into_iter().flatten().next())
}
