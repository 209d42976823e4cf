//! What an attach promises beyond the first example.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::bed::{Bed, outcome};
use crate::harness::container::Container;
use crate::harness::container::Engine::{self, Bare};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 15] = [
        ("pools_go_round", &[Need::Macvlan], pools_go_round),
        ("several_subnets", &[Need::Macvlan], several_subnets),
        ("no_addresses_at_all", &[Need::Macvlan], no_addresses_at_all),
        ("the_hosts_addresses_are_never_handed_out", &[Need::Macvlan], host_addresses),
        ("two_networks_of_a_parent_share_no_address", &[Need::Macvlan], one_segment),
        ("internal_and_no_gateway_mean_no_default_route", &[Need::Macvlan], no_default_route),
        ("the_hook_called_twice_attaches_once", &[Need::Macvlan], called_twice),
        ("a_hook_after_one_that_was_killed", &[Need::Macvlan], after_a_killed_one),
        ("one_id_in_two_runtimes", &[Need::Macvlan], one_id_in_two_runtimes),
        ("the_hosts_namespace_is_refused", &[Need::Macvlan], host_namespace),
        ("a_dead_process_is_noticed", &[Need::Macvlan], dead_process),
        ("inline_networks_need_permission", &[Need::Macvlan], inline_networks),
        ("annotations_of_the_state_serve_too", &[Need::Macvlan], state_annotations),
        ("a_failure_is_in_the_log", &[Need::Macvlan], log),
        ("nobody_listens", &[Need::Macvlan], nobody_listens),
    ];
    all.map(|(name, needs, run)| Test::new(format!("attach::{name}"), needs, run)).into()
}

/// An address just given up comes round last, and each is used once.
fn pools_go_round() {
    let bed = Bed::new();
    bed.create("--subnet 10.0.0.0/29 --gateway 10.0.0.1 -o parent=eth0 lan");
    let mut seen = Vec::new();
    for n in 0..7 {
        let container = bed.container(Bare, &format!("web{n}")).networks("lan").start().unwrap();
        seen.extend(container.addresses("eth0"));
        container.stop();
    }
    assert_eq!(seen, ["2", "3", "4", "5", "6", "2", "3"].map(|n| format!("10.0.0.{n}/29")));

    bed.create("--subnet 10.1.0.0/24 --ip-range 10.1.0.128/25 -o parent=eth0 ranged");
    let first = bed.container(Bare, "a").networks("ranged").start().unwrap();
    assert_eq!(first.addresses("eth0"), ["10.1.0.128/24"]);
    // Outside of the range, but asked for.
    let second = bed.container(Bare, "b").networks("ranged:ip=10.1.0.5/24").start().unwrap();
    assert_eq!(second.addresses("eth0"), ["10.1.0.5/24"]);
}

fn several_subnets() {
    let bed = Bed::new();
    bed.create(
        "--subnet 10.0.0.0/31 --subnet 10.1.0.0/30 --gateway 10.1.0.1 --subnet 10.2.0.0/24 --subnet 2001:db8:1::/127 \
         -o parent=eth0 lan",
    );
    let start = |id: &str, networks: &str| bed.container(Bare, id).networks(networks).start();
    let a = start("a", "lan").unwrap();
    assert_eq!(a.addresses("eth0"), ["10.0.0.0/31", "2001:db8:1::/127"]);
    let b = start("b", "lan").unwrap();
    assert_eq!(b.addresses("eth0"), ["10.0.0.1/31", "2001:db8:1::1/127"]);
    let error = start("c", "lan").map(drop).unwrap_err();
    assert!(error.contains("network lan has no free IPv6 address left"), "{error}");
    assert_eq!(bed.leases().len(), 4, "the IPv4 address that was free is not kept");
    a.stop();
    // The first subnet of IPv4 is not full, but others are asked for.
    let d = start("d", "lan:ip=10.2.0.9,ip=10.1.0.2").unwrap();
    assert_eq!(d.addresses("eth0"), ["10.2.0.9/24", "10.1.0.2/30", "2001:db8:1::/127"]);
    assert_eq!(
        d.routes("-4")[0],
        "default via 10.1.0.1 dev eth0",
        "the gateway of the subnet that was chosen"
    );
    b.stop();
    let e = start("e", "lan:ip=10.0.0.0,ip=2001:db8:1::1").unwrap();
    let f = start("f", "lan").map(drop).unwrap_err();
    assert!(f.contains("no free IPv6 address left"), "{f}");
    e.stop();
    d.stop();
    bed.assert_nothing_held();
}

fn no_addresses_at_all() {
    let bed = Bed::new();
    bed.create("-o parent=eth0 l2");
    let container = bed.container(Bare, "a").networks("l2:mac=02:00:00:00:00:42").start().unwrap();
    let link = container.link("eth0");
    assert_eq!(link["addr_info"], serde_json::json!([]));
    assert_eq!(link["address"], "02:00:00:00:00:42");
    assert!(link["flags"].as_array().unwrap().contains(&"UP".into()));
    container.stop();
    bed.assert_nothing_held();
}

/// The open question of one of the documents this project began with.
fn host_addresses() {
    let bed = Bed::new();
    bed.host.ip("link add eth1 type veth peer name lan1");
    bed.host.ip("addr add 10.0.0.1/30 dev lan1");
    bed.create("--subnet 10.0.0.0/30 -o parent=eth0 lan");
    let container = bed.container(Bare, "a").networks("lan").start().unwrap();
    assert_eq!(container.addresses("eth0"), ["10.0.0.2/30"]);
    let error = bed.container(Bare, "b").networks("lan").start().map(drop).unwrap_err();
    assert!(error.contains("network lan has no free IPv4 address left"), "{error}");
    let error = bed.container(Bare, "b").networks("lan:ip=10.0.0.1").start().map(drop).unwrap_err();
    assert!(error.contains("address 10.0.0.1 of network lan is held by this host itself"), "{error}");
}

/// podman hands one address to two containers on two networks of one parent.
fn one_segment() {
    let bed = Bed::new();
    bed.create("--subnet 10.0.0.0/24 -o parent=eth0 one");
    bed.create("--subnet 10.0.0.0/24 -o parent=eth0 two");
    let a = bed.container(Bare, "a").networks("one").start().unwrap();
    let b = bed.container(Bare, "b").networks("two").start().unwrap();
    assert_eq!(
        (a.addresses("eth0"), b.addresses("eth0")),
        (vec!["10.0.0.1/24".into()], vec!["10.0.0.2/24".into()])
    );
    let error = bed.container(Bare, "c").networks("two:ip=10.0.0.1").start().map(drop).unwrap_err();
    assert!(
        error.contains(&format!("address 10.0.0.1 of network two is held by container {}", a.id)),
        "{error}"
    );
    let both = bed.container(Bare, "d").networks("one;two").start().unwrap();
    assert_eq!(both.addresses("eth0"), ["10.0.0.3/24"]);
    assert_eq!(both.addresses("eth1"), ["10.0.0.4/24"]);
    let error =
        bed.container(Bare, "e").networks("one:ip=10.0.0.9;two:ip=10.0.0.9").start().map(drop).unwrap_err();
    assert!(error.contains("address 10.0.0.9 of network two is held by this very container"), "{error}");
    assert_eq!(bed.leases().len(), 4);
}

fn no_default_route() {
    let bed = Bed::with_pub_net("macvlan", "--internal");
    bed.create("--subnet 10.0.0.0/24 -o parent=eth0 nogw");
    for network in ["pub_net", "nogw"] {
        let container = bed.container(Bare, network).networks(network).start().unwrap();
        let routes = container.routes("-4");
        assert!(routes.len() == 1 && routes[0].contains("proto kernel"), "{routes:?}");
    }
    // Nothing is kept for a gateway that is not there.
    let asked = bed.container(Bare, "one").networks("nogw:ip=10.0.0.254").start().unwrap();
    assert_eq!(asked.addresses("eth0"), ["10.0.0.254/24"]);
}

/// Two hook directories, or hooks.d and CDI, may both call us.
fn called_twice() {
    let bed = Bed::with_pub_net("macvlan", "");
    let container = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let before = (container.ip("addr"), bed.leases(), bed.ps());
    let again = container.hook("createRuntime");
    assert_eq!((again.code, again.stderr.as_str()), (0, ""));
    assert_eq!((container.ip("addr"), bed.leases(), bed.ps()), before);
    assert_eq!(bed.log().lines().count(), 1, "{}", bed.log());
}

/// The container lives and its record is pending: it is told so, and nothing of another runtime.
fn after_a_killed_one() {
    let bed = Bed::with_pub_net("macvlan", "");
    let mut web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let path = bed.path("run/containers").join(format!("{}.json", web.id));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"state\": \"attached\"", "\"state\": \"pending\"")).unwrap();
    let again = web.hook("createRuntime");
    let said =
        format!("an earlier attach of container {} was killed, or has not ended yet\nhint: stop", web.id);
    assert!(again.code == 1 && again.stderr.contains(&said), "{again:?}");
    assert_eq!(web.addresses("eth0"), ["172.16.86.2/24"], "nothing is pulled away");
    web.kill();
    let next = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!((bed.records().len(), bed.leases().len()), (1, 1));
    next.stop();
    bed.assert_nothing_held();
}

fn one_id_in_two_runtimes() {
    let bed = Bed::with_pub_net("macvlan", "");
    let first = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let other = bed.container(Bare, "other").networks("pub_net").without_hooks().start().unwrap();
    let state = first.state(other.pid, "created");
    let refused = bed.outcome("hook createRuntime", &state);
    assert_eq!(refused.code, 1);
    let text = format!("container id {} is attached already, with pid {}", first.id, first.pid);
    assert!(refused.stderr.contains(&text), "{refused:?}");
    // runc calls poststop after a create that failed: the first container must not lose its network by that.
    let stopped = bed.outcome("hook poststop", &state);
    assert_eq!(stopped.code, 0);
    assert!(stopped.stderr.contains("was left alone"), "{stopped:?}");
    assert_eq!(first.addresses("eth0"), ["172.16.86.2/24"]);
    assert_eq!(bed.leases().len(), 1);
}

fn host_namespace() {
    let bed = Bed::with_pub_net("macvlan", "");
    let own = bed.container(Bare, "own").networks("pub_net").in_netns(bed.host.path());
    let error = own.start().map(drop).unwrap_err();
    assert!(error.contains("the container shares the host's network namespace\nhint: "), "{error}");
    bed.assert_nothing_held();
}

fn dead_process() {
    let bed = Bed::with_pub_net("macvlan", "");
    let mut container = bed.container(Bare, "web").networks("pub_net").without_hooks().start().unwrap();
    container.kill();
    let late = container.hook("createRuntime");
    assert_eq!(late.code, 1);
    assert!(late.stderr.contains(&format!("process {} of the container is gone", container.pid)), "{late:?}");
    bed.assert_nothing_held();
}

fn inline_networks() {
    let bed = Bed::new();
    let definition =
        r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "subnets": [{"subnet": "10.0.0.0/24"}]}"#;
    let own = || bed.container(Bare, "web").networks("own").annotation("io.underlay.network.own", definition);
    let error = own().start().map(drop).unwrap_err();
    assert!(error.contains("network own is defined by an annotation, which is not allowed here"), "{error}");
    bed.configure("underlay.json", r#"{"inline_networks": true, "allowed_parents": ["eth1*"]}"#);
    let error = own().start().map(drop).unwrap_err();
    assert!(
        error.contains("allowed_parents: network own names parent eth0, which is not for definitions"),
        "{error}"
    );
    bed.configure("underlay.json", r#"{"inline_networks": true}"#);
    assert_eq!(own().start().unwrap().addresses("eth0"), ["10.0.0.1/24"]);
    bed.create("-o parent=eth0 own");
    let error = own().start().map(drop).unwrap_err();
    assert!(error.contains("annotation io.underlay.network.own defines a network that exists"), "{error}");
    bed.configure("underlay.json", r#"{"inline_network": true}"#);
    let error = own().start().map(drop).unwrap_err();
    assert!(error.contains("underlay.json: inline_network: unknown field `inline_network`"), "{error}");
    bed.assert_nothing_held();
}

/// crun has called hooks with a bundle of "/", where no config.json is.
fn state_annotations() {
    let bed = Bed::with_pub_net("macvlan", "");
    let container = bed.container(Bare, "web").without_hooks().start().unwrap();
    for bundle in ["/", "/nowhere"] {
        let mut state: serde_json::Value =
            serde_json::from_str(&container.state(container.pid, "created")).unwrap();
        state["bundle"] = bundle.into();
        state["annotations"] = serde_json::json!({"io.underlay.networks": "pub_net"});
        let created = outcome(bed.underlay("hook createRuntime").env_clear(), state.to_string().as_bytes());
        assert_eq!((created.code, created.stderr.as_str()), (0, ""));
        assert_eq!(bed.leases().len(), 1);
    }
    assert_eq!(container.links(), ["eth0"]);
}

fn log() {
    let bed = Bed::with_pub_net("macvlan", "");
    let error = bed.container(Bare, "web").networks("pub").start().map(drop).unwrap_err();
    let expected = format!(
        "createRuntime failed: container web-{}: network pub does not exist (hint: there are: pub_net;",
        bed.host.name
    );
    assert!(bed.log().contains(&expected), "{}\n{error}", bed.log());
    let engine: Engine = Bare;
    bed.container(engine, "web").networks("pub_net").start().unwrap().stop();
    let lines: Vec<_> = bed.log().lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
    let what = format!("web-{} pub_net:eth0,172.16.86.2/24", bed.host.name);
    assert_eq!(lines[1..], [format!("attached {what}"), format!("detached {what}")]);
}

/// An engine may leave the hook no stdout and stderr, or one that nobody reads: it does and fails as ever, and what it
/// has to say goes into no file of its own.
fn nobody_listens() {
    let bed = Bed::with_pub_net("macvlan", "");
    let start = |id: &str, networks: &str| {
        bed.container(Bare, id).networks(networks).without_hooks().start().unwrap()
    };
    let closed = |web: &Container<'_>| {
        let hook = bed.underlay("hook createRuntime");
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 1>&- 2>&-", "sh"]).arg(hook.get_program()).args(hook.get_args());
        outcome(&mut command, web.state_at("createRuntime").as_bytes()).code
    };
    let web = start("web", "pub_net");
    assert_eq!((closed(&web), web.addresses("eth0").len()), (0, 1));
    assert_eq!(bed.run("check"), "");
    let lost = start("lost", "nowhere");
    assert_eq!(closed(&lost), 1);
    // A pipe whose other end is closed.
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let mut hook = bed.underlay("hook createRuntime");
    let mut hook = hook.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    hook.stdin.take().unwrap().write_all(lost.state_at("createRuntime").as_bytes()).unwrap();
    assert_eq!(hook.wait().unwrap().code(), Some(1), "SIGPIPE has not ended it");
}
