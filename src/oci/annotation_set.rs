//! All annotations and devices of a container that asks for networks.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::IgnoredAny;

use crate::config::network::Network;
use crate::config::settings::Settings;
use crate::error::{Error, Result};
use crate::net::name::NetworkName;
use crate::oci::annotations::{
    Annotations, Attachment, IDENTITY, NETWORK_PREFIX, NETWORKS, OPTIONS, PREFIX, Request, attachments,
    is_json,
};

/// The annotations and devices of a container that asks for networks, before they are parsed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawRequest<'a> {
    networks: Option<&'a str>,
    annotations: &'a Annotations,
    devices: &'a [NetworkName],
}

impl<'a> RawRequest<'a> {
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of(annotations: &'a Annotations) -> Option<Self> {
        Self::with_devices(annotations, &[])
    }

    /// The annotations of a container, and the networks that are its CDI devices; `None` if it asks for none, and has no annotation
    /// of ours that could be a mistyped one.
    pub(crate) fn with_devices(annotations: &'a Annotations, devices: &'a [NetworkName]) -> Option<Self> {
        let networks = annotations.get(NETWORKS).map(String::as_str);
        let asked = Self { networks, annotations, devices };
        (!devices.is_empty() || asked.ours().next().is_some()).then_some(asked)
    }

    /// All annotations of the container, not only ours.
    pub(crate) fn annotations(self) -> &'a Annotations {
        self.annotations
    }

    /// Our annotations, with their keys.
    pub(crate) fn ours(self) -> impl Iterator<Item = (&'a String, &'a String)> {
        self.annotations.range(PREFIX.to_owned()..).take_while(|(key, _)| key.starts_with(PREFIX))
    }

    /// The number of attachments that are asked for, or of networks that are defined, whichever is more. Items are not
    /// parsed for that. A text that is not JSON where it should be counts 0.
    pub(crate) fn count(self) -> usize {
        let attachments = match self.networks {
            Some(text) if is_json(text) => {
                serde_json::from_str::<Vec<IgnoredAny>>(text).map_or(0, |items| items.len())
            }
            Some(text) => text.split(';').count(),
            None => 0,
        };
        attachments.max(self.ours().filter(|(key, _)| key.starts_with(NETWORK_PREFIX)).count())
    }

    /// Whether it is small enough to be parsed.
    ///
    /// # Errors
    /// Names the limit of the settings, and the annotation.
    pub(crate) fn check_size(self, settings: &Settings) -> Result<()> {
        self.ours().try_for_each(|(key, value)| settings.allow_annotation(key, value))?;
        settings.allow_count("the annotations list", self.count())
    }

    /// Parses what the container asks for: first what the annotation lists, then the devices that it does not name.
    ///
    /// # Errors
    /// Names the annotation and the key that is wrong. An unknown `io.underlay.` annotation is an error, because a
    /// spelling mistake must not pass silently.
    pub(crate) fn read(self) -> Result<Request> {
        // Before podman 5.0, `podman run --annotation` splits at commas (pull request 20945). The rest would be lost.
        if let Some(cut) = OPTIONS.split(' ').find(|option| self.annotations.contains_key(*option)) {
            return Err(Error::input(format!("annotation {cut} looks cut off from {NETWORKS} at a comma"))
                .hint("podman before 5.0 does so: separate options by spaces instead"));
        }
        let (mut identity, mut inline) = (None, BTreeMap::new());
        for (key, value) in self.ours() {
            let within = |error: Error| error.within(format!("annotation {key}"));
            if let Some(name) = key.strip_prefix(NETWORK_PREFIX) {
                let name: NetworkName = name.parse().map_err(within)?;
                let network = Network::from_json(&name, value.as_bytes()).map_err(within)?;
                inline.insert(name, network);
            } else if key == IDENTITY {
                identity = Some(value.parse().map_err(within)?);
            } else if key != NETWORKS {
                return Err(Error::input(format!("annotation {key:?} is not known"))
                    .hint(format!("use {NETWORKS}, {IDENTITY} and {NETWORK_PREFIX}NAME")));
            }
        }
        if self.networks.is_none() && self.devices.is_empty() {
            return Err(Error::input("the container has annotations of underlay, and asks for no network")
                .hint(format!("add {NETWORKS}=NAME, or remove them")));
        }
        let listed = self.networks.map(attachments).transpose();
        let listed = listed.map_err(|error| error.within(format!("annotation {NETWORKS}")))?;
        let mut attachments = listed.unwrap_or_default();
        let named: BTreeSet<_> = attachments.iter().map(|attachment| attachment.network.clone()).collect();
        let unnamed = self.devices.iter().filter(|device| !named.contains(*device));
        attachments.extend(unnamed.cloned().map(Attachment::plain));
        Ok(Request { attachments, identity, inline })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(settings: &Settings, annotations: &Annotations) -> String {
        let checked = RawRequest::of(annotations).unwrap().check_size(settings);
        checked.map_or_else(|error| error.to_string(), |()| "allowed".to_owned())
    }

    #[test]
    fn sizes() {
        let check = |settings: &str, networks: &str, definitions: &[&str]| {
            let definitions = definitions.iter().enumerate();
            let annotations =
                definitions.map(|(n, text)| (format!("{NETWORK_PREFIX}n{n}"), (*text).to_owned()));
            let networks = (NETWORKS.to_owned(), networks.to_owned());
            let others = ("com.example".to_owned(), "x".repeat(1 << 20));
            let annotations: Annotations = annotations.chain([networks, others]).collect();
            said(&Settings::from_json(settings.as_bytes()).unwrap(), &annotations)
        };
        let fits = "x".repeat(16 * 1024 - NETWORKS.len());
        assert_eq!(check("{}", &fits, &[]), "allowed");
        assert_eq!(
            check("{}", &(fits + "x"), &[]),
            "max_annotation_bytes: annotation io.underlay.networks has 16385 bytes, and 16384 are allowed"
        );
        let limit = r#"{"max_annotation_bytes": 30, "max_attachments": 2}"#;
        assert_eq!(check(limit, "a;b", &["12345678", "12345678"]), "allowed");
        assert_eq!(
            check(limit, "a;b", &["12345678", "123456789"]),
            "max_annotation_bytes: annotation io.underlay.network.n1 has 31 bytes, and 30 are allowed"
        );
        let many = "max_attachments: the annotations list 3 networks, and 2 are allowed";
        assert_eq!(check(limit, "a;b;c", &[]), many);
        assert_eq!(check(limit, "[5,5,5]", &[]), many);
        assert_eq!(check(limit, "a", &["", "", ""]), many);
        let long = Annotations::from([
            (NETWORKS.to_owned(), String::new()),
            (format!("io.underlay.{}", "x".repeat(1 << 20)), String::new()),
        ]);
        assert!(said(&Settings::default(), &long).len() < 300);
    }
}
