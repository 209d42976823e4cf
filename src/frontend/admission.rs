//! Admission: checks that the networks of a request exist and that the container may join them.

use crate::config::network::Network;
use crate::config::settings::Settings;
use crate::error::{Error, Kind, Result};
use crate::ledger::{Store, no_such_network};
use crate::lifecycle::target::{Admitted, AttachmentRequest};
use crate::net::name::NetworkName;
use crate::oci::annotation_set::RawRequest;
use crate::oci::annotations::{Annotations, Attachment, NETWORK_PREFIX, Request};

/// Returns the requests with the definitions of their networks, if the operator permits all of them. The
/// settings are checked before any network is looked up, so that a refusal reveals nothing but its rule.
pub(crate) fn admit(store: &Store, settings: &Settings, asked: RawRequest<'_>) -> Result<Admitted> {
    let of_settings = |error: Error| error.within(store.settings_path().display());
    asked.check_size(settings).map_err(of_settings)?;
    let request = asked.read()?;
    let count = request.attachments.len();
    settings.allow_count("annotations and devices are", count).map_err(of_settings)?;
    permit(store, settings, request, asked.annotations())
}

/// The same of a `request` that has been read; `annotations` are all of the container.
fn permit(
    store: &Store,
    settings: &Settings,
    request: Request,
    annotations: &Annotations,
) -> Result<Admitted> {
    let of_settings = |error: Error| error.within(store.settings_path().display());
    let mut names = request.attachments.iter().map(|options| &options.network);
    names.try_for_each(|name| settings.allow_network(name)).map_err(of_settings)?;
    request.inline.values().try_for_each(|network| settings.allow_inline(network)).map_err(of_settings)?;
    let requests = request.attachments.into_iter().map(|options| {
        let (name, vlan) = (&options.network, options.vlan);
        let network = match request.inline.get(name) {
            None => defined(store, settings, annotations, name)?.on_vlan(vlan)?,
            Some(inline) => {
                let inline = inline.clone().on_vlan(vlan)?;
                settings.allow_inline(&inline).map_err(of_settings)?;
                let annotation = format!("annotation {NETWORK_PREFIX}{name}");
                if store.has_network(name)? {
                    return Err(Error::new(
                        Kind::Taken,
                        format!("{annotation} defines a network that exists"),
                    )
                    .hint("give it another name, or remove the annotation to use the existing network"));
                }
                inline.admit(annotations).map_err(|error| error.within(annotation))?;
                inline
            }
        };
        let is_inline = request.inline.contains_key(name);
        let network = settings.complete(network);
        Ok(AttachmentRequest { options, network, is_inline })
    });
    let requests = requests.collect::<Result<Vec<_>>>()?;
    requests.iter().try_for_each(|request| request.options.check(&request.network))?;
    Ok(Admitted { identity: request.identity, requests })
}

/// Permits one attachment that an engine asks for by a network of its own: to `own`, which the engine defines, or to one of
/// ours. Whoever defines networks of an engine has its rights, so they are no container's own definitions.
pub(crate) fn permit_one(
    store: &Store,
    settings: &Settings,
    options: Attachment,
    own: Option<Network>,
) -> Result<AttachmentRequest> {
    let name = &options.network;
    settings.allow_network(name).map_err(|error| error.within(store.settings_path().display()))?;
    let is_inline = own.is_some();
    let network = match own {
        Some(own) if store.has_network(name)? => return Err(defined_twice(&own.name)),
        Some(own) => own,
        None => defined(store, settings, &Annotations::new(), name)?,
    };
    let network = settings.complete(network.on_vlan(options.vlan)?);
    options.check(&network)?;
    Ok(AttachmentRequest { options, network, is_inline })
}

/// Returns the error for a network of an engine that has the name of one of ours.
pub(crate) fn defined_twice(name: &NetworkName) -> Error {
    let text = format!("network {name} is defined by `underlay network create` too");
    Error::new(Kind::Taken, text)
        .hint(format!("give it another name, or make it of that one: -o network={name}, without subnets"))
}

/// Returns the definition of the network `name`, if the container may use it. The error for a missing network
/// lists only those that the container may use.
fn defined(
    store: &Store,
    settings: &Settings,
    annotations: &Annotations,
    name: &NetworkName,
) -> Result<Network> {
    let admits = |name: &NetworkName| {
        settings.allow_network(name).is_ok()
            && store.network(name).is_ok_and(|network| network.admit(annotations).is_ok())
    };
    match store.network(name) {
        Ok(network) => {
            let admitted = network.admit(annotations);
            admitted.map_err(|error| error.within(store.network_path(name).display())).map(|()| network)
        }
        Err(error) if error.kind() == Kind::NotFound => {
            let others: Vec<_> = store.network_names()?.into_iter().filter(admits).collect();
            Err(no_such_network(name, &others))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::ledger::tests::Disk;

    /// What a caller gets that knows no annotations, or these.
    fn permitted(settings: &str, network: &str, annotations: &[(&str, &str)]) -> Result<Admitted> {
        let disk = Disk::new();
        let keys = [("lan", ""), ("app", r#", "required_annotations": {"com.example.app": "web*"}"#)];
        for (name, more) in keys {
            let text = format!(r#"{{"version": 1, "driver": "macvlan", "parent": "eth0"{more}}}"#);
            fs::write(disk.folder.path().join(format!("etc/networks/{name}.json")), text).unwrap();
        }
        let settings = Settings::from_json(settings.as_bytes()).unwrap();
        let request = Request {
            attachments: vec![Attachment::plain(network.parse().unwrap())],
            identity: Some("db".parse().unwrap()),
            inline: BTreeMap::new(),
        };
        let annotations = annotations.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        permit(&disk.store, &settings, request, &annotations)
    }

    #[test]
    fn requests_without_annotations() {
        let admitted = permitted(r#"{"announcements": 7}"#, "lan", &[]).unwrap();
        assert_eq!(admitted.identity, Some("db".parse().unwrap()));
        let [request] = admitted.requests.try_into().unwrap();
        assert_eq!((request.network.name.as_str(), request.is_inline), ("lan", false));
        assert_eq!(request.network.announced(), 7, "the settings complete it");
        assert!(permitted("{}", "app", &[("com.example.app", "web1")]).is_ok());
    }

    #[test]
    fn what_is_refused() {
        let refused = |settings: &str, network: &str| {
            let error = permitted(settings, network, &[]).unwrap_err();
            (error.kind(), error.to_string())
        };
        let (kind, text) = refused("{}", "app");
        assert!(kind == Kind::Input && text.contains("network app is not for this container"), "{text}");
        let (kind, text) = refused(r#"{"allowed_networks": ["app"]}"#, "lan");
        assert!(kind == Kind::Input && text.contains("underlay.json: allowed_networks"), "{text}");
        let (kind, text) = refused("{}", "gone");
        assert!(kind == Kind::NotFound && text.contains("gone"), "{text}");
    }
}
