//! What annotations say, in both forms.

use super::*;
use crate::oci::annotation_set::RawRequest;
use proptest::prelude::*;

fn read(text: &str) -> Result<Vec<Attachment>> {
    let annotations = Annotations::from([(NETWORKS.to_owned(), text.to_owned())]);
    RawRequest::of(&annotations).unwrap().read().map(|request| request.attachments)
}

#[test]
fn both_forms_mean_the_same() {
    let short = "lan:ip=10.0.0.9,ip=2001:db8::9,mac=02:00:00:00:00:09,ifname=up0,gw-priority=-5 ; wan";
    let json = r#"[{"name": "lan", "ips": ["10.0.0.9", "2001:db8::9"], "mac": "02:00:00:00:00:09",
                    "interface": "up0", "gw-priority": -5}, {"network": "wan"}]"#;
    let got = read(short).unwrap();
    assert_eq!(got, read(json).unwrap());
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].ips[1].address.to_string(), "2001:db8::9");
    assert_eq!((got[0].gw_priority, got[1].gw_priority), (-5, 0));
    assert_eq!(
        read("lan:interface_name=a,ip6=::5").unwrap(),
        read(r#"[{"name":"lan","interface_name":"a","ip":"::5"}]"#).unwrap()
    );
    assert_eq!(
        read("lan: ip=10.0.0.9 ip=2001:db8::9,\tgw-priority=1").unwrap(),
        read("lan:ip=10.0.0.9,ip=2001:db8::9,gw-priority=1").unwrap()
    );
    assert_eq!(read("lan:ip=10.0.0.9/24").unwrap()[0].ips[0].prefix_len, Some(24));
}

#[test]
fn every_whole_number_is_a_priority() {
    for number in [0, 1, -1, 7, i32::MAX, i32::MIN] {
        for text in
            [format!("lan:gw-priority={number}"), format!(r#"[{{"name": "lan", "gw-priority": {number}}}]"#)]
        {
            assert_eq!(read(&text).unwrap()[0].gw_priority, number, "{text}");
        }
    }
    for number in ["2147483648", "-2147483649", "1.5", "", "1e3"] {
        let error = read(&format!("lan:gw-priority={number}")).unwrap_err().to_string();
        let expected = format!("option gw-priority of network lan: {number:?} is not a whole number");
        assert_eq!(error, format!("annotation io.underlay.networks: {expected}"));
    }
}

/// Each option of the short form is the key of the same meaning in JSON.
#[test]
fn every_option() {
    for (short, json) in [
        ("vlan=7", r#""vlan": 7"#),
        ("table=101", r#""table": 101"#),
        ("default-route=no", r#""default-route": false"#),
        ("default-route=false", r#""default-route": false"#),
        ("default-route=yes", r#""default-route": true"#),
        ("default-route=true", ""),
        (
            "route=10.7.0.0/16@10.0.0.2@5@onlink",
            r#""routes": [{"to": "10.7.0.0/16", "via": "10.0.0.2", "metric": 5, "onlink": true}]"#,
        ),
        (
            "route=10.7.0.0/16@blackhole,route=10.8.0.0/16@prohibit",
            r#""routes": [{"to": "10.7.0.0/16", "type": "blackhole"}, {"to": "10.8.0.0/16", "type": "prohibit"}]"#,
        ),
        (
            "source-mac=02:00:00:00:00:01,source-mac=02:00:00:00:00:02",
            r#""source-macs": ["02:00:00:00:00:01", "02:00:00:00:00:02"]"#,
        ),
    ] {
        let json = if json.is_empty() { String::new() } else { format!(", {json}") };
        let (short, json) = (format!("lan:{short}"), format!(r#"[{{"name": "lan"{json}}}]"#));
        assert_eq!(read(&short).unwrap(), read(&json).unwrap(), "{short}");
    }
    for option in ["vlan=7", "table=101", "mac=02:00:00:00:00:01", "ifname=a", "interface_name=a"] {
        let (key, _) = option.split_once('=').unwrap();
        let error = read(&format!("lan:{option},{option}")).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("annotation io.underlay.networks: option {key} of network lan: is given twice")
        );
    }
    let error = read("lan:default-route=maybe").unwrap_err().to_string();
    assert!(
        error.ends_with("option default-route of network lan: \"maybe\" is neither yes nor no"),
        "{error}"
    );
}

/// What the kernel would ignore, or refuse without a reason.
#[test]
fn what_a_network_cannot_give() {
    let check = |keys: &str, asked: &str| {
        let text = format!(
            r#"{{"version": 1, "parent": "eth0", "subnets": [{{"subnet": "10.0.0.0/24"}}], {keys}}}"#
        );
        let network = Network::from_json(&"lan".parse().unwrap(), text.as_bytes()).unwrap();
        read(&format!("lan:{asked}")).unwrap()[0].check(&network).map_err(|error| error.to_string())
    };
    let (macvlan, ipvlan) = (r#""driver": "macvlan""#, r#""driver": "ipvlan""#);
    let passthru = r#""driver": "macvlan", "macvlan_mode": "passthru""#;
    let mac = "mac=02:00:00:00:00:09";
    let none = |driver: &str| {
        Err(format!(
            "network lan has driver {driver}, whose links all have the parent's MAC address, so none can have \
             02:00:00:00:00:09"
        ))
    };
    for (keys, asked, expected) in [
        (macvlan, mac, Ok(())),
        (ipvlan, mac, none("ipvlan mode l2 bridge")),
        (passthru, mac, none("macvlan mode passthru")),
        (ipvlan, "ip=10.0.0.9", Ok(())),
        (macvlan, "route=10.7.0.0/16@10.0.0.2", Ok(())),
        (
            macvlan,
            "route=10.7.0.0/16@10.1.0.2",
            Err("network lan: routes: route to 10.7.0.0/16 leads to 10.1.0.2, which is in none of the subnets".to_owned()),
        ),
        (r#""driver": "macvlan", "macvlan_mode": "source""#, "source-mac=02:00:00:00:00:01", Ok(())),
    ] {
        assert_eq!(check(keys, asked), expected, "{keys} {asked}");
    }
    let said = check(macvlan, "source-mac=02:00:00:00:00:01").unwrap_err();
    assert!(said.starts_with("network lan: source_macs: "), "{said}");
}

#[test]
fn nothing_asked() {
    assert!(RawRequest::of(&Annotations::new()).is_none());
    let foreign = Annotations::from([("io.underlayer.networks".to_owned(), "x".to_owned())]);
    assert!(RawRequest::of(&foreign).is_none());
    // What is mistyped, or has no effect.
    for (key, said) in [
        ("io.underlay.network", "annotation \"io.underlay.network\" is not known"),
        ("io.underlay.Networks", "annotation \"io.underlay.Networks\" is not known"),
        ("io.underlay.networks ", "annotation \"io.underlay.networks \" is not known"),
        ("io.underlay.identity", "the container has annotations of underlay, and asks for no network"),
    ] {
        let annotations = Annotations::from([(key.to_owned(), "x".to_owned())]);
        assert_eq!(RawRequest::of(&annotations).unwrap().read().unwrap_err().to_string(), said);
    }
}

#[test]
fn mistakes_are_named() {
    let at = "annotation io.underlay.networks: ";
    for (text, message) in [
        ("", "names no network"),
        (" ", "names no network"),
        ("[]", "names no network"),
        ("lan;", "names no network"),
        (";lan", "names no network"),
        ("l an", "network name \"l an\" is not usable"),
        ("lan:", "\"lan:\" has no option after the colon"),
        ("lan:ip", "option \"ip\" of network lan has no value"),
        ("lan:ip=", "option ip of network lan: address \"\" is not usable"),
        ("lan:ip=10.0.0.256", "option ip of network lan: address \"10.0.0.256\" is not usable"),
        ("lan:ip=fe80::1%eth0", "option ip of network lan: address \"fe80::1%eth0\" is not usable"),
        ("lan:ip=10.0.0.9/33", "option ip of network lan: address \"10.0.0.9/33\" is not usable"),
        ("lan:ip=0.0.0.0", "option ip of network lan: address \"0.0.0.0\" is not usable"),
        ("lan:ip=224.0.0.1", "option ip of network lan: address \"224.0.0.1\" is not usable"),
        ("lan:ip6=10.0.0.9", "option ip6 of network lan: address 10.0.0.9 is not IPv6"),
        ("lan:mac=x", "option mac of network lan: MAC address \"x\" is not usable"),
        ("lan:ifname=a b", "option \"b\" of network lan has no value"),
        ("lan:ifname=$(x)", "option ifname of network lan: interface name \"$(x)\" is not usable"),
        ("lan:ifname=-x", "option ifname of network lan: interface name \"-x\" is not usable"),
        ("lan:ifname=a/b", "option ifname of network lan: interface name \"a/b\" is not usable"),
        ("lan:ifname=a,interface=b", "option interface of network lan: is given twice"),
        ("lan:gw-priority=high", "option gw-priority of network lan: \"high\" is not a whole number"),
        ("lan:ipp=10.0.0.9", "option ipp of network lan: is not known"),
        ("{}", "invalid type: map, expected a sequence at line 1 column 0"),
        (
            r#"[{"name": "lan", "ipps": 1}]"#,
            "[0].ipps: unknown field `ipps`, expected one of `name`, `network`, `ip`, `ips`, `mac`, `ifname`, \
             `interface`, `interface_name`, `gw-priority`, `vlan`, `routes`, `table`, `default-route`, `source-macs` at line 1 column 23",
        ),
        (
            r#"[{"name": "lan", "ips": 5}]"#,
            "[0].ips: expected an address or a list of addresses at line 1 column 26",
        ),
    ] {
        assert_eq!(read(text).unwrap_err().to_string(), format!("{at}{message}"), "{text}");
    }
}

#[test]
fn cut_at_a_comma() {
    let annotations = |networks: bool| {
        let cut = ("ip".to_owned(), "2001:db8::9;wan".to_owned());
        let asked = (NETWORKS.to_owned(), "lan:ip=10.0.0.9".to_owned());
        Annotations::from_iter([cut].into_iter().chain(networks.then_some(asked)))
    };
    let error = RawRequest::of(&annotations(true)).unwrap().read().unwrap_err().to_string();
    assert_eq!(error, "annotation ip looks cut off from io.underlay.networks at a comma");
    assert!(RawRequest::of(&annotations(false)).is_none(), "an annotation of another program");
}

#[test]
fn inline_networks() {
    let with = |key: &str, value: &str| {
        let annotations = Annotations::from([
            (NETWORKS.to_owned(), "lan".to_owned()),
            (key.to_owned(), value.to_owned()),
            ("io.unrelated".to_owned(), "x".to_owned()),
        ]);
        RawRequest::of(&annotations).unwrap().read()
    };
    let text = r#"{"version": 1, "driver": "macvlan", "parent": "eth0"}"#;
    let request = with("io.underlay.network.lan", text).unwrap();
    assert_eq!(request.inline.keys().map(NetworkName::as_str).collect::<Vec<_>>(), ["lan"]);
    for (key, value, message) in [
        (
            "io.underlay.network.lan",
            "{}",
            "annotation io.underlay.network.lan: missing field `version` at line 1 column 2",
        ),
        ("io.underlay.network.", text, "annotation io.underlay.network.: network name \"\" is not usable"),
        ("io.underlay.netwrok", text, "annotation \"io.underlay.netwrok\" is not known"),
    ] {
        assert_eq!(with(key, value).unwrap_err().to_string(), message);
    }
}

#[test]
fn counted_unread() {
    let count = |networks: &str, definitions: usize| {
        let definitions = (0..definitions).map(|n| (format!("{NETWORK_PREFIX}n{n}"), "?".to_owned()));
        let asked = (NETWORKS.to_owned(), networks.to_owned());
        RawRequest::of(&definitions.chain([asked]).collect()).unwrap().count()
    };
    for (networks, expected) in [
        ("lan", 1),
        ("lan:ip=1;wan;", 3),
        (";;", 3),
        ("", 1),
        (" [{}, 5, \"x\"]", 3),
        ("[]", 0),
        ("[1, 2", 0),
        ("{}", 0),
    ] {
        assert_eq!(count(networks, 0), expected, "{networks}");
        assert_eq!(count(networks, 9), 9);
    }
    assert_eq!(count("a;b;c", 2), 3);
}

proptest! {
    /// Whatever stands in the annotation, the answer is a request or an error.
    #[test]
    fn never_panics(text in "\\PC{0,80}", json in "[\\[{\"]\\PC{0,60}", options in "lan:[a-z0-9:=,;./-]{0,40}") {
        for text in [text, json, options] {
            if let Ok(attachments) = read(&text) {
                prop_assert!(!attachments.is_empty());
            }
        }
    }
}
