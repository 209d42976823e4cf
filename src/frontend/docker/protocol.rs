//! The calls of Docker to a network and IPAM plugin, and the answers, as JSON has them (moby, `daemon/libnetwork/drivers/remote/api`
//! and `ipams/remote/api`).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Options of a call, of which Docker writes none as null.
pub(super) type Texts = BTreeMap<String, String>;

/// The option that says what an address is for, and what it says for a gateway.
pub(super) const ADDRESS_TYPE: &str = "RequestAddressType";
pub(super) const GATEWAY: &str = "com.docker.network.gateway";
/// What all names of Docker's own options begin with.
pub(super) const OF_DOCKER: &str = "com.docker.";
/// The option of a new network with those of the user.
pub(super) const GENERIC: &str = "com.docker.network.generic";
/// The option of a new network that is to have no way out.
pub(super) const INTERNAL: &str = "com.docker.network.internal";

/// Null is as good as nothing.
fn or_none<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RequestPool {
    /// The subnet; empty if Docker leaves it to us.
    #[serde(default)]
    pub pool: String,
    /// The range of addresses; empty for the whole subnet.
    #[serde(default)]
    pub sub_pool: String,
    /// `--ipam-opt`.
    #[serde(default, deserialize_with = "or_none")]
    pub options: Texts,
    #[serde(default)]
    pub v6: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct RequestAddress {
    #[serde(rename = "PoolID")]
    pub pool: String,
    /// The address; empty for any.
    #[serde(default, rename = "Address")]
    pub address: String,
    #[serde(default, rename = "Options", deserialize_with = "or_none")]
    pub options: Texts,
}

#[derive(Debug, Deserialize)]
pub(super) struct ReleaseAddress {
    #[serde(rename = "PoolID")]
    pub pool: String,
    #[serde(rename = "Address")]
    pub address: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    pub network: String,
    #[serde(default, rename = "Options", deserialize_with = "or_none")]
    pub options: BTreeMap<String, Value>,
    #[serde(default, rename = "IPv4Data", deserialize_with = "or_none")]
    pub v4: Vec<IpamData>,
    #[serde(default, rename = "IPv6Data", deserialize_with = "or_none")]
    pub v6: Vec<IpamData>,
}

/// A subnet of a new network.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct IpamData {
    /// That of the IPAM driver.
    pub address_space: String,
    /// The subnet.
    pub pool: String,
    /// The gateway with its prefix length; empty if there is none.
    pub gateway: String,
    /// Addresses with prefix lengths.
    #[serde(deserialize_with = "or_none")]
    pub aux_addresses: Texts,
}

/// A call about a network as a whole.
#[derive(Debug, Deserialize)]
pub(super) struct OfNetwork {
    #[serde(rename = "NetworkID")]
    pub network: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct CreateEndpoint {
    #[serde(rename = "NetworkID")]
    pub network: String,
    #[serde(rename = "EndpointID")]
    pub endpoint: String,
    #[serde(default, rename = "Interface", deserialize_with = "or_none")]
    pub interface: Interface,
    /// `driver-opt` of the endpoint, and what is Docker's.
    #[serde(default, rename = "Options", deserialize_with = "or_none")]
    pub options: BTreeMap<String, Value>,
}

/// What an endpoint has. In an answer: what the driver has chosen.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Interface {
    /// With the prefix length; empty if it has none.
    #[serde(rename = "Address", skip_serializing_if = "String::is_empty")]
    pub address: String,
    #[serde(rename = "AddressIPv6", skip_serializing_if = "String::is_empty")]
    pub address_v6: String,
    #[serde(rename = "MacAddress", skip_serializing_if = "String::is_empty")]
    pub mac: String,
}

/// A call about an endpoint.
#[derive(Debug, Deserialize)]
pub(super) struct OfEndpoint {
    #[serde(rename = "EndpointID")]
    pub endpoint: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Join {
    #[serde(rename = "EndpointID")]
    pub endpoint: String,
    /// Where the namespace of the container is mounted, or will be.
    #[serde(default, rename = "SandboxKey")]
    pub sandbox: String,
}

/// The answer to `Join`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Joined {
    pub interface_name: InterfaceName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    #[serde(rename = "GatewayIPv6", skip_serializing_if = "Option::is_none")]
    pub gateway_v6: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub static_routes: Vec<StaticRoute>,
    /// Without it, and without an IPv4 gateway, Docker connects the container to its own bridge.
    pub disable_gateway_service: bool,
}

/// The link to be moved, and what its name in the container begins with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InterfaceName {
    pub src_name: String,
    pub dst_prefix: &'static str,
}

/// A route of the container.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StaticRoute {
    pub destination: String,
    /// 0 with a next hop, 1 on the link.
    pub route_type: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<String>,
}
