//! The story of an attach: what `createRuntime` does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::assign::{self, Wanted};
use crate::detach;
use crate::error::{Error, Kind, Result};
use crate::kernel::{self, Made, NetnsFile, Process, Socket};
use crate::link::Link;
use crate::name::{ContainerId, IfName};
use crate::network::Network;
use crate::oci;
use crate::plan;
use crate::record::{Holder, Record, State, marked_by};
use crate::request::{self, Request};
use crate::settings::Settings;
use crate::store::Store;

/// Attaches a container that is being created to the networks it asks for: to all of them, or to none. `None`
/// if it asks for none, and nothing but the state and the bundle has been read, or if it is attached already.
///
/// # Errors
/// The first thing that is wrong. No link, lease or record is left behind.
pub fn attach(store: &Store, state: &oci::Created) -> Result<Option<Record>> {
    let bundle = oci::bundle(state)?;
    let Some(request) = request::parse(&bundle.annotations)? else { return Ok(None) };
    let container: ContainerId = state.id.parse()?;
    let settings = store.settings()?;
    let networks = networks(store, &settings, &request)?;

    let pid = state.pid.ok_or_else(|| Error::input("OCI state on stdin has no pid"))?;
    let process = Process::open(pid)?;
    let netns = process.netns()?;
    netns.refuse_own()?;
    let holder = Holder {
        pid: process.pid(),
        start_time: process.start_time(),
        netns: netns.describe(bundle.netns.as_deref()),
    };

    let mut host = Socket::open()?;
    let parents = parents(&networks, &mut host)?;
    let on_host: BTreeSet<IpAddr> = host.addresses()?.into_iter().collect();

    netns.inside(|| {
        let mut inside = Socket::open()?;
        let present = without_the_dead(store, &settings, &mut inside)?;
        let names = assign::names(&request.attachments, &present)?;
        let wanted = wanted(&request, &networks, &parents, names);
        let attach = Attach {
            store,
            settings: &settings,
            request: &request,
            container: &container,
            holder: &holder,
            netns: &netns,
        };
        let Some(record) = attach.reserve(&wanted, &on_host)? else {
            log::info!("container {container} is attached already: the hook was called twice");
            return Ok(None);
        };
        attach.make(record, &mut host, &mut inside).map(Some)
    })
}

/// The definitions of the networks asked for, by the name they are asked for with.
fn networks(store: &Store, settings: &Settings, request: &Request) -> Result<Vec<Network>> {
    let network = |asked: &request::Attachment| {
        let name = &asked.network;
        let Some(inline) = request.inline.get(name) else { return store.network(name) };
        settings.allow_inline(inline)?;
        if store.has_network(name) {
            return Err(Error::new(
                Kind::Taken,
                format!("annotation {}{name} defines a network that exists", request::NETWORK_PREFIX),
            )
            .hint("give it another name, or remove the annotation to use the existing network"));
        }
        Ok(inline.clone())
    };
    request.attachments.iter().map(network).collect()
}

/// The parents of `networks`, each fit for its network.
fn parents(networks: &[Network], host: &mut Socket) -> Result<BTreeMap<IfName, Link>> {
    let mut parents: BTreeMap<IfName, Link> = BTreeMap::new();
    for network in networks {
        if !parents.contains_key(&network.parent) {
            let link = host.link(&network.parent)?.ok_or_else(|| missing_parent(network))?;
            parents.insert(network.parent.clone(), link);
        }
        if let Some(parent) = parents.get(&network.parent) {
            parent.check_parent(network)?;
        }
    }
    Ok(parents)
}

/// The error for a network whose parent is not there.
pub(crate) fn missing_parent(network: &Network) -> Error {
    let parent = &network.parent;
    Error::new(
        Kind::NotFound,
        format!("parent {parent} of network {} does not exist on this host", network.name),
    )
    .hint("see the host's links with `ip link`")
}

/// The names of the links in the container's namespace. Links of containers that died in it, and that nobody
/// has detached, are taken away first: CRI-O calls their poststop after the successor's create, and containerd
/// may never.
fn without_the_dead(store: &Store, settings: &Settings, inside: &mut Socket) -> Result<BTreeSet<String>> {
    let mut links = inside.links()?;
    let marked: BTreeSet<ContainerId> =
        links.iter().filter_map(|link| marked_by(link.alias.as_deref()?)).collect();
    let mut any = false;
    for id in marked {
        if let Some(record) = store.record(&id)?.filter(|record| !kernel::lives(&record.holder)) {
            log::info!("container {id} died in this namespace: its links are taken away");
            detach::take_back(store, settings, &record)?;
            any = true;
        }
    }
    if any {
        links = inside.links()?;
    }
    Ok(links.into_iter().map(|link| link.name).collect())
}

fn wanted(
    request: &Request,
    networks: &[Network],
    parents: &BTreeMap<IfName, Link>,
    names: Vec<IfName>,
) -> Vec<Wanted> {
    let all = request.attachments.iter().zip(networks).zip(names);
    all.filter_map(|((request, network), ifname)| {
        let parent = parents.get(&network.parent)?.clone();
        Some(Wanted { request: request.clone(), network: network.clone(), parent, ifname })
    })
    .collect()
}

/// What does not change while a container is attached.
struct Attach<'a> {
    store: &'a Store,
    settings: &'a Settings,
    request: &'a Request,
    container: &'a ContainerId,
    holder: &'a Holder,
    netns: &'a NetnsFile,
}

impl Attach<'_> {
    /// Writes the pending record. What the dead hold is taken back if it is in the way, once. `None` if this
    /// very container is attached already: the hook was called twice.
    fn reserve(&self, wanted: &[Wanted], on_host: &BTreeSet<IpAddr>) -> Result<Option<Record>> {
        let mut taken_back = false;
        loop {
            let locked = self.store.lock(self.settings.lock_timeout())?;
            if let Some(old) = self.store.record(self.container)? {
                if old.holder == *self.holder && old.state == State::Attached {
                    return Ok(None);
                }
                if kernel::lives(&old.holder) {
                    return Err(Error::new(
                        Kind::Taken,
                        format!(
                            "container id {} is attached already, with pid {}",
                            self.container, old.holder.pid
                        ),
                    )
                    .hint("two runtimes use the same id: rename one container"));
                }
                drop(locked);
                detach::take_back(self.store, self.settings, &old)?;
                continue;
            }
            self.refuse_removed(wanted)?;
            match locked.reserve(self.container, self.holder, wanted, on_host, kernel::lives) {
                Err(error) if matches!(error.kind(), Kind::Exhausted | Kind::Taken) && !taken_back => {
                    drop(locked);
                    taken_back = true;
                    if !detach::take_back_dead(self.store, self.settings, wanted)? {
                        return Err(error);
                    }
                }
                reserved => return reserved.map(Some),
            }
        }
    }

    /// A network may have been removed since its file was read; from now on it cannot be.
    fn refuse_removed(&self, wanted: &[Wanted]) -> Result<()> {
        let gone = |name| !self.request.inline.contains_key(name) && !self.store.has_network(name);
        match wanted.iter().map(|wanted| &wanted.network.name).find(|name| gone(name)) {
            Some(name) => Err(Error::new(Kind::NotFound, format!("network {name} was removed meanwhile"))),
            None => Ok(()),
        }
    }

    /// Makes what the pending record says, and confirms it.
    fn make(&self, mut record: Record, host: &mut Socket, inside: &mut Socket) -> Result<Record> {
        let made = kernel::attach(&plan::attach(&record), host, inside, self.netns).inspect_err(|_| {
            self.give_up(&record);
        })?;
        confirm(&mut record, &made);
        let confirmed =
            self.store.lock(self.settings.lock_timeout()).and_then(|locked| locked.write(&record));
        if let Err(error) = confirmed {
            kernel::undo(&made, inside);
            self.give_up(&record);
            return Err(error);
        }
        Ok(record)
    }

    /// Releases what was reserved. Should that fail, the container dies with its error, and what it holds is
    /// taken back as that of any dead one.
    fn give_up(&self, record: &Record) {
        let released =
            self.store.lock(self.settings.lock_timeout()).and_then(|locked| locked.release(record));
        if let Err(error) = released {
            log::warn!("{error}");
        }
    }
}

fn confirm(record: &mut Record, made: &[Made]) {
    for (attached, made) in record.attachments.iter_mut().zip(made) {
        attached.ifindex = Some(made.ifindex);
        attached.mac = made.mac;
    }
    record.state = State::Attached;
}
