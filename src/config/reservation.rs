//! Reservations of a network: addresses and MAC addresses that only one identity gets.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::net::driver::Driver;
use crate::net::lease_key::LeaseKey;
use crate::net::mac::MacAddr;
use crate::net::name::Identity;
use crate::net::subnet::Subnet;
use crate::net::value::at_most;

/// The most reservations of a network, and addresses of a reservation. The file is read at each start of a container.
pub(crate) const MOST: usize = 4096;

/// What is reserved for one identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reservation {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
}

impl Reservation {
    /// Everything that is reserved.
    pub(crate) fn claims(&self) -> impl Iterator<Item = LeaseKey> {
        self.addresses.iter().copied().map(LeaseKey::from).chain(self.mac.map(LeaseKey::from))
    }
}

/// The reservations of a network, which agree with its subnets and with each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reservations {
    by_identity: BTreeMap<Identity, Reservation>,
    holders: BTreeMap<LeaseKey, Identity>,
}

impl Reservations {
    /// Checks the reservations of `file` against the driver and the subnets of the network.
    ///
    /// # Errors
    /// Names the identity, and what it cannot have.
    pub(crate) fn new(
        file: &BTreeMap<String, Reservation>,
        driver: Driver,
        subnets: &[Subnet],
    ) -> Result<Self> {
        let mut reservations = Self::default();
        at_most("reservations", file.len(), MOST)?;
        for (name, reservation) in file {
            let added = reservations.add(name, reservation, driver, subnets);
            added.map_err(|error| error.within(format!("reservations: {name}")))?;
        }
        Ok(reservations)
    }

    fn add(
        &mut self,
        name: &str,
        reservation: &Reservation,
        driver: Driver,
        subnets: &[Subnet],
    ) -> Result<()> {
        let identity: Identity = name.parse()?;
        at_most("addresses", reservation.addresses.len(), MOST)?;
        if reservation.claims().next().is_none() {
            return Err(Error::input("reserves nothing").hint("give addresses, a mac, or both"));
        }
        reservation.mac.map_or(Ok(()), |mac| check_mac(mac, driver))?;
        for address in &reservation.addresses {
            Subnet::host_in(subnets, *address).map_err(|error| error.hint("reserve another address"))?;
        }
        for claim in reservation.claims() {
            if let Some(other) = self.holders.insert(claim, identity.clone()) {
                return Err(Error::input(format!("{claim} is already reserved for {other}"))
                    .hint("reserve each address and MAC address once"));
            }
        }
        self.by_identity.insert(identity, reservation.clone());
        Ok(())
    }

    /// What is reserved for `identity`.
    pub(crate) fn of(&self, identity: &Identity) -> Option<&Reservation> {
        self.by_identity.get(identity)
    }

    /// The identity that `claim` is reserved for.
    pub(crate) fn holder(&self, claim: LeaseKey) -> Option<&Identity> {
        self.holders.get(&claim)
    }

    /// All reserved addresses, each with its identity.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (IpAddr, &Identity)> {
        self.holders.iter().filter_map(|(claim, identity)| Some((claim.address()?, identity)))
    }
}

fn check_mac(mac: MacAddr, driver: Driver) -> Result<()> {
    if !mac.is_unicast() {
        return Err(Error::input(format!("MAC address {mac} cannot be that of a link"))
            .hint("use a unicast address, best a locally administered one like 02:00:00:00:00:01"));
    }
    if !driver.has_own_mac() {
        let text = format!("{driver} links have the parent's MAC address, none can have {mac}");
        return Err(Error::input(text).hint("reserve addresses only, or use a macvlan network"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::Network;

    fn read(driver: &str, reservations: &str) -> Result<Network> {
        let text = format!(
            r#"{{"version": 1, {driver}, "parent": "eth0", "routes": [{{"to": "10.9.0.0/16", "via": "10.0.0.3"}}],
                "subnets": [{{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1", "aux_addresses": {{"nas": "10.0.0.2"}}}},
                            {{"subnet": "2001:db8::/64"}}],
                "reservations": {reservations}}}"#
        );
        Network::from_json(&"lan".parse().unwrap(), text.as_bytes())
    }

    const MACVLAN: &str = r#""driver": "macvlan""#;

    #[test]
    fn whose_is_what() {
        let text = r#"{"db": {"addresses": ["10.0.0.9", "2001:db8::9"], "mac": "02:00:00:00:00:09"}, "web": {"addresses": ["10.0.0.8"]}}"#;
        let network = read(MACVLAN, text).unwrap();
        let again = serde_json::to_string(&network.file).unwrap();
        assert_eq!(Network::from_json(&network.name, again.as_bytes()).unwrap(), network);
        let (db, web): (Identity, Identity) = ("db".parse().unwrap(), "web".parse().unwrap());
        let reserved = &network.reservations;
        assert_eq!(reserved.of(&db).unwrap().claims().count(), 3);
        assert!(reserved.of(&"x".parse().unwrap()).is_none());
        let claim = |text: &str| text.parse::<LeaseKey>().unwrap();
        for (text, holder) in [
            ("10.0.0.9", Some(&db)),
            ("02:00:00:00:00:09", Some(&db)),
            ("10.0.0.8", Some(&web)),
            ("10.0.0.7", None),
        ] {
            assert_eq!(reserved.holder(claim(text)), holder, "{text}");
        }
        assert_eq!(reserved.addresses().count(), 3);
    }

    #[test]
    fn refused() {
        let passthru = r#""driver": "macvlan", "macvlan_mode": "passthru""#;
        for (driver, reservations, message) in [
            (MACVLAN, r#"{"db": {"addresses": ["10.1.0.9"]}}"#, "address 10.1.0.9 is in none of the subnets"),
            (
                MACVLAN,
                r#"{"db": {"addresses": ["10.0.0.1"]}}"#,
                "address 10.0.0.1 is the gateway of subnet 10.0.0.0/24",
            ),
            (
                MACVLAN,
                r#"{"db": {"addresses": ["10.0.0.2"]}}"#,
                "address 10.0.0.2 is an aux address of subnet 10.0.0.0/24",
            ),
            (
                MACVLAN,
                r#"{"db": {"addresses": ["10.0.0.3"]}}"#,
                "address 10.0.0.3 is the next hop of a route in subnet 10.0.0.0/24",
            ),
            (
                MACVLAN,
                r#"{"db": {"addresses": ["10.0.0.255"]}}"#,
                "address 10.0.0.255 is not a host address of subnet 10.0.0.0/24",
            ),
            (MACVLAN, r#"{"db": {}}"#, "reserves nothing"),
            (
                MACVLAN,
                r#"{"db": {"mac": "03:00:00:00:00:09"}}"#,
                "MAC address 03:00:00:00:00:09 cannot be that of a link",
            ),
            (
                r#""driver": "ipvlan""#,
                r#"{"db": {"mac": "02:00:00:00:00:09"}}"#,
                "ipvlan mode l2 bridge links have the parent's MAC address, none can have 02:00:00:00:00:09",
            ),
            (
                passthru,
                r#"{"db": {"mac": "02:00:00:00:00:09"}}"#,
                "macvlan mode passthru links have the parent's MAC address, none can have 02:00:00:00:00:09",
            ),
            (MACVLAN, r#"{"a b": {"addresses": ["10.0.0.9"]}}"#, "identity \"a b\" is not usable"),
            (
                MACVLAN,
                r#"{"db": {"addresses": ["10.0.0.9"]}, "web": {"addresses": ["10.0.0.9"]}}"#,
                "10.0.0.9 is already reserved for db",
            ),
        ] {
            let error = read(driver, reservations).unwrap_err().to_string();
            let at = if error.contains("already") { "web" } else { "db" };
            let at = if error.contains("usable") { "a b" } else { at };
            assert_eq!(error, format!("reservations: {at}: {message}"));
        }
        for reservations in [r#"{"db": {"adresses": []}}"#, r#"{"db": {"addresses": "10.0.0.9"}}"#, "[]"] {
            assert!(read(MACVLAN, reservations).unwrap_err().to_string().starts_with("reservations"));
        }
    }
}
