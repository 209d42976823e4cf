//! Admission: checks that the networks of a request exist and that the container may join them.

use crate::config::network::Network;
use crate::config::settings::Settings;
use crate::error::{Error, Kind, Result};
use crate::ledger::{Store, no_such_network};
use crate::lifecycle::target::{Admitted, AttachmentRequest};
use crate::net::name::NetworkName;
use crate::oci::annotation_set::RawRequest;
use crate::oci::annotations;

/// Returns the requests with the definitions of their networks, if the operator permits all of them. The
/// settings are checked before any network is looked up, so that a refusal reveals nothing but its rule.
pub(crate) fn admit(store: &Store, settings: &Settings, asked: RawRequest<'_>) -> Result<Admitted> {
    let of_settings = |error: Error| error.within(store.settings_path().display());
    asked.check_size(settings).map_err(of_settings)?;
    let request = asked.read()?;
    let count = request.attachments.len();
    settings.allow_count("annotations and devices are", count).map_err(of_settings)?;
    let mut names = request.attachments.iter().map(|options| &options.network);
    names.try_for_each(|name| settings.allow_network(name)).map_err(of_settings)?;
    request.inline.values().try_for_each(|network| settings.allow_inline(network)).map_err(of_settings)?;
    let requests = request.attachments.into_iter().map(|options| {
        let (name, vlan) = (&options.network, options.vlan);
        let network = match request.inline.get(name) {
            None => defined(store, settings, asked, name)?.on_vlan(vlan)?,
            Some(inline) => {
                let inline = inline.clone().on_vlan(vlan)?;
                settings.allow_inline(&inline).map_err(of_settings)?;
                let annotation = format!("annotation {}{name}", annotations::NETWORK_PREFIX);
                if store.has_network(name)? {
                    return Err(Error::new(
                        Kind::Taken,
                        format!("{annotation} defines a network that exists"),
                    )
                    .hint("give it another name, or remove the annotation to use the existing network"));
                }
                inline.admit(asked.annotations()).map_err(|error| error.within(annotation))?;
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

/// Returns the definition of the network `name`, if the container may use it. The error for a missing network
/// lists only those that the container may use.
fn defined(store: &Store, settings: &Settings, asked: RawRequest<'_>, name: &NetworkName) -> Result<Network> {
    let admits = |name: &NetworkName| {
        settings.allow_network(name).is_ok()
            && store.network(name).is_ok_and(|network| network.admit(asked.annotations()).is_ok())
    };
    match store.network(name) {
        Ok(network) => {
            let admitted = network.admit(asked.annotations());
            admitted.map_err(|error| error.within(store.network_path(name).display())).map(|()| network)
        }
        Err(error) if error.kind() == Kind::NotFound => {
            let others: Vec<_> = store.network_names()?.into_iter().filter(admits).collect();
            Err(no_such_network(name, &others))
        }
        Err(error) => Err(error),
    }
}
