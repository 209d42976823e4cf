//! Links of endpoints where their engine has moved them: the name and number that they have there, the seal for that namespace, and
//! whether they are anywhere at all.

use crate::error::Result;
use crate::kernel::{self, NetnsFile};
use crate::ledger::holder::EndpointHolder;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::context::Context;
use crate::lifecycle::reseal;
use crate::net::link::Link;
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
            let is_it = |link: &Link| reseal::is_as_made(attached, link);
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

/// Returns true if `record` is of an endpoint that its engine has forgotten: its link is in no container, and the engine has had the
/// time to move it into one.
///
/// # Errors
/// When it cannot be told.
pub(crate) fn is_forgotten(context: &mut Context<'_>, record: &Record) -> Result<bool> {
    let Some(endpoint) = record.holder.endpoint() else { return Ok(false) };
    if endpoint.awaited || since_boot().as_secs() < endpoint.since + MOVING {
        return Ok(false);
    }
    if let Some((_, netns)) = NetnsFile::of(&record.holder)? {
        let is_there = |mark| netns.inside(|| kernel::link_with(&mark, &mut Socket::open()?));
        for (mark, _) in record.marked() {
            if is_there(mark)?.is_some() {
                return Ok(false);
            }
        }
    }
    // The engine may mount namespaces where this process does not see them.
    let survey = kernel::survey(context.host_netns.get()?)?;
    Ok(survey.is_whole() && !survey.shows(&record.container))
}
