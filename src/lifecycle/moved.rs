//! Links of endpoints where their engine has moved them: the name and number that they have there, the seal for that namespace, and
//! whether they are anywhere at all.

use crate::error::Result;
use crate::kernel::{self, NetnsFile};
use crate::ledger::attached::Attached;
use crate::ledger::holder::EndpointHolder;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::context::Context;
use crate::lifecycle::reseal;
use crate::net::link::Link;
use crate::net::name::IfName;
use crate::netlink::Socket;

/// How long an engine may take to move a link, in seconds.
const MOVING: u64 = 60;

/// Returns true if `record` is of an endpoint whose link was not seen in the container yet.
pub(crate) fn is_unseen(record: &Record) -> bool {
    let has_endpoint = record.holder.endpoint().is_some_and(|endpoint| !endpoint.awaited);
    has_endpoint
        && record.is_attached()
        && record.attachments().iter().any(|attached| attached.ifindex.is_none())
}

/// Returns true if its engine may be about to move the link of `record`, which was not seen in the container yet.
pub(crate) fn is_moving(record: &Record) -> bool {
    let is_new = |endpoint: &EndpointHolder| since_boot().as_secs() < endpoint.since + MOVING;
    is_unseen(record) && record.holder.endpoint().is_some_and(is_new)
}

/// Returns true if `record` is of an address for which no endpoint has come.
pub(crate) fn is_overdue(record: &Record) -> bool {
    record.holder.endpoint().is_some_and(|endpoint| endpoint.awaited) && !kernel::is_alive(&record.holder)
}

/// Looks for the link of `record` in the container: seals its mark there, and notes its name and number. Returns the record
/// with them; `None` if the link is not there, or was seen before.
///
/// # Errors
/// When the namespace or the ledger cannot be read or written.
pub(crate) fn look(context: &mut Context<'_>, record: &Record) -> Result<Option<Record>> {
    if !is_unseen(record) {
        return Ok(None);
    }
    let Some((_, netns)) = NetnsFile::of(&record.holder)? else { return Ok(None) };
    let key = context.store.key(context.settings.lock_timeout())?;
    let seen: Vec<Link> = netns.inside(|| {
        let mut inside = Socket::open()?;
        let mut seen = Vec::new();
        for (mark, attached) in record.marked() {
            // The engine sets it up last, when it has given it its addresses: until then it would take ours for its own.
            let is_it = |link: &Link| link.up && reseal::is_as_made(attached, link);
            let Some(link) = kernel::link_with(&mark, &mut inside)?.filter(is_it) else { continue };
            kernel::reseal(&mark, link.ifindex, key, &netns, is_it)?;
            seen.push(link);
        }
        Ok(seen)
    })?;
    if seen.len() != record.attachments().len() {
        return Ok(None);
    }
    let mut known = record.clone();
    for (attached, link) in known.attachments_mut().iter_mut().zip(seen) {
        (attached.ifname, attached.ifindex) = (link.name.parse()?, Some(link.ifindex));
        attached.mac = attached.mac.or(link.mac);
    }
    let locked = context.lock()?;
    if context.store.record(&record.container)?.as_ref() != Some(record) {
        return Ok(None);
    }
    locked.write(&known)?;
    Ok(Some(known))
}

/// Whether `link` is of the same kind as that of `attached`, and on the same parent.
fn is_on_parent(attached: &Attached, link: &Link) -> bool {
    let parents = [attached.parent_index, attached.segment];
    link.driver.is_some_and(|driver| driver.kind() == attached.driver.kind())
        && link.elsewhere.is_some_and(|parent| parents.contains(&parent.ifindex))
}

/// Returns true if it is worth while to ask whether the endpoint of `record` [is forgotten](is_forgotten): its link is on the host, or
/// its namespace is gone. The host has `links`.
pub(crate) fn may_be_forgotten(links: &[Link], record: &Record) -> bool {
    let name = IfName::of_endpoint(&record.container);
    let is_moved = |endpoint: &EndpointHolder| {
        links.iter().any(|link| link.name == name.as_str())
            || endpoint.sandbox.as_ref().is_none_or(|sandbox| !sandbox.exists())
    };
    record.is_attached() && record.holder.endpoint().is_some_and(is_moved)
}

/// Returns true if `record` is of an endpoint that its engine has forgotten: its link is in no container, where it was before, or the engine
/// has had the time to move it into one. It says so once, and that call may be lost.
///
/// # Errors
/// When it cannot be told.
pub(crate) fn is_forgotten(context: &mut Context<'_>, record: &Record) -> Result<bool> {
    let Some(endpoint) = record.holder.endpoint() else { return Ok(false) };
    if endpoint.awaited {
        return Ok(false);
    }
    let was_seen = record.is_attached() && !is_unseen(record);
    if !was_seen && since_boot().as_secs() < endpoint.since + MOVING {
        return Ok(false);
    }
    if was_seen && context.host_netlink.link(&IfName::of_endpoint(&record.container))?.is_some() {
        return Ok(true);
    }
    if let Some((_, netns)) = NetnsFile::of(&record.holder)? {
        let links = netns.inside(|| Socket::open()?.links())?;
        // The container may have changed its mark, and all else that can be changed. Another link on that parent is as good: then
        // it lives.
        let is_like = |attached: &Attached| links.iter().any(|link| is_on_parent(attached, link));
        if record.attachments().iter().any(is_like) {
            return Ok(false);
        }
    }
    // The engine may mount namespaces where this process does not see them.
    let survey = kernel::survey(context.host_netns.get()?)?;
    Ok(survey.is_whole() && !survey.shows(&record.container))
}
