//! `underlay network create --reserve`: addresses and MAC addresses that one identity alone gets.

use std::collections::BTreeMap;

use crate::config::network::Network;
use crate::config::reservation::Reservation;
use crate::error::{Error, Kind, Result};
use crate::net::lease_key::LeaseKey;

/// Parses `NAME=ADDRESS[,ADDRESS…][,MAC]`. Options with the same name add up.
pub(super) fn parse(options: &[String]) -> Result<BTreeMap<String, Reservation>> {
    let mut reservations: BTreeMap<String, Reservation> = BTreeMap::new();
    for option in options {
        let wrong = || {
            Error::new(Kind::Usage, format!("reservation {option:?} is not usable"))
                .hint("write NAME=ADDRESS[,ADDRESS][,MAC]: db=192.168.1.10,02:00:00:00:00:10")
        };
        let (name, claims) = option.split_once('=').ok_or_else(wrong)?;
        let reservation = reservations.entry(name.to_owned()).or_default();
        for claim in claims.split(',') {
            match claim.trim().parse().map_err(|_| wrong())? {
                LeaseKey::Address(address) => reservation.addresses.push(address),
                LeaseKey::Mac(mac) if reservation.mac.is_none() => reservation.mac = Some(mac),
                LeaseKey::Mac(_) => return Err(wrong()),
            }
        }
    }
    Ok(reservations)
}

/// Refuses `other`, which has the same parent and so is on the same segment, if it does not allocate an address that `network`
/// reserves to the same identity alone.
pub(super) fn agree(network: &Network, other: &Network) -> Result<()> {
    let (one, two, parent) = (&network.name, &other.name, &network.parent);
    for (address, identity) in network.reservations.addresses() {
        let gives_away = other.subnet_of(address).is_some_and(|subnet| subnet.host(address).is_ok());
        let same = other.reservations.of(identity).is_some_and(|own| own.addresses.contains(&address));
        if gives_away && !same {
            let text = format!(
                "network {one} reserves {address} for {identity}, and {two} on the same parent {parent} could give it \
                 to others"
            );
            return Err(Error::new(Kind::Taken, text).hint(format!(
                "exclude it from {two} (--aux-address {identity}={address}), or reserve it there too"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn parses() {
        let parsed =
            parse(&options("db=10.0.0.9,2001:db8::9,02:00:00:00:00:09 web=10.0.0.8 db=10.0.0.7")).unwrap();
        let db: Vec<_> = parsed["db"].claims().map(|claim| claim.to_string()).collect();
        assert_eq!(db, ["10.0.0.9", "2001:db8::9", "10.0.0.7", "02:00:00:00:00:09"]);
        assert_eq!(parsed["web"].mac, None);
        for text in
            ["db", "db=", "db=x", "db=10.0.0.9,", "db=10.0.0.9/24", "db=02:00:00:00:00:09,02:00:00:00:00:08"]
        {
            let error = super::parse(&options(text)).unwrap_err();
            assert_eq!(error.to_string(), format!("reservation {text:?} is not usable"));
        }
    }

    #[test]
    fn two_networks_of_one_parent() {
        let network = |name: &str, more: &str| {
            let text = format!(r#"{{"version": 1, "driver": "macvlan", "parent": "eth0", {more}}}"#);
            Network::from_json(&name.parse().unwrap(), text.as_bytes()).unwrap()
        };
        let one = network(
            "one",
            r#""subnets": [{"subnet": "10.0.0.0/24"}], "reservations": {"db": {"addresses": ["10.0.0.9"]}}"#,
        );
        for (other, agrees) in [
            (r#""subnets": []"#, true),
            (r#""subnets": [{"subnet": "10.1.0.0/24"}]"#, true),
            (r#""subnets": [{"subnet": "10.0.0.0/24"}]"#, false),
            // A container could still ask for it.
            (r#""subnets": [{"subnet": "10.0.0.0/24", "ip_range": "10.0.0.128/25"}]"#, false),
            (r#""subnets": [{"subnet": "10.0.0.0/24", "aux_addresses": {"db": "10.0.0.9"}}]"#, true),
            (r#""subnets": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.9"}]"#, true),
            (
                r#""subnets": [{"subnet": "10.0.0.0/24"}], "reservations": {"db": {"addresses": ["10.0.0.9"]}}"#,
                true,
            ),
            (
                r#""subnets": [{"subnet": "10.0.0.0/24"}], "reservations": {"web": {"addresses": ["10.0.0.9"]}}"#,
                false,
            ),
        ] {
            assert_eq!(agree(&one, &network("two", other)).is_ok(), agrees, "{other}");
            assert!(other.contains("web") || agree(&network("two", other), &one).is_ok());
        }
    }
}
