//! Pools of addresses by their ids. Docker asks for a pool before it tells the network that is to have it, and asks again after each
//! of its starts. So an id says all that was asked for, and the same question gives the same id.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

use super::protocol::Texts;
use crate::error::{Error, Result};
use crate::net::name::{IfName, NetworkName};
use crate::net::subnet::{self, AddressRange};

/// What `--ipam-opt` takes.
const OPTIONS: &str = "use parent, the parent of the network, or network, the name of one that underlay has";

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pool {
    pub subnet: IpNet,
    /// `--ip-range`, if it was given.
    pub range: Option<AddressRange>,
    /// `--ipam-opt parent=`: tells pools of one subnet on several LANs apart.
    pub parent: Option<IfName>,
    /// `--ipam-opt network=`.
    pub network: Option<NetworkName>,
}

impl Pool {
    /// The pool of `subnet` that `--ipam-opt` and `--ip-range` ask for.
    ///
    /// # Errors
    /// Names the option that is wrong.
    pub(super) fn new(subnet: &str, range: &str, options: &Texts) -> Result<Self> {
        let subnet = subnet::parse_net(subnet)?;
        if subnet != subnet.trunc() {
            let text = format!("subnet {subnet} has host bits set");
            return Err(Error::input(text).hint(format!("write {}", subnet.trunc())));
        }
        let range = Some(range).filter(|range| !range.is_empty()).map(str::parse).transpose()?;
        Self { range, ..Self::plain(subnet) }.with(options)?.checked()
    }

    /// The pool of all of `subnet`.
    pub(super) fn plain(subnet: IpNet) -> Self {
        Self { subnet, range: None, parent: None, network: None }
    }

    /// Whether it may be of a network on `parent`, which is the network `name` of underlay, or none.
    pub(super) fn suits(&self, name: Option<&NetworkName>, parent: &IfName) -> bool {
        let is_named = self.network.is_none() || self.network.as_ref() == name;
        is_named && self.parent.as_ref().is_none_or(|asked| asked == parent)
    }

    /// The network that `--ipam-opt` asks for, if it does. Other options are checked, too.
    ///
    /// # Errors
    /// Names the option that is wrong.
    pub(super) fn network_of(options: &Texts) -> Result<Option<NetworkName>> {
        Self::plain(IpNet::default()).with(options).map(|pool| pool.network)
    }

    fn with(mut self, options: &Texts) -> Result<Self> {
        for (key, value) in options {
            let within = |error: Error| error.within(format!("--ipam-opt {key}"));
            match key.as_str() {
                "parent" => self.parent = Some(value.parse().map_err(within)?),
                "network" => self.network = Some(value.parse().map_err(within)?),
                _ => return Err(Error::input(format!("--ipam-opt {key:?} is not known")).hint(OPTIONS)),
            }
        }
        Ok(self)
    }

    fn checked(self) -> Result<Self> {
        let Self { subnet, range, .. } = &self;
        match range.filter(|range| !subnet.contains(&range.first) || !subnet.contains(&range.last)) {
            Some(range) => Err(Error::input(format!("address range {range} is not in subnet {subnet}"))),
            None => Ok(self),
        }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.subnet)?;
        self.range.map_or(Ok(()), |range| write!(f, " range={range}"))?;
        self.parent.as_ref().map_or(Ok(()), |parent| write!(f, " parent={parent}"))?;
        self.network.as_ref().map_or(Ok(()), |network| write!(f, " network={network}"))
    }
}

impl FromStr for Pool {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self> {
        let wrong = || Error::input(format!("pool {id:?} is not one of underlay"));
        let mut words = id.split(' ');
        let subnet = words.next().unwrap_or_default();
        let options = words.map(|word| word.split_once('=').map(|(key, value)| (key.into(), value.into())));
        let mut options: Texts = options.collect::<Option<_>>().ok_or_else(wrong)?;
        let range = options.remove("range").unwrap_or_default();
        let pool = Self::new(subnet, &range, &options).map_err(|_| wrong())?;
        // One pool has one id.
        Some(pool).filter(|pool| pool.to_string() == id).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(texts: &[(&str, &str)]) -> Texts {
        texts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_id_says_what_was_asked_for() {
        let all = [("parent", "eth0.20"), ("network", "lan")];
        for (subnet, range, given, id) in [
            ("10.0.0.0/24", "", &all[..0], "10.0.0.0/24"),
            (
                "10.0.0.0/24",
                "10.0.0.64/26",
                &all[..1],
                "10.0.0.0/24 range=10.0.0.64-10.0.0.127 parent=eth0.20",
            ),
            ("2001:db8::/64", "", &all[..], "2001:db8::/64 parent=eth0.20 network=lan"),
        ] {
            let pool = Pool::new(subnet, range, &options(given)).unwrap();
            assert_eq!(pool.to_string(), id);
            assert_eq!(id.parse::<Pool>().unwrap(), pool);
        }
        let network = Pool::network_of(&options(&all)).unwrap();
        assert_eq!(network.unwrap().as_str(), "lan");
        assert_eq!(Pool::network_of(&Texts::new()).unwrap(), None);
    }

    #[test]
    fn what_is_no_pool() {
        for (subnet, range, given, said) in [
            ("10.0.0.1/24", "", &[][..], "subnet 10.0.0.1/24 has host bits set"),
            ("10.0.0.0", "", &[], "subnet \"10.0.0.0\" is not usable"),
            (
                "10.0.0.0/24",
                "10.0.1.0/26",
                &[],
                "address range 10.0.1.0-10.0.1.63 is not in subnet 10.0.0.0/24",
            ),
            ("10.0.0.0/24", "x", &[], "address range \"x\" is not usable"),
            ("10.0.0.0/24", "", &[("vlan", "7")], "--ipam-opt \"vlan\" is not known"),
            ("10.0.0.0/24", "", &[("parent", "a b")], "--ipam-opt parent: "),
        ] {
            let error = Pool::new(subnet, range, &options(given)).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
        for id in [
            "",
            "lan",
            "10.0.0.0/24 ",
            "10.0.0.0/24  parent=a",
            "10.0.0.0/24 network=a parent=b",
            "10.0.0.0/24 x=y",
        ] {
            assert!(id.parse::<Pool>().is_err(), "{id:?}");
        }
    }
}
