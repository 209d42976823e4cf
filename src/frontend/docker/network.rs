//! Definitions of networks as Docker tells them, in the words of `underlay network create -o`; and what of a network Docker can have.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;

use super::protocol::{CreateNetwork, GENERIC, INTERNAL, IpamData, OF_DOCKER};
use crate::config::dhcp::Dhcp6;
use crate::config::driver_option;
use crate::config::network::Network;
use crate::config::network_file::{NetworkFile, SubnetFile};
use crate::error::{Error, Result};
use crate::net::name::NetworkName;

/// The address space of our pools, by which Docker tells whose they are.
pub(super) const ADDRESS_SPACE: &str = "underlay";
/// The options that are Docker's own, and of which a network takes one all the same.
const MTU: &str = "com.docker.network.driver.mtu";
/// The address space of Docker's driver `null`, which chooses no addresses and has one pool.
const NO_ADDRESSES: &str = "null";
/// What to do without `--ipam-driver underlay`.
const IPAM: &str = "create the network with --ipam-driver underlay and --subnet (compose: `ipam: {driver: underlay}`), or for addresses by DHCP with \
     --ipam-driver null and -o dhcp=true";
/// How long Docker can be kept waiting for a lease: it gets an answer in any case some seconds later.
const LEASE_TIMEOUT: Duration = Duration::from_secs(20);

/// A network that is to be created.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Defined {
    /// `-o network=`: it is that network of underlay.
    pub network: Option<NetworkName>,
    pub definition: NetworkFile,
}

impl Defined {
    /// Reads `call`, which does not tell the ranges of subnets.
    ///
    /// # Errors
    /// Names the option that is wrong.
    pub(super) fn read(call: &CreateNetwork) -> Result<Self> {
        let mut options = texts(call.options.get(GENERIC))?;
        options.retain(|key, _| key == MTU || !key.starts_with(OF_DOCKER));
        let network: Option<NetworkName> = match options.remove("network") {
            Some(name) => Some(name.parse().map_err(|error: Error| error.within("option network"))?),
            None => None,
        };
        if let (Some(name), Some(other)) = (&network, options.keys().next()) {
            return Err(Error::input(format!("option {other} is given, and network {name}"))
                .hint("leave one of the two out: the network of underlay says all except subnets"));
        }
        let driver = driver_option::driver(&options)?;
        options.remove("driver");
        let internal = matches!(call.options.get(INTERNAL), Some(Value::Bool(true)));
        let mut definition = NetworkFile { internal, ..NetworkFile::new(driver) };
        for (key, value) in &options {
            driver_option::set_of_engine(&mut definition, key, value)?;
        }
        let pools = call.v4.iter().chain(&call.v6).filter(|data| data.address_space != NO_ADDRESSES);
        definition.subnets = pools.map(subnet).collect::<Result<_>>()?;
        if network.is_none() && definition.subnets.is_empty() && definition.dhcp.is_none() {
            return Err(Error::input("the network has no subnet").hint(IPAM));
        }
        Ok(Self { network, definition })
    }
}

/// The options of the user, all of them text.
fn texts(options: Option<&Value>) -> Result<BTreeMap<String, String>> {
    let Some(Value::Object(options)) = options else { return Ok(BTreeMap::new()) };
    let text = |(key, value): (&String, &Value)| match value {
        Value::String(value) => Ok((key.clone(), value.clone())),
        other => Err(Error::input(format!("option {key}: {other} is no text"))),
    };
    options.iter().map(text).collect()
}

fn subnet(data: &IpamData) -> Result<SubnetFile> {
    let IpamData { address_space, pool, .. } = data;
    // Docker would give addresses that other containers have.
    if address_space != ADDRESS_SPACE {
        return Err(
            Error::input(format!("the addresses of subnet {pool} are not chosen by underlay")).hint(IPAM)
        );
    }
    let subnet: IpNet =
        pool.parse().map_err(|_| Error::input(format!("subnet {pool:?} is not usable")).hint(IPAM))?;
    let address = |text: &str| -> Result<_> {
        let net = text.parse::<IpNet>().map(|net| net.addr()).or_else(|_| text.parse());
        net.map_err(|_| Error::input(format!("subnet {subnet}: {text:?} is no address")))
    };
    let gateway =
        Some(&data.gateway).filter(|text| !text.is_empty()).map(|text| address(text)).transpose()?;
    let aux = data.aux_addresses.iter().map(|(name, text)| Ok((name.clone(), address(text)?)));
    let aux_addresses = aux.collect::<Result<_>>()?;
    Ok(SubnetFile { subnet, gateway, aux_addresses, ..SubnetFile::default() })
}

/// Whether containers of Docker can have links of `network`: Docker makes addresses and routes itself, and knows less of them.
///
/// # Errors
/// Names what Docker cannot make.
pub(super) fn check(network: &Network) -> Result<()> {
    let file = &network.file;
    let has_odd_route =
        file.routes.iter().any(|route| !route.is_unicast() || route.onlink || route.metric.is_some());
    let odd = [
        (network.is_of_many_vlans(), "vlans", "name one VLAN: -o vlan=7, or -o parent=eth0.7"),
        (
            file.dhcp.is_some() && network.subnets.iter().any(|subnet| subnet.net().addr().is_ipv4()),
            "addresses by DHCP and of a subnet",
            "leave --subnet out, and create it with --ipam-driver null; or leave the options of DHCP out",
        ),
        (
            file.dhcp.as_ref().is_some_and(|dhcp| dhcp.dhcp6 != Dhcp6::No),
            "addresses by DHCPv6",
            "leave dhcp6 out: Docker decides what links take from routers",
        ),
        (
            file.dhcp.as_ref().is_some_and(|dhcp| dhcp.timeout() > LEASE_TIMEOUT),
            "a dhcp_timeout of more than 20 seconds",
            "name a shorter one: Docker does nothing else while it waits",
        ),
        (
            !file.sysctls.is_empty(),
            "sysctls",
            "use --driver-opt com.docker.network.endpoint.sysctls with Docker 28",
        ),
        (file.table.is_some(), "a routing table", "leave table out"),
        (file.ipv6.is_some(), "ipv6", "leave ipv6 out: Docker decides what links take from routers"),
        (file.metric.is_some(), "a metric", "leave metric out: Docker has --network name=…,gw-priority="),
        (
            has_odd_route,
            "a route that Docker cannot make",
            "use routes with a gateway in a subnet, without metric",
        ),
        (
            file.subnets.iter().any(|subnet| subnet.onlink),
            "an onlink gateway",
            "name a gateway in the subnet",
        ),
        (
            !file.required_annotations.is_empty(),
            "required_annotations",
            "Docker tells no annotations of a container",
        ),
        (
            file.no_default_route,
            "no_default_route",
            "leave the gateway out, or create the network with --internal",
        ),
    ];
    let refuse = |(_, what, hint): &(bool, &str, &str)| {
        Err(Error::input(format!(
            "network {} has {what}, which networks of Docker cannot have",
            network.name
        ))
        .hint(*hint))
    };
    odd.iter().find(|(is_so, ..)| *is_so).map_or(Ok(()), refuse)
}

/// Whether what Docker says of `network` of underlay, besides its subnets, agrees with it.
///
/// # Errors
/// Names what differs.
pub(super) fn agree(said: &NetworkFile, network: &Network) -> Result<()> {
    let name = &network.name;
    let refuse = |what: String, is: String| {
        Err(Error::input(format!("{what} is given, and network {name} {is}"))
            .hint("leave it out: the network of underlay says it"))
    };
    if said.internal && !network.file.internal {
        return refuse("--internal".to_owned(), "is not internal".to_owned());
    }
    for asked in &said.subnets {
        let known = network.file.subnets.iter().find(|known| known.subnet == asked.subnet);
        let gateway = known.and_then(|known| known.gateway);
        match asked.gateway {
            Some(given) if gateway != Some(given) => {
                let is = gateway.map_or_else(|| "has none".to_owned(), |gateway| format!("has {gateway}"));
                return refuse(format!("gateway {given}"), is);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::Kind;

    fn defined(text: &str) -> Result<Defined> {
        let call: CreateNetwork = serde_json::from_str(text).unwrap();
        Defined::read(&call)
    }

    fn with(options: &str) -> Result<Defined> {
        let data = r#"[{"AddressSpace": "underlay", "Pool": "10.0.0.0/24", "Gateway": "10.0.0.1/24",
            "AuxAddresses": {"router": "10.0.0.2/24"}}]"#;
        defined(&format!(
            r#"{{"NetworkID": "ab", "Options": {{"com.docker.network.enable_ipv6": true,
                "com.docker.network.generic": {options}}}, "IPv4Data": {data}, "IPv6Data": null}}"#
        ))
    }

    #[test]
    fn the_words_of_docker() {
        let Defined { network, definition } = with(
            r#"{"parent": "eth0.20", "macvlan_mode": "private", "com.docker.network.driver.mtu": "1400",
                     "com.docker.network.advertise_addr_nmsgs": "2"}"#,
        )
        .unwrap();
        assert_eq!((network, definition.mtu, definition.internal), (None, Some(1400), false));
        let [subnet] = definition.subnets.as_slice() else { panic!() };
        assert_eq!(subnet.gateway, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(subnet.aux_addresses["router"].to_string(), "10.0.0.2");
        assert_eq!(
            Network::new(&"a".parse().unwrap(), definition).unwrap().driver.to_string(),
            "macvlan mode private"
        );
        for (options, kind) in [
            ("{}", Kind::Macvlan),
            (r#"{"ipvlan_mode": "l3"}"#, Kind::Ipvlan),
            (r#"{"driver": "ipvlan"}"#, Kind::Ipvlan),
            (r#"{"driver": "macvlan"}"#, Kind::Macvlan),
        ] {
            assert_eq!(with(options).unwrap().definition.driver, kind, "{options}");
        }
        assert_eq!(with(r#"{"network": "lan"}"#).unwrap().network, Some("lan".parse().unwrap()));
    }

    #[test]
    fn what_is_refused() {
        for (options, said) in [
            (r#"{"parrent": "eth0"}"#, "option \"parrent\" is not known"),
            (r#"{"parent": 7}"#, "option parent: 7 is no text"),
            (r#"{"network": "lan", "parent": "eth0"}"#, "option parent is given, and network lan"),
            (r#"{"driver": "veth"}"#, "option driver: "),
        ] {
            let error = with(options).unwrap_err();
            assert!(error.to_string().starts_with(said), "{error}");
        }
        let hint = with(r#"{"parrent": "eth0"}"#).unwrap_err();
        assert!(hint.hint_text().unwrap().starts_with("use driver, network, parent, vlan"), "{hint:?}");
        for data in [
            r#"[{"AddressSpace": "LocalDefault", "Pool": "10.0.0.0/24"}]"#,
            r#"[{"AddressSpace": "underlay", "Pool": ""}]"#,
            "[]",
            "null",
        ] {
            let error = defined(&format!(r#"{{"NetworkID": "ab", "IPv4Data": {data}}}"#)).unwrap_err();
            assert!(error.hint_text().unwrap().contains("--ipam-driver underlay"), "{error:?}");
        }
    }

    #[test]
    fn what_docker_can_have() {
        let check = |keys: &str| {
            let text = format!(r#"{{"version": 1, "driver": "macvlan", "parent": "eth0", {keys}}}"#);
            super::check(&Network::from_json(&"lan".parse().unwrap(), text.as_bytes()).unwrap())
        };
        assert!(check(r#""mtu": 1400, "internal": true"#).is_ok());
        assert!(check(r#""dhcp": {"optional": true}"#).is_ok());
        for keys in [
            r#""vlans": "1-9""#,
            r#""dhcp": {"dhcp6": "yes"}"#,
            r#""dhcp": {"timeout": 26}"#,
            r#""dhcp": {}, "subnets": [{"subnet": "10.0.0.0/24"}]"#,
            r#""table": 7"#,
            r#""sysctls": {"ipv4.arp_ignore": "1"}"#,
            r#""routes": [{"to": "10.9.0.0/16", "type": "blackhole"}]"#,
            r#""required_annotations": {"a": "b"}"#,
        ] {
            let error = check(keys).unwrap_err();
            assert!(error.to_string().starts_with("network lan has "), "{error}");
        }
    }
}
