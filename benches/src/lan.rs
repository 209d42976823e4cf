//! A LAN: a namespace, connected with this machine by veth links.

use std::process::Command;

/// The namespace of the LAN's end.
const NAMESPACE: &str = "bench-lan";

/// The LAN; gone with its links when dropped.
pub struct Lan(());

/// Runs `ip` with the words of `arguments`, which must succeed.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// The number of `link`.
pub fn ifindex(link: &str) -> u32 {
    let shown = Command::new("ip").args(["-oneline", "link", "show", "dev", link]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    shown.split(':').next().unwrap().parse().unwrap()
}

impl Lan {
    /// A LAN without links.
    pub fn new() -> Self {
        ip(&format!("netns add {NAMESPACE}"));
        Self(())
    }

    /// Makes the link `link` of this machine, whose other end is `peer` of the LAN.
    pub fn connect(&self, link: &str, peer: &str) {
        ip(&format!("link add {link} type veth peer name {peer} netns {NAMESPACE}"));
        ip(&format!("link set {link} up"));
        self.ip(&format!("link set {peer} up"));
    }

    /// Runs `ip` in its namespace.
    pub fn ip(&self, arguments: &str) {
        ip(&format!("-n {NAMESPACE} {arguments}"));
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        ip(&format!("netns del {NAMESPACE}"));
    }
}
