//! The link of an endpoint, from when its container is started until it ends.

use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::fs::file;
use crate::ipam::reserve::HostFacts;
use crate::kernel;
use crate::ledger::holder::Holder;
use crate::ledger::record::{Record, State};
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::affinity;
use crate::lifecycle::attach::call_agent;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp;
use crate::lifecycle::host_links;
use crate::lifecycle::release;
use crate::lifecycle::repair;
use crate::net::name::ContainerId;

/// Makes the link of the endpoint `id` on the host, for the engine to move it into the namespace that it mounts at `sandbox`. Returns
/// its record.
///
/// # Errors
/// [`Kind::NotFound`] if there is no such endpoint.
pub(crate) fn join(context: &mut Context<'_>, id: &ContainerId, sandbox: Option<&Path>) -> Result<Record> {
    let mut record = context.store.record(id)?.filter(is_of_endpoint).ok_or_else(|| unknown(id))?;
    let mut facts = HostFacts::default();
    if record.host_link_networks().next().is_some() {
        facts.on_host = context.host_netlink.addresses()?.into_iter().collect();
        facts.routing = context.host_netlink.host_routing()?;
    }
    let host_probes = host_links::begin(context, &record, &facts)?;
    let made =
        make(context, &record).and_then(|()| host_links::ensure(context, &record, &facts, host_probes));
    made.inspect_err(|_| unmake(context, &record))?;
    if let Holder::Endpoint(endpoint) = &mut record.holder {
        endpoint.since = since_boot().as_secs();
        endpoint.sandbox = sandbox.map(Path::to_owned);
    }
    let record = record.in_state(State::Attached);
    let locked = context.lock()?;
    if !file::exists(&context.store.record_path(id))? {
        unmake(context, &record);
        return Err(unknown(id));
    }
    locked.write(&record)?;
    drop(locked);
    call_agent(context.store, &record);
    if record.has_dhcp() {
        dhcp::tell_names(context, &record, None);
        dhcp::tell_if_unattended(context.store, &record);
    }
    if record.identity.is_some() {
        let known = affinity::load(context.store, record.identity.as_ref(), id);
        affinity::save(context.store, &record, &known);
    }
    Ok(record)
}

/// Deletes the endpoint `id` with its link, and gives back what it has. Returns `None` if there is no such endpoint.
///
/// # Errors
/// The record stays.
pub(crate) fn delete(context: &mut Context<'_>, id: &ContainerId) -> Result<Option<Record>> {
    // After a loss of the ledger, links in containers are all that is known.
    repair::recover(context)?;
    let record = match context.store.record(id) {
        Err(error) if error.kind() == Kind::Damaged => {
            log::warn!("{error}");
            repair::repair(context, false)?.warn();
            context.store.record(id)?
        }
        record => record?,
    };
    // Whatever is known of it: the engine has moved it back, and leaves it there.
    kernel::delete_endpoint_link(id, &mut context.host_netlink)?;
    match record.filter(is_of_endpoint) {
        Some(record) => release::release(context, &record),
        None => Ok(None),
    }
}

/// Whether `record` is of an endpoint, or of one whose record was lost and rebuilt: its mark names no process. Nor does that of a
/// container of podman, whose id has a `+`.
fn is_of_endpoint(record: &Record) -> bool {
    let is_rebuilt =
        record.is_rebuilt() && record.made_for().pid == 0 && !record.container.as_str().contains('+');
    is_rebuilt || record.holder.endpoint().is_some_and(|endpoint| !endpoint.awaited)
}

/// Makes the link of `record`, in place of one that a killed call has left.
fn make(context: &mut Context<'_>, record: &Record) -> Result<()> {
    let key = context.store.key(context.settings.lock_timeout());
    let key =
        key.inspect_err(|error| log::warn!("the mark of its link is not sealed: {}", error.in_full())).ok();
    for (mark, attached) in record.marked() {
        let host = &mut context.host_netlink;
        kernel::delete_endpoint_link(&record.container, host)?;
        kernel::make_endpoint_link(mark, attached, key, context.host_netns.get()?, host)?;
    }
    Ok(())
}

/// Deletes what [`make`] has made. A failure is logged only: the engine deletes the endpoint then.
fn unmake(context: &mut Context<'_>, record: &Record) {
    let deleted = kernel::delete_endpoint_link(&record.container, &mut context.host_netlink);
    deleted.map(drop).unwrap_or_else(|error| log::warn!("{error}"));
}

fn unknown(id: &ContainerId) -> Error {
    Error::new(Kind::NotFound, format!("endpoint {id} is not known"))
        .hint("the ledger was removed since it was created: start the container again")
}
