//! Fuzz targets: what every reader of foreign text promises, whatever it is given.
//!
//! They are modules of the library (src/lib.rs, src/netlink/mod.rs), behind the feature `fuzzing`, because most of what they
//! call is private; no build that is shipped has them. `make fuzz` runs them under a coverage-guided fuzzer (`fuzz/`),
//! `cargo test --lib` on the corpus in `fuzz/corpus/TARGET` and on what the tests make of it. A promise that is broken is a
//! panic.

#[cfg(test)]
mod bounds;
mod dhcp;
#[cfg(test)]
mod replay;

use std::collections::BTreeSet;
use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::config::network::Network;
use crate::config::settings::Settings;
use crate::error::{Kind, Result};
use crate::frontend::docker;
use crate::frontend::netavark::Call;
use crate::import::{PluginNetwork, kept_of_plugin, network_of_plugin};
use crate::ipam::previous;
use crate::ledger::attached::Attached;
use crate::ledger::host_link::HostLink;
use crate::ledger::record::{Record, Segment};
use crate::net::arp_nd;
use crate::net::name::NetworkName;
use crate::net::parent::MadeParent;
use crate::net::seal::Alias;
use crate::net::subnet::Subnet;
use crate::oci::annotation_set::RawRequest;
use crate::oci::annotations::{self, Annotations, Attachment};
use crate::oci::hooks::Program;
use crate::oci::{self, inject};
use crate::plan::LinkPlan;
use crate::plan::host::{Changes, HostOp};
use crate::{json, netlink, plan};

/// A target by the name of its folder in the corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 13] = [
    ("state", state),
    ("config", config),
    ("annotations", annotations),
    ("network", network),
    ("netavark", netavark),
    ("settings", settings),
    ("ledger", ledger),
    ("netlink", netlink::fuzz),
    ("frame", frame),
    ("dhcp4", dhcp::v4),
    ("dhcp4_packet", dhcp::v4_packet),
    ("dhcp6", dhcp::v6),
    ("docker", docker::fuzz),
];

/// The value of a reader, or its refusal, which must be one that can be shown to people.
fn read<T>(result: Result<T>, text: &[u8]) -> Option<T> {
    let error = match result {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    assert_eq!(error.kind(), Kind::Input, "{error}");
    let message = error.to_string();
    assert!(!message.is_empty());
    // What is wrong may be quoted, with its control characters escaped, but not over and over.
    assert!(
        message.len() <= 512 + 16 * text.len(),
        "{} bytes make an error of {}",
        text.len(),
        message.len()
    );
    assert_ne!(error.hint_text(), Some(""));
    None
}

/// The OCI state, as both hooks read it.
fn state(text: &[u8]) {
    let created = read(oci::created(text), text);
    let stopped = read(oci::stopped(text), text);
    if let Some(created) = created {
        assert!(!created.id.is_empty() && !created.bundle.as_os_str().is_empty());
        // What can be attached can be detached.
        assert_eq!(stopped, Some(created.id));
        requested(&created.annotations.unwrap_or_default(), text);
    }
}

/// config.json, with all annotations.
fn config(text: &[u8]) {
    let Some(bundle) = read(oci::config(text, true), text) else { return };
    assert!(bundle.netns.as_ref().is_none_or(|path| path.is_absolute()));
    // What asks gets the hooks, once, and asks for the same as before; what does not stays as it is.
    let program = Program { path: "/usr/bin/underlay".into(), options: Vec::new() };
    if let Some(injected) = read(inject::inject(text, &program, &[]), text).flatten() {
        assert_eq!(oci::config(&injected, true), Ok(bundle.clone()));
        assert_eq!(inject::inject(&injected, &program, &[]), Ok(None));
    }
    requested(&bundle.annotations, text);
}

/// The value of `io.underlay.networks`, short or JSON.
fn annotations(text: &[u8]) {
    let Ok(value) = std::str::from_utf8(text) else { return };
    // What an identity had is written like the short form.
    if let Some(had) = read(previous::read(value), text) {
        assert!(!had.is_empty());
    }
    let with = |value: &str| Annotations::from([(annotations::NETWORKS.to_owned(), value.to_owned())]);
    let Some(request) = requested(&with(value), text) else { return };
    assert!(request.inline.is_empty());
    // Both forms mean the same: what the short form says can be said in JSON.
    let again: Vec<_> = request.attachments.iter().map(as_json).collect();
    let again = RawRequest::of(&with(&json!(again).to_string())).map(RawRequest::read);
    assert_eq!(again, Some(Ok(request)));
}

fn as_json(attachment: &Attachment) -> serde_json::Value {
    let ips = attachment.ips.iter().map(|ip| match ip.prefix_len {
        Some(length) => format!("{}/{length}", ip.address),
        None => ip.address.to_string(),
    });
    json!({
        "name": attachment.network,
        "ips": ips.collect::<Vec<_>>(),
        "mac": attachment.mac,
        "ifname": attachment.ifname,
        "gw-priority": attachment.gw_priority,
        "vlan": attachment.vlan,
        "routes": attachment.routes,
        "table": attachment.table,
        "default-route": attachment.default_route,
        "source-macs": attachment.source_macs,
    })
}

/// What `annotations` ask for, within the limits that are set without settings.
fn asked(annotations: &Annotations) -> Option<Result<annotations::Request>> {
    let asked = RawRequest::of(annotations)?;
    Some(asked.check_size(&Settings::default()).and_then(|()| asked.read()))
}

fn requested(annotations: &Annotations, text: &[u8]) -> Option<annotations::Request> {
    let asked = asked(annotations);
    let is_ours = |key: &String| key.starts_with(annotations::PREFIX);
    assert_eq!(asked.is_some(), annotations.keys().any(is_ours), "nothing is asked by accident");
    let request = read(asked?, text)?;
    assert!((1..=Settings::default().max_attachments).contains(&request.attachments.len()));
    for address in request.attachments.iter().flat_map(|attachment| &attachment.ips) {
        let ip = address.address;
        assert!(!ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback());
        assert!(address.prefix_len.is_none_or(|length| length <= if ip.is_ipv4() { 32 } else { 128 }));
    }
    for (name, network) in &request.inline {
        assert_eq!(*name, network.name);
        check(network);
    }
    Some(request)
}

/// A network file.
fn network(text: &[u8]) {
    let Ok(name) = "lan".parse::<NetworkName>() else { return };
    if let Some(network) = read(Network::from_json(&name, text), text) {
        assert_eq!(network.name, name);
        check(&network);
    }
}

/// What holds for every definition.
fn check(network: &Network) {
    let written = serde_json::to_vec(&network.file).unwrap_or_default();
    assert_eq!(
        Network::from_json(&network.name, &written).as_ref(),
        Ok(network),
        "it reads as it was written"
    );
    assert!(network.file.mtu.is_none_or(|mtu| (68..=65535).contains(&mtu)));
    for route in &network.file.routes {
        assert_eq!(route.to, route.to.trunc());
        let on_subnet = route.via.is_some_and(|via| network.subnet_of(via).is_some());
        assert!(on_subnet || route.onlink || (!route.is_unicast() && route.via.is_none()));
    }
    network.subnets.iter().for_each(check_subnet);
    // A parent's name may be nearly that of a VLAN.
    read(network.recipe(), network.parent.as_str().as_bytes());
}

fn check_subnet(subnet: &Subnet) {
    assert_eq!(subnet.net(), subnet.net().trunc());
    let inside = |gateway| subnet.net().contains(&gateway) || subnet.has_onlink_gateway();
    assert!(subnet.gateway().is_none_or(inside));
    let mut first = None;
    for candidate in subnet.candidates(None).take(3) {
        assert_eq!(subnet.host(candidate.addr()).as_ref(), Ok(&candidate), "what is picked can be asked for");
        first = first.or(Some(candidate));
    }
    let usage = subnet.usage(&BTreeSet::new());
    assert_eq!(usage.free > 0, first.is_some(), "{usage:?} of {subnet:?}");
    if let Some(first) = first {
        let next = subnet.candidates(Some(first.addr())).next();
        assert!(next != Some(first) || usage.free == 1, "an address just given up comes round last");
    }
}

/// underlay.json.
fn settings(text: &[u8]) {
    let Some(settings) = read(Settings::from_json(text), text) else { return };
    let definition = br#"{"version": 1, "driver": "macvlan", "parent": "eth0"}"#;
    let network = "lan".parse().and_then(|name| Network::from_json(&name, definition));
    let Ok(network) = network else { panic!("{network:?}") };
    let (inline, named) = (settings.allow_inline(&network), settings.allow_network(&network.name));
    // By default nobody defines networks, and all may be asked for.
    if settings == Settings::default() {
        assert!(inline.is_err() && named.is_ok());
    }
    read(inline, text);
    read(named, text);
}

/// What podman passes to its plugin: a network, or a container with one.
fn netavark(text: &[u8]) {
    if let Some(value) = read(json::object::<serde_json::Value>(text), text) {
        let _ = plugin(&value, text);
        assert_eq!(kept_of_plugin(kept_of_plugin(value.clone())), kept_of_plugin(value), "it stays as it is");
    }
    let Some(call) = read(Call::read(text), text) else { return };
    let name = match plugin(call.network(), text) {
        Some(PluginNetwork::Named(name)) => name,
        Some(PluginNetwork::Own(network)) => network.name,
        None => return,
    };
    if let Some(asked) = read(call.asked(name), text) {
        assert!(
            call.key.as_str().ends_with(asked.attachment.ifname.as_ref().map_or("", |name| name.as_str()))
        );
    }
    let _ = call.host_name();
}

/// A network of podman's. An option that is not known is a wrong command line.
fn plugin(value: &serde_json::Value, text: &[u8]) -> Option<PluginNetwork> {
    read(network_of_plugin(value).map_err(|error| error.of_kind(Kind::Input)), text)
}

/// A file of the ledger: each of its kinds.
fn ledger(text: &[u8]) {
    round_trip::<Segment>(text);
    round_trip::<MadeParent>(text);
    if let Some(link) = round_trip::<HostLink>(text) {
        let printable = |op: &HostOp| !op.to_string().contains(char::is_control);
        assert!(Changes::of(&link, &[], None).ops(&link).iter().all(printable), "{link:?} may be printed");
    }
    let Some(record) = round_trip::<Record>(text) else { return };
    let plan = plan::attach(&record);
    let commands: Vec<_> = plan.iter().flat_map(LinkPlan::lines).map(|line| line.to_string()).collect();
    assert!(commands.len() >= 3 * record.attachments().len());
    // Addresses that no container has are none to remember.
    read(previous::read(&previous::write(&previous::held(&record), &Vec::new())), text);
    let undo = plan::detach(&record);
    let lasting = record.attachments().iter().flat_map(Attached::lasting).count();
    assert_eq!(undo.len(), record.attachments().len() + lasting, "all that is made goes");
    for command in commands.into_iter().chain(undo.iter().map(|op| op.line().to_string())) {
        assert!(!command.contains(char::is_control), "{command:?} may be printed");
    }
    for (mark, attached) in record.marked() {
        let alias = mark.to_string();
        let read = alias.parse::<Alias>().map(|alias| alias.mark);
        assert_eq!(read, Ok(mark), "a link tells whose it is");
        netlink::fuzz_messages(attached, &alias);
    }
}

/// A frame of the LAN. Its promise: what is told is told by the frame itself, not by what Ethernet fills it up with.
fn frame(bytes: &[u8]) {
    let claim = arp_nd::read(bytes);
    let padded = [bytes, &[0; 60]].concat();
    if claim.is_some() {
        assert_eq!(arp_nd::read(&padded), claim);
    }
    // What is claimed can be asked for and announced, and is understood.
    if let Some(claim) = claim {
        assert_eq!(arp_nd::read(&arp_nd::probe(claim.address, claim.mac)).map(|said| said.probe), Some(true));
        let announced = arp_nd::read(&arp_nd::announcement(claim.address, claim.mac));
        assert!(
            claim.address.is_unspecified() || announced == Some(arp_nd::ProbeReply { probe: false, ..claim })
        );
    }
}

fn round_trip<T: DeserializeOwned + Serialize + PartialEq + Debug>(text: &[u8]) -> Option<T> {
    let value = read(json::object::<T>(text), text)?;
    let written = serde_json::to_vec_pretty(&value).unwrap_or_default();
    assert_eq!(json::object::<T>(&written).as_ref(), Ok(&value), "it reads as it was written");
    Some(value)
}
