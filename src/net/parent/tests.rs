use super::*;

fn recipe(name: &str) -> Result<Option<ParentSpec>> {
    ParentSpec::of_name(&name.parse().unwrap())
}

#[test]
fn names_say_what_is_made() {
    let tagged =
        |base: &str, id, protocol| Some(ParentSpec::Vlan { base: base.parse().unwrap(), id, protocol });
    let vlan = |base: &str, id| tagged(base, id, VlanProtocol::Dot1q);
    assert_eq!(recipe("eth0.50").unwrap(), vlan("eth0", 50));
    assert_eq!(recipe("eth0.10.20").unwrap(), vlan("eth0.10", 20));
    assert_eq!(recipe("e.4094").unwrap(), vlan("e", 4094));
    assert_eq!(recipe("eth0.ad10").unwrap(), tagged("eth0", 10, VlanProtocol::Dot1ad));
    assert_eq!(recipe("eth0.ad10.20").unwrap(), vlan("eth0.ad10", 20));
    for name in ["eth0.ad", "eth0", "lan.a", "eth0.", ".5", "eth0.5a", "br-lan"] {
        assert_eq!(recipe(name).unwrap(), None, "{name}");
    }
    for name in ["eth0.ad0", "eth0.0", "eth0.4095", "eth0.010", "eth0.99999999", "eth0.00"] {
        assert!(recipe(name).is_err(), "{name}");
    }
}

fn base() -> Link {
    Link { ifindex: 3, name: "eth0".to_owned(), ..crate::net::link::eth0() }
}

/// VLAN 50 of the link number 3, made by hand.
fn vlan(protocol: VlanProtocol) -> Link {
    let recipe = ParentSpec::Vlan { base: "eth0".parse().unwrap(), id: 50, protocol };
    Link { ifindex: 7, alias: None, ..recipe.link(&"eth0.50".parse().unwrap(), Some(&base())) }
}

#[test]
fn a_vlan_that_is_there() {
    let (q, ad) = (VlanProtocol::Dot1q, VlanProtocol::Dot1ad);
    let other = Link { ifindex: 4, ..base() };
    let verify = |name: &str, link: &Link, base: Option<&Link>| {
        let verified = recipe(name).unwrap().unwrap().verify(link, base);
        verified.map_err(|error| (error.kind(), error.to_string()))
    };
    let refused =
        |link: &str, recipe: &str| Err((Kind::Taken, format!("parent eth0.50 is {link}, not {recipe}")));
    let here = base();
    for (name, link, base, expected) in [
        ("eth0.50", vlan(q), Some(&here), Ok(())),
        ("eth0.ad50", vlan(ad), Some(&here), Ok(())),
        ("eth0.50", vlan(ad), Some(&here), refused("802.1ad VLAN 50 of link number 3", "VLAN 50 of eth0")),
        ("eth0.ad50", vlan(q), Some(&here), refused("VLAN 50 of link number 3", "802.1ad VLAN 50 of eth0")),
        ("eth0.51", vlan(q), Some(&here), refused("VLAN 50 of link number 3", "VLAN 51 of eth0")),
        ("eth0.50", vlan(q), Some(&other), refused("VLAN 50 of link number 3", "VLAN 50 of eth0")),
        ("eth0.50", vlan(q), None, refused("VLAN 50 of link number 3", "VLAN 50 of eth0")),
        // Its base is in another namespace, where that number is another link's.
        (
            "eth0.50",
            Link {
                lower: None,
                elsewhere: Some(crate::net::link::LinkNetns { ifindex: 3, nsid: 0 }),
                ..vlan(q)
            },
            Some(&here),
            refused("VLAN 50 of link number 0", "VLAN 50 of eth0"),
        ),
        // The mark alone says nothing of what it is.
        (
            "eth0.50",
            Link {
                kind: Some("veth".to_owned()),
                vlan_id: None,
                vlan_protocol: None,
                alias: Some(mark::PARENT.to_owned()),
                ..vlan(q)
            },
            Some(&here),
            refused("a veth link", "VLAN 50 of eth0"),
        ),
    ] {
        assert_eq!(verify(name, &link, base), expected, "{name} {link:?}");
    }
}

/// A dummy link of that name is used only if we have made it: it is deleted when nothing needs it.
#[test]
fn a_dummy_that_is_there() {
    let ours = ParentSpec::Dummy.link(&"ul-lan".parse().unwrap(), None);
    assert_eq!(ParentSpec::Dummy.verify(&ours, None), Ok(()));
    for (link, found) in [
        (Link { alias: None, ..ours.clone() }, "a dummy link"),
        (Link { alias: Some("mine".to_owned()), ..ours.clone() }, "a dummy link"),
        (Link { kind: Some("veth".to_owned()), ..ours.clone() }, "a veth link"),
        (Link { kind: None, ..ours.clone() }, "a hardware link"),
    ] {
        let error = ParentSpec::Dummy.verify(&link, None).unwrap_err();
        assert_eq!(error.to_string(), format!("parent ul-lan is {found}, not underlay's dummy link"));
    }
}

#[test]
fn what_makes_a_link_like_it() {
    let of =
        |link: &Link, base: Option<&Link>| ParentSpec::of_link(link, base).map(|recipe| recipe.to_string());
    let here = base();
    assert_eq!(of(&vlan(VlanProtocol::Dot1q), Some(&here)).as_deref(), Some("VLAN 50 of eth0"));
    assert_eq!(of(&vlan(VlanProtocol::Dot1ad), Some(&here)).as_deref(), Some("802.1ad VLAN 50 of eth0"));
    assert_eq!(of(&vlan(VlanProtocol::Dot1q), None), None);
    let dummy = ParentSpec::Dummy.link(&"ul-lan".parse().unwrap(), None);
    assert_eq!(of(&dummy, None).as_deref(), Some("underlay's dummy link"));
    for link in [here.clone(), Link { kind: Some("veth".to_owned()), ..here.clone() }] {
        assert_eq!(of(&link, Some(&here)), None);
    }
}

/// Number, kind and mark: another link of that name may have the same mark, but not the number.
#[test]
fn the_very_link_that_was_made() {
    let made = |name: &str, recipe: ParentSpec, ifindex| MadeParent {
        version: 1,
        name: name.parse().unwrap(),
        recipe,
        born_as: IfName::temporary(1),
        ifindex,
    };
    let tagged = recipe("eth0.50").unwrap().unwrap();
    let ours = Link { alias: Some(mark::PARENT.to_owned()), ..vlan(VlanProtocol::Dot1q) };
    let known = made("eth0.50", tagged.clone(), Some(7));
    assert!(known.is(&ours));
    assert!(made("eth0.50", tagged, None).is(&ours), "a killed process had no time to note the number");
    for other in [
        Link { ifindex: 8, ..ours.clone() },
        Link { alias: None, ..ours.clone() },
        Link { alias: Some("underlay:host:lan".to_owned()), ..ours.clone() },
        Link { kind: Some("dummy".to_owned()), ..ours.clone() },
        Link { kind: None, ..ours.clone() },
    ] {
        assert!(!known.is(&other), "{other:?}");
    }
    let dummy = Link { ifindex: 7, ..ParentSpec::Dummy.link(&"ul-lan".parse().unwrap(), None) };
    assert!(made("ul-lan", ParentSpec::Dummy, Some(7)).is(&dummy));
    assert!(!made("ul-lan", ParentSpec::Dummy, Some(7)).is(&ours) && !known.is(&dummy));
}

#[test]
fn as_it_would_be_made() {
    let name = "eth0.50".parse().unwrap();
    let base = Link { mtu: 9000, mac: Some("02:00:00:00:00:01".parse().unwrap()), ..base() };
    let link = recipe("eth0.50").unwrap().unwrap().link(&name, Some(&base));
    assert_eq!((link.mtu, link.mac, link.lower, link.vlan_id), (9000, base.mac, Some(3), Some(50)));
    assert!(link.up && link.ethernet && link.is_made_parent());
    assert_eq!(ParentSpec::Dummy.link(&name, None).mtu, 1500);
}

#[test]
fn names_of_vlans() {
    let name = |base: &str, protocol, id| vlan_name(&base.parse().unwrap(), protocol, id);
    for (base, protocol, id, expected) in [
        ("eth0", VlanProtocol::Dot1q, 50, "eth0.50"),
        ("eth0", VlanProtocol::Dot1ad, 50, "eth0.ad50"),
        ("enp195s0f0", VlanProtocol::Dot1q, 4094, "enp195s0f0.4094"),
    ] {
        let (full, name) = name(base, protocol, id);
        assert_eq!((full.as_str(), name.as_str()), (expected, expected));
        assert_eq!(
            recipe(expected).unwrap(),
            Some(ParentSpec::Vlan { base: base.parse().unwrap(), id, protocol })
        );
    }
    let names = [
        name("enp195s0f1np1", VlanProtocol::Dot1q, 1234),
        name("enp195s0f1np1", VlanProtocol::Dot1ad, 1234),
        name("enp195s0f1np2", VlanProtocol::Dot1q, 1234),
    ];
    let short: std::collections::BTreeSet<_> = names.iter().map(|(_, short)| short.as_str()).collect();
    assert_eq!(short.len(), 3, "one name for each VLAN");
    assert!(short.iter().all(|name| name.len() <= 15 && name.ends_with("-1234")), "{short:?}");
    assert_eq!(names[1].0, "enp195s0f1np1.ad1234");
}

#[test]
fn dummies_have_names_of_their_own() {
    let name = |network: &str| dummy_name(&network.parse().unwrap()).to_string();
    assert_eq!(name("pub_net"), "ul-pub_net");
    assert_eq!(name("abcdefghijkl"), "ul-abcdefghijkl");
    assert_eq!(name("abcdefghijklm").len(), 15);
    assert_ne!(name("abcdefghijklm"), name("abcdefghijkln"));
}

#[test]
fn what_a_killed_process_has_left() {
    let parent = |recipe: ParentSpec| MadeParent {
        version: 1,
        name: "eth0.50".parse().unwrap(),
        recipe,
        born_as: IfName::temporary(208),
        ifindex: None,
    };
    let vlan = parent(recipe("eth0.50").unwrap().unwrap());
    let left = Link { alias: None, ..vlan.recipe.link(&vlan.born_as, None) };
    assert!(vlan.has_left(&left));
    for other in [
        Link { name: "eth0.50".to_owned(), ..left.clone() },
        Link { name: "ul~209".to_owned(), ..left.clone() },
        Link { alias: Some(mark::PARENT.to_owned()), ..left.clone() },
        Link { alias: Some("mine".to_owned()), ..left.clone() },
        Link { vlan_id: Some(51), ..left.clone() },
        Link { vlan_protocol: Some(VlanProtocol::Dot1ad), ..left.clone() },
        Link { kind: Some("dummy".to_owned()), ..left.clone() },
        Link { kind: None, ..left.clone() },
    ] {
        assert!(!vlan.has_left(&other), "{other:?}");
    }
    let dummy = parent(ParentSpec::Dummy);
    assert!(dummy.has_left(&Link { alias: None, ..ParentSpec::Dummy.link(&dummy.born_as, None) }));
    assert!(!dummy.has_left(&left));
    let named = MadeParent { born_as: vlan.name.clone(), ..vlan };
    assert!(
        !named.has_left(&Link { name: named.name.to_string(), ..left }),
        "that would be the parent itself"
    );
}
