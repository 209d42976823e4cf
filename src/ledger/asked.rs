//! Whether the LAN was asked for the addresses of an attachment: a part of the record.

use serde::{Deserialize, Serialize};

/// Whether the LAN was asked if another host has the addresses of an attachment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Asked {
    /// It was asked during the attach, before the container got them, or by the agent since.
    #[default]
    Yes,
    /// It was asked ahead of the attach, which did not wait. The agent asks again afterwards.
    Ahead,
    /// It was not: the parent was not connected. The agent asks when it is.
    No,
    /// The agent has asked, and another host has one of them.
    Taken,
}

impl Asked {
    pub(crate) fn is_yes(&self) -> bool {
        *self == Self::Yes
    }

    /// Returns true if the LAN was asked, and no other host had them.
    pub(crate) fn is_free(self) -> bool {
        matches!(self, Self::Yes | Self::Ahead)
    }
}
