//! `host_access` of a network: whether the host can talk to the containers of it, and by which addresses.
//!
//! The kernel keeps a parent and the macvlan or ipvlan links on it apart. A further link on that parent, in the host's
//! own namespace, is a neighbour of the containers like any other: so the host gets one, with a route to each container.

use std::fmt;
use std::net::IpAddr;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use crate::error::{Error, Kind, Result};
use crate::net::driver::{Driver, IpvlanFlag, MacvlanMode};
use crate::net::subnet::Subnet;

/// That the host can talk to the containers of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostAccess {
    /// The addresses the host's link is to have, at most one of each family; of the others a free one is picked.
    pub addresses: Vec<IpAddr>,
}

impl HostAccess {
    /// Whether it can be had in a network of `driver` with these `subnets`.
    ///
    /// # Errors
    /// Says why the kernel would not let it work, or which address is not usable.
    pub(crate) fn check(&self, driver: Driver, subnets: &[Subnet]) -> Result<()> {
        if let Some(why) = obstacle(driver) {
            return Err(Error::input(format!(
                "host_access: {driver} keeps the host from its containers: {why}"
            ))
            .hint("use macvlan mode bridge, or an ipvlan network with flag bridge"));
        }
        if subnets.is_empty() {
            return Err(Error::input(
                "host_access: the network has no subnet the host could have an address of",
            )
            .hint("give it one: containers without addresses cannot be routed to"));
        }
        for (at, &address) in self.addresses.iter().enumerate() {
            let Some(subnet) = subnets.iter().find(|subnet| subnet.net().contains(&address)) else {
                return Err(Error::input(format!("host_access: {address} is in none of the subnets"))
                    .hint("give an address of the network, or none to have one picked"));
            };
            subnet.host(address).map_err(|error| error.within("host_access"))?;
            let of_family = |other: &&IpAddr| other.is_ipv4() == address.is_ipv4();
            if let Some(other) = self.addresses.iter().take(at).find(of_family) {
                return Err(Error::input(format!("host_access: {other} and {address} are of one family"))
                    .hint("the host's link has one address of each family"));
            }
        }
        Ok(())
    }

    /// What the values of `--host-access` ask for: addresses, or nothing where any will do. `None` if it was not given.
    ///
    /// # Errors
    /// Names the value that is no address.
    pub(crate) fn of_words(words: &[String]) -> Result<Option<Self>> {
        let address = |word: &String| {
            word.parse().map_err(|_| {
                Error::new(Kind::Usage, format!("host access {word:?} is no address"))
                    .hint("write --host-access, or --host-access=ADDRESS")
            })
        };
        let given = words.iter().filter(|word| !word.is_empty()).map(address);
        Ok((!words.is_empty()).then_some(Self { addresses: given.collect::<Result<_>>()? }))
    }

    /// Whether it names all the host's addresses in a network with these `subnets`, so that none is to be picked.
    pub(crate) fn names_all(&self, subnets: &[Subnet]) -> bool {
        subnets.iter().all(|subnet| self.of_family(subnet.net().addr().is_ipv4()).is_some())
    }

    /// The address of the family that is asked for, if any is.
    pub(crate) fn of_family(&self, is_v4: bool) -> Option<IpAddr> {
        self.addresses.iter().find(|address| address.is_ipv4() == is_v4).copied()
    }
}

/// Why a link of the host's would not reach the others of `driver` on the same parent.
fn obstacle(driver: Driver) -> Option<&'static str> {
    match driver {
        Driver::Macvlan { mode: MacvlanMode::Bridge } | Driver::Ipvlan { flag: IpvlanFlag::Bridge, .. } => {
            None
        }
        Driver::Macvlan { mode: MacvlanMode::Private } | Driver::Ipvlan { flag: IpvlanFlag::Private, .. } => {
            Some("no link of a parent reaches another")
        }
        Driver::Macvlan { mode: MacvlanMode::Vepa } | Driver::Ipvlan { flag: IpvlanFlag::Vepa, .. } => {
            Some("every frame goes out to the switch, which sends it back to the host if it does so at all")
        }
        Driver::Macvlan { mode: MacvlanMode::Passthru } => Some("one link has the parent to itself"),
        Driver::Macvlan { mode: MacvlanMode::Source } => {
            Some("its links take frames from listed MAC addresses alone, and send theirs out to the switch")
        }
    }
}

/// Reads `true`, `false`, an address, or a list of addresses.
///
/// # Errors
/// When it is something else.
pub(crate) fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Option<HostAccess>, D::Error> {
    struct Key;

    impl<'de> Visitor<'de> for Key {
        type Value = Option<HostAccess>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true, false, an address or a list of addresses")
        }

        fn visit_bool<E: de::Error>(self, wanted: bool) -> Result<Self::Value, E> {
            Ok(wanted.then(HostAccess::default))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            let address = text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
            Ok(Some(HostAccess { addresses: vec![address] }))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut addresses = Vec::new();
            while let Some(address) = list.next_element()? {
                // Of each family one is possible.
                if addresses.len() == 2 {
                    return Err(de::Error::invalid_length(3, &"at most one address of each family"));
                }
                addresses.push(address);
            }
            Ok(Some(HostAccess { addresses }))
        }
    }

    input.deserialize_any(Key)
}

impl Serialize for HostAccess {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        match self.addresses.as_slice() {
            [] => output.serialize_bool(true),
            [address] => address.serialize(output),
            all => {
                let mut list = output.serialize_seq(Some(all.len()))?;
                all.iter().try_for_each(|address| list.serialize_element(address))?;
                list.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::Network;

    fn read(driver: &str, more: &str) -> Result<Network> {
        let text = format!(
            r#"{{"version": 1, "driver": {driver}, "parent": "eth0", {more},
                "subnets": [{{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}}, {{"subnet": "2001:db8::/64"}}]}}"#
        );
        Network::from_json(&"lan".parse().unwrap(), text.as_bytes())
    }

    #[test]
    fn spellings() {
        for (text, addresses) in [
            ("true", Some(&[][..])),
            (r#""10.0.0.9""#, Some(&["10.0.0.9"])),
            (r#"["10.0.0.9","2001:db8::9"]"#, Some(&["10.0.0.9", "2001:db8::9"])),
            ("false", None),
        ] {
            let network = read(r#""macvlan""#, &format!(r#""host_access": {text}"#)).unwrap();
            let found = network.host_access.as_ref().map(|access| access.addresses.clone());
            let expected =
                addresses.map(|all| all.iter().map(|a| a.parse().unwrap()).collect::<Vec<IpAddr>>());
            assert_eq!(found, expected, "{text}");
            let written = serde_json::to_value(network.to_file()).unwrap();
            let expected =
                (text != "false").then(|| serde_json::from_str::<serde_json::Value>(text).unwrap());
            assert_eq!(written.get("host_access"), expected.as_ref());
        }
    }

    #[test]
    fn mistakes() {
        for (driver, text, message) in [
            (
                r#""macvlan""#,
                "5",
                "host_access: invalid type: integer `5`, expected true, false, an address or a list",
            ),
            (
                r#""macvlan""#,
                r#""x""#,
                "host_access: invalid value: string \"x\", expected true, false, an address",
            ),
            (
                r#""macvlan""#,
                r#"["10.0.0.9", "10.0.0.8"]"#,
                "host_access: 10.0.0.9 and 10.0.0.8 are of one family",
            ),
            (
                r#""macvlan""#,
                r#"["10.0.0.9", "10.0.0.8", "::"]"#,
                "host_access: invalid length 3, expected at most one",
            ),
            (r#""macvlan""#, r#""10.0.1.9""#, "host_access: 10.0.1.9 is in none of the subnets"),
            (
                r#""macvlan""#,
                r#""10.0.0.1""#,
                "host_access: address 10.0.0.1 is the gateway of subnet 10.0.0.0/24",
            ),
            (
                r#""macvlan", "macvlan_mode": "passthru""#,
                "true",
                "host_access: macvlan mode passthru keeps the host from its containers: one link has the parent to itself",
            ),
            (
                r#""macvlan", "macvlan_mode": "private""#,
                "true",
                "host_access: macvlan mode private keeps the host",
            ),
            (r#""macvlan", "macvlan_mode": "vepa""#, "true", "host_access: macvlan mode vepa keeps the host"),
            (
                r#""macvlan", "macvlan_mode": "source""#,
                "true",
                "host_access: macvlan mode source keeps the host",
            ),
            (
                r#""ipvlan", "ipvlan_flag": "private""#,
                "true",
                "host_access: ipvlan mode l2 private keeps the host",
            ),
            (r#""ipvlan", "ipvlan_flag": "vepa""#, "true", "host_access: ipvlan mode l2 vepa keeps the host"),
        ] {
            let error = read(driver, &format!(r#""host_access": {text}"#)).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
        let none = br#"{"version": 1, "driver": "macvlan", "host_access": true}"#;
        let error = Network::from_json(&"lan".parse().unwrap(), none).unwrap_err();
        assert_eq!(
            error.to_string(),
            "host_access: the network has no subnet the host could have an address of"
        );
    }
}
