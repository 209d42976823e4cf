//! What the operator permits: refused containers learn the rule that refuses them, and nothing else.

use std::fs;

use serde_json::{Value, json};

use crate::harness::bed::Bed;
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 7] = [
        ("networks_that_may_be_asked_for", &[Need::Macvlan], allowed_networks),
        ("required_annotations", &[Need::Macvlan], required_annotations),
        ("definitions_in_annotations", &[Need::Macvlan], inline),
        ("sizes", &[Need::Macvlan], sizes),
        ("nothing_is_looked_up_for_the_refused", &[Need::Macvlan], unseen),
        ("settings_that_are_wrong", &[Need::Macvlan], wrong_settings),
        ("who_may_start", &[Need::Macvlan], who_may_start),
    ];
    all.map(|(name, needs, run)| Test::new(format!("policy::{name}"), needs, run)).into()
}

/// What a container that asks for `networks` is told, with the bed's own folder and name left out.
#[track_caller]
fn refused(bed: &Bed, networks: &str, more: &[(&str, &str)]) -> String {
    let container = bed.container(Bare, "web").networks(networks);
    let container = more.iter().fold(container, |container, (key, value)| container.annotation(key, value));
    let said = container.start().map(drop).unwrap_err();
    bed.assert_nothing_held();
    let said = said.replace(&bed.path("").display().to_string(), "").replace(&bed.host.name, "");
    said.strip_prefix("underlay: container web-: ").unwrap().trim_end().to_owned()
}

fn who_may_start() {
    let bed = Bed::with_pub_net("macvlan", "--require-annotation io.example.team=web-*");
    bed.create("-o parent=eth0 san");
    bed.configure("underlay.json", r#"{"allowed_networks": ["pub_*"]}"#);
    let start = |networks: &str, team: &str| {
        bed.container(Bare, "web").networks(networks).annotation("io.example.team", team).start()
    };
    for (networks, team, rule) in [
        ("san", "web-1", "underlay.json: allowed_networks: network san is not for containers here"),
        ("pub_net", "db", "pub_net.json: required_annotations: network pub_net is not for this container"),
    ] {
        start(networks, team).map(drop).unwrap_err();
        assert!(bed.log().lines().last().unwrap().contains(rule), "{}", bed.log());
        bed.assert_nothing_held();
    }
    let container = start("pub_net", "web-1").unwrap();
    assert_eq!(container.addresses("eth0"), ["172.16.86.2/24"]);
    container.stop();
    bed.assert_nothing_held();
}

fn allowed_networks() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.create("-o parent=eth0 san");
    bed.create("-o parent=eth0 web-1");
    bed.configure("underlay.json", r#"{"allowed_networks": ["pub_net", "web-*", "wab-*"]}"#);
    bed.configure("networks/broken.json", "{");
    // The same whether it is there or not.
    for name in ["san", "nothing", "broken", "pub_nets", "WEB-1"] {
        assert_eq!(
            refused(&bed, &format!("pub_net;{name}"), &[]),
            format!(
                "etc/underlay.json: allowed_networks: network {name} is not for containers here\n\
                 hint: ask for another network, or have a pattern added that matches its name"
            )
        );
    }
    // Of a network that may be asked for and is not there, only the others that may are told.
    assert_eq!(
        refused(&bed, "wab-1", &[]),
        "network wab-1 does not exist\n\
         hint: there are: pub_net, web-1; `underlay network create` makes a new one"
    );
    bed.container(Bare, "web").networks("pub_net;web-1").start().unwrap();
    // The command is the operator's own.
    assert_eq!(bed.run("network inspect san").lines().next(), Some("["));
    bed.configure("underlay.json", r#"{"allowed_networks": []}"#);
    assert!(refused(&bed, "pub_net", &[]).contains("allowed_networks: network pub_net is not for"));
}

fn required_annotations() {
    let bed = Bed::with_pub_net(
        "macvlan",
        "--require-annotation io.example.team=web-[ab]* --require-annotation=io.example.tier=?*",
    );
    let required = json!({"io.example.team": "web-[ab]*", "io.example.tier": "?*"});
    let inspected: Value = serde_json::from_str(&bed.run("network inspect pub_net")).unwrap();
    assert_eq!(inspected[0]["required_annotations"], required);
    let file: Value =
        serde_json::from_slice(&fs::read(bed.path("etc/networks/pub_net.json")).unwrap()).unwrap();
    assert_eq!(file["required_annotations"], required);

    let (team, tier) = (("io.example.team", "web-a1"), ("io.example.tier", "1"));
    for more in [
        &[][..],
        &[team],
        &[tier],
        &[("io.example.team", "web-c"), tier],
        &[("io.example.team", "xweb-a"), tier],
        &[team, ("io.example.tier", "")],
        &[team, ("IO.example.tier", "1")],
    ] {
        // Neither what is required nor what is there is told.
        assert_eq!(
            refused(&bed, "pub_net", more),
            "etc/networks/pub_net.json: required_annotations: network pub_net is not for this container\n\
             hint: its definition says which annotations a container must have"
        );
    }
    // Nor is it offered.
    assert_eq!(
        refused(&bed, "pub_nett", &[tier]),
        "network pub_nett does not exist\nhint: there is none; `underlay network create` makes one"
    );
    assert!(refused(&bed, "pub_nett", &[team, tier]).contains("there are: pub_net;"));
    let container = bed.container(Bare, "web").networks("pub_net");
    let container = container.annotation(team.0, team.1).annotation(tier.0, tier.1).start().unwrap();
    // Who is attached keeps what it has, and leaves as always.
    bed.configure(
        "networks/pub_net.json",
        r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "required_annotations": {"other": "x"}}"#,
    );
    assert_eq!(container.hook("createRuntime").code, 1);
    assert_eq!(container.addresses("eth0"), ["172.16.86.2/24"]);
    container.stop();
    bed.assert_nothing_held();
}

fn inline() {
    let bed = Bed::new();
    let definition = |parent: &str, required: Value| {
        json!({"version": 1, "driver": "macvlan", "parent": parent, "required_annotations": required})
            .to_string()
    };
    let own = |definition: &str| refused(&bed, "own", &[("io.underlay.network.own", definition)]);
    let plain = definition("eth0", json!({}));
    assert_eq!(
        own(&plain),
        "etc/underlay.json: inline_networks: network own is defined by an annotation, which is not allowed here\n\
         hint: create it with `underlay network create`, or set \"inline_networks\": true"
    );
    // One that is not asked for is refused too: it was meant to have an effect.
    let unused = refused(&bed, "pub_net", &[("io.underlay.network.own", &plain)]);
    assert!(unused.contains("inline_networks: network own is defined by an annotation"), "{unused}");
    bed.configure("underlay.json", r#"{"inline_networks": true, "allowed_parents": ["br*", "eth0.*"]}"#);
    assert_eq!(
        own(&plain),
        "etc/underlay.json: allowed_parents: network own names parent eth0, which is not for definitions in \
         annotations\nhint: use another parent, or have a pattern added that matches its name"
    );
    bed.host.ip("link add br7 type bridge");
    let start = |definition: &str| {
        bed.container(Bare, "web").networks("own").annotation("io.underlay.network.own", definition).start()
    };
    assert_eq!(start(&definition("br7", json!({}))).unwrap().links(), ["eth0"]);
    // Its own conditions bind it too.
    let bound = own(&definition("br7", json!({"io.example.team": "x"})));
    assert!(
        bound.starts_with("annotation io.underlay.network.own: required_annotations: network own is"),
        "{bound}"
    );
    // `allowed_parents` is for definitions in annotations, not for the operator's.
    bed.create("-o parent=eth0 --require-annotation io.example.team=x own");
    bed.container(Bare, "web").networks("own").annotation("io.example.team", "x").start().unwrap();
    // Nobody loosens a network by defining it anew.
    assert!(own(&definition("br7", json!({}))).contains("own defines a network that exists"));
    bed.configure("underlay.json", r#"{"inline_networks": true, "allowed_networks": ["lan"]}"#);
    assert!(own(&plain).contains("allowed_networks: network own is not for containers here"));
}

fn sizes() {
    let bed = Bed::with_pub_net("macvlan", "");
    // Not read: it would be refused for other reasons.
    let long = "[".repeat(16 * 1024);
    assert_eq!(
        refused(&bed, &long, &[]),
        "etc/underlay.json: max_annotation_bytes: annotation io.underlay.networks has 16404 bytes, and 16384 are \
         allowed\nhint: shorten it, or have the limit raised"
    );
    let definition = refused(&bed, "own", &[("io.underlay.network.own", &long)]);
    assert!(definition.contains("annotation io.underlay.network.own has 16407 bytes"), "{definition}");
    let key = format!("io.underlay.{}", "x".repeat(1 << 16));
    let short = refused(&bed, "own", &[(&key, "")]);
    assert!(short.len() < 400 && short.contains("has 65548 bytes"), "{short}");
    let many = "etc/underlay.json: max_attachments: the annotations list 17 networks, and 16 are allowed\n\
                hint: ask for fewer, or have the limit raised";
    assert_eq!(refused(&bed, &"pub_net;".repeat(17)[..135], &[]), many);
    assert_eq!(refused(&bed, &format!("[{}]", ["?"; 17].map(|_| "0").join(",")), &[]), many);
    let keys: Vec<_> = (0..17).map(|n| format!("io.underlay.network.n{n}")).collect();
    let definitions: Vec<_> = keys.iter().map(|key| (key.as_str(), "?")).collect();
    assert_eq!(refused(&bed, "n0", &definitions), many);

    let container = bed.container(Bare, "web").networks(&"pub_net;".repeat(16)[..127]).start().unwrap();
    assert_eq!(container.links().len(), 16);
    drop(container);
    bed.gc();
    bed.configure("underlay.json", r#"{"max_attachments": 1, "max_annotation_bytes": 36}"#);
    assert!(refused(&bed, "pub_net;pub_net", &[]).contains("list 2 networks, and 1 are allowed"));
    // Annotations of others are not counted.
    let container = bed.container(Bare, "web").networks("pub_net").annotation("com.example", &long);
    container.start().unwrap();
    let name = refused(&bed, "pub_net:ifname=abc", &[]);
    assert!(name.contains("has 38 bytes, and 36 are allowed"), "{name}");
}

/// Neither the host's links, nor the container's process and namespace, nor the ledger.
fn unseen() {
    let bed = Bed::new();
    bed.configure(
        "networks/gone.json",
        r#"{"version": 1, "driver": "macvlan", "parent": "gone0", "required_annotations": {"team": "x"}}"#,
    );
    bed.configure("underlay.json", r#"{"allowed_networks": ["gone"]}"#);
    fs::create_dir_all(bed.path("bundle")).unwrap();
    for (networks, rule) in [("gone", "required_annotations: "), ("other", "allowed_networks: ")] {
        let config = json!({"annotations": {"io.underlay.networks": networks}});
        fs::write(bed.path("bundle/config.json"), config.to_string()).unwrap();
        let state = json!({"ociVersion": "1.0", "id": "web", "status": "creating", "pid": 0, "bundle": bed.path("bundle")});
        let outcome = bed.outcome("hook createRuntime", state.to_string());
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains(rule), "{outcome:?}");
    }
    let held: Vec<_> =
        fs::read_dir(bed.path("run")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(held, ["events"]);
}

fn wrong_settings() {
    let bed = Bed::with_pub_net("macvlan", "");
    for (text, message) in [
        (r#"{"allowed_network": []}"#, "allowed_network: unknown field `allowed_network`"),
        (r#"{"allowed_parents": ["br["]}"#, "allowed_parents[0]: pattern \"br[\" is not usable: "),
        (
            r#"{"allowed_networks": ["a", ""]}"#,
            "allowed_networks[1]: pattern \"\" is not usable: it is empty",
        ),
        (r#"{"allowed_networks": "a"}"#, "allowed_networks: invalid type: string \"a\", expected a sequence"),
        (r#"{"max_attachments": -1}"#, "max_attachments: invalid value: integer `-1`"),
    ] {
        bed.configure("underlay.json", text);
        let said = refused(&bed, "pub_net", &[]);
        assert!(said.starts_with(&format!("etc/underlay.json: {message}")), "{text}: {said}");
    }
    bed.configure("underlay.json", "{}");
    bed.configure(
        "networks/pub_net.json",
        r#"{"version": 1, "driver": "macvlan", "required_annotations": {"team": "a**"}}"#,
    );
    let said = refused(&bed, "pub_net", &[]);
    assert!(
        said.starts_with("etc/networks/pub_net.json: required_annotations.team: pattern \"a**\" is"),
        "{said}"
    );
    let outcome = bed.outcome("network create --require-annotation team=[ n", "");
    assert!(outcome.stderr.contains("required annotation team: pattern \"[\" is not usable"), "{outcome:?}");
}
