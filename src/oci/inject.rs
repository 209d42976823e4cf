//! Puts our hooks into a config.json (OCI runtime specification, "POSIX-platform Hooks"). All other values are copied as
//! text, so that they stay as they are written.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::{RawValue, to_raw_value};

use crate::error::{Error, Result};
use crate::json;
use crate::net::name::NetworkName;
use crate::oci::annotations::NETWORKS;
use crate::oci::hooks::{self, Hook, HookEntry, Program, STAGES};

type Object = BTreeMap<String, Box<RawValue>>;

/// `config` with hooks of `program`, for a container that asks for networks by annotation, and for the `networks` that all
/// containers of its runtime have. `None` if it needs no hook: it asks for no network, or has all the hooks, or is not a
/// config.json, which the runtime will tell.
///
/// # Errors
/// When its `hooks` are not hooks.
pub(crate) fn inject(config: &[u8], program: &Program, networks: &[NetworkName]) -> Result<Option<Vec<u8>>> {
    let Ok(mut config) = json::object::<Object>(config) else { return Ok(None) };
    let annotations = member::<BTreeMap<String, IgnoredAny>>(&config, "annotations");
    let asks = annotations.is_ok_and(|annotations| annotations.contains_key(NETWORKS));
    if networks.is_empty() && !asks {
        return Ok(None);
    }
    let present = config.get("hooks").map_or(Ok(Vec::new()), |hooks| hooks::networks(hooks.get()))?;
    let mut hooks: Object = member(&config, "hooks").map_err(|error| error.within("hooks"))?;
    let mut is_complete = true;
    for stage in STAGES {
        let list = member::<Vec<Box<RawValue>>>(&hooks, stage);
        let mut list = list.map_err(|error| error.within(format!("hooks.{stage}")))?;
        let is_ours = |hook: &RawValue| {
            serde_json::from_str::<HookEntry>(hook.get()).is_ok_and(|hook| hook.is_ours(stage))
        };
        // One poststop hook detaches the container from all networks.
        let missing: Vec<Hook> = if networks.is_empty() || stage == "poststop" {
            (!list.iter().any(|hook| is_ours(hook))).then(|| program.hook(stage, None)).into_iter().collect()
        } else {
            let missing = networks.iter().filter(|name| !present.contains(name));
            missing.map(|name| program.hook(stage, Some(name))).collect()
        };
        if !missing.is_empty() {
            is_complete = false;
            list.extend(missing.iter().map(raw).collect::<Result<Vec<_>>>()?);
            hooks.insert(stage.to_owned(), raw(&list)?);
        }
    }
    if is_complete {
        return Ok(None);
    }
    config.insert("hooks".to_owned(), raw(&hooks)?);
    serde_json::to_vec(&config).map(Some).map_err(|error| Error::bug(error.to_string()))
}

/// The value of `key`, which is empty if it is missing or null.
fn member<T: DeserializeOwned + Default>(object: &Object, key: &str) -> Result<T> {
    let text = object.get(key).map_or("null", |value| value.get());
    json::read::<Option<T>>(text.as_bytes()).map(Option::unwrap_or_default)
}

fn raw(value: &impl Serialize) -> Result<Box<RawValue>> {
    to_raw_value(value).map_err(|error| Error::bug(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn program() -> Program {
        Program { path: "/usr/bin/underlay".into(), options: vec![] }
    }

    fn injected(config: &str, networks: &[&str]) -> Result<Option<String>> {
        let networks: Vec<NetworkName> = networks.iter().map(|name| name.parse().unwrap()).collect();
        let text = inject(config.as_bytes(), &program(), &networks)?;
        Ok(text.map(|text| String::from_utf8(text).unwrap()))
    }

    fn hook(stage: &str, more: &[&str]) -> Value {
        let args = [&["underlay", "hook", stage], more].concat();
        json!({"path": "/usr/bin/underlay", "args": args, "timeout": 30})
    }

    const ASKS: &str = r#""annotations":{"io.underlay.networks":"lan"}"#;

    #[test]
    fn once_and_nothing_else_changes() {
        let odd = r#"{"zz":{"b":1e400,"a":18446744073709551617,"a":-0.0},"#;
        let text = injected(&format!("{odd}{ASKS},\"ociVersion\":\"9\\u0041\"}}"), &[]).unwrap().unwrap();
        for kept in [&odd[1..], ASKS, r#""ociVersion":"9\u0041""#] {
            assert!(text.contains(kept.trim_end_matches(',')), "{kept}: {text}");
        }
        assert_eq!(injected(&text, &[]).unwrap(), None, "they are there");
        let hooks = |text: &str| {
            serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text).unwrap().remove("hooks")
        };
        let hooks: Value = serde_json::from_str(hooks(&text).unwrap().get()).unwrap();
        assert_eq!(
            hooks,
            json!({"createRuntime": [hook("createRuntime", &[])], "poststop": [hook("poststop", &[])]})
        );
    }

    #[test]
    fn beside_others() {
        let theirs = r#"{"path":"/x","env":null,"new":1e9}"#;
        let config = format!(
            r#"{{{ASKS},"hooks":{{"prestart":[{theirs}],"poststop":[{theirs}],"createRuntime":null}}}}"#
        );
        let text = injected(&config, &[]).unwrap().unwrap();
        assert_eq!(text.matches(theirs).count(), 2, "{text}");
        let hooks = serde_json::from_str::<Value>(&text).unwrap()["hooks"].clone();
        assert_eq!(hooks["poststop"].as_array().unwrap().len(), 2);
        assert_eq!(hooks["poststop"][1], hook("poststop", &[]), "theirs first");
        assert_eq!(hooks["createRuntime"], json!([hook("createRuntime", &[])]));
        // A device's hooks are ours as well.
        let device = hook("createRuntime", &["--network", "lan"]);
        let config = format!(
            r#"{{{ASKS},"hooks":{{"createRuntime":[{device}],"poststop":[{}]}}}}"#,
            hook("poststop", &[])
        );
        assert_eq!(injected(&config, &[]).unwrap(), None);
        assert_eq!(injected(&config, &["lan"]).unwrap(), None);
        let half = format!(r#"{{{ASKS},"hooks":{{"createRuntime":[{device}]}}}}"#);
        let hooks = serde_json::from_str::<Value>(&injected(&half, &[]).unwrap().unwrap()).unwrap();
        assert_eq!(hooks["hooks"]["createRuntime"].as_array().unwrap().len(), 1);
        assert_eq!(hooks["hooks"]["poststop"], json!([hook("poststop", &[])]));
    }

    #[test]
    fn networks_of_the_runtime() {
        let text = injected("{}", &["lan", "wan"]).unwrap().unwrap();
        let of = |name| hook("createRuntime", &["--network", name]);
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({"hooks": {"createRuntime": [of("lan"), of("wan")], "poststop": [hook("poststop", &[])]}})
        );
        assert_eq!(injected(&text, &["wan", "lan"]).unwrap(), None);
    }

    #[test]
    fn nothing_is_asked_and_nothing_changes() {
        for config in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"hooks": 5}"#,
            r#"{"annotations": null}"#,
            r#"{"annotations": 7}"#,
            r#"{"annotations": {"io.underlay.identity": "web"}}"#,
        ] {
            assert_eq!(injected(config, &[]).unwrap(), None, "{config}");
        }
    }

    #[test]
    fn hooks_that_are_none() {
        for (hooks, message) in [
            ("5", "hooks: invalid type: integer `5`"),
            (r#"{"createRuntime": {}}"#, "hooks: createRuntime: invalid type: map"),
            (r#"{"poststop": "x"}"#, "hooks.poststop: invalid type: string"),
        ] {
            let error = injected(&format!(r#"{{{ASKS},"hooks":{hooks}}}"#), &[]).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
