//! What is left of containers that have ended: the agent releases it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::Result;
use crate::ledger::event::Event;
use crate::ledger::record::Record;
use crate::lifecycle::context::Context;
use crate::lifecycle::moved;
use crate::lifecycle::release;
use crate::lifecycle::report::report;
use crate::net::name::ContainerId;

/// Releases what containers have left of which no task tells, except the `lingering` ones: a poststop was killed before it could, an
/// agent could not release it, or it was one of an older version. Also addresses for which no endpoint came, and endpoints of whose end
/// nothing was heard.
///
/// # Errors
/// When the ledger or the host's links cannot be read.
pub(crate) fn release_all(
    context: &mut Context<'_>,
    lingering: &BTreeMap<ContainerId, Duration>,
) -> Result<()> {
    let records = context.store.records()?.sound;
    let has_endpoint = records.iter().any(|record| record.holder.endpoint().is_some());
    let links = if has_endpoint { context.host_netlink.links()? } else { Vec::new() };
    for record in &records {
        let is_left = record.has_ended() && !lingering.contains_key(&record.container)
            || moved::is_overdue(record)
            || moved::may_be_forgotten(&links, record) && moved::is_forgotten(context, record)?;
        if is_left {
            // An error was told when poststop or its task failed.
            let released = release::reclaim(context, record);
            released.unwrap_or_else(|error| log::info!("container {}: {error}", record.container));
        }
    }
    Ok(())
}

/// Releases what the container of `record` has left.
pub(crate) fn release(context: &mut Context<'_>, record: &Record) {
    let Err(error) = release::reclaim(context, record) else { return };
    // It is left to an attach or gc then, as by a poststop.
    let error = error.within(format!("container {}", record.container));
    report(context.store, &Event::failed("poststop", Some(record.container.as_str()), &error));
    log::warn!("{error}");
}
