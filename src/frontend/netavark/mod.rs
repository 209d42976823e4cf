//! podman's networks of driver `underlay`: the calls of netavark's plugin API 1.0.0.
//!
//! podman keeps the definitions, and calls `setup` and `teardown` for each network of a container, whose namespace it has
//! mounted. So one container has a record for each of its networks.

mod request;
mod status;

use std::path::Path;

use serde_json::Value;

pub(crate) use self::request::Call;
pub(crate) use self::status::Status;
use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::frontend::admission;
use crate::import::{self, PluginNetwork};
use crate::json;
use crate::kernel::{self, NetnsFile};
use crate::ledger::Store;
use crate::ledger::holder::Engine;
use crate::ledger::record::Record;
use crate::lifecycle::attach::attach;
use crate::lifecycle::context::Context;
use crate::lifecycle::detach::detach;
use crate::lifecycle::parents;
use crate::lifecycle::target::Target;
use crate::net::mark::Mark;
use crate::net::name::NetworkName;
use crate::oci::annotations::Attachment;

/// The metric of netavark's default routes.
const METRIC: i32 = 100;

/// What a call of `setup` has done.
pub(crate) struct SetUp {
    /// What podman is told.
    pub status: Status,
    /// The record, if the container was attached now.
    pub attached: Option<Record>,
}

/// Checks the network that podman is about to create, and returns what it is to keep of it.
///
/// # Errors
/// When underlay cannot make links for it, or there is such a network already.
pub(crate) fn create(store: &Store, text: &[u8]) -> Result<Value> {
    let value: Value = json::object(text)?;
    let mut context = Context::new(store)?;
    match import::network_of_plugin(&value)? {
        PluginNetwork::Named(name) => drop(store.network(&name)?),
        PluginNetwork::Own(network) => {
            if store.has_network(&network.name)? {
                return Err(admission::defined_twice(&network.name));
            }
            refuse_long(&network.name)?;
            parents::find(&network, &mut context.host_netlink)?;
            keep(store, &network);
        }
    }
    Ok(import::kept_of_plugin(value))
}

/// Refuses a name that has no place beside the longest id and interface name in the mark of a link.
fn refuse_long(name: &NetworkName) -> Result<()> {
    let container = format!("{}+{}", "0".repeat(64), "0".repeat(15)).parse()?;
    let mark = Mark { container, index: 0, pid: 0, start_time: u64::MAX, network: name.clone() };
    let hint = "use a shorter name: the kernel keeps it with each link";
    mark.check().map_err(|_| Error::input(format!("the name of network {name} is too long")).hint(hint))
}

/// Attaches the container of `text`, whose namespace is mounted at `path`, to one network. If that is done already, it says
/// the same again.
///
/// The calling thread is in the container's network namespace afterwards.
///
/// # Errors
/// No link, lease or record is left behind.
pub(crate) fn set_up(store: &Store, path: &Path, call: &Call) -> Result<SetUp> {
    let key = &call.key;
    let mut context = Context::new(store)?;
    let (name, own) = match import::network_of_plugin(call.network())? {
        PluginNetwork::Named(name) => (name, None),
        PluginNetwork::Own(network) => {
            // It may have been created on another host, or by an earlier version.
            keep(store, &network);
            (network.name.clone(), Some(*network))
        }
    };
    let asked = call.asked(name)?;
    let mut request = admission::permit_one(store, &context.settings, asked.attachment, own)?;
    set_metric(&mut request.network, &request.options);
    let target = Target::at(Engine::Podman, key.clone(), Some(asked.identity), call.host_name(), path)?;
    target.refuse_host(context.host_netns.get()?)?;
    // A record that cannot be read is repaired by the attach.
    let record = store.record(key).ok().flatten();
    // After a repair the engine is not known.
    let is_same = |record: &Record| {
        record.holder.stamp() == target.holder.stamp() && record.holder.netns().is(target.holder.netns())
    };
    if let Some(record) = record.filter(|record| is_same(record) && record.is_attached()) {
        return Ok(SetUp { status: Status::of(&record), attached: None });
    }
    let attached = attach(&mut context, &target, &[request])?;
    let attached = attached.ok_or_else(|| {
        Error::new(Kind::Taken, format!("container {key} is being attached by another call of podman"))
    })?;
    Ok(SetUp { status: Status::of(&attached), attached: Some(attached) })
}

/// Keeps the definition for repairs, and for the agent, which asks ahead for addresses. A failure is logged only: no container needs it.
fn keep(store: &Store, network: &Network) {
    store.keep_podman_network(network).unwrap_or_else(|error| log::warn!("{}", error.in_full()));
}

/// Gives the default routes of `network` a metric by which the kernel prefers those of a higher `gw-priority`, also to those of
/// podman's own networks; of equals those of the network on `eth0`. podman sets them up in any order.
fn set_metric(network: &mut Network, options: &Attachment) {
    let number =
        options.ifname.as_ref().and_then(|name| name.as_str().strip_prefix("eth")?.parse::<i32>().ok());
    let metric = match (options.gw_priority, number.unwrap_or_default()) {
        (0, 0) => METRIC - 1,
        (0, number) => METRIC.saturating_add(number).min(2 * METRIC),
        (priority @ 1.., _) => (METRIC - 1).saturating_sub(priority),
        (priority, _) => (2 * METRIC).saturating_sub(priority),
    };
    network.file.metric.get_or_insert(metric.max(1).unsigned_abs());
}

/// Detaches the container of `call`, whose namespace is, or was, mounted at `path`. Returns `None` if it holds nothing.
///
/// # Errors
/// What could not be deleted stays in the ledger.
pub(crate) fn tear_down(store: &Store, path: &Path, call: &Call) -> Result<Option<Record>> {
    // A call for the namespace of before may come late. By another path to the same one it comes in time.
    let netns = NetnsFile::at(path).ok().flatten();
    let is_here = |record: &Record| {
        record.holder.netns().path.as_deref() == Some(path)
            || netns.as_ref().is_some_and(|netns| netns.describe(None).is(record.holder.netns()))
    };
    let is_successor = |record: &Record| !is_here(record) && kernel::is_alive(&record.holder);
    // A record that cannot be read is repaired later.
    if store.record(&call.key).ok().flatten().is_some_and(|record| is_successor(&record)) {
        return Ok(None);
    }
    detach(&mut Context::for_removal(store), &call.key)
}
