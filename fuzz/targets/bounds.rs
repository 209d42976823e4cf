//! What is too large, too deep or too often is refused, in a time that grows with its length and no faster.

use crate::config::network::Network;
use crate::config::settings::Settings;
use crate::error::Result;
use crate::oci;
use crate::oci::annotations::{Annotations, NETWORKS, Request};

fn asked(value: String) -> Result<Request> {
    let annotations = Annotations::from([(NETWORKS.to_owned(), value)]);
    super::asked(&annotations).unwrap_or_else(|| panic!("nothing is asked"))
}

fn network(keys: &str) -> Result<Network> {
    let text = format!(r#"{{"version": 1, "driver": "macvlan", "parent": "eth0", {keys}}}"#);
    Network::from_json(&"lan".parse().unwrap(), text.as_bytes())
}

#[test]
fn depth() {
    for open in ["[", "{\"a\":"] {
        let deep = open.repeat(1_000_000);
        for text in
            [format!(r#"{{"annotations":{deep}"#), format!(r#"{{"linux":{deep}"#), format!(r#"{{"x":{deep}"#)]
        {
            assert!(oci::config(text.as_bytes(), true).is_err());
            assert!(oci::created(text.as_bytes()).is_err());
            assert!(oci::stopped(text.as_bytes()).is_err());
        }
        assert!(network(&format!(r#""labels":{deep}"#)).is_err());
        assert!(asked(deep).is_err());
    }
}

#[test]
fn a_million_annotations() {
    let mut text = r#"{"annotations":{"io.underlay.networks":"lan""#.to_owned();
    for number in 0..1_000_000 {
        text.push_str(&format!(r#","{number}":"""#));
    }
    text.push_str("}}");
    let bundle = oci::config(text.as_bytes(), true).unwrap();
    assert_eq!(bundle.annotations.len(), 1_000_001);
    assert_eq!(super::asked(&bundle.annotations).unwrap().unwrap().attachments.len(), 1);
}

#[test]
fn too_much_of_a_thing() {
    let networks = |count: usize| asked(vec!["lan"; count].join(";")).map(|asked| asked.attachments.len());
    let most = Settings::default().max_attachments;
    assert_eq!(networks(most).unwrap(), most);
    assert!(networks(most + 1).is_err());
    assert!(networks(1_000_000).is_err());
    let addresses = vec![r#""10.0.0.9""#; 1_000_000].join(",");
    assert!(asked(format!(r#"[{{"name": "lan", "ips": [{addresses}]}}]"#)).is_err());
    let subnets = vec![r#"{"subnet":"10.0.0.0/32"}"#; 500_000].join(",");
    assert!(network(&format!(r#""subnets": [{subnets}]"#)).is_err());
}

/// Runtimes written in Go and in C take the last of several equal keys; so do we where a map is read, for what they
/// show of a container is what we act on. A key of our own format is not given twice.
#[test]
fn keys_given_twice() {
    let text = br#"{"annotations": {"io.underlay.networks": "lan", "io.underlay.networks": "wan"}}"#;
    assert_eq!(oci::config(text, true).unwrap().annotations[NETWORKS], "wan");
    let twice = network(r#""mtu": 1400, "mtu": 1500"#).unwrap_err().to_string();
    assert!(twice.starts_with("duplicate field `mtu`"), "{twice}");
    let twice =
        r#""subnets": [{"subnet": "10.0.0.0/24", "aux_addresses": {"a": "10.0.0.5", "a": "10.0.0.6"}}]"#;
    let twice = network(twice).unwrap_err().to_string();
    assert!(twice.contains("aux_addresses: \"a\" is given twice"), "{twice}");
}
