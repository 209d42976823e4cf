//! Names: container ids, identities, network names, interface names. A value of these types is valid.

use crate::net::value::text;

text! {
    /// The id of a container as its runtime knows it: 1 to 200 of `A-Za-z0-9_+.-`, not `.` or `..`.
    ///
    /// The OCI runtime specification leaves the alphabet open. This is runc's; podman, containerd and CRI-O use less of
    /// it. Files of the ledger have this name, so it must not lead out of their folder.
    ContainerId, "container id {:?} is not usable", is_id, "use 1 to 200 letters, digits and _ + . -"
}

text! {
    /// The name by which a container keeps its addresses when it is created again, under whatever id: of the alphabet of
    /// [`ContainerId`], whose ids are identities too.
    Identity, "identity {:?} is not usable", is_id, "use 1 to 200 letters, digits and _ + . -"
}

text! {
    /// The name of a network: 1 to 128 of `A-Za-z0-9_.-`, beginning with a letter or a digit (Docker's and
    /// podman's rule).
    NetworkName, "network name {:?} is not usable", is_network_name,
    "use 1 to 128 letters, digits and _ . -, beginning with a letter or digit"
}

text! {
    /// The name of a network interface: 1 to 15 visible ASCII characters without `/`, `:` and `%`.
    ///
    /// This is the kernel's `dev_valid_name` and, for `%`, `dev_alloc_name`. The kernel also refuses `all` and `default`,
    /// which are sysctl folders.
    IfName, "interface name {:?} is not usable", is_ifname, "use 1 to 15 visible characters without / : and %"
}

text! {
    /// The name that a container chooses for an interface: an [`IfName`] of letters, digits and `_.-` that begins with a
    /// letter, a digit or `_`. So it is a plain word to shells, to sysctl(8), and in the files of other programs.
    ChosenName, "interface name {:?} is not usable", is_chosen_name,
    "use 1 to 15 letters, digits and _ . -, beginning with a letter, a digit or _"
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
    /// `eth0`, `eth1`, …: the default name of the link number `index` of a container.
    pub(crate) fn eth(index: usize) -> Self {
        Self(format!("eth{index}"))
    }

    /// The temporary name of a link, unique on this host while the process `pid` runs. No network name has a `~`, so it is
    /// never the name of a network's dummy link.
    pub(crate) fn temporary(pid: u32) -> Self {
        Self(format!("ul~{pid}"))
    }

    /// The name that the link of the endpoint `id` has on the host.
    pub(crate) fn of_endpoint(id: &ContainerId) -> Self {
        // Ids of engines are hexadecimal digits, and 13 of them make a name of the length that the kernel takes.
        let short: String = id.as_str().chars().filter(char::is_ascii_alphanumeric).take(13).collect();
        Self(format!("ul{short}"))
    }
}

/// Whether each character of `text` is an ASCII letter, a digit or one of `others`.
fn is_made_of(text: &str, others: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

fn is_id(text: &str) -> bool {
    (1..=200).contains(&text.len()) && text != "." && text != ".." && is_made_of(text, "_+.-")
}

fn is_network_name(text: &str) -> bool {
    (1..=128).contains(&text.len()) && !text.starts_with(['_', '.', '-']) && is_made_of(text, "_.-")
}

fn is_ifname(text: &str) -> bool {
    let is_special = matches!(text, "." | ".." | "all" | "default");
    let is_allowed = |c: char| c.is_ascii_graphic() && !"/:%".contains(c);
    (1..=15).contains(&text.len()) && !is_special && text.chars().all(is_allowed)
}

fn is_chosen_name(text: &str) -> bool {
    is_ifname(text) && !text.starts_with(['.', '-']) && is_made_of(text, "_.-")
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

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
