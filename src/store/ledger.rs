//! The ledger: who holds which address.
//!
//! A container's record is `containers/ID.json`. A lease is a symbolic link `segments/IFINDEX/ADDRESS` to the
//! record of the container that holds the address: made in one system call that fails if the address is held,
//! never half written, and reading it shows its holder's record. So the cost of a lease does not depend on how
//! many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use ipnet::IpNet;

use super::segments::leased_to;
use super::{Holding, Locked, Store, remove, to_json, write_state};
use crate::assign::{self, DefaultRoutes, Wanted};
use crate::driver::Driver;
use crate::error::{Error, Kind, Result};
use crate::file;
use crate::host_link;
use crate::name::{ContainerId, NetworkName};
use crate::network::Network;
use crate::record::{Attached, Holder, Record, Segment, State, VERSION};

/// What is there before a container is attached, and what it must not collide with.
#[derive(Clone, Debug, Default)]
pub struct Present {
    /// The addresses the host itself has.
    pub on_host: BTreeSet<IpAddr>,
    /// The default routes of the container's namespace.
    pub default_routes: DefaultRoutes,
}

impl Store {
    pub(super) fn segment_dir(&self, segment: u32) -> PathBuf {
        self.state_dir.join("segments").join(segment.to_string())
    }

    /// The lease of `address` on `segment`.
    pub fn lease_path(&self, segment: u32, address: IpAddr) -> PathBuf {
        self.segment_dir(segment).join(address.to_string())
    }

    /// The files of the ledger that are `record` and its leases.
    pub fn paths_of(&self, record: &Record) -> Vec<PathBuf> {
        let leases = record.attachments.iter().flat_map(|attached| {
            attached.addresses.iter().map(|address| self.lease_path(attached.segment, address.addr()))
        });
        leases.chain([self.record_path(&record.container)]).collect()
    }
}

/// What a lease of the container `id` points to.
pub(super) fn lease_target(id: &ContainerId) -> PathBuf {
    PathBuf::from(format!("../../containers/{id}.json"))
}

impl Record {
    /// Whether this container holds `address` on `segment`.
    pub fn holds(&self, segment: u32, address: IpAddr) -> bool {
        let is_held =
            |a: &Attached| a.segment == segment && a.addresses.iter().any(|net| net.addr() == address);
        self.attachments.iter().any(is_held)
    }
}

impl Locked<'_> {
    /// Picks addresses for all attachments of a container, and writes its record and leases.
    ///
    /// `lives` tells whether a holder does.
    ///
    /// # Errors
    /// [`Kind::Exhausted`] when no address is left, [`Kind::Taken`] when an address, or the mode of an ipvlan
    /// parent, is somebody else's. Nothing is kept then.
    pub fn reserve(
        &self,
        container: &ContainerId,
        holder: &Holder,
        wanted: &[Wanted],
        present: &Present,
        lives: impl Fn(&Holder) -> bool,
    ) -> Result<Record> {
        let on_host = &present.on_host;
        let mut draft =
            Draft { locked: self, container, on_host, segments: BTreeMap::new(), leases: Vec::new() };
        let record = draft.attachments(wanted, lives).and_then(|mut attachments| {
            assign::routes(wanted, &mut attachments, present.default_routes);
            self.reserve_host_links(wanted, on_host)?;
            let record = Record {
                version: VERSION,
                container: container.clone(),
                state: State::Pending,
                holder: holder.clone(),
                attachments,
            };
            record.marked().try_for_each(|(mark, _)| mark.check())?;
            if record.attachments.iter().flat_map(Attached::lasting).next().is_some() {
                record.refuse_shared(&self.store.records()?.sound)?;
            }
            draft.write_segments()?;
            self.write(&record)?;
            Ok(record)
        });
        if record.is_err() {
            for lease in &draft.leases {
                // Then it is nobody's, and swept when it is needed.
                if let Err(error) = remove(lease) {
                    ::log::warn!("{error}");
                }
            }
        }
        record
    }

    /// Writes the record of a container.
    ///
    /// # Errors
    /// The old record, if any, stays.
    pub fn write(&self, record: &Record) -> Result<()> {
        write_state(&self.store.record_path(&record.container), record)
    }

    /// Gives back all that `record` holds, the record last: what is left by a kill in between is nobody's. Nothing,
    /// if the container's id has another holder by now: it was given back before.
    ///
    /// # Errors
    /// The record stays.
    pub fn release(&self, record: &Record) -> Result<()> {
        if self.store.record(&record.container)?.is_some_and(|now| now.holder != record.holder) {
            return Ok(());
        }
        for attached in &record.attachments {
            for address in &attached.addresses {
                let path = self.store.lease_path(attached.segment, address.addr());
                if leased_to(&path)?.is_some_and(|id| id == record.container) {
                    remove(&path)?;
                }
            }
        }
        remove(&self.store.record_path(&record.container))
    }

    /// Writes the definition of a new network.
    ///
    /// # Errors
    /// [`Kind::Taken`] when there is one of that name.
    pub fn create_network(&self, network: &Network) -> Result<()> {
        let path = self.store.network_path(&network.name);
        if let Some(folder) = path.parent() {
            file::make_folder(folder, 0o755)?;
        }
        if file::create(&path, &to_json(&network.to_file())?)? {
            return Ok(());
        }
        Err(Error::new(Kind::Taken, format!("network {} exists already", network.name))
            .hint(format!("see it with `underlay network inspect {}`", network.name)))
    }

    /// Removes the definition of a network.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_network(&self, name: &NetworkName) -> Result<()> {
        remove(&self.store.network_path(name))
    }
}

/// The reservation of one container while it is made.
struct Draft<'a> {
    locked: &'a Locked<'a>,
    container: &'a ContainerId,
    on_host: &'a BTreeSet<IpAddr>,
    segments: BTreeMap<u32, Segment>,
    leases: Vec<PathBuf>,
}

impl Draft<'_> {
    fn attachments(&mut self, wanted: &[Wanted], lives: impl Fn(&Holder) -> bool) -> Result<Vec<Attached>> {
        let mut attachments = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let segment = wanted.parent.segment();
            self.open_segment(segment, wanted)?;
            self.agree_on_mode(segment, wanted, &lives)?;
            attachments.push(Attached {
                network: wanted.network.name.clone(),
                driver: wanted.network.driver,
                parent: wanted.network.parent.clone(),
                parent_index: wanted.parent.ifindex,
                segment,
                ifname: wanted.ifname.clone(),
                ifindex: None,
                mac: wanted.request.mac,
                mtu: wanted.network.mtu,
                bclim: wanted.network.bclim,
                tuning: wanted.network.tuning.with_sources(&wanted.request.source_macs),
                host_link: wanted.network.host_access.as_ref().map(|_| host_link::name(&wanted.network.name)),
                addresses: self.addresses(segment, wanted)?,
                routes: Vec::new(),
                table: None,
            });
        }
        Ok(attachments)
    }

    fn segment_path(&self, segment: u32) -> PathBuf {
        self.locked.store.segment_dir(segment).join("segment.json")
    }

    fn open_segment(&mut self, segment: u32, wanted: &Wanted) -> Result<()> {
        if self.segments.contains_key(&segment) {
            return Ok(());
        }
        let store = self.locked.store;
        let path = self.segment_path(segment);
        let known = match store.read_state(&path) {
            // Only hints stand in it: the leases are files of their own.
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Newer) => {
                ::log::warn!("{error}");
                remove(&path)?;
                None
            }
            known => known?,
        };
        if known.is_none() {
            self.locked.make_segment(segment)?;
        }
        let mut known = known.unwrap_or_else(|| Segment::new(wanted.network.parent.clone()));
        known.parent = wanted.network.parent.clone();
        self.segments.insert(segment, known);
        Ok(())
    }

    fn write_segments(&self) -> Result<()> {
        for (&number, segment) in &self.segments {
            file::replace(&self.segment_path(number), &to_json(segment)?)?;
        }
        Ok(())
    }

    /// The kernel keeps one ipvlan mode for all links of a parent, and a new link's mode silently becomes that
    /// of running containers: so a mode other than theirs is refused here.
    fn agree_on_mode(&mut self, number: u32, wanted: &Wanted, lives: impl Fn(&Holder) -> bool) -> Result<()> {
        let Driver::Ipvlan { mode, flag } = wanted.network.driver else { return Ok(()) };
        let Some(segment) = self.segments.get_mut(&number) else { return Ok(()) };
        if segment.ipvlan.replace((mode, flag)) == segment.ipvlan {
            return Ok(());
        }
        for record in self.locked.store.records()?.sound {
            let other = record.attachments.iter().find(|attached| {
                let same_kind = attached.driver.kind() == wanted.network.driver.kind();
                attached.segment == number && same_kind && attached.driver != wanted.network.driver
            });
            if let Some(other) = other.filter(|_| lives(&record.holder)) {
                return Err(Error::new(
                    Kind::Taken,
                    format!(
                        "parent {} carries {} links (container {}), so network {} cannot have {}",
                        wanted.parent.name, other.driver, record.container, wanted.network.name, wanted.network.driver
                    ),
                )
                .hint("all ipvlan links of a parent share one mode and flag; use another parent or the same mode"));
            }
        }
        Ok(())
    }

    /// The addresses of one attachment: those asked for, and one of each family nothing was asked for in.
    fn addresses(&mut self, segment: u32, wanted: &Wanted) -> Result<Vec<IpNet>> {
        let mut addresses = Vec::new();
        for requested in &wanted.request.ips {
            let address = asked(wanted, requested.address, requested.prefix_len)?;
            self.take(segment, address, wanted)?;
            addresses.push(address);
        }
        for is_v4 in [true, false] {
            if !addresses.iter().any(|address| address.addr().is_ipv4() == is_v4) {
                addresses.extend(self.pick(segment, wanted, is_v4)?);
            }
        }
        Ok(addresses)
    }

    /// Leases exactly `address`.
    fn take(&mut self, segment: u32, address: IpNet, wanted: &Wanted) -> Result<()> {
        let (network, ip) = (&wanted.network.name, address.addr());
        let taken = |by: String| {
            Error::new(Kind::Taken, format!("address {ip} of network {network} is held by {by}"))
                .hint("ask for another address, or leave it out to get a free one")
        };
        if self.on_host.contains(&ip) {
            return Err(taken("this host itself".to_owned()));
        }
        if self.lease(segment, ip)? {
            return Ok(());
        }
        let path = self.locked.store.lease_path(segment, ip);
        Err(match self.locked.store.holding(segment, ip)? {
            _ if self.leases.contains(&path) => taken("this very container".to_owned()),
            Holding::Container(record) => taken(format!("container {}", record.container)),
            Holding::Unknown(id) => taken(format!("container {id}, whose record cannot be read")),
            Holding::Host(network) => taken(format!("the host, in network {network}")),
            Holding::Nobody => taken(path.display().to_string()),
        })
    }

    /// Leases the next free address of a family; `None` if the network has no subnet of it.
    fn pick(&mut self, segment: u32, wanted: &Wanted, is_v4: bool) -> Result<Option<IpNet>> {
        let of_family = |net: IpNet| net.addr().is_ipv4() == is_v4;
        let mut subnets = wanted.network.subnets.iter().filter(|subnet| of_family(subnet.net())).peekable();
        if subnets.peek().is_none() {
            return Ok(None);
        }
        for subnet in subnets {
            let pool = subnet.pool_name();
            let last = self.segments.get(&segment).and_then(|segment| segment.cursors.get(&pool)).copied();
            for address in subnet.candidates(last) {
                if !self.on_host.contains(&address.addr()) && self.lease(segment, address.addr())? {
                    if let Some(segment) = self.segments.get_mut(&segment) {
                        segment.cursors.insert(pool, address.addr());
                    }
                    return Ok(Some(address));
                }
            }
        }
        let family = if is_v4 { "IPv4" } else { "IPv6" };
        let name = &wanted.network.name;
        Err(Error::new(Kind::Exhausted, format!("network {name} has no free {family} address left")).hint(
            format!(
                "`underlay network inspect {name}` shows who holds them; stop a container or widen the range"
            ),
        ))
    }

    /// Leases `address` if nobody holds it.
    fn lease(&mut self, segment: u32, address: IpAddr) -> Result<bool> {
        let path = self.locked.store.lease_path(segment, address);
        match symlink(lease_target(self.container), &path) {
            Ok(()) => {
                self.leases.push(path);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Error::io("create", &path, &error)),
        }
    }
}

/// The address asked for, with the prefix length of the subnet it lies in.
fn asked(wanted: &Wanted, address: IpAddr, prefix_len: Option<u8>) -> Result<IpNet> {
    let network = &wanted.network;
    let subnet = network.subnet_of(address).ok_or_else(|| {
        let subnets: Vec<_> = network.subnets.iter().map(|subnet| subnet.net().to_string()).collect();
        Error::input(format!("address {address} is in no subnet of network {}", network.name)).hint(
            if subnets.is_empty() {
                "it has none".to_owned()
            } else {
                format!("its subnets: {}", subnets.join(", "))
            },
        )
    })?;
    let host = subnet.host(address)?;
    match prefix_len {
        Some(prefix_len) if prefix_len != host.prefix_len() => {
            Err(Error::input(format!("address {address}/{prefix_len} does not fit subnet {}", subnet.net()))
                .hint(format!("write {address}, or {host}")))
        }
        _ => Ok(host),
    }
}
