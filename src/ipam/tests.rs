//! A ledger in memory, and drafts over it: all of their leases are kept, or none.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::lease_table::{LeaseTable, Owner};
use super::reserve::{Applicant, Draft, HostFacts, Now};
use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::previous::PreviousAddresses;
use crate::ledger::bitmap::Bitmap;
use crate::ledger::holder::Holder;
use crate::ledger::quarantine::Conflict;
use crate::ledger::record::{Record, Segment};
use crate::net::lease_key::LeaseKey;
use crate::net::link::{Link, eth0};
use crate::net::mac::MacAddr;
use crate::net::name::{ContainerId, IfName, NetworkName};
use crate::net::subnet::Subnet;
use crate::oci::annotations::short_form;

pub(super) const KEY: [u8; 16] = [7; 16];
pub(super) const NOW: u64 = 1_000_000;
pub(super) const MOMENT: Now = Now { since_epoch: NOW, since_boot: 10_000 };

/// A ledger in memory.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) leases: RefCell<BTreeMap<(u32, LeaseKey), String>>,
    pub(super) segments: RefCell<BTreeMap<u32, Segment>>,
    pub(super) records: RefCell<Vec<Record>>,
    /// The map of the one pool, and how often it was asked for.
    pub(super) map: RefCell<Option<Bitmap>>,
    pub(super) looked_up: Cell<usize>,
    /// Fails when this key is leased, as a full disk does.
    pub(super) broken: Option<LeaseKey>,
    pub(super) facts: HostFacts,
}

impl LeaseTable for Memory {
    fn lease(&self, segment: u32, key: LeaseKey, owner: Owner<'_>) -> Result<bool> {
        if self.broken == Some(key) {
            return Err(Error::input("no room"));
        }
        let owner = match owner {
            Owner::Container(id) => id.to_string(),
            Owner::HostLink(network) => format!("host {network}"),
        };
        let mut leases = self.leases.borrow_mut();
        let is_free = !leases.contains_key(&(segment, key));
        leases.entry((segment, key)).or_insert(owner);
        Ok(is_free)
    }

    fn give_back(&self, segment: u32, key: LeaseKey) {
        assert!(self.leases.borrow_mut().remove(&(segment, key)).is_some(), "{key} was not leased");
    }

    fn held_by(&self, segment: u32, key: LeaseKey) -> Result<String> {
        Ok(self.leases.borrow()[&(segment, key)].clone())
    }

    fn leased_to_host(&self, segment: u32, key: LeaseKey) -> Result<Option<NetworkName>> {
        let leases = self.leases.borrow();
        Ok(leases.get(&(segment, key)).and_then(|owner| owner.strip_prefix("host ")?.parse().ok()))
    }

    fn segment(&self, segment: u32) -> Result<Option<Segment>> {
        Ok(self.segments.borrow().get(&segment).cloned())
    }

    fn map(&self, segment: u32, subnet: &Subnet, fresh: bool) -> Result<Option<Bitmap>> {
        self.looked_up.set(self.looked_up.get() + 1);
        if let Some(mut map) = self.map.borrow().clone().filter(|_| !fresh) {
            map.fresh = false;
            return Ok(Some(map));
        }
        let mut map = Bitmap::new(subnet).unwrap();
        for (_, key) in self.leases.borrow().keys().filter(|(of, _)| *of == segment) {
            key.address().into_iter().for_each(|address| map.set(address, true));
        }
        Ok(Some(map))
    }

    fn write_map(&self, _: u32, map: &Bitmap) {
        *self.map.borrow_mut() = Some(map.clone());
    }

    fn records(&self) -> Result<Vec<Record>> {
        Ok(self.records.borrow().clone())
    }

    fn is_in_doubt(&self) -> Result<bool> {
        Ok(false)
    }

    fn machine_key(&self, _: &Link) -> [u8; 16] {
        KEY
    }
}

impl Memory {
    /// Attaches the container `id`, whose process is `pid`, to all that is `wanted`; `lives` tells of others.
    pub(super) fn attach_all(
        &self,
        id: &str,
        pid: i32,
        wanted: &[ResolvedAttachment],
        lives: bool,
    ) -> Result<Record> {
        let (container, holder) = (id.parse().unwrap(), holder(pid));
        let applicant = applicant(&container, &holder);
        let mut draft = Draft::new(self, &self.facts, MOMENT);
        let record = draft.record(applicant, wanted, |_| lives)?;
        self.keep(draft);
        self.records.borrow_mut().push(record.clone());
        Ok(record)
    }

    pub(super) fn attach(
        &self,
        id: &str,
        pid: i32,
        wanted: &ResolvedAttachment,
        lives: bool,
    ) -> Result<Record> {
        self.attach_all(id, pid, std::slice::from_ref(wanted), lives)
    }

    /// The addresses that `id` gets.
    pub(super) fn addresses(&self, id: &str, wanted: &ResolvedAttachment) -> Result<Vec<String>> {
        let record = self.attach(id, 7, wanted, true)?;
        Ok(record.attachments()[0].addresses.iter().map(|net| net.addr().to_string()).collect())
    }

    pub(super) fn address(&self, id: &str, wanted: &ResolvedAttachment) -> String {
        self.addresses(id, wanted).unwrap().remove(0)
    }

    pub(super) fn keep(&self, mut draft: Draft<'_>) {
        self.segments.borrow_mut().extend(std::mem::take(&mut draft.segments));
        draft.leases.keep();
    }

    pub(super) fn free(&self, key: &str) {
        self.give_back(2, key.parse().unwrap());
    }

    /// Puts `address` in quarantine, as long ago as `ago` seconds.
    pub(super) fn set_aside(&self, address: &str, ago: u64) {
        let mut segments = self.segments.borrow_mut();
        let segment = segments.entry(2).or_insert_with(|| Segment::new("eth2".parse().unwrap()));
        segment.hints.set_aside(&conflict(address), NOW - ago);
    }

    /// The leases there are, in order, with their holders.
    pub(super) fn leases(&self) -> Vec<String> {
        let leases = self.leases.borrow();
        leases.iter().map(|((segment, key), owner)| format!("{segment}/{key} {owner}")).collect()
    }
}

pub(super) fn conflict(address: &str) -> Conflict {
    Conflict { attachment: 0, address: address.parse().unwrap(), mac: OTHER }
}

/// A host of the LAN.
pub(super) const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// A container without an identity, as one that asks for its first addresses.
pub(crate) fn applicant<'a>(container: &'a ContainerId, holder: &'a Holder) -> Applicant<'a> {
    Applicant { container, identity: None, host_name: None, holder, nsid: None, avoid_previous: false }
}

pub(crate) fn holder(pid: i32) -> Holder {
    serde_json::from_value(serde_json::json!({
        "pid": pid, "start_time": 8, "netns": {"device": 4, "inode": pid},
    }))
    .unwrap()
}

/// The network that is called as the first word of the annotation `text` says, as that asks for it: of `keys`, on the
/// parent number `ifindex`.
pub(crate) fn wanted(text: &str, keys: &str, ifindex: u32) -> ResolvedAttachment {
    let request = short_form(text).unwrap().remove(0);
    let subnets = if keys.contains("subnets") { "" } else { r#""subnets": [{"subnet": "10.0.0.0/24"}],"# };
    let definition = format!(r#"{{"version": 1, "parent": "eth{ifindex}", {subnets} {keys}}}"#);
    let network = Network::from_json(&request.network, definition.as_bytes()).unwrap();
    let parent = Link { ifindex, name: format!("eth{ifindex}"), ..eth0() };
    ResolvedAttachment {
        request,
        network,
        parent,
        ifname: IfName::eth(0),
        previous: PreviousAddresses::default(),
    }
}

pub(super) const MACVLAN: &str = r#""driver": "macvlan""#;

/// Four addresses, `10.0.0.2` to `10.0.0.5`, without a gateway.
pub(crate) const SMALL: &str = r#""driver": "macvlan",
    "subnets": [{"subnet": "10.0.0.0/24", "ip_range": "10.0.0.2-10.0.0.5"}]"#;

/// The kernel would refuse it each time, and the container would never start again.
#[test]
fn a_mac_that_is_remembered_and_no_links() {
    for (remembered, kept) in [
        ("02:00:00:00:00:09", true),
        ("01:00:5e:00:00:01", false),
        ("03:00:00:00:00:09", false),
        ("ff:ff:ff:ff:ff:ff", false),
        ("00:00:00:00:00:00", false),
    ] {
        let ledger = Memory::default();
        let remembered = remembered.parse().unwrap();
        let previous = PreviousAddresses { addresses: Vec::new(), mac: Some(remembered) };
        let record = ledger
            .attach("web", 7, &ResolvedAttachment { previous, ..wanted("lan", MACVLAN, 2) }, true)
            .unwrap();
        let mac = record.attachments()[0].mac.unwrap();
        assert_eq!(mac == remembered, kept, "{remembered}: {mac}");
        assert!(
            mac.is_unicast() && ledger.leases().contains(&format!("2/{mac} web")),
            "{:?}",
            ledger.leases()
        );
    }
}

/// The kernel changes the mode of all ipvlan links of a parent with each new one.
#[test]
fn one_ipvlan_mode_for_a_parent() {
    let ipvlan = |mode: &str, flag: &str| {
        format!(r#""driver": "ipvlan", "ipvlan_mode": "{mode}", "ipvlan_flag": "{flag}""#)
    };
    let ledger = Memory::default();
    ledger.attach("web", 7, &wanted("two", &ipvlan("l2", "bridge"), 2), true).unwrap();
    let before = ledger.leases();
    // However often it is tried.
    for (mode, flag) in
        [("l3", "bridge"), ("l3", "bridge"), ("l3s", "bridge"), ("l2", "private"), ("l2", "vepa")]
    {
        let error = ledger.attach("next", 8, &wanted("three", &ipvlan(mode, flag), 2), true).unwrap_err();
        let text =
            "parent eth2 carries ipvlan mode l2 bridge links (container web), so network three cannot have";
        assert_eq!(
            (error.kind(), error.to_string()),
            (Kind::Taken, format!("{text} ipvlan mode {mode} {flag}"))
        );
        assert_eq!((ledger.leases(), ledger.records.borrow().len()), (before.clone(), 1));
    }
    ledger.attach("same", 9, &wanted("two", &ipvlan("l2", "bridge"), 2), true).unwrap();
    // Another parent, or another driver, which is the kernel's to judge.
    ledger.attach("elsewhere", 10, &wanted("three", &ipvlan("l3", "bridge"), 3), true).unwrap();
    ledger.attach("mac", 11, &wanted("lan", MACVLAN, 2), true).unwrap();
    // The dead have no link any more.
    ledger.attach("after", 12, &wanted("three", &ipvlan("l3", "bridge"), 2), false).unwrap();
    // The first of them, on a parent that macvlan links have: nothing to agree on.
    let mixed = Memory::default();
    mixed.attach("mac", 7, &wanted("lan", MACVLAN, 2), true).unwrap();
    mixed.attach("web", 8, &wanted("two", &ipvlan("l2", "bridge"), 2), true).unwrap();
    // Nor do the containers of another parent count.
    let alone = Memory::default();
    alone.attach("elsewhere", 7, &wanted("three", &ipvlan("l3", "bridge"), 3), true).unwrap();
    alone.attach("web", 8, &wanted("two", &ipvlan("l2", "bridge"), 2), true).unwrap();
}

#[test]
fn all_or_nothing() {
    let ledger = Memory::default();
    ledger.attach("old", 7, &wanted("wan:ip=10.0.0.9", MACVLAN, 3), true).unwrap();
    let before = ledger.leases();
    // The second attachment cannot be had.
    let both = [wanted("lan", MACVLAN, 2), wanted("wan:ip=10.0.0.9", MACVLAN, 3)];
    assert_eq!(ledger.attach_all("web", 8, &both, true).unwrap_err().kind(), Kind::Taken);
    assert_eq!(ledger.leases(), before);
    // One container asks for an address twice.
    let twice = ["lan:ip=10.0.0.7", "lan:ip=10.0.0.7"].map(|text| wanted(text, MACVLAN, 2));
    let error = ledger.attach_all("web", 8, &twice, true).unwrap_err().to_string();
    assert_eq!(error, "address 10.0.0.7 of network lan is held by this very container");
    assert_eq!(ledger.leases(), before);
    // A lease cannot be written.
    let ledger = Memory { broken: Some("10.0.0.7".parse().unwrap()), ..ledger };
    let broken = ["lan", "lan:ip=10.0.0.7"].map(|text| wanted(text, MACVLAN, 2));
    assert_eq!(ledger.attach_all("web", 8, &broken, true).unwrap_err().to_string(), "no room");
    assert_eq!((ledger.leases(), ledger.segments.borrow().len()), (before, 1));
}
