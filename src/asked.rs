//! Annotations that ask for networks, before they are read.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use crate::error::{Error, Result};
use crate::name::NetworkName;
use crate::network::Network;
use crate::request::{
    Annotations, IDENTITY, NETWORK_PREFIX, NETWORKS, OPTIONS, PREFIX, Request, attachments,
};

/// The annotations of a container that asks for networks, not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    networks: &'a str,
    annotations: &'a Annotations,
}

impl<'a> Asked<'a> {
    /// What `annotations` ask for; `None` if for nothing: then the container is not ours.
    pub fn of(annotations: &'a Annotations) -> Option<Self> {
        Some(Self { networks: annotations.get(NETWORKS)?, annotations })
    }

    /// All annotations of the container, also those of others.
    pub fn annotations(self) -> &'a Annotations {
        self.annotations
    }

    /// The annotations that are ours, with their keys.
    pub fn ours(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let ours =
            self.annotations.range(PREFIX.to_owned()..).map(|(key, value)| (key.as_str(), value.as_str()));
        ours.take_while(|(key, _)| key.starts_with(PREFIX))
    }

    /// How many attachments are asked for, or networks defined, whichever is more. No item is read for that, and a
    /// text that cannot be read has none.
    pub fn count(self) -> usize {
        let attachments = if is_json(self.networks) {
            serde_json::from_str::<Vec<IgnoredAny>>(self.networks).map_or(0, |items| items.len())
        } else {
            self.networks.split(';').count()
        };
        attachments.max(self.ours().filter(|(key, _)| key.starts_with(NETWORK_PREFIX)).count())
    }

    /// Reads what the container asks for.
    ///
    /// # Errors
    /// Names the annotation and the key that is wrong. Unknown `io.underlay.` annotations are errors as soon as
    /// the container is ours: a typing error must not pass silently.
    pub fn read(self) -> Result<Request> {
        // `podman run --annotation` splits at commas before 5.0 (podman pull request 20945), and the rest would be lost.
        if let Some(cut) = OPTIONS.iter().find(|&&option| self.annotations.contains_key(option)) {
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
                return Err(Error::input(format!("annotation {key} is not known"))
                    .hint(format!("use {NETWORKS}, {IDENTITY} and {NETWORK_PREFIX}NAME")));
            }
        }
        let attachments =
            attachments(self.networks).map_err(|error| error.within(format!("annotation {NETWORKS}")))?;
        Ok(Request { attachments, identity, inline })
    }
}

/// Whether the list of networks is meant as JSON.
pub(crate) fn is_json(networks: &str) -> bool {
    networks.trim_start().starts_with(['[', '{', '"'])
}
