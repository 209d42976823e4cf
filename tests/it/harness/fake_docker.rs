//! The plugin as a process of the tests, and what Docker does with it: the same calls in the same order, and the same with links, by
//! `ip`, in namespaces that tests make. What is known of that was heard from Docker 26.1 and 28.5.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::bed::{Bed, Netns, run};
use crate::harness::container::wait;

/// How long an answer may take: longer than the plugin's own limit.
const PATIENCE: Duration = Duration::from_secs(28);

/// Where Docker looks for it.
pub const SOCKET: &str = "/run/docker/plugins/underlay.sock";

/// A running plugin; killed when dropped.
pub struct Plugin<'a> {
    bed: &'a Bed,
    pub socket: PathBuf,
    /// `None` if another process starts it.
    child: RefCell<Option<Child>>,
    /// It is killed so long after each call was sent, and the call is repeated, as Docker does.
    pub killed_after: Cell<Option<Duration>>,
    /// It is killed so long after the next call of this method was sent. Docker repeats such a call without its body.
    pub cut: Cell<Option<(&'static str, Duration)>>,
    /// The next call that this is for is made by it, while no plugin runs. Unless that succeeds, the call is repeated.
    pub first: RefCell<Option<Box<dyn FirstTry + 'a>>>,
}

/// Makes a call by a plugin of its own.
pub trait FirstTry {
    /// Whether it is for the call of `method` with `body`.
    fn is_for(&self, method: &str, body: &Value) -> bool;

    fn call(self: Box<Self>, body: &Value) -> io::Result<Value>;
}

impl<'a> Plugin<'a> {
    /// Starts the plugin of `bed` with a socket of its own.
    pub fn start(bed: &'a Bed) -> Self {
        Self::with(bed, 600)
    }

    /// One that ends after `idle` seconds without a call.
    pub fn with(bed: &'a Bed, idle: u32) -> Self {
        Self::at(bed, bed.path("plugin.sock"), idle)
    }

    /// One where Docker finds it. This machine has one Docker at a time.
    pub fn of_docker(bed: &'a Bed) -> Self {
        fs::create_dir_all("/run/docker/plugins").unwrap();
        Self::at(bed, SOCKET.into(), 600)
    }

    /// The same with the folders of the package.
    pub fn installed(bed: &'a Bed) -> Self {
        fs::create_dir_all("/run/docker/plugins").unwrap();
        let plugin = Self::of_systemd(bed);
        let mut command = bed.host.command("underlay");
        command.args(["docker-plugin", "--idle", "600", "--socket", SOCKET]).stdin(Stdio::null());
        *plugin.child.borrow_mut() = Some(command.spawn().unwrap());
        wait(|| UnixStream::connect(SOCKET).is_ok());
        plugin
    }

    /// One that may have so many descriptors.
    pub fn limited(bed: &'a Bed, descriptors: u32) -> Self {
        let plugin = Self::start(bed);
        let pid = plugin.child.borrow().as_ref().unwrap().id();
        run("prlimit", &["--pid", &pid.to_string(), &format!("--nofile={descriptors}:{descriptors}")])
            .unwrap();
        plugin
    }

    /// The one that systemd starts.
    pub fn of_systemd(bed: &'a Bed) -> Self {
        Self {
            bed,
            socket: SOCKET.into(),
            child: RefCell::new(None),
            killed_after: Cell::new(None),
            cut: Cell::new(None),
            first: RefCell::new(None),
        }
    }

    fn at(bed: &'a Bed, socket: PathBuf, idle: u32) -> Self {
        let child = spawn(bed, &socket, idle);
        let mut plugin = Self::of_systemd(bed);
        plugin.socket = socket;
        *plugin.child.get_mut() = Some(child);
        plugin
    }

    pub fn connect(&self) -> io::Result<UnixStream> {
        connect(&self.socket)
    }

    /// The answer to `method`, or how the connection ended.
    pub fn try_call(&self, method: &str, body: &Value) -> io::Result<Value> {
        call(&mut self.connect()?, method, body)
    }

    /// The answer to `method`, as Docker takes it: its error, if it has one.
    pub fn call(&self, method: &str, body: Value) -> Result<Value, String> {
        if let Some(time) = self.killed_after.get() {
            send(&mut self.connect().unwrap(), method, &body).unwrap();
            thread::sleep(time);
            self.kill();
        }
        if let Some((_, time)) = self.cut.get().filter(|(of, _)| *of == method) {
            self.cut.set(None);
            send(&mut self.connect().unwrap(), method, &body).unwrap();
            thread::sleep(time);
            self.kill();
            let mut stream = self.connect().unwrap();
            send_text(&mut stream, method, "").unwrap();
            let (_, text) = answer(&mut stream).unwrap();
            return outcome(serde_json::from_str(&text).unwrap());
        }
        let first = self.first.borrow_mut().take_if(|first| first.is_for(method, &body));
        if let Some(first) = first {
            self.end();
            let tried = first.call(&body);
            self.start_again();
            if let Ok(Ok(answer)) = tried.map(outcome) {
                return Ok(answer);
            }
        }
        outcome(self.try_call(method, &body).unwrap())
    }

    /// Kills it with SIGKILL, and starts another one.
    pub fn kill(&self) {
        self.end();
        self.start_again();
    }

    fn end(&self) {
        let mut child = self.child.borrow_mut().take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn start_again(&self) {
        *self.child.borrow_mut() = Some(spawn(self.bed, &self.socket, 600));
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        let pid = self.child.borrow().as_ref().unwrap().id();
        signal::kill(Pid::from_raw(pid as i32), Signal::SIGTERM).unwrap();
    }

    /// Starts another one, as this one has ended.
    pub fn restart(&self) {
        *self.child.borrow_mut() = Some(spawn(self.bed, &self.socket, 600));
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        let mut child = self.child.borrow_mut();
        child.as_mut().unwrap().try_wait().unwrap().is_some_and(|status| status.success())
    }
}

impl Drop for Plugin<'_> {
    fn drop(&mut self) {
        if let Some(child) = self.child.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.bed.path("plugin.log")).unwrap_or_default());
        }
    }
}

/// An answer, or the error that it tells.
pub fn outcome(answer: Value) -> Result<Value, String> {
    let error = ["Err", "Error"].iter().find_map(|key| answer[*key].as_str());
    error.map_or_else(|| Ok(answer.clone()), |error| Err(error.to_owned()))
}

/// The plugin of `bed`.
pub fn command(bed: &Bed, socket: &Path, idle: u32) -> Command {
    let mut command = bed.underlay(&format!("docker-plugin --idle {idle} --socket"));
    command.arg(socket).env("RUST_LOG", "info");
    command
}

fn spawn(bed: &Bed, socket: &Path, idle: u32) -> Child {
    let log = File::options().create(true).append(true).open(bed.path("plugin.log")).unwrap();
    let mut command = command(bed, socket, idle);
    command.stdin(Stdio::null());
    let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    wait(|| UnixStream::connect(socket).is_ok());
    child
}

/// A connection on which no answer takes longer than it may.
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends one request and reads its answer.
pub fn call(stream: &mut UnixStream, method: &str, body: &Value) -> io::Result<Value> {
    send(stream, method, body)?;
    let (status, answer) = answer(stream)?;
    assert_eq!(status, 200, "{answer}");
    Ok(serde_json::from_str(&answer).unwrap())
}

pub fn send(stream: &mut UnixStream, method: &str, body: &Value) -> io::Result<()> {
    send_text(stream, method, &body.to_string())
}

fn send_text(stream: &mut UnixStream, method: &str, body: &str) -> io::Result<()> {
    let head = format!("POST /{method} HTTP/1.1\r\nHost: plugin\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes())
}

/// Reads one answer: its status and body.
pub fn answer(stream: &mut UnixStream) -> io::Result<(u16, String)> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, String::from_utf8(body).unwrap()))
}

/// A network as Docker remembers it.
pub struct Network {
    pub id: String,
    pub pool: String,
    gateway: Option<String>,
}

impl Network {
    /// Another one with its pool.
    pub fn beside(&self, id: String) -> Self {
        Self { id, pool: self.pool.clone(), gateway: None }
    }
}

/// A container in one network.
pub struct Endpoint {
    pub id: String,
    pub address: String,
    pub netns: Netns,
    pub source: String,
}

/// What Docker remembers and the plugin does not.
pub struct FakeDocker<'a> {
    pub plugin: Plugin<'a>,
    count: Cell<u32>,
}

impl<'a> FakeDocker<'a> {
    pub fn start(bed: &'a Bed) -> Self {
        Self::with(Plugin::start(bed))
    }

    pub fn with(plugin: Plugin<'a>) -> Self {
        let docker = Self { plugin, count: Cell::new(0) };
        docker.plugin.call("Plugin.Activate", Value::Null).unwrap();
        docker
    }

    /// Another id.
    pub fn id(&self) -> String {
        self.count.set(self.count.get() + 1);
        format!("{:08x}{}", self.count.get().wrapping_mul(0x0101_0101), "ab".repeat(28))
    }

    /// `docker network create`, with a gateway and without: each is asked for as Docker 28 does.
    pub fn create(
        &self,
        subnet: &str,
        gateway: &str,
        options: Value,
        ipam: Value,
    ) -> Result<Network, String> {
        let id = self.id();
        let call = |method: &str, body: Value| self.plugin.call(method, body);
        let pool = call(
            "IpamDriver.RequestPool",
            json!({
                "AddressSpace": "underlay", "Pool": subnet, "SubPool": "", "Options": ipam, "V6": subnet.contains(':'),
            }),
        )?;
        let (pool, subnet) = (pool["PoolID"].as_str().unwrap().to_owned(), pool["Pool"].clone());
        let gateway = match gateway {
            "" => None,
            gateway => {
                let kind = json!({"RequestAddressType": "com.docker.network.gateway"});
                let asked = json!({"PoolID": pool, "Address": gateway, "Options": kind});
                Some(call("IpamDriver.RequestAddress", asked)?["Address"].as_str().unwrap().to_owned())
            }
        };
        let data = json!([{"AddressSpace": "underlay", "Pool": subnet, "Gateway": gateway.clone().unwrap_or_default(),
            "AuxAddresses": {}}]);
        let (v4, v6) = match subnet.as_str().unwrap().contains(':') {
            true => (json!([]), data),
            false => (data, json!([])),
        };
        let options = json!({"com.docker.network.generic": options, "com.docker.network.internal": false,
            "com.docker.network.enable_ipv4": true, "com.docker.network.enable_ipv6": false});
        let asked = json!({"NetworkID": id, "Options": options, "IPv4Data": v4, "IPv6Data": v6});
        call("NetworkDriver.CreateNetwork", asked).inspect_err(|_| {
            call("IpamDriver.ReleasePool", json!({"PoolID": pool})).unwrap();
            call("NetworkDriver.DeleteNetwork", json!({"NetworkID": id})).unwrap();
        })?;
        Ok(Network { id, pool, gateway })
    }

    /// `docker network create --ipam-driver null`, as Docker 26 and 28 do.
    pub fn create_without_addresses(&self, options: Value) -> Result<Network, String> {
        let id = self.id();
        let options = json!({"com.docker.network.generic": options, "com.docker.network.internal": false,
            "com.docker.network.enable_ipv4": true, "com.docker.network.enable_ipv6": false});
        let data = json!([{"AddressSpace": "null", "Pool": "0.0.0.0/0", "Gateway": "", "AuxAddresses": {}}]);
        let asked = json!({"NetworkID": id, "Options": options, "IPv4Data": data, "IPv6Data": []});
        self.plugin.call("NetworkDriver.CreateNetwork", asked)?;
        Ok(Network { id, pool: String::new(), gateway: None })
    }

    /// `docker network rm`.
    pub fn remove(&self, network: &Network) {
        self.plugin.call("NetworkDriver.DeleteNetwork", json!({"NetworkID": network.id})).unwrap();
        if let Some(address) = &network.gateway {
            self.release(network, address);
        }
        if !network.pool.is_empty() {
            self.plugin.call("IpamDriver.ReleasePool", json!({"PoolID": network.pool})).unwrap();
        }
    }

    /// Asks for `address`, or any.
    pub fn request(&self, network: &Network, address: &str) -> Result<String, String> {
        let asked = json!({"PoolID": network.pool, "Address": address, "Options": {}});
        let answer = self.plugin.call("IpamDriver.RequestAddress", asked)?;
        Ok(answer["Address"].as_str().unwrap().to_owned())
    }

    pub fn release(&self, network: &Network, address: &str) {
        let address = address.split('/').next().unwrap();
        let asked = json!({"PoolID": network.pool, "Address": address});
        self.plugin.call("IpamDriver.ReleaseAddress", asked).unwrap();
    }

    /// Creates an endpoint with `address`; the MAC address is the one asked for, or that which the plugin has chosen.
    pub fn create_endpoint(
        &self,
        network: &Network,
        id: &str,
        address: &str,
        options: Value,
    ) -> Result<String, String> {
        let interface = json!({"Address": address, "AddressIPv6": "", "MacAddress": ""});
        let asked =
            json!({"NetworkID": network.id, "EndpointID": id, "Interface": interface, "Options": options});
        let answer = self.plugin.call("NetworkDriver.CreateEndpoint", asked)?;
        Ok(answer["Interface"]["MacAddress"].as_str().unwrap_or_default().to_owned())
    }

    /// `docker run --network NETWORK [--ip ADDRESS]`.
    pub fn run(&self, network: &Network, address: &str) -> Result<Endpoint, String> {
        self.run_with(network, address, json!({}))
    }

    pub fn run_with(&self, network: &Network, address: &str, options: Value) -> Result<Endpoint, String> {
        let (id, address) = (self.id(), self.request(network, address)?);
        let mac = self
            .create_endpoint(network, &id, &address, options)
            .inspect_err(|_| self.release(network, &address))?;
        self.start_with(network, id, address, &mac)
    }

    /// The same in a network whose addresses are by DHCP.
    pub fn run_by_dhcp(&self, network: &Network, mac: &str, options: Value) -> Result<Endpoint, String> {
        let id = self.id();
        let interface = json!({"Address": "", "AddressIPv6": "", "MacAddress": mac});
        let asked =
            json!({"NetworkID": network.id, "EndpointID": id, "Interface": interface, "Options": options});
        let answer = self.plugin.call("NetworkDriver.CreateEndpoint", asked)?["Interface"].clone();
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        assert!(mac.is_empty() || text("MacAddress").is_empty(), "Docker refuses what it has said");
        let mac = if mac.is_empty() { text("MacAddress") } else { mac.to_owned() };
        self.start_with(network, id, text("Address"), &mac)
    }

    fn start_with(
        &self,
        network: &Network,
        id: String,
        address: String,
        mac: &str,
    ) -> Result<Endpoint, String> {
        let netns = Netns::new("box");
        let joined = self.join(network, &id, &netns).inspect_err(|_| {
            let of = json!({"NetworkID": network.id, "EndpointID": id});
            self.plugin.call("NetworkDriver.DeleteEndpoint", of).unwrap();
            if !network.pool.is_empty() {
                self.release(network, &address);
            }
        })?;
        let endpoint = Endpoint { source: source(&joined), id, address, netns };
        self.move_in(&endpoint, mac, &joined);
        Ok(endpoint)
    }

    pub fn join(&self, network: &Network, id: &str, netns: &Netns) -> Result<Value, String> {
        let asked =
            json!({"NetworkID": network.id, "EndpointID": id, "SandboxKey": netns.path(), "Options": {}});
        self.plugin.call("NetworkDriver.Join", asked)
    }

    /// Moves the link into the container, as Docker does.
    pub fn move_in(&self, endpoint: &Endpoint, mac: &str, joined: &Value) {
        let Endpoint { source, address, netns, .. } = endpoint;
        self.host(&format!("link set {source} netns {}", netns.name));
        netns.ip("link set lo up");
        netns.ip(&format!("link set {source} name eth0"));
        if !mac.is_empty() {
            netns.ip(&format!("link set eth0 address {mac}"));
        }
        if !address.is_empty() {
            netns.ip(&format!("addr add {address} dev eth0"));
        }
        netns.ip("link set eth0 up");
        if let Some(gateway) = joined["Gateway"].as_str() {
            netns.ip(&format!("route add default via {gateway}"));
        }
        for route in joined["StaticRoutes"].as_array().into_iter().flatten() {
            let (to, via) = (route["Destination"].as_str().unwrap(), route["NextHop"].as_str());
            netns.ip(&format!(
                "route add {to} {} dev eth0",
                via.map(|via| format!("via {via}")).unwrap_or_default()
            ));
        }
    }

    /// `docker stop`, or the end of the container's process.
    pub fn stop(&self, network: &Network, endpoint: &Endpoint) {
        let of = json!({"NetworkID": network.id, "EndpointID": endpoint.id});
        self.plugin.call("NetworkDriver.Leave", of.clone()).unwrap();
        self.move_back(endpoint);
        self.plugin.call("NetworkDriver.DeleteEndpoint", of).unwrap();
        if !network.pool.is_empty() {
            self.release(network, &endpoint.address);
        }
    }

    /// The same where a call may fail: Docker goes on, and says it no more.
    pub fn stop_anyway(&self, network: &Network, endpoint: &Endpoint) {
        let of = json!({"NetworkID": network.id, "EndpointID": endpoint.id});
        let _ = self.plugin.call("NetworkDriver.Leave", of.clone());
        self.move_back(endpoint);
        let _ = self.plugin.call("NetworkDriver.DeleteEndpoint", of);
        let address = endpoint.address.split('/').next();
        let _ = self
            .plugin
            .call("IpamDriver.ReleaseAddress", json!({"PoolID": network.pool, "Address": address}));
    }

    pub fn move_back(&self, Endpoint { source, netns, .. }: &Endpoint) {
        netns.ip("link set eth0 down");
        netns.ip(&format!("link set eth0 name {source}"));
        netns.ip(&format!("link set {source} netns {}", self.plugin.bed.host.name));
    }

    fn host(&self, arguments: &str) {
        self.plugin.bed.host.ip(arguments);
    }

    /// What Docker asks again when it starts: pools, gateways, and the address of each endpoint that it remembers.
    pub fn replay(&self, network: &Network, endpoints: &[&Endpoint]) {
        let subnet = network.pool.split(' ').next().unwrap();
        let asked =
            json!({"AddressSpace": "underlay", "Pool": subnet, "SubPool": "", "Options": {}, "V6": false});
        assert_eq!(self.plugin.call("IpamDriver.RequestPool", asked).unwrap()["PoolID"], *network.pool);
        if let Some(gateway) = &network.gateway {
            let kind = json!({"RequestAddressType": "com.docker.network.gateway"});
            let address = gateway.split('/').next();
            let asked = json!({"PoolID": network.pool, "Address": address, "Options": kind});
            self.plugin.call("IpamDriver.RequestAddress", asked).unwrap();
        }
        for endpoint in endpoints {
            let address = endpoint.address.split('/').next().unwrap();
            assert_eq!(self.request(network, address).unwrap(), endpoint.address);
        }
    }
}

fn source(joined: &Value) -> String {
    joined["InterfaceName"]["SrcName"].as_str().unwrap().to_owned()
}
