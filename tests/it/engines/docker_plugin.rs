//! The network and IPAM plugin of Docker, called in Docker's order by a client of the tests.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::bed::{Bed, Netns, Watched, finish};
use crate::harness::container::Engine::Bare;
use crate::harness::container::wait;
use crate::harness::fake_docker::{FakeDocker, Plugin, answer, call, connect};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 16] = [
        ("the_life_of_a_container", &[Need::Macvlan], life),
        ("each_call_twice", &[Need::Macvlan], twice),
        ("addresses_that_are_taken", &[Need::Macvlan], taken),
        ("docker_starts_again", &[Need::Macvlan], replay),
        ("networks_on_one_subnet", &[Need::Macvlan], one_subnet),
        ("what_is_refused", &[Need::Macvlan], refused),
        ("a_network_of_underlay", &[Need::Macvlan], of_underlay),
        ("a_hundred_containers", &[Need::Macvlan], hundred),
        ("the_agent_looks_at_links", &[Need::Macvlan], agent),
        ("what_docker_has_forgotten", &[Need::Macvlan], forgotten),
        ("a_lost_ledger", &[Need::Macvlan], lost),
        ("killed_in_each_call", &[Need::Macvlan], killed),
        ("a_mark_that_the_container_has_changed", &[Need::Macvlan], changed_mark),
        ("many_at_once", &[Need::Macvlan], many),
        ("a_call_that_takes_too_long", &[Need::Macvlan], too_long),
        ("http", &[Need::Macvlan], http),
    ];
    all.map(|(name, needs, run)| Test::new(format!("docker_plugin::{name}"), needs, run)).into()
}

pub const SUBNET: &str = "172.16.86.0/24";
pub const GATEWAY: &str = "172.16.86.1";

pub fn parent() -> Value {
    json!({"parent": "eth0"})
}

fn reaches(netns: &Netns, address: &str) -> bool {
    netns.try_run("busybox", &format!("ping -c 1 -W 5 {address}")).is_ok()
}

fn life() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let first = docker.run(&network, "").unwrap();
    let second = docker.run(&network, "172.16.86.9").unwrap();
    assert_eq!((&*first.address, &*second.address), ("172.16.86.2/24", "172.16.86.9/24"));
    assert!(bed.answers("172.16.86.2") && bed.answers("172.16.86.9"));
    assert!(reaches(&first.netns, "172.16.86.1") && reaches(&first.netns, "172.16.86.9"));
    assert!(first.netns.ip("route").contains("default via 172.16.86.1 dev eth0"));
    let shown = bed.ps();
    assert_eq!((shown.len(), &shown[0]["alive"], &shown[0]["state"]), (2, &json!(true), &json!("attached")));
    assert_eq!(bed.run("ps").matches("  docker   attached").count(), 2, "{}", bed.run("ps"));
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    docker.stop(&network, &first);
    assert_eq!(bed.leases().len(), 1);
    let third = docker.run(&network, "").unwrap();
    assert_eq!(third.address, "172.16.86.3/24", "next-fit");
    docker.stop(&network, &second);
    docker.stop(&network, &third);
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// Docker repeats a call whose connection was cut.
fn twice() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let again = |method: &str, body: Value| {
        let first = docker.plugin.call(method, body.clone()).unwrap();
        assert_eq!(docker.plugin.call(method, body).unwrap(), first, "{method}");
        first
    };
    let options = json!({"com.docker.network.generic": parent()});
    let data = json!([{"AddressSpace": "underlay", "Pool": SUBNET, "Gateway": "172.16.86.1/24"}]);
    again(
        "NetworkDriver.CreateNetwork",
        json!({"NetworkID": network.id, "Options": options, "IPv4Data": data}),
    );
    let pool =
        json!({"AddressSpace": "underlay", "Pool": SUBNET, "SubPool": "", "Options": null, "V6": false});
    let pool = again("IpamDriver.RequestPool", pool)["PoolID"].clone();
    let address = json!({"PoolID": pool, "Address": "172.16.86.7", "Options": null});
    again("IpamDriver.RequestAddress", address.clone());
    let (id, netns) = (docker.id(), Netns::new("box"));
    let interface = json!({"Address": "172.16.86.7/24", "AddressIPv6": "", "MacAddress": ""});
    let endpoint = json!({"NetworkID": network.id, "EndpointID": id, "Interface": interface, "Options": {}});
    let mac = again("NetworkDriver.CreateEndpoint", endpoint)["Interface"]["MacAddress"].clone();
    assert_eq!(bed.macs(), [mac.as_str().unwrap()]);
    // The address of an endpoint: Docker asks again for it when it starts.
    again("IpamDriver.RequestAddress", address.clone());
    again(
        "NetworkDriver.Join",
        json!({"EndpointID": id, "NetworkID": network.id, "SandboxKey": netns.path()}),
    );
    let of = json!({"NetworkID": network.id, "EndpointID": id});
    for method in [
        "EndpointOperInfo",
        "ProgramExternalConnectivity",
        "RevokeExternalConnectivity",
        "Leave",
        "DeleteEndpoint",
    ] {
        again(&format!("NetworkDriver.{method}"), of.clone());
    }
    again("IpamDriver.ReleaseAddress", address);
    again("IpamDriver.ReleasePool", json!({"PoolID": pool}));
    again("NetworkDriver.DeleteNetwork", json!({"NetworkID": network.id}));
    for method in ["NetworkDriver.DiscoverNew", "NetworkDriver.DiscoverDelete", "NetworkDriver.FreeNetwork"] {
        again(method, json!({}));
    }
    assert_eq!(
        again("NetworkDriver.GwAllocCheck", json!({"Options": {}})),
        json!({"SkipIPv4": true, "SkipIPv6": true})
    );
    bed.assert_nothing_held();
}

/// No address has two holders, whoever has it.
fn taken() {
    let bed = Watched::new();
    bed.create(&format!("--subnet={SUBNET} --gateway={GATEWAY} -o parent=eth0 pub_net"));
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let hook = bed.container(Bare, "hook").networks("pub_net:ip=172.16.86.2").start().unwrap();
    let said = |address: &str| docker.run(&network, address).map(drop).unwrap_err();
    assert!(
        said("172.16.86.2").contains(&format!("held by container {}", hook.id)),
        "{}",
        said("172.16.86.2")
    );
    assert!(said("172.16.86.250").contains("held by this host itself"));
    // Granted, because Docker asks for it itself when it starts.
    assert!(said("172.16.86.1").contains("is the gateway of subnet"));
    assert!(said("10.0.0.1").contains("outside of subnet"));
    let first = docker.run(&network, "").unwrap();
    assert_eq!(first.address, "172.16.86.3/24");
    assert!(said("172.16.86.3").contains(&format!("held by an endpoint of docker, {}", first.id)));
    assert!(bed.answers("172.16.86.3"), "nothing of the other is given back");
    let asks = bed.container(Bare, "other").networks("pub_net:ip=172.16.86.3").start().map(drop);
    assert!(asks.unwrap_err().contains(&first.id));
    // Another host on the LAN.
    bed.lan.ip("addr add 172.16.86.4/24 dev lan0");
    assert!(said("172.16.86.4").contains("172.16.86.4"), "{}", said("172.16.86.4"));
    let second = docker.run(&network, "").unwrap();
    assert_eq!(second.address, "172.16.86.5/24");
    // Asked for by two at once: the first one that has an endpoint gets it.
    assert_eq!(docker.request(&network, "172.16.86.20"), Ok("172.16.86.20/24".into()));
    assert_eq!(docker.request(&network, "172.16.86.20"), Ok("172.16.86.20/24".into()));
    let [one, other] = [docker.id(), docker.id()];
    docker.create_endpoint(&network, &one, "172.16.86.20/24", json!({})).unwrap();
    let error = docker.create_endpoint(&network, &other, "172.16.86.20/24", json!({})).unwrap_err();
    assert!(error.contains(&one), "{error}");
    docker.release(&network, "172.16.86.20");
    docker.plugin.call("NetworkDriver.DeleteEndpoint", json!({"EndpointID": one})).unwrap();
    // One that was picked for another endpoint is not given to whoever names it.
    let picked = docker.request(&network, "").unwrap();
    assert!(docker.request(&network, picked.split('/').next().unwrap()).is_err());
    docker.release(&network, &picked);
    hook.stop();
    docker.stop(&network, &first);
    docker.stop(&network, &second);
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// Without live-restore and with it; the plugin is another process each time.
fn replay() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let first = docker.run(&network, "").unwrap();
    let second = docker.run(&network, "172.16.86.9").unwrap();
    docker.plugin.kill();
    docker.replay(&network, &[&first, &second]);
    assert!(bed.answers("172.16.86.2"));
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    docker.plugin.call("NetworkDriver.EndpointOperInfo", json!({"EndpointID": first.id})).unwrap();
    let error = docker.run(&network, "172.16.86.9").map(drop).unwrap_err();
    assert!(error.contains(&second.id), "{error}");
    // The containers have ended with Docker, whose start clears them away.
    docker.plugin.kill();
    docker.replay(&network, &[&first, &second]);
    docker.stop(&network, &first);
    docker.stop(&network, &second);
    docker.remove(&network);
    bed.assert_nothing_held();
}

fn one_subnet() {
    let bed = Watched::new();
    bed.host.ip_batch(&["link add eth9 type veth peer name lan9", "link set eth9 up", "link set lan9 up"]);
    let docker = FakeDocker::start(&bed);
    let one = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let same = docker
        .create(SUBNET, GATEWAY, json!({"parent": "eth0", "macvlan_mode": "private"}), json!({}))
        .unwrap();
    let error = docker.create(SUBNET, "", json!({"parent": "eth9"}), json!({})).map(drop).unwrap_err();
    assert!(error.contains("subnet 172.16.86.0/24 is on parent eth0 and on parent eth9"), "{error}");
    assert!(error.contains("--ipam-opt parent=eth9"), "{error}");
    let other = docker.create(SUBNET, "", json!({"parent": "eth9"}), json!({"parent": "eth9"})).unwrap();
    let addresses = [&one, &same, &other].map(|network| docker.run(network, "").unwrap());
    let shown: Vec<_> = addresses.iter().map(|endpoint| &*endpoint.address).collect();
    assert_eq!(shown, ["172.16.86.2/24", "172.16.86.3/24", "172.16.86.1/24"]);
    for (network, endpoint) in [&one, &same, &other].into_iter().zip(&addresses) {
        docker.stop(network, endpoint);
        docker.remove(network);
    }
    bed.assert_nothing_held();
    bed.host.ip("link del eth9");
}

fn refused() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let said = |subnet: &str, options: Value, ipam: Value| {
        docker.create(subnet, "", options, ipam).map(drop).unwrap_err()
    };
    assert!(said("", parent(), json!({})).contains("needs a subnet: give --subnet"));
    assert!(said(SUBNET, json!({"parrent": "eth0"}), json!({})).contains("option \"parrent\" is not known"));
    assert!(said(SUBNET, json!({"parent": "eth7"}), json!({})).contains("parent eth7 does not exist"));
    assert!(said(SUBNET, parent(), json!({"x": "y"})).contains("--ipam-opt \"x\" is not known"));
    assert!(said("172.16.86.7/24", parent(), json!({})).contains("host bits"));
    assert!(said(SUBNET, json!({"network": "gone"}), json!({})).contains("network gone does not exist"));
    bed.configure("underlay.json", r#"{"version": 1, "docker_networks": false}"#);
    assert!(
        said(SUBNET, parent(), json!({}))
            .contains("docker_networks: networks are not defined through Docker")
    );
    bed.configure("underlay.json", r#"{"version": 1, "allowed_parents": ["eth1*"]}"#);
    let error = said(SUBNET, parent(), json!({}));
    assert!(error.contains("names parent eth0, which is not for definitions through Docker"), "{error}");
    bed.configure("underlay.json", r#"{"version": 1}"#);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let error = docker.run_with(&network, "", json!({"identitty": "db"})).map(drop).unwrap_err();
    assert!(error.contains("driver-opt \"identitty\" of an endpoint is not known: use identity"), "{error}");
    assert_eq!(bed.leases(), Vec::<String>::new());
    let unknown = json!({"NetworkID": docker.id(), "EndpointID": docker.id(),
        "Interface": {"Address": "172.16.86.9/24"}, "Options": {}});
    assert!(
        docker.plugin.call("NetworkDriver.CreateEndpoint", unknown).unwrap_err().contains("is not known")
    );
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// `-o network=`: its definition counts, and containers of the hook are beside those of Docker.
fn of_underlay() {
    let bed = Watched::new();
    bed.create(&format!(
        "--subnet={SUBNET} --gateway={GATEWAY} --ip-range=172.16.86.64/26 --host-access -o parent=eth0 \
         --route 10.9.0.0/16,172.16.86.3 --reserve db=172.16.86.70 pub_net"
    ));
    bed.configure("underlay.json", r#"{"version": 1, "docker_networks": false}"#);
    let docker = FakeDocker::start(&bed);
    let named = || json!({"network": "pub_net"});
    // Docker before 28 would ask for one pool after the other, because the host is in this one.
    let error = docker.create("", "", named(), named()).map(drop).unwrap_err();
    assert!(error.contains("give --subnet 172.16.86.0/24, as pub_net has it"), "{error}");
    let network = docker.create(SUBNET, "", named(), named()).unwrap();
    let first = docker.run(&network, "").unwrap();
    assert_eq!(first.address, "172.16.86.64/24");
    assert!(first.netns.ip("route").contains("10.9.0.0/16 via 172.16.86.3 dev eth0"));
    assert!(reaches(&bed.host, "172.16.86.64"));
    let hook = bed.container(Bare, "hook").networks("pub_net").start().unwrap();
    assert_eq!(hook.addresses("eth0"), ["172.16.86.66/24"], "the host has the one before");
    // What is reserved for an identity goes to an endpoint of that identity alone.
    let error = docker.run(&network, "172.16.86.70").map(drop).unwrap_err();
    assert!(error.contains("reserved for another identity"), "{error}");
    let db = docker.run_with(&network, "172.16.86.70", json!({"identity": "db"})).unwrap();
    assert!(bed.run("network inspect pub_net").contains(&db.id));
    assert!(bed.outcome("network rm pub_net", "").code != 0);
    hook.stop();
    docker.stop(&network, &first);
    docker.stop(&network, &db);
    docker.remove(&network);
    assert_eq!(bed.records(), Vec::<String>::new());
}

fn hundred() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    for _ in 0..100 {
        let endpoint = docker.run(&network, "").unwrap();
        docker.stop(&network, &endpoint);
    }
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// The agent notes name and number of a link where Docker has moved it, seals its mark, and announces it.
fn agent() {
    let bed = Watched::new();
    let agent = Agent::start(&bed);
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let first = docker.run(&network, "").unwrap();
    let attached = || bed.ps()[0]["attachments"][0].clone();
    assert_eq!(attached()["ifindex"], Value::Null);
    wait(|| attached()["ifname"] == "eth0" && attached()["ifindex"].is_number());
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    first.netns.ip("addr del 172.16.86.2/24 dev eth0");
    let outcome = bed.outcome("check", "");
    assert!(outcome.code == 1 && outcome.stdout.contains("172.16.86.2"), "{outcome:?}");
    // No endpoint comes for this address.
    docker.request(&network, "").unwrap();
    docker.stop(&network, &first);
    assert_eq!(bed.leases().len(), 1);
    age(&bed);
    wait(|| bed.leases().is_empty());
    docker.remove(&network);
    drop(agent);
    bed.assert_nothing_held();
}

/// The name of a link on the host says whose it is.
fn changed_mark() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let first = docker.run(&network, "").unwrap();
    let second = docker.run(&network, "").unwrap();
    for mark in
        ["mine".to_owned(), second.netns.link("eth0").unwrap()["ifalias"].as_str().unwrap().to_owned()]
    {
        let third = docker.run(&network, "").unwrap();
        let mut set = third.netns.command("ip");
        finish(set.args(["link", "set", "eth0", "alias", &mark])).unwrap();
        docker.stop(&network, &third);
        assert_eq!(bed.records().len(), 2);
    }
    assert!(bed.answers("172.16.86.2") && bed.answers("172.16.86.3"));
    docker.stop(&network, &first);
    docker.stop(&network, &second);
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// Each on a connection of its own.
fn many() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let options = json!({"parent": "eth0", "conflict_detection": "off"});
    let network = docker.create(SUBNET, GATEWAY, options, json!({})).unwrap();
    let asked = json!({"PoolID": network.pool, "Address": "", "Options": {}});
    let socket = &docker.plugin.socket;
    let addresses: BTreeSet<String> = thread::scope(|scope| {
        let ask = || call(&mut connect(socket).unwrap(), "IpamDriver.RequestAddress", &asked).unwrap();
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(ask)).collect();
        let answers = threads.into_iter().map(|thread| thread.join().unwrap());
        answers.map(|answer| answer["Address"].as_str().unwrap().to_owned()).collect()
    });
    assert_eq!(addresses.len(), 50, "no address twice");
    addresses.iter().for_each(|address| docker.release(&network, address));
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// Docker waits for ever for an answer, and holds locks meanwhile.
fn too_long() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    bed.configure("underlay.json", r#"{"version": 1, "lock_timeout_ms": 60000}"#);
    let lock = bed.lock();
    let error = docker.request(&network, "").unwrap_err();
    assert!(error.contains("/IpamDriver.RequestAddress took more than 25 seconds: "), "{error}");
    drop(lock);
    // It was carried out all the same, and nothing comes of it.
    wait(|| bed.records().len() == 1);
    age(&bed);
    bed.gc();
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// Lets a minute pass for all endpoints, and for those to come.
pub fn age(bed: &Bed) {
    for name in bed.records() {
        let path = bed.path("run/containers").join(name);
        let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record["holder"]["since"] = 0.into();
        fs::write(&path, record.to_string()).unwrap();
    }
}

/// With SIGKILL, some time after each call was sent. Docker calls again.
fn killed() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    for micros in [0, 300, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000] {
        docker.plugin.killed_after.set(Some(Duration::from_micros(micros)));
        let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
        let first = docker.run(&network, "").unwrap();
        let second = docker.run(&network, "172.16.86.99").unwrap();
        assert!(bed.answers("172.16.86.99"));
        // A lease without a record, of the call that was killed.
        bed.gc();
        assert_eq!((bed.run("check"), bed.gc()), Default::default(), "{micros}");
        docker.stop(&network, &first);
        docker.stop(&network, &second);
        docker.remove(&network);
        // An address that was picked, and of which Docker was not told.
        age(&bed);
        bed.gc();
        bed.assert_nothing_held();
    }
}

/// An endpoint of which Docker does not speak any more; an address for which no endpoint came.
fn forgotten() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let kept = docker.run(&network, "").unwrap();
    let gone = docker.run(&network, "").unwrap();
    let back = docker.run(&network, "").unwrap();
    docker.request(&network, "").unwrap();
    gone.netns.ip("link del eth0");
    docker.move_back(&back);
    assert_eq!(bed.gc(), "", "Docker may be about to call");
    assert_eq!(bed.leases().len(), 4);
    age(&bed);
    let planned = bed.run("gc --dry-run");
    assert_eq!(bed.leases().len(), 4);
    assert_eq!(bed.gc(), planned);
    assert_eq!(bed.leases().len(), 1);
    assert_eq!(bed.ps()[0]["attachments"][0]["ifname"], "eth0", "gc has looked at it");
    for gone in [&gone, &back] {
        docker.plugin.call("NetworkDriver.DeleteEndpoint", json!({"EndpointID": gone.id})).unwrap();
    }
    docker.stop(&network, &kept);
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// What the marks of links tell is written anew. Docker does not notice.
fn lost() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let network = docker.create(SUBNET, GATEWAY, parent(), json!({})).unwrap();
    let first = docker.run(&network, "").unwrap();
    let mut process = first.netns.command("sleep").arg("1000").spawn().unwrap();
    assert_eq!(bed.gc(), "");
    fs::remove_dir_all(bed.path("run")).unwrap();
    let second = docker.run(&network, "").unwrap();
    assert_eq!(second.address, "172.16.86.3/24");
    assert_eq!(bed.ps().len(), 2, "an address was asked for, and the ledger was repaired first");
    docker.plugin.kill();
    docker.replay(&network, &[&first, &second]);
    let error = docker.run(&network, "172.16.86.2").map(drop).unwrap_err();
    assert!(error.contains(&first.id), "{error}");
    process.kill().unwrap();
    process.wait().unwrap();
    docker.stop(&network, &first);
    docker.stop(&network, &second);
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// Several requests on one connection and several connections; what is no request of Docker's; the end when nothing comes.
fn http() {
    let bed = Bed::new();
    let plugin = Plugin::with(&bed, 1);
    let mut other = plugin.connect().unwrap();
    let mut stream = plugin.connect().unwrap();
    let answered = call(&mut stream, "Plugin.Activate", &Value::Null).unwrap();
    assert_eq!(answered["Implements"], json!(["NetworkDriver", "IpamDriver"]));
    // Otherwise another request could be cut when the plugin ends, and Docker repeats it without its body.
    assert!(call(&mut stream, "Plugin.Activate", &Value::Null).is_err(), "one request on a connection");
    call(&mut other, "NetworkDriver.GetCapabilities", &Value::Null).unwrap();
    for (request, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", 405),
        ("POST /x HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        ("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        ("POST /NetworkDriver.Nonsense HTTP/1.1\r\n\r\n", 404),
        ("POST /NetworkDriver.Join HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]", 200),
        ("POST /NetworkDriver.Join HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 200),
    ] {
        let mut stream = plugin.connect().unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let (status, body) = answer(&mut stream).unwrap();
        assert_eq!(status, expected, "{body}");
        assert!(serde_json::from_str::<Value>(&body).unwrap()["Err"].is_string(), "{body}");
    }
    // An open connection does not keep it.
    let open = plugin.connect().unwrap();
    wait(|| plugin.has_ended());
    drop(open);
}
