//! Trunks: one definition for a VLAN of a parent, or for many of them.

use crate::error::{Error, Result};
use crate::net::name::{IfName, NetworkName};
use crate::net::parent::{ParentSpec, vlan_name};
use crate::net::vlan::{VlanId, VlanProtocol, VlanRanges};

/// The VLANs of a parent that a network lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trunk {
    /// The link that carries the tagged frames.
    pub base: IfName,
    /// How they are tagged.
    pub protocol: VlanProtocol,
    /// The VLAN of a container that asks for none.
    pub vlan: Option<VlanId>,
    /// Those that a container may ask for.
    pub vlans: Option<VlanRanges>,
}

impl Trunk {
    /// The VLANs of the link `base`, if there are any.
    ///
    /// # Errors
    /// When there is nothing to carry them, or no VLAN.
    pub(crate) fn new(
        base: Option<&IfName>,
        protocol: Option<VlanProtocol>,
        vlan: Option<VlanId>,
        vlans: Option<VlanRanges>,
    ) -> Result<Option<Self>> {
        let key = match (vlan, &vlans, protocol) {
            (Some(_), ..) => "vlan",
            (None, Some(_), _) => "vlans",
            (None, None, Some(_)) => {
                return Err(Error::input("vlan_protocol: the network has no VLAN")
                    .hint("give it a vlan or vlans, or remove vlan_protocol"));
            }
            (None, None, None) => return Ok(None),
        };
        let Some(base) = base.cloned() else {
            return Err(Error::input(format!("{key}: the network has no parent that could carry VLANs"))
                .hint("name the link that carries the tagged frames as parent"));
        };
        Ok(Some(Self { base, protocol: protocol.unwrap_or_default(), vlan, vlans }))
    }

    /// How the link of [`Trunk::vlan`] is made.
    pub(crate) fn recipe(&self) -> Option<ParentSpec> {
        let (base, protocol) = (self.base.clone(), self.protocol);
        self.vlan.map(|id| ParentSpec::Vlan { base, id: id.into(), protocol })
    }

    /// The parent of the network: the link of its VLAN; as long as none is chosen, the one that carries them.
    pub(crate) fn parent(&self) -> IfName {
        self.vlan.map_or_else(|| self.base.clone(), |id| vlan_name(&self.base, self.protocol, id.into()).1)
    }

    /// That link's name before it is made short enough; `None` as long as no VLAN is chosen.
    pub(crate) fn long_name(&self) -> Option<String> {
        self.vlan.map(|id| vlan_name(&self.base, self.protocol, id.into()).0)
    }

    /// The same for a container of `network` that asks for the VLAN `asked`, or for none.
    ///
    /// # Errors
    /// When there is no such VLAN, or only those that must be asked for.
    pub(crate) fn on_vlan(self, asked: Option<VlanId>, network: &NetworkName) -> Result<Self> {
        let Some(id) = asked.or(self.vlan) else {
            let first = self.vlans.as_ref().and_then(VlanRanges::first);
            let hint = first.map(|first| format!("ask for one, like {network}:vlan={first}"));
            let error =
                Error::input(format!("network {network} has {}, and none is asked for", self.offer()));
            return Err(error.hint(hint.unwrap_or_default()));
        };
        if self.vlan != Some(id) && !self.vlans.as_ref().is_some_and(|vlans| vlans.contains(id)) {
            return Err(Error::input(format!("VLAN {id} is none of network {network}"))
                .hint(format!("it has {}", self.offer())));
        }
        Ok(Self { vlan: Some(id), ..self })
    }

    /// What there is to choose from, for people.
    fn offer(&self) -> String {
        let vlan = self.vlan.map(|id| format!("VLAN {id}"));
        let vlans = self.vlans.as_ref().map(|vlans| format!("VLANs {vlans}"));
        vlan.into_iter().chain(vlans).collect::<Vec<_>>().join(" and ")
    }
}
