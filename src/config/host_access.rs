//! The key `host_access` of a network: whether the host can talk to its containers, and by which addresses.
//!
//! The kernel keeps a parent and the macvlan or ipvlan links on it apart. A further link on that parent, in the host's
//! own namespace, is a neighbour of the containers like any other: so the host gets one, with a route to each container.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::config::reservation::Reservations;
use crate::error::{Error, Kind, Result};
use crate::net::driver::{Driver, IpvlanFlag as Flag, MacvlanMode as Mode};
use crate::net::subnet::Subnet;

/// The host's access to the containers of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(into = "Written")]
pub(crate) struct HostAccess {
    /// The addresses of the host's link, at most one of each family. For other families a free one is allocated.
    pub addresses: Vec<IpAddr>,
}

impl HostAccess {
    /// Whether a network of `driver` with these `subnets` and `reservations` can have it.
    ///
    /// # Errors
    /// Says why the kernel prevents it, or which address is not usable.
    pub(crate) fn check(
        &self,
        driver: Driver,
        subnets: &[Subnet],
        reservations: &Reservations,
    ) -> Result<()> {
        let refuse = |text: String, hint: &str| Err(Error::input(format!("host_access: {text}")).hint(hint));
        if let Some(why) = obstacle(driver) {
            let hint = "use macvlan mode bridge, or an ipvlan network with flag bridge";
            return refuse(format!("{driver} keeps the host from its containers: {why}"), hint);
        }
        if subnets.is_empty() {
            let text = "the network has no subnet the host could have an address of".to_owned();
            return refuse(text, "give it one: containers without addresses cannot be routed to");
        }
        for is_v4 in [true, false] {
            let of_family = subnets.iter().filter(|subnet| subnet.net().addr().is_ipv4() == is_v4);
            let free = of_family.clone().flat_map(|subnet| subnet.candidates(None)).take(2).count();
            if self.of_family(is_v4).is_none() && free == 1 {
                let pools: Vec<_> = of_family.map(Subnet::pool_name).collect();
                let text = format!(
                    "{} has one address, and the host needs one beside the container",
                    pools.join(", ")
                );
                return refuse(
                    text,
                    "name the host's: --host-access=ADDRESS, which may be outside of the range",
                );
            }
        }
        for (at, &address) in self.addresses.iter().enumerate() {
            Subnet::host_in(subnets, address).map_err(|error| error.within("host_access"))?;
            let of_family = |other: &&IpAddr| other.is_ipv4() == address.is_ipv4();
            if let Some(other) = self.addresses.iter().take(at).find(of_family) {
                let hint = "the host's link has one address of each family";
                return refuse(format!("{other} and {address} are of one family"), hint);
            }
            if let Some(identity) = reservations.holder(address.into()) {
                return Err(Error::input(format!(
                    "host_access address {address} is reserved for {identity}"
                ))
                .hint("name another address for one of them"));
            }
        }
        Ok(())
    }

    /// Reads the values of `--host-access`: addresses, or empty for any. `None` if the option is not given.
    ///
    /// # Errors
    /// Names the value that is not an address.
    pub(crate) fn of_words(words: &[String]) -> Result<Option<Self>> {
        let address = |word: &String| {
            word.parse().map_err(|_| {
                Error::new(Kind::Usage, format!("host access {word:?} is not an address"))
                    .hint("write --host-access, or --host-access=ADDRESS")
            })
        };
        let given = words.iter().filter(|word| !word.is_empty()).map(address);
        Ok((!words.is_empty()).then_some(Self { addresses: given.collect::<Result<_>>()? }))
    }

    /// The address of the family that is asked for, if any is.
    pub(crate) fn of_family(&self, is_v4: bool) -> Option<IpAddr> {
        self.addresses.iter().find(|address| address.is_ipv4() == is_v4).copied()
    }
}

/// The reason why a link of the host does not reach the others of `driver` on the same parent.
fn obstacle(driver: Driver) -> Option<&'static str> {
    match driver {
        Driver::Macvlan { mode: Mode::Bridge } | Driver::Ipvlan { flag: Flag::Bridge, .. } => None,
        Driver::Macvlan { mode: Mode::Private } | Driver::Ipvlan { flag: Flag::Private, .. } => {
            Some("no link of a parent reaches another")
        }
        Driver::Macvlan { mode: Mode::Vepa } | Driver::Ipvlan { flag: Flag::Vepa, .. } => {
            Some("every frame goes out to the switch, which may or may not send it back to the host")
        }
        Driver::Macvlan { mode: Mode::Passthru } => Some("one link has the parent to itself"),
        Driver::Macvlan { mode: Mode::Source } => {
            Some("its links take frames from listed MAC addresses alone, and send theirs out to the switch")
        }
    }
}

/// The key in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected true, false, an address or a list of addresses")]
enum Written {
    Is(bool),
    One(IpAddr),
    Many(Vec<IpAddr>),
}

impl From<HostAccess> for Written {
    fn from(HostAccess { addresses }: HostAccess) -> Self {
        match addresses.as_slice() {
            [] => Self::Is(true),
            [address] => Self::One(*address),
            _ => Self::Many(addresses),
        }
    }
}

/// Reads the key; `None` for `false`.
///
/// # Errors
/// When it is something else.
pub(crate) fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Option<HostAccess>, D::Error> {
    let addresses = match Written::deserialize(input)? {
        Written::Is(false) => return Ok(None),
        Written::Is(true) => Vec::new(),
        Written::One(address) => vec![address],
        Written::Many(addresses) => addresses,
    };
    Ok(Some(HostAccess { addresses }))
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
            let found = network.file.host_access.as_ref().map(|access| access.addresses.clone());
            let expected =
                addresses.map(|all| all.iter().map(|a| a.parse().unwrap()).collect::<Vec<IpAddr>>());
            assert_eq!(found, expected, "{text}");
            let written = serde_json::to_value(network.file).unwrap();
            let expected =
                (text != "false").then(|| serde_json::from_str::<serde_json::Value>(text).unwrap());
            assert_eq!(written.get("host_access"), expected.as_ref());
        }
    }

    #[test]
    fn mistakes() {
        for (driver, text, message) in [
            (r#""macvlan""#, "5", "host_access: expected true, false, an address or a list of addresses"),
            (
                r#""macvlan""#,
                r#""x""#,
                "host_access: expected true, false, an address or a list of addresses",
            ),
            (
                r#""macvlan""#,
                r#"["10.0.0.9", "10.0.0.8"]"#,
                "host_access: 10.0.0.9 and 10.0.0.8 are of one family",
            ),
            (
                r#""macvlan""#,
                r#"["10.0.0.9", "10.0.0.8", "::"]"#,
                "host_access: 10.0.0.9 and 10.0.0.8 are of one family",
            ),
            (r#""macvlan""#, r#""10.0.1.9""#, "host_access: address 10.0.1.9 is in none of the subnets"),
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
