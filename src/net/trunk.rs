//! Trunks: one definition for a VLAN of a parent, or for many of them.

use crate::error::{Error, Result};
use crate::net::name::{IfName, NetworkName};
use crate::net::parent::{ParentSpec, vlan_name};
use crate::net::vlan::{VlanId, VlanProtocol, VlanRanges};

/// The VLANs of a link that belong to a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trunk {
    /// The link that carries the tagged frames.
    pub base: IfName,
    pub protocol: VlanProtocol,
    /// The VLAN of a container that asks for none.
    pub vlan: Option<VlanId>,
    /// The VLANs that a container may ask for.
    pub vlans: Option<VlanRanges>,
}

impl Trunk {
    /// The trunk of a network with these keys; `None` if it has no VLAN.
    ///
    /// # Errors
    /// When a VLAN has no parent to carry it, or a protocol has no VLAN.
    pub(crate) fn new(
        base: Option<&IfName>,
        protocol: Option<VlanProtocol>,
        vlan: Option<VlanId>,
        vlans: Option<VlanRanges>,
    ) -> Result<Option<Self>> {
        if vlan.is_none() && vlans.is_none() {
            return match protocol {
                None => Ok(None),
                Some(_) => Err(Error::input("vlan_protocol: the network has no VLAN")
                    .hint("give it a vlan or vlans, or remove vlan_protocol")),
            };
        }
        let base = base.cloned().ok_or_else(|| {
            let key = if vlan.is_some() { "vlan" } else { "vlans" };
            Error::input(format!("{key}: the network has no parent that could carry VLANs"))
                .hint("name the link that carries the tagged frames as parent")
        })?;
        Ok(Some(Self { base, protocol: protocol.unwrap_or_default(), vlan, vlans }))
    }

    /// How the link of [`Trunk::vlan`] is made; `None` as long as no VLAN is chosen.
    pub(crate) fn recipe(&self) -> Option<ParentSpec> {
        let (base, protocol) = (self.base.clone(), self.protocol);
        self.vlan.map(|id| ParentSpec::Vlan { base, id: id.into(), protocol })
    }

    /// The parent of the network: the link of its VLAN, or as long as none is chosen the link that carries them.
    pub(crate) fn parent(&self) -> IfName {
        self.vlan.map_or_else(|| self.base.clone(), |id| vlan_name(&self.base, self.protocol, id.into()).1)
    }

    /// The name of the VLAN's link before it is shortened; `None` as long as no VLAN is chosen.
    pub(crate) fn long_name(&self) -> Option<String> {
        self.vlan.map(|id| vlan_name(&self.base, self.protocol, id.into()).0)
    }

    /// The trunk with a VLAN chosen, for a container of `network` that asks for the VLAN `asked`.
    ///
    /// # Errors
    /// When `network` has no such VLAN, or only VLANs that must be asked for.
    pub(crate) fn on_vlan(self, asked: Option<VlanId>, network: &NetworkName) -> Result<Self> {
        let Some(id) = asked.or(self.vlan) else {
            let first = self.vlans.as_ref().and_then(VlanRanges::first);
            let hint = first.map(|first| format!("ask for one, like {network}:vlan={first}"));
            let text = format!("network {network} has {}, and none is asked for", self.offer());
            return Err(Error::input(text).hint(hint.unwrap_or_default()));
        };
        if self.vlan != Some(id) && !self.vlans.as_ref().is_some_and(|vlans| vlans.contains(id)) {
            return Err(Error::input(format!("network {network} has no VLAN {id}"))
                .hint(format!("it has {}", self.offer())));
        }
        Ok(Self { vlan: Some(id), ..self })
    }

    /// The VLANs to choose from, for messages.
    fn offer(&self) -> String {
        let vlan = self.vlan.map(|id| format!("VLAN {id}"));
        let vlans = self.vlans.as_ref().map(|vlans| format!("VLANs {vlans}"));
        vlan.into_iter().chain(vlans).collect::<Vec<_>>().join(" and ")
    }
}
