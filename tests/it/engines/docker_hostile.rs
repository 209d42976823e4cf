//! What a container, a user of Docker, or a loss can do to the plugin of Docker: calls in odd orders, marks that are gone, names that are
//! taken, and more connections than there are descriptors.

use std::cell::RefCell;
use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::engines::docker_plugin::{GATEWAY, SUBNET, age, parent};
use crate::harness::agent::Agent;
use crate::harness::bed::{Netns, Watched};
use crate::harness::container::Engine::Bare;
use crate::harness::container::wait;
use crate::harness::dhcp::beside;
use crate::harness::fake_docker::{FakeDocker, Plugin, answer, call, connect, send};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 16] = [
        ("a_mark_that_is_gone", &[Need::Macvlan], mark_is_gone),
        ("what_other_networks_set_aside", &[Need::Macvlan], set_aside),
        ("what_other_networks_reserve", &[Need::Macvlan], reserved),
        ("a_network_of_underlay_and_more", &[Need::Macvlan], and_more),
        ("records_of_others", &[Need::Macvlan], of_others),
        ("a_name_that_is_taken", &[Need::Macvlan], name_is_taken),
        ("mac_addresses", &[Need::Macvlan], macs),
        ("unprintable", &[Need::Macvlan], unprintable),
        ("a_damaged_definition", &[Need::Macvlan], damaged),
        ("the_ledger_is_lost", &[Need::Macvlan], lost),
        ("calls_at_once", &[Need::Macvlan], at_once),
        ("a_call_that_is_cut", &[Need::Macvlan], cut),
        ("asked_to_end", &[Need::Macvlan], asked_to_end),
        ("beside_links_of_others", &[Need::Macvlan], beside_others),
        ("an_end_that_was_not_heard_of", &[Need::Macvlan], unheard),
        ("many_connections", &[Need::Macvlan], connections),
    ];
    all.map(|(name, needs, run)| Test::new(format!("docker_hostile::{name}"), needs, run)).into()
}

/// The container has the link still, whatever it has done to it.
fn mark_is_gone() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    for was_seen in [false, true] {
        let first = docker.run(&network, "").unwrap();
        if was_seen {
            bed.gc();
        }
        for line in ["alias mine", "address 02:00:00:00:00:99", "down"] {
            first.netns.ip(&format!("link set eth0 {line}"));
        }
        first.netns.ip("link set eth0 name other");
        age(&bed);
        bed.gc();
        assert_eq!((bed.records().len(), bed.leases().len()), (1, 1));
        let address = first.address.split('/').next().unwrap();
        let error = docker.run(&network, address).map(drop).unwrap_err();
        assert!(error.contains(&first.id), "{error}");
        first.netns.ip("link set other name eth0");
        docker.stop(&network, &first);
        assert_eq!(bed.records(), Vec::<String>::new());
    }
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// Networks on one subnet may differ in it: each keeps to what the others name as well.
fn set_aside() {
    let bed = Watched::new();
    let nas = beside(&bed, "nas");
    nas.ip("addr add 172.16.86.3/24 dev lan0");
    let docker = FakeDocker::start(&bed);
    let one = docker.create(SUBNET, "", parent(), json!({})).unwrap();
    // Docker asks for an aux address before the network is created, as for that of a container.
    let asked = docker.request(&one, "172.16.86.3").unwrap();
    assert_eq!(asked, "172.16.86.3/24");
    let options = json!({"com.docker.network.generic": parent()});
    let data = json!([{"AddressSpace": "underlay", "Pool": SUBNET, "Gateway": "172.16.86.2/24",
        "AuxAddresses": {"nas": "172.16.86.3/24", "router": "172.16.86.4/24"}}]);
    let other = docker.id();
    let created = json!({"NetworkID": other, "Options": options, "IPv4Data": data});
    docker.plugin.call("NetworkDriver.CreateNetwork", created).unwrap();
    let other = one.beside(other);
    // .1 is the LAN's, and answers; .2 to .4 are named.
    let (first, second) = (docker.run(&one, "").unwrap(), docker.run(&other, "").unwrap());
    assert_eq!([&*first.address, &*second.address], ["172.16.86.5/24", "172.16.86.6/24"]);
    // What this network does not name, a container may be.
    let router = docker.run(&one, "172.16.86.4").unwrap();
    let error = docker.run(&other, "172.16.86.4").map(drop).unwrap_err();
    assert!(error.contains("is an aux address of subnet"), "{error}");
    let error = docker.run(&one, "172.16.86.3").map(drop).unwrap_err();
    assert!(error.contains("in use on the LAN"), "{error}");
    // After a start of Docker: it has no network yet.
    docker.plugin.kill();
    for address in ["172.16.86.2", "172.16.86.3", "172.16.86.4"] {
        assert!(docker.request(&one, address).is_ok(), "{address}");
    }
    docker.stop(&one, &first);
    docker.stop(&other, &second);
    docker.stop(&one, &router);
    docker.plugin.call("NetworkDriver.DeleteNetwork", json!({"NetworkID": other.id})).unwrap();
    docker.remove(&one);
    age(&bed);
    bed.gc();
    bed.assert_nothing_held();
}

/// No network on the same parent gives away what one reserves, and each leaves out what others name.
fn reserved() {
    let bed = Watched::new();
    bed.create(&format!(
        "--subnet={SUBNET} --gateway={GATEWAY} --aux-address=nas=172.16.86.3 --reserve=db=172.16.86.2 -o parent=eth0 pub_net"
    ));
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, "", parent(), json!({})).unwrap();
    let first = docker.run(&network, "").unwrap();
    assert_eq!(first.address, "172.16.86.4/24", "not the gateway, nor what is reserved, nor the aux address");
    let error = docker.run(&network, "172.16.86.2").map(drop).unwrap_err();
    assert!(error.contains("reserved for another identity"), "{error}");
    let db = docker.run_with(&network, "172.16.86.2", json!({"identity": "db"})).unwrap();
    docker.stop(&network, &db);
    // The same between networks of underlay, one of them written by hand.
    let text = json!({"version": 1, "driver": "macvlan", "parent": "eth0", "subnets": [{"subnet": SUBNET}]});
    fs::create_dir_all(bed.path("etc/networks")).unwrap();
    fs::write(bed.path("etc/networks/by_hand.json"), text.to_string()).unwrap();
    let error =
        bed.container(Bare, "thief").networks("by_hand:ip=172.16.86.2").start().map(drop).unwrap_err();
    assert!(error.contains("reserved for another identity"), "{error}");
    let hook = bed.container(Bare, "hook").networks("by_hand").start().unwrap();
    assert_eq!(hook.addresses("eth0"), ["172.16.86.5/24"]);
    hook.stop();
    docker.stop(&network, &first);
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// What Docker says beside `-o network=` must be what that network says.
fn and_more() {
    let bed = Watched::new();
    bed.create(&format!(
        "--subnet={SUBNET} --gateway={GATEWAY} --ip-range=172.16.86.64/26 -o parent=eth0 pub_net"
    ));
    let docker = FakeDocker::start(&bed);
    let named = || json!({"network": "pub_net"});
    let create = |internal: bool, gateway: &str, range: &str| {
        let pool =
            json!({"AddressSpace": "underlay", "Pool": SUBNET, "SubPool": range, "Options": {}, "V6": false});
        docker.plugin.call("IpamDriver.RequestPool", pool).unwrap();
        let data = json!([{"AddressSpace": "underlay", "Pool": SUBNET, "Gateway": gateway}]);
        let options = json!({"com.docker.network.generic": named(), "com.docker.network.internal": internal});
        let id = docker.id();
        let asked = json!({"NetworkID": id, "Options": options, "IPv4Data": data});
        docker.plugin.call("NetworkDriver.CreateNetwork", asked).map(|_| id)
    };
    for (internal, gateway, range, said) in [
        (true, "", "", "--internal is given, and network pub_net is not internal"),
        (false, "172.16.86.9/24", "", "gateway 172.16.86.9 is given, and network pub_net has 172.16.86.1"),
        (
            false,
            "",
            "172.16.86.200/29",
            "--ip-range 172.16.86.200-172.16.86.207 is not in the addresses of network pub_net",
        ),
    ] {
        let error = create(internal, gateway, range).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    let id = create(false, "172.16.86.1/24", "172.16.86.96/27").unwrap();
    let refused = bed.outcome("network rm pub_net", "");
    assert!(refused.stderr.contains(&format!("network pub_net is network {id} of Docker")), "{refused:?}");
    docker.plugin.call("NetworkDriver.DeleteNetwork", json!({"NetworkID": id})).unwrap();
    assert_eq!(bed.records(), Vec::<String>::new());
}

/// An endpoint is one of Docker's, whatever its id is.
fn of_others() {
    let bed = Watched::new();
    bed.create(&format!("--subnet={SUBNET} --gateway={GATEWAY} -o parent=eth0 pub_net"));
    let docker = FakeDocker::start(&bed);
    let hook = bed.container(Bare, "hook").networks("pub_net").start().unwrap();
    let of = json!({"EndpointID": hook.id, "NetworkID": docker.id(), "SandboxKey": "/run/netns/none"});
    let error = docker.plugin.call("NetworkDriver.Join", of.clone()).unwrap_err();
    assert!(error.contains("is not known"), "{error}");
    docker.plugin.call("NetworkDriver.DeleteEndpoint", of).unwrap();
    assert!(hook.reaches("172.16.86.1"));
    hook.stop();
    bed.assert_nothing_held();
}

/// A link of something else has the name that an endpoint's gets.
fn name_is_taken() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let (id, address) = (docker.id(), docker.request(&network, "").unwrap());
    docker.create_endpoint(&network, &id, &address, json!({})).unwrap();
    let name = format!("ul{}", &id[..13]);
    bed.host.ip(&format!("link add {name} type veth peer name other0"));
    let netns = Netns::new("box");
    for _ in 0..2 {
        let error = docker.join(&network, &id, &netns).unwrap_err();
        assert!(
            error.contains(&format!("link {name} exists on this host, and is not underlay's")),
            "{error}"
        );
    }
    docker.plugin.call("NetworkDriver.DeleteEndpoint", json!({"EndpointID": id})).unwrap();
    docker.release(&network, &address);
    assert!(bed.host.link(&name).is_some(), "it is not ours");
    bed.host.ip(&format!("link del {name}"));
    assert_eq!(bed.host.ip("-o link").lines().count(), 2, "lo and eth0");
    docker.remove(&network);
    bed.assert_nothing_held();
}

fn macs() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let of_parent = bed.host.link("eth0").unwrap()["address"].as_str().unwrap().to_owned();
    for (mac, said) in [
        ("01:00:00:00:00:01", "is none of a link"),
        ("ff:ff:ff:ff:ff:ff", "is none of a link"),
        ("00:00:00:00:00:00", "is none of a link"),
        (&of_parent, "held by parent eth0"),
    ] {
        let interface = json!({"Address": "172.16.86.9/24", "MacAddress": mac});
        let asked = json!({"NetworkID": network.id, "EndpointID": docker.id(), "Interface": interface, "Options": {}});
        let error = docker.plugin.call("NetworkDriver.CreateEndpoint", asked).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// What users name gets to a terminal, and to the journal.
fn unprintable() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    for options in
        [json!({"\u{1b}[2J": "x"}), json!({"network": "a", "\u{1b}[2J": "x"}), json!({"parent": "\u{1b}c"})]
    {
        let error = docker.create(SUBNET, "", options, json!({})).map(drop).unwrap_err();
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }
    let log = fs::read_to_string(bed.path("plugin.log")).unwrap();
    assert!(!log.contains('\u{1b}'), "{log:?}");
}

/// It is removed and written anew, whatever is in its file.
fn damaged() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    for text in ["{", "", r#"{"version": 2}"#] {
        let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
        let folder = bed.path("data/docker/networks");
        let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = &files[..] else { panic!("{files:?}") };
        fs::write(file, text).unwrap();
        assert!(docker.run(&network, "").is_err());
        docker.remove(&network);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
    bed.assert_nothing_held();
}

/// Docker moves the link back, and leaves it on the host.
fn lost() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    for was_seen in [false, true] {
        let first = docker.run(&network, "").unwrap();
        if was_seen {
            bed.gc();
        }
        fs::remove_dir_all(bed.path("run")).unwrap();
        docker.stop(&network, &first);
        assert_eq!(bed.host.ip("-o link").lines().count(), 2, "lo and eth0");
        assert_eq!(bed.records(), Vec::<String>::new());
    }
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// Docker repeats a call whose connection was cut while it is being carried out. And it gives an address back when another
/// container may have it.
fn at_once() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let socket = &docker.plugin.socket;
    let many = |method: &str, body: &Value| {
        let answers: Vec<_> = thread::scope(|scope| {
            let ask = || call(&mut connect(socket).unwrap(), method, body).unwrap().to_string();
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(answers.iter().all(|answer| *answer == answers[0] && !answer.contains("Err")), "{answers:?}");
    };
    for _ in 0..5 {
        let (id, address) = (docker.id(), docker.request(&network, "").unwrap());
        let interface = json!({"Address": address, "MacAddress": ""});
        let of = json!({"NetworkID": network.id, "EndpointID": id, "Interface": interface, "Options": {},
            "SandboxKey": "/run/netns/none"});
        many("NetworkDriver.CreateEndpoint", &of);
        many("NetworkDriver.Join", &of);
        assert_eq!(bed.host.ip("-o link").lines().count(), 3);
        many("NetworkDriver.DeleteEndpoint", &of);
        // Another one has it before Docker gives it back.
        let own = address.split('/').next().unwrap();
        assert_eq!(docker.request(&network, own).unwrap(), address);
        docker.release(&network, own);
        assert_eq!(bed.leases().len(), 1);
        docker.release(&network, own);
        assert_eq!(bed.leases(), Vec::<String>::new());
        assert_eq!(bed.host.ip("-o link").lines().count(), 2);
    }
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// More than it may have descriptors, without a request; and calls that come all the same.
fn connections() {
    let bed = Watched::new();
    let docker = FakeDocker::with(Plugin::limited(&bed, 100));
    let open: Vec<_> = (0..300).filter_map(|_| connect(&docker.plugin.socket).ok()).collect();
    assert!(open.len() > 100);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let first = docker.run(&network, "").unwrap();
    drop(open);
    docker.stop(&network, &first);
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// SIGTERM, as by an upgrade: what has begun is answered.
fn asked_to_end() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let options = json!({"parent": "eth0", "conflict_detection": "500"});
    let network = docker.create(SUBNET, GATEWAY, options, json!({})).unwrap();
    let asked = json!({"PoolID": network.pool, "Address": "", "Options": {}});
    let mut stream = docker.plugin.connect().unwrap();
    send(&mut stream, "IpamDriver.RequestAddress", &asked).unwrap();
    wait(|| bed.records().len() == 1);
    docker.plugin.terminate();
    let (_, text) = answer(&mut stream).unwrap();
    assert!(text.contains("172.16.86.2/24"), "{text}");
    wait(|| docker.plugin.has_ended());
    docker.plugin.restart();
    docker.release(&network, "172.16.86.2");
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// Another macvlan link on the parent has an address, as by Docker's own driver: the parent itself does not hear of it.
fn beside_others() {
    let bed = Watched::new();
    let other = Netns::new("other");
    bed.host.ip("link add link eth0 name other0 type macvlan mode bridge");
    bed.host.ip(&format!("link set other0 netns {}", other.name));
    other.ip_batch(&["link set lo up", "link set other0 up", "addr add 172.16.86.2/24 dev other0"]);
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let first = docker.run(&network, "").unwrap();
    assert_eq!(first.address, "172.16.86.3/24");
    let error = docker.run(&network, "172.16.86.2").map(drop).unwrap_err();
    assert!(error.contains("in use on the LAN"), "{error}");
    docker.stop(&network, &first);
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// Docker says once that an endpoint is over. A plugin that was killed meanwhile does not hear of it.
fn unheard() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    // The agent, or gc, has seen it in the container.
    let first = docker.run(&network, "172.16.86.9").unwrap();
    bed.gc();
    docker.move_back(&first);
    let again = docker.run(&network, "172.16.86.9").unwrap();
    assert_eq!(bed.records().len(), 1);
    // Nothing has, and its namespace is gone: the agent releases it after a minute.
    docker.move_back(&again);
    drop(again.netns);
    age(&bed);
    let agent = Agent::start(&bed);
    wait(|| bed.records().is_empty());
    drop(agent);
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// The plugin is killed in a call, which Docker repeats without its body: the command fails, and works when it is tried again.
fn cut() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let persist = |command: &dyn Fn() -> Result<(), String>| {
        if let Err(error) = command() {
            assert!(error.contains("does not say for what"), "{error}");
            // What was begun holds its address for a minute.
            age(&bed);
            bed.gc();
            command().unwrap();
        }
    };
    for method in [
        "IpamDriver.RequestPool",
        "NetworkDriver.CreateNetwork",
        "IpamDriver.RequestAddress",
        "NetworkDriver.CreateEndpoint",
        "NetworkDriver.Join",
        "NetworkDriver.DeleteEndpoint",
        "IpamDriver.ReleaseAddress",
    ] {
        for micros in [0, 2_000, 8_000, 32_000, 128_000] {
            docker.plugin.cut.set(Some((method, Duration::from_micros(micros))));
            let network = RefCell::new(None);
            persist(&|| {
                docker
                    .create(SUBNET, GATEWAY, parent(), json!({}))
                    .map(|made| drop(network.replace(Some(made))))
            });
            let network = network.into_inner().unwrap();
            for address in ["", "172.16.86.99"] {
                let started = RefCell::new(None);
                persist(&|| docker.run(&network, address).map(|made| drop(started.replace(Some(made)))));
                let first = started.into_inner().unwrap();
                // As the agent does.
                bed.gc();
                assert_eq!(bed.run("check"), "", "{method} {micros}");
                docker.stop_anyway(&network, &first);
                // The same address again, at once.
                let first = docker.run(&network, first.address.split('/').next().unwrap()).unwrap();
                docker.stop_anyway(&network, &first);
            }
            docker.remove(&network);
            age(&bed);
            bed.gc();
            bed.assert_nothing_held();
            assert_eq!(bed.host.ip("-o link").lines().count(), 2, "{method} {micros}");
        }
    }
}
