//! Whether the links of a container are what another one in its network namespace asks for, which can share them then.

use crate::config::network::Network;
use crate::ledger::attached::Attached;
use crate::ledger::record::Record;
use crate::lifecycle::target::AttachmentRequest;
use crate::oci::annotations::Attachment;

impl Record {
    /// Returns true if the links of this container are what `requests` ask for.
    pub(crate) fn gives(&self, requests: &[AttachmentRequest]) -> bool {
        let mut pairs = self.attachments().iter().zip(requests);
        self.attachments().len() == requests.len()
            && pairs.all(|(has, request)| has.gives(&request.options, &request.network))
    }
}

impl Attached {
    /// Returns true if this link is in `network` and has all that is `asked` for.
    fn gives(&self, asked: &Attachment, network: &Network) -> bool {
        let has = |address| self.addresses.iter().any(|has| has.addr() == address);
        let in_table = self.table.iter().flat_map(|table| &table.routes);
        let routes: Vec<_> = self.routes.iter().chain(in_table).collect();
        self.network == network.name
            && self.parent == network.parent
            && asked.ips.iter().all(|ip| has(ip.address))
            && asked.mac.is_none_or(|mac| self.mac == Some(mac))
            && asked.ifname.as_ref().is_none_or(|ifname| self.ifname.as_str() == ifname.as_str())
            && asked.routes.iter().all(|route| routes.contains(&route))
            && asked.table.is_none_or(|id| self.table.as_ref().is_some_and(|table| table.id == id))
            && (asked.default_route || !routes.iter().any(|route| route.is_default()))
            && asked.source_macs.iter().all(|mac| self.tuning.source_macs.contains(mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::record::Links;
    use crate::net::name::NetworkName;
    use crate::oci::annotations::short_form;

    /// A container that is attached to VLAN 5 of `lan`, and to `san`.
    const RECORD: &str = r#"{
        "version": 1, "container": "web", "state": "attached",
        "holder": {"pid": 7, "start_time": 8, "netns": {"device": 4, "inode": 5}},
        "attachments": [
            {"network": "lan", "driver": {"kind": "macvlan", "mode": "source"}, "parent": "eth0.5", "parent_index": 3,
             "segment": 3, "ifname": "eth0", "mac": "02:00:00:00:00:09", "source_macs": ["02:00:00:00:00:0a"],
             "addresses": ["10.0.0.9/24", "2001:db8::9/64"],
             "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"}, {"to": "10.7.0.0/16", "via": "10.0.0.2"}],
             "table": {"id": 101, "routes": [{"to": "10.0.0.0/24"}]}},
            {"network": "san", "driver": {"kind": "macvlan", "mode": "bridge"}, "parent": "eth1", "parent_index": 4,
             "segment": 4, "ifname": "eth1", "mac": "02:00:00:00:00:19", "addresses": ["10.1.0.9/24"], "routes": [],
             "table": {"id": 102, "routes": [{"to": "0.0.0.0/0", "via": "10.1.0.1"}]}}
        ]}"#;

    /// Whether the container has what the annotation `text` asks for.
    fn gives(text: &str) -> bool {
        let record: Record = serde_json::from_str(RECORD).unwrap();
        let request =
            |options: Attachment| request(network(&options.network).on_vlan(options.vlan).unwrap(), options);
        let requests: Vec<_> = short_form(text).unwrap().into_iter().map(request).collect();
        record.gives(&requests)
    }

    fn request(network: Network, options: Attachment) -> AttachmentRequest {
        AttachmentRequest { options, network, is_inline: false }
    }

    fn network(name: &NetworkName) -> Network {
        let keys = match name.as_str() {
            "lan" => r#""parent": "eth0", "vlan": 5, "vlans": "6-9", "macvlan_mode": "source""#,
            "san" | "dmz" => r#""parent": "eth1""#,
            _ => r#""parent": "eth2""#,
        };
        Network::from_json(name, format!(r#"{{"version": 1, "driver": "macvlan", {keys}}}"#).as_bytes())
            .unwrap()
    }

    #[test]
    fn what_it_has() {
        for asked in [
            "lan;san",
            "lan:vlan=5;san",
            "lan:ip=10.0.0.9;san:ip=10.1.0.9",
            "lan:ip=2001:db8::9,ip=10.0.0.9;san",
            "lan:mac=02:00:00:00:00:09;san:mac=02:00:00:00:00:19",
            "lan:ifname=eth0;san:ifname=eth1",
            "lan:route=10.7.0.0/16@10.0.0.2;san",
            "lan:table=101;san:table=102",
            "lan:source-mac=02:00:00:00:00:0a;san",
            // The first container has decided which attachment has the default route.
            "lan:gw-priority=-1;san:gw-priority=9",
        ] {
            assert!(gives(asked), "{asked}");
        }
    }

    #[test]
    fn what_it_has_not() {
        for asked in [
            "lan",
            "lan;san;san",
            "san;lan",
            "lan;wan",
            // On the same parent.
            "lan;dmz",
            "lan:vlan=6;san",
            "lan:ip=10.0.0.8;san",
            "lan:ip=10.0.0.9,ip=10.0.0.8;san",
            "lan:ip=10.1.0.9;san",
            "lan:mac=02:00:00:00:00:08;san",
            "lan:ifname=eth1;san",
            "lan;san:ifname=lan0",
            "lan:route=10.7.0.0/16@10.0.0.3;san",
            "lan;san:route=10.7.0.0/16@10.0.0.2",
            "lan:table=102;san",
            "lan:default-route=no;san",
            // The default route is only in its table.
            "lan;san:default-route=no",
            "lan:source-mac=02:00:00:00:00:0b;san",
        ] {
            assert!(!gives(asked), "{asked}");
        }
    }

    /// Without a table, or with a parent that was changed in the definition.
    #[test]
    fn what_has_changed() {
        let mut record: Record = serde_json::from_str(RECORD).unwrap();
        let Links::Own(own) = &mut record.links else { panic!() };
        own.attachments.remove(0);
        let san = network(&"san".parse().unwrap());
        let gives = |record: &Record, text: &str, network: &Network| {
            let options = short_form(text).unwrap().remove(0);
            record.gives(&[request(network.clone(), options)])
        };
        assert!(gives(&record, "san", &san));
        let moved = Network { parent: "eth2".parse().unwrap(), ..san.clone() };
        assert!(!gives(&record, "san", &moved));
        record.attachments_mut()[0].table = None;
        assert!(gives(&record, "san", &san));
        assert!(gives(&record, "san:default-route=no", &san));
        assert!(!gives(&record, "san:table=102", &san));
    }
}
