//! Networks as devices of the Container Device Interface (specification 0.3.0 to 1.1.0, `SPEC.md` of
//! cncf-tags/container-device-interface): `--device underlay.io/net=NAME`.

use serde::Serialize;
use serde_json::{Value, json};

use crate::net::name::NetworkName;
use crate::oci::hooks::{Hook, Program, STAGES};

/// The kind of our devices: vendor and class.
pub(crate) const KIND: &str = "underlay.io/net";

#[derive(Serialize)]
struct CdiHook {
    #[serde(rename = "hookName")]
    stage: &'static str,
    #[serde(flatten)]
    hook: Hook,
}

/// A CDI specification file with a device for each of `networks`, whose edits are the two hooks. `None` if there is no
/// device, because the specification wants one.
pub(crate) fn spec(networks: &[NetworkName], program: &Program) -> Option<Value> {
    let names = networks.iter().filter(|name| is_device_name(name));
    // Older engines read no newer version. Names that begin with a digit came with 0.5.0.
    let is_new = names.clone().any(|name| name.as_str().starts_with(|first: char| first.is_ascii_digit()));
    let device = |name: &NetworkName| {
        let hook = |stage| CdiHook { stage, hook: program.hook(stage, Some(name)) };
        json!({"name": name, "containerEdits": {"hooks": STAGES.map(hook)}})
    };
    let devices: Vec<_> = names.map(device).collect();
    let version = if is_new { "0.5.0" } else { "0.3.0" };
    (!devices.is_empty()).then(|| json!({"cdiVersion": version, "kind": KIND, "devices": devices}))
}

/// Whether a device can have the name of this network: it must end with a letter or digit too.
pub(crate) fn is_device_name(network: &NetworkName) -> bool {
    network.as_str().ends_with(|last: char| last.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let program = Program { path: "/usr/bin/underlay".into(), options: vec![] };
        let of = |names: &[&str]| {
            let names: Vec<NetworkName> = names.iter().map(|name| name.parse().unwrap()).collect();
            spec(&names, &program)
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
