//! Endpoints: what Docker asks of a network driver for a container.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::network;
use super::protocol::{
    CreateEndpoint, Interface, InterfaceName, Join, Joined, OF_DOCKER, OfEndpoint, StaticRoute,
};
use crate::dhcp::lease::Family;
use crate::error::{Error, Kind, Result};
use crate::ledger::event::Event;
use crate::ledger::record::Record;
use crate::lifecycle::context::Context;
use crate::lifecycle::endpoint::{self, NewEndpoint};
use crate::lifecycle::report::report;
use crate::net::mac::MacAddr;
use crate::net::name::{ContainerId, Identity, IfName};

/// The option of an endpoint by which a container is known when it is created again.
const IDENTITY: &str = "identity";

/// The answer to `CreateEndpoint`.
///
/// # Errors
/// When the operator does not permit it, or an address is not free.
pub(super) fn create(context: &mut Context<'_>, call: &CreateEndpoint) -> Result<Value> {
    let id: ContainerId = call.network.parse()?;
    let known = context.store.docker_network(&id)?.ok_or_else(|| unknown_network(&id))?;
    let network = known.network(context.store)?;
    if known.network.is_some() {
        let of_settings = |error: Error| error.within(context.store.settings_path().display());
        context.settings.allow_network(&network.name).map_err(of_settings)?;
    }
    network::check(&network)?;
    let network = context.settings.complete(network);
    let new = new_endpoint(call)?;
    if new.addresses.is_empty() && network.file.dhcp.is_none() {
        return Err(Error::input("the endpoint has no address")
            .hint("create the network with --ipam-driver underlay and --subnet"));
    }
    let record = endpoint::create(context, network, &new).inspect_err(|error| {
        report(context.store, &Event::failed("docker create", Some(new.id.as_str()), error));
    })?;
    // Docker refuses an answer that repeats what it has said itself.
    let chosen =
        record.attachments().iter().find_map(|attached| attached.own_mac()).filter(|_| new.mac.is_none());
    let mac = chosen.map(|mac| mac.to_string()).unwrap_or_default();
    let leased = record.attachments().iter().find_map(|attached| attached.dhcp_lease(Family::V4));
    let address = leased.map(|lease| lease.address().to_string()).unwrap_or_default();
    Ok(json!({ "Interface": Interface { address, mac, ..Interface::default() } }))
}

/// Reads what is asked for.
///
/// # Errors
/// Names the option that is not known, or the address that is wrong.
pub(super) fn new_endpoint(call: &CreateEndpoint) -> Result<NewEndpoint> {
    let Interface { address, address_v6, mac } = &call.interface;
    let read = |text: &String| -> Result<IpAddr> {
        let net = text.parse::<IpNet>().map(|net| net.addr());
        net.map_err(|_| Error::input(format!("address {text:?} is not usable")))
    };
    let given = [address, address_v6].into_iter().filter(|text| !text.is_empty());
    let addresses = given.map(read).collect::<Result<Vec<_>>>()?;
    let mac: Option<MacAddr> = Some(mac).filter(|mac| !mac.is_empty()).map(|mac| mac.parse()).transpose()?;
    if let Some(mac) = mac.filter(|mac| !mac.is_unicast()) {
        return Err(Error::input(format!("MAC address {mac} is none of a link"))
            .hint("its first byte must be even, and not all may be zero: 02:00:00:00:00:09"));
    }
    Ok(NewEndpoint { id: call.endpoint.parse()?, identity: identity(&call.options)?, addresses, mac })
}

/// The identity that the options of an endpoint name.
fn identity(options: &BTreeMap<String, Value>) -> Result<Option<Identity>> {
    let mut identity = None;
    for (key, value) in options.iter().filter(|(key, _)| !key.starts_with(OF_DOCKER)) {
        match (key.as_str(), value) {
            (IDENTITY, Value::String(name)) => {
                identity = Some(name.parse().map_err(|error: Error| error.within("driver-opt identity"))?);
            }
            _ => {
                let text = format!("driver-opt {key:?} of an endpoint is not known");
                return Err(Error::new(Kind::Usage, text).hint("use identity"));
            }
        }
    }
    Ok(identity)
}

/// The answer to `Join`.
///
/// # Errors
/// When the endpoint is not known, or its link cannot be made.
pub(super) fn join(context: &mut Context<'_>, call: &Join) -> Result<Value> {
    let id: ContainerId = call.endpoint.parse()?;
    let sandbox = Some(Path::new(&call.sandbox)).filter(|path| path.is_absolute());
    let joined = endpoint::join(context, &id, sandbox);
    match &joined {
        Ok(record) => report(context.store, &Event::Attached(record.into())),
        Err(error) => report(context.store, &Event::failed("docker join", Some(id.as_str()), error)),
    }
    Ok(json!(answer(&id, &joined?)))
}

/// What Docker is to do with the link of `record`.
fn answer(id: &ContainerId, record: &Record) -> Joined {
    let mut joined = Joined {
        interface_name: InterfaceName { src_name: IfName::of_endpoint(id).to_string(), dst_prefix: "eth" },
        gateway: None,
        gateway_v6: None,
        static_routes: Vec::new(),
        disable_gateway_service: false,
    };
    for route in record.attachments().iter().flat_map(|attached| &attached.routes) {
        match route.via {
            Some(via) if route.is_default() && via.is_ipv4() => joined.gateway = Some(via.to_string()),
            Some(via) if route.is_default() => joined.gateway_v6 = Some(via.to_string()),
            via => joined.static_routes.push(StaticRoute {
                destination: route.to.to_string(),
                route_type: u8::from(via.is_none()),
                next_hop: via.map(|via| via.to_string()),
            }),
        }
    }
    joined.disable_gateway_service = joined.gateway.is_none();
    joined
}

/// Deletes an endpoint, and returns its addresses. One that is not known is deleted already.
///
/// # Errors
/// When its link cannot be deleted.
pub(super) fn delete(context: &mut Context<'_>, call: &OfEndpoint) -> Result<Vec<IpAddr>> {
    let id: ContainerId = call.endpoint.parse()?;
    let Some(record) = endpoint::delete(context, &id)? else { return Ok(Vec::new()) };
    report(context.store, &Event::Detached((&record).into()));
    let asked_for = record.attachments().iter().filter(|attached| attached.dhcp.is_none());
    Ok(asked_for.flat_map(|attached| &attached.addresses).map(IpNet::addr).collect())
}

fn unknown_network(id: &ContainerId) -> Error {
    Error::new(Kind::NotFound, format!("network {id} of Docker is not known"))
        .hint("its definition was removed from /var/lib/underlay: remove it in Docker, and create it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(options: &str, interface: &str) -> Result<NewEndpoint> {
        let text = format!(
            r#"{{"NetworkID": "ab", "EndpointID": "cd", "Interface": {interface}, "Options": {options}}}"#
        );
        new_endpoint(&serde_json::from_str(&text).unwrap())
    }

    const INTERFACE: &str =
        r#"{"Address": "10.0.0.9/24", "AddressIPv6": "2001:db8::9/64", "MacAddress": "02:00:00:00:00:09"}"#;

    #[test]
    fn what_an_endpoint_asks_for() {
        let found = new(r#"{"com.docker.network.portmap": [], "identity": "db"}"#, INTERFACE).unwrap();
        assert_eq!((found.id.as_str(), found.identity.unwrap().as_str()), ("cd", "db"));
        assert_eq!(found.addresses.len(), 2);
        assert!(found.mac.is_some());
        let plain =
            new("null", r#"{"Address": "10.0.0.9/24", "AddressIPv6": "", "MacAddress": ""}"#).unwrap();
        assert!(plain.mac.is_none() && plain.identity.is_none() && plain.addresses.len() == 1);
        for (options, interface, said) in [
            (r#"{"identitty": "db"}"#, INTERFACE, "driver-opt \"identitty\" of an endpoint is not known"),
            (r#"{"identity": 7}"#, INTERFACE, "driver-opt \"identity\""),
            (r#"{"identity": "a b"}"#, INTERFACE, "driver-opt identity: identity \"a b\""),
            (
                "null",
                r#"{"Address": "10.0.0.9/24", "MacAddress": "01:00:00:00:00:01"}"#,
                "MAC address 01:00:00:00:00:01 is none",
            ),
            ("null", r#"{"Address": "10.0.0.9"}"#, "address \"10.0.0.9\" is not usable"),
        ] {
            let error = new(options, interface).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }

    #[test]
    fn what_docker_does_with_a_link() {
        let text = r#"{"version": 3, "container": "0123456789abcdef", "state": "attached",
            "holder": {"engine": "docker", "number": 7, "since": 8},
            "attachments": [{"network": "lan", "driver": {"kind": "macvlan", "mode": "bridge"}, "parent": "eth0",
                "parent_index": 2, "segment": 2, "ifname": "ul0", "addresses": [], "routes": ROUTES}]}"#;
        let answer = |routes: &str| {
            let record: Record = serde_json::from_str(&text.replace("ROUTES", routes)).unwrap();
            json!(answer(&record.container, &record))
        };
        let name = json!({"SrcName": "ul0123456789abc", "DstPrefix": "eth"});
        assert_eq!(
            answer(
                r#"[{"to": "0.0.0.0/0", "via": "10.0.0.1"}, {"to": "::/0", "via": "2001:db8::1"},
                       {"to": "10.9.0.0/16", "via": "10.0.0.2"}]"#
            ),
            json!({"InterfaceName": name, "Gateway": "10.0.0.1", "GatewayIPv6": "2001:db8::1", "DisableGatewayService": false,
                   "StaticRoutes": [{"Destination": "10.9.0.0/16", "RouteType": 0, "NextHop": "10.0.0.2"}]})
        );
        assert_eq!(
            answer(r#"[{"to": "0.0.0.0/0"}]"#),
            json!({"InterfaceName": name, "DisableGatewayService": true,
                   "StaticRoutes": [{"Destination": "0.0.0.0/0", "RouteType": 1}]})
        );
    }
}
