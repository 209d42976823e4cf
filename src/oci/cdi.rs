//! Networks as devices of the Container Device Interface (specification 0.3.0 to 1.1.0, `SPEC.md` of
//! cncf-tags/container-device-interface): `--device underlay.io/net=NAME`.

use serde::Serialize;

use crate::net::name::NetworkName;
use crate::oci::hooks::{Hook, Program, STAGES};

/// The kind of our devices: vendor and class.
pub(crate) const KIND: &str = "underlay.io/net";

/// A CDI specification file: one device for each network, whose edits are the two hooks.
#[derive(Debug, Serialize)]
pub(crate) struct Spec {
    #[serde(rename = "cdiVersion")]
    version: &'static str,
    kind: &'static str,
    devices: Vec<Device>,
}

#[derive(Debug, Serialize)]
struct Device {
    name: String,
    #[serde(rename = "containerEdits")]
    edits: Edits,
}

#[derive(Debug, Serialize)]
struct Edits {
    hooks: Vec<CdiHook>,
}

#[derive(Debug, Serialize)]
struct CdiHook {
    #[serde(rename = "hookName")]
    stage: &'static str,
    #[serde(flatten)]
    hook: Hook,
}

/// The file with a device for each of `networks`; `None` if there is none, for the specification wants one.
pub(crate) fn spec(networks: &[NetworkName], program: &Program) -> Option<Spec> {
    let devices: Vec<_> = networks.iter().filter(|name| is_device_name(name)).collect();
    // Older engines read no newer version, and a digit in front came with 0.5.0.
    let digit = devices.iter().any(|name| name.as_str().starts_with(|first: char| first.is_ascii_digit()));
    let device = |&name: &&NetworkName| {
        let hook = |stage| CdiHook { stage, hook: program.hook(stage, Some(name)) };
        Device { name: name.to_string(), edits: Edits { hooks: STAGES.map(hook).into() } }
    };
    (!devices.is_empty()).then(|| Spec {
        version: if digit { "0.5.0" } else { "0.3.0" },
        kind: KIND,
        devices: devices.iter().map(device).collect(),
    })
}

/// Whether a device can be called as this network: its name must end with a letter or digit too.
pub(crate) fn is_device_name(network: &NetworkName) -> bool {
    network.as_str().ends_with(|last: char| last.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn devices() {
        let program = Program { path: "/usr/bin/underlay".into(), options: vec![] };
        let of = |names: &[&str]| {
            let names: Vec<NetworkName> = names.iter().map(|name| name.parse().unwrap()).collect();
            spec(&names, &program).map(|spec| serde_json::to_value(spec).unwrap())
        };
        let hook = |stage: &str| {
            json!({"hookName": stage, "path": "/usr/bin/underlay", "timeout": 30,
                   "args": ["underlay", "hook", stage, "--network", "pub_net"]})
        };
        assert_eq!(
            of(&["pub_net", "odd-"]).unwrap(),
            json!({"cdiVersion": "0.3.0", "kind": "underlay.io/net", "devices": [
                {"name": "pub_net", "containerEdits": {"hooks": [hook("createRuntime"), hook("poststop")]}}]})
        );
        assert_eq!(of(&["5g", "lan"]).unwrap()["cdiVersion"], "0.5.0");
        assert!(of(&[]).is_none() && of(&["odd.", "odd_"]).is_none());
    }
}
