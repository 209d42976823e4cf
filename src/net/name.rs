//! Names: container ids, identities, network names, interface names. A value of these types is valid.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Defines a string newtype whose only way in is its `FromStr`.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                $check(&text)?;
                Ok(Self(text))
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The id of a container as its runtime knows it: 1 to 200 of `A-Za-z0-9_+.-`, not `.` or `..`.
    ///
    /// The OCI runtime specification leaves the alphabet open; this is runc's (podman, containerd and CRI-O use
    /// less of it). It names files of the ledger, so it must not leave its folder.
    ContainerId, check_container_id
}

name! {
    /// What a container is when it comes again, under whatever id: an alphabet as that of [`ContainerId`], whose ids
    /// are identities too.
    Identity, check_identity
}

name! {
    /// The name of a network: 1 to 128 of `A-Za-z0-9_.-`, beginning with a letter or a digit (Docker's and
    /// podman's rule).
    NetworkName, check_network_name
}

name! {
    /// The name of a network interface: 1 to 15 visible ASCII characters without `/`, `:` and `%`.
    ///
    /// The kernel's `dev_valid_name` and, for `%`, `dev_alloc_name`; `all` and `default` are names of sysctl
    /// folders and refused by the kernel too.
    IfName, check_ifname
}

name! {
    /// The name that a container chooses for an interface: an [`IfName`] of letters, digits and `_.-` that begins with a
    /// letter, a digit or `_`. So it is a plain word to shells, to sysctl(8), and in the files of other programs.
    ChosenName, check_chosen_name
}

impl From<ChosenName> for IfName {
    fn from(name: ChosenName) -> Self {
        Self(name.0)
    }
}

impl From<&ContainerId> for Identity {
    fn from(id: &ContainerId) -> Self {
        Self(id.0.clone())
    }
}

impl IfName {
    /// `eth0`, `eth1`, …: the name of the `index`th link of a container that asks for no name.
    pub fn eth(index: usize) -> Self {
        Self(format!("eth{index}"))
    }

    /// A name for a link on its way to its own, unique on this host while the process `pid` lives. No network name
    /// has a `~`, so it is never that of a network's dummy link.
    pub fn temporary(pid: u32) -> Self {
        Self(format!("ul~{pid}"))
    }
}

fn check_container_id(text: &str) -> Result<()> {
    check_id("container id", text)
}

fn check_identity(text: &str) -> Result<()> {
    check_id("identity", text)
}

fn check_id(what: &str, text: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '.' | '-');
    if text.is_empty() {
        return Err(Error::input(format!("the {what} is empty")));
    }
    if text.len() > 200 {
        return Err(Error::input(format!("the {what} is {} characters long", text.len()))
            .hint("use at most 200 characters"));
    }
    if text == "." || text == ".." || !text.chars().all(allowed) {
        return Err(Error::input(format!("{what} {text:?} is not usable"))
            .hint("use letters, digits and _ + . - only"));
    }
    Ok(())
}

fn check_network_name(text: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if text.len() <= 128 && starts && text.chars().all(allowed) {
        return Ok(());
    }
    Err(Error::input(format!("network name {text:?} is not usable"))
        .hint("use 1 to 128 letters, digits and _ . -, beginning with a letter or digit"))
}

fn check_ifname(text: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
    let special = matches!(text, "." | ".." | "all" | "default");
    if (1..=15).contains(&text.len()) && !special && text.chars().all(allowed) {
        return Ok(());
    }
    Err(Error::input(format!("interface name {text:?} is not usable"))
        .hint("use 1 to 15 visible characters without / : and %"))
}

fn check_chosen_name(text: &str) -> Result<()> {
    check_ifname(text)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !text.starts_with(['.', '-']) && text.chars().all(allowed) {
        return Ok(());
    }
    Err(Error::input(format!("interface name {text:?} is not usable"))
        .hint("use 1 to 15 letters, digits and _ . -, beginning with a letter, a digit or _"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: FromStr>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text.parse::<T>().is_ok(), "{text:?} was refused");
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn container_ids() {
        check::<ContainerId>(
            &["web", "a.b-c_d+e", "4f3aefc0", ".hidden", &"a".repeat(200)],
            &["", ".", "..", "a/b", "../a", "a b", "a\n", "ä", &"a".repeat(201), &"a".repeat(300)],
        );
    }

    #[test]
    fn identities() {
        check::<Identity>(
            &["web", "a.b-c_d+e", &"a".repeat(200)],
            &["", "..", "a/b", "a b", &"a".repeat(201)],
        );
        let error = "a b".parse::<Identity>().unwrap_err();
        assert_eq!(error.to_string(), "identity \"a b\" is not usable");
    }

    #[test]
    fn network_names() {
        check::<NetworkName>(
            &["pub_net", "macvlan50", "a.b", "0", &"n".repeat(128)],
            &["", "_a", ".a", "-a", "a/b", "..", "a b", "a:b", "ä", &"n".repeat(129)],
        );
    }

    #[test]
    fn chosen_names() {
        check::<ChosenName>(
            &["eth0", "lan", "eth0.50", "_a", "0", "a-b_c.d", "fifteen-charact"],
            &[
                "", "..", "all", "a;reboot", "$(x)", "`id>x`", "a'b", "a\\b", "-rf", ".a", "a@b", "a=b",
                "a\nb", "ä",
            ],
        );
        let error = "a;reboot".parse::<ChosenName>().unwrap_err();
        assert_eq!(error.to_string(), "interface name \"a;reboot\" is not usable");
    }

    #[test]
    fn interface_names() {
        check::<IfName>(
            &["eth0", "lan", "eth0.50", "a@b", "fifteen-charact"],
            &["", ".", "..", "all", "default", "a/b", "a:b", "a b", "eth%d", "ä", "a\0", "sixteen-characte"],
        );
    }
}
