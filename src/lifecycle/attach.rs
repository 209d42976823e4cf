//! The story of an attach: what `createRuntime` does.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::ManuallyDrop;

use crate::config::network::Network;
use crate::config::settings::Settings;
use crate::error::{Error, Kind, Result};
use crate::fs::file;
use crate::ipam::assign::{self, DefaultRoutes, Wanted};
use crate::ipam::previous::{self, Hint};
use crate::ipam::reserve::{Present, Subject};
use crate::kernel::{self, CreatedLink, NetnsFile, Process};
use crate::ledger::record::{Holder, Record, State};
use crate::ledger::{Locked, Store};
use crate::lifecycle::affinity;
use crate::lifecycle::announce;
use crate::lifecycle::conflicts;
use crate::lifecycle::host_access;
use crate::lifecycle::parents;
use crate::lifecycle::policy;
use crate::lifecycle::release;
use crate::lifecycle::repair;
use crate::lifecycle::shared_netns;
use crate::net::link::Link;
use crate::net::name::{ContainerId, IfName, NetworkName};
use crate::net::netns::Netns;
use crate::net::seal::Alias;
use crate::netlink::{Socket, is_in_use};
use crate::oci;
use crate::oci::annotations::Request;
use crate::plan;
use crate::plan::persistent;

/// Attaches a container that is being created to the networks it asks for: to all of them, or to none. It asks by
/// annotations and by devices; the hook was called for the device `named`, if for one. `None` if it asks for none, and
/// nothing but the state and the bundle has been read, or if it is attached already.
///
/// The calling thread is in the container's network namespace afterwards: it is a hook's, which ends here.
///
/// # Errors
/// The first thing that is wrong. No link, lease or record is left behind.
pub(crate) fn attach(
    store: &Store,
    state: &oci::Created,
    named: Option<&NetworkName>,
) -> Result<Option<Record>> {
    let bundle = oci::bundle(state, named)?;
    let Some(asked) = bundle.asked() else { return Ok(None) };
    let container: ContainerId = state.id.parse()?;
    let settings = store.settings()?;
    let (request, networks) = policy::permitted(store, &settings, asked)?;

    let pid = state.pid.ok_or_else(|| Error::input("OCI state on stdin has no pid"))?;
    let process = left(Process::open(pid)?);
    let netns = left(process.netns()?);
    let home = left(NetnsFile::own()?);
    netns.refuse(&home)?;
    let holder = Holder {
        pid: process.pid(),
        start_time: process.start_time(),
        pid_namespace: kernel::pid_namespace(),
        netns: netns.describe(bundle.netns.as_deref()),
    };

    if !bundle.devices.is_empty() {
        match is_done(store, &container, &holder, named) {
            Ok(true) => return Ok(None),
            Ok(false) => {}
            // The container dies with it, and another of its hooks has attached it: all or nothing.
            Err(error) => {
                undo(store, &settings, &container);
                return Err(error);
            }
        }
    }

    let mut host = left(Socket::open()?);
    let parents = policy::parents(&networks, &mut host)?;
    repair::recover(store, &settings, &home, &mut host)?;
    let memory = affinity::recall(store, request.identity.as_ref(), &container);
    let hints = previous::of(&request.attachments, &memory.hints);
    for (network, had) in networks.iter().zip(&hints) {
        if let Some(parent) = parents.get(&network.parent) {
            release::reclaim_previous(store, &settings, had, parent, &mut host);
        }
    }
    let on_host = policy::on_host(&networks, &mut host)?;
    let ways = policy::ways(&networks, &mut host)?;

    if let Some(joined) = shared_netns::join(store, &settings, &container, &holder, &request, &networks)? {
        return Ok(Some(joined));
    }
    netns.enter()?;
    let mut inside = left(Socket::open()?);
    let mut wanted = request.attachments.iter().zip(&networks);
    let lasting = wanted.any(|(asked, network)| persistent::is_wanted(asked, network));
    let links = without_the_dead(store, &settings, &holder.netns, lasting, &mut host, &mut inside)?;
    let names = assign::names(&request.attachments, &links)?;
    // A namespace with nothing but `lo` has no routes.
    let default_routes = if links.len() > 1 { inside.default_routes()? } else { DefaultRoutes::default() };
    let attach = Attach {
        store,
        settings: &settings,
        request: &request,
        networks: &networks,
        hints: &hints,
        container: &container,
        holder: &holder,
        netns: &netns,
        home: &home,
    };
    let neighbours = policy::neighbours(&networks, &parents, &mut host)?;
    let present = Present { on_host, ways, neighbours, default_routes };
    let (mut freed, mut afresh) = (false, false);
    loop {
        let reserved = attach.reserve(&parents, &names, &present, afresh, &mut host);
        let Some((mut record, wanted)) = reserved.inspect_err(|_| attach.drop_parents(&mut host))? else {
            log::info!("container {container} is attached already: the hook was called twice");
            return Ok(None);
        };
        let error = match attach.make(&mut record, &wanted, &present, &mut host, &mut inside) {
            Ok(()) => {
                announce::repeat(store, &record, &home);
                affinity::keep(store, &record, &memory);
                return Ok(Some(record));
            }
            Err(error) => error,
        };
        // Should that fail too, the container dies with its error, and what it holds is taken back as that of any dead
        // one.
        if let Err(other) = release::release(store, &settings, &record, &mut host) {
            log::warn!("{other}");
            return Err(error);
        }
        if !freed && host_access::is_in_the_way(&error) {
            freed = true;
            if release::reclaim_host_links(store, &settings, &record, &mut host)? {
                continue;
            }
        } else if !afresh && is_in_use(&error) && attach.can_differ() {
            // A link that is not in the ledger, or dies for long, has what this one had before: another will do.
            log::warn!("{error}; another one is taken");
            afresh = true;
            continue;
        }
        return Err(error);
    }
}

/// Whether another hook of this container, of which there is one for each device, has attached it to all networks.
///
/// # Errors
/// When it was not attached to the network `named`, of which that hook was not told.
fn is_done(
    store: &Store,
    container: &ContainerId,
    holder: &Holder,
    named: Option<&NetworkName>,
) -> Result<bool> {
    // A record that cannot be read is mended later.
    let record = store.record(container).ok().flatten();
    let Some(record) = record.filter(|record| record.holder == *holder && record.state == State::Attached)
    else {
        return Ok(false);
    };
    // One that shares the links of another has none of its own.
    let first = record.shares.as_ref().map(|first| store.record(first)).transpose()?.flatten();
    let attachments = &first.as_ref().unwrap_or(&record).attachments;
    match named.filter(|&name| attachments.iter().all(|attached| attached.network != *name)) {
        Some(name) => {
            Err(Error::new(Kind::Taken, format!("the container was attached without network {name}"))
                .hint("its config.json could not be found: ask for all networks by one annotation"))
        }
        None => Ok(true),
    }
}

/// Releases what another hook of this container has attached. What fails is told: it is that of a dead container then.
fn undo(store: &Store, settings: &Settings, container: &ContainerId) {
    let released = store.record(container).and_then(|record| match record {
        Some(record) => release::release(store, settings, &record, &mut Socket::when_needed()).map(drop),
        None => Ok(()),
    });
    released.unwrap_or_else(|error| log::warn!("{error}"));
}

/// What is left to the kernel, which closes all at once when the hook ends.
fn left<T>(open: T) -> ManuallyDrop<T> {
    ManuallyDrop::new(open)
}

/// The names of the links in the container's namespace. Links of containers that died in it, and that nobody
/// has detached, are taken away first: CRI-O calls their poststop after the successor's create, and containerd
/// may never. So is what else they have left in it, if something `lasting` is to come. A mark is only a way to a record,
/// which must speak of this very namespace, `netns`: whoever may write marks here reaches nobody elsewhere.
fn without_the_dead(
    store: &Store,
    settings: &Settings,
    netns: &Netns,
    lasting: bool,
    host: &mut Socket,
    inside: &mut Socket,
) -> Result<BTreeSet<String>> {
    let mut links = inside.links()?;
    let alias = |link: &Link| link.alias.as_deref()?.parse::<Alias>().ok();
    let mut left: BTreeSet<_> = links.iter().filter_map(|link| Some(alias(link)?.mark.container)).collect();
    if lasting {
        left.extend(store.records()?.sound.into_iter().map(|record| record.container));
    }
    let is_dead_here = |record: &Record| record.holder.netns.is(netns) && !kernel::lives(&record.holder);
    let mut any = false;
    for id in left {
        let record = match store.record(&id) {
            // Whatever it says, it keeps nobody else from starting here.
            Err(error) if error.kind().is_of_one_file() => {
                log::warn!("{error}");
                continue;
            }
            record => record?,
        };
        if let Some(record) = record.filter(is_dead_here) {
            log::info!("container {id} died in this namespace: its links are taken away");
            release::reclaim(store, settings, &record, host)?;
            any = true;
        }
    }
    if any {
        links = inside.links()?;
    }
    Ok(links.into_iter().map(|link| link.name).collect())
}

/// What does not change while a container is attached.
struct Attach<'a> {
    store: &'a Store,
    settings: &'a Settings,
    request: &'a Request,
    networks: &'a [Network],
    /// What was had before, of each network.
    hints: &'a [Hint],
    container: &'a ContainerId,
    holder: &'a Holder,
    netns: &'a NetnsFile,
    home: &'a NetnsFile,
}

impl Attach<'_> {
    /// Writes the pending record. What the dead hold is taken back if it is in the way, once. `None` if this
    /// very container is attached already: the hook was called twice.
    fn reserve(
        &self,
        parents: &BTreeMap<IfName, Link>,
        names: &[IfName],
        present: &Present,
        afresh: bool,
        host: &mut Socket,
    ) -> Result<Option<(Record, Vec<Wanted>)>> {
        let (mut taken_back, mut mended) = (false, false);
        loop {
            let locked = self.store.lock(self.settings.lock_timeout())?;
            let old = match self.store.record(self.container) {
                Err(error) if error.kind() == Kind::Damaged && !mended => {
                    log::warn!("{error}");
                    drop(locked);
                    mended = true;
                    repair::mend(self.store, self.settings, self.home, host, false)?.warn();
                    continue;
                }
                // What it was is nowhere to be read; the runtime, which has made another of that id, says that it is over.
                Err(error) if error.kind() == Kind::Damaged => {
                    file::remove(&self.store.record_path(self.container))?;
                    None
                }
                old => old?,
            };
            if let Some(old) = old {
                if old.holder == *self.holder {
                    // Whether the hook that wrote a pending record still runs nobody can tell: it is let alone.
                    return if old.state == State::Attached {
                        Ok(None)
                    } else {
                        Err(policy::cut_short(&old))
                    };
                }
                if kernel::lives(&old.holder) {
                    return Err(policy::attached_already(&old));
                }
                drop(locked);
                release::reclaim(self.store, self.settings, &old, host)?;
                continue;
            }
            self.refuse_removed()?;
            let wanted = self.wanted(&locked, parents, names, host)?;
            host_access::refuse_elsewhere(self.store, &wanted, host)?;
            let identity = self.request.identity.as_ref();
            let subject = Subject { container: self.container, identity, holder: self.holder, afresh };
            match locked.reserve(subject, &wanted, present, kernel::lives) {
                Err(error) if matches!(error.kind(), Kind::Exhausted | Kind::Taken) && !taken_back => {
                    drop(locked);
                    taken_back = true;
                    if !release::reclaim_dead(self.store, self.settings, &wanted, self.home, host)? {
                        return Err(error);
                    }
                }
                reserved => return reserved.map(|record| Some((record, wanted))),
            }
        }
    }

    /// Whether anything of it is not exactly as asked for.
    fn can_differ(&self) -> bool {
        let mut all = self.request.attachments.iter().zip(self.networks).zip(self.hints);
        all.any(|((request, network), had)| {
            !had.addresses.is_empty() || network.driver.has_own_mac() && request.mac.is_none()
        })
    }

    /// A network may have been removed since its file was read; from now on it cannot be.
    fn refuse_removed(&self) -> Result<()> {
        for Network { name, .. } in self.networks {
            if !self.request.inline.contains_key(name) && !self.store.has_network(name)? {
                return Err(Error::new(Kind::NotFound, format!("network {name} was removed meanwhile")));
            }
        }
        Ok(())
    }

    /// What is wanted, with every parent there: those that underlay makes are made where they are missing.
    fn wanted(
        &self,
        locked: &Locked<'_>,
        parents: &BTreeMap<IfName, Link>,
        names: &[IfName],
        host: &mut Socket,
    ) -> Result<Vec<Wanted>> {
        let all = self.request.attachments.iter().zip(self.networks).zip(names).zip(self.hints);
        all.map(|(((request, network), ifname), hint)| {
            let parent = match parents.get(&network.parent).filter(|link| !link.is_made_parent()) {
                Some(parent) => parent.clone(),
                // Found or made under the lock, so that nobody deletes it meanwhile.
                None => parents::ensure(locked, network, host)?,
            };
            let (request, network, ifname) = (request.clone(), network.clone(), ifname.clone());
            Ok(Wanted { request, network, parent, ifname, hint: hint.clone() })
        })
        .collect()
    }

    /// Deletes the parents that were made for nothing.
    fn drop_parents(&self, host: &mut Socket) {
        let made: Vec<_> = self.networks.iter().filter(|n| matches!(n.recipe(), Ok(Some(_)))).collect();
        if made.is_empty() {
            return;
        }
        let dropped = self.store.lock(self.settings.lock_timeout()).and_then(|locked| {
            made.iter().try_for_each(|network| parents::drop_unneeded_of(&locked, network, host))
        });
        if let Err(error) = dropped {
            log::warn!("{error}");
        }
    }

    /// Makes what the pending record says, and confirms it. Where an address turns out to be somebody else's, the record
    /// gets another first.
    fn make(
        &self,
        record: &mut Record,
        wanted: &[Wanted],
        present: &Present,
        host: &mut Socket,
        inside: &mut Socket,
    ) -> Result<()> {
        let (store, settings, home) = (self.store, self.settings, self.home);
        let probing = conflicts::Probing { store, settings, home, wanted, present };
        let probes = probing.begin(record)?;
        let key = store.key(settings.lock_timeout());
        let key = key.inspect_err(|e| log::warn!("the marks of its links are not sealed: {}", e.in_full()));
        let made = kernel::attach(&plan::attach(record), key.ok(), host, inside, self.netns)?;
        if record.is_probed() {
            probing.settle(record, &made, probes, host, inside)?;
        }
        host_access::ensure(store, settings, record, &present.ways, home, host)?;
        confirm(record, &made);
        store.lock(settings.lock_timeout())?.write(record)
    }
}

fn confirm(record: &mut Record, made: &[CreatedLink]) {
    for (attached, made) in record.attachments.iter_mut().zip(made) {
        attached.ifindex = Some(made.ifindex);
        // One of its own is leased.
        attached.mac = attached.mac.or(made.mac);
    }
    record.state = State::Attached;
}
