//! A test bed: a throw-away host with a parent link `eth0`, and the LAN it is plugged into.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use serde_json::Value;

use crate::harness::container::{Builder, Engine, wait};

/// What network namespaces of the tests are called first.
const PREFIX: &str = "ultest";

/// A network namespace with a name, as `ip netns` makes it; gone when dropped.
#[derive(Debug)]
pub struct Netns {
    pub name: String,
}

impl Netns {
    pub fn new(what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{count}-{what}", std::process::id());
        run("ip", &["netns", "add", &name]).unwrap();
        Self { name }
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// A command that runs inside; only the network namespace is entered, so /sys and cgroups stay.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program);
        command
    }

    /// Runs `program` with the words of `arguments`.
    pub fn try_run(&self, program: &str, arguments: &str) -> Result<String, String> {
        finish(self.command(program).args(arguments.split_whitespace()))
    }

    /// Runs `ip` inside with each line of `batch`, all in one process, which must succeed.
    #[track_caller]
    pub fn ip_batch(&self, batch: &[&str]) {
        let done = outcome(self.command("ip").args(["-batch", "-"]), batch.join("\n").as_bytes());
        assert_eq!(done.code, 0, "{batch:?}: {done:?}");
    }

    /// Runs `ip` inside, which must succeed.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        self.try_run("ip", arguments).unwrap()
    }

    /// What `ip -details link` says of the link `name`, if it is there.
    pub fn link(&self, name: &str) -> Option<Value> {
        let shown = self.try_run("ip", &format!("-json -details link show dev {name}")).ok()?;
        let mut links: Vec<Value> = serde_json::from_str(&shown).unwrap();
        links.pop()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = run("ip", &["netns", "del", &self.name]);
    }
}

/// A host and a LAN. The host's `eth0` has 172.16.86.250, the LAN's router 172.16.86.1 (and the like in IPv6).
pub struct Bed {
    pub host: Netns,
    pub lan: Netns,
    folder: tempfile::TempDir,
    pub installed: bool,
}

/// A bed whose host must be in the end what it was in the beginning: its networks are removed, and then its links,
/// addresses and routes are compared.
pub struct Watched {
    bed: Bed,
    before: Vec<String>,
}

impl Watched {
    pub fn new() -> Self {
        let bed = Bed::new();
        Self { before: bed.host_state(), bed }
    }
}

impl std::ops::Deref for Watched {
    type Target = Bed;

    fn deref(&self) -> &Bed {
        &self.bed
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let networks = self.bed.run("network ls -q");
            if !networks.is_empty() {
                self.bed.run(&format!("network rm {}", networks.replace('\n', " ")));
            }
            assert_eq!(self.bed.host_state(), self.before, "the host is as it was");
        }
    }
}

/// What a run of the hook or command came to.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Drop for Bed {
    fn drop(&mut self) {
        // A test that has failed leaves the package's folders to the next.
        if self.installed && std::thread::panicking() {
            for folder in ["etc", "run", "data", "cdi"] {
                let _ = fs::remove_dir_all(self.path(folder));
            }
        }
    }
}

impl Bed {
    /// A host and a LAN, both up, no network defined.
    pub fn new() -> Self {
        Self::with(false)
    }

    /// One that has the folders of the package, as this machine has them, and therefore no other beside it.
    pub fn installed() -> Self {
        Self::with(true)
    }

    fn with(installed: bool) -> Self {
        let (host, lan) = (Netns::new("host"), Netns::new("lan"));
        let bed = Self { host, lan, folder: tempfile::tempdir().unwrap(), installed };
        bed.host.ip("link set lo up");
        bed.plug_in();
        fs::create_dir_all(bed.path("etc/networks")).unwrap();
        bed
    }

    /// Plugs the host into the LAN.
    pub fn plug_in(&self) {
        self.host.ip_batch(&[
            &format!("link add eth0 type veth peer name lan0 netns {}", self.lan.name),
            "addr add 172.16.86.250/24 dev eth0",
            "addr add 2001:db8:abc8::250/64 dev eth0 nodad",
            "link set eth0 up",
        ]);
        self.lan.ip_batch(&[
            "addr add 172.16.86.1/24 dev lan0",
            "addr add 2001:db8:abc8::10/64 dev lan0 nodad",
            "link set lan0 up",
        ]);
    }

    /// A bed with the first network of Docker's page, made by its command line; `more` goes before the name.
    #[track_caller]
    pub fn with_pub_net(driver: &str, more: &str) -> Self {
        let bed = Self::new();
        bed.create(&format!(
            "-d {driver} --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 {more} pub_net"
        ));
        bed
    }

    /// The host's links, addresses and routes, but for what the kernel does by and by.
    pub fn host_state(&self) -> Vec<String> {
        let links: Vec<Value> = serde_json::from_str(&self.host.ip("-json -details link")).unwrap();
        let mut state: Vec<_> = links
            .iter()
            .map(|link| {
                let up = link["flags"].as_array().unwrap().contains(&"UP".into());
                let of = |key: &str| link[key].to_string();
                let said = ["ifindex", "ifname", "address", "mtu", "master", "ifalias"].map(of);
                format!("{} {up}", said.join(" "))
            })
            .collect();
        for shown in ["-oneline -4 addr", "-oneline -6 addr show scope global", "-4 route", "-6 route"] {
            let lines = self.host.ip(shown);
            let lines = lines.lines().filter(|line| !line.starts_with("fe80"));
            state.extend(lines.map(|line| line.replace(" linkdown", "").trim().to_owned()));
        }
        state
    }

    /// A file or folder of this bed: `etc` is the config dir, `run` the state dir, `data` the data dir, `cdi` the CDI
    /// dir.
    pub fn path(&self, name: &str) -> PathBuf {
        let first = name.split('/').next().unwrap();
        let installed = match first {
            "etc" => "/etc/underlay",
            "run" => "/run/underlay",
            "data" => "/var/lib/underlay",
            "cdi" => "/etc/cdi",
            _ => return self.folder.path().join(name),
        };
        match self.installed {
            true => name.replacen(first, installed, 1).into(),
            false => self.folder.path().join(name),
        }
    }

    /// `underlay` on the host of this bed, with its own config and state.
    pub fn underlay(&self, arguments: &str) -> Command {
        let mut command = self.host.command(binary());
        command.args(self.dirs()).args(arguments.split_whitespace());
        command
    }

    /// The arguments that lead `underlay` to the files of this bed.
    pub fn dirs(&self) -> [String; 8] {
        let text = |name| self.path(name).display().to_string();
        let flags = ["--config-dir", "--state-dir", "--data-dir", "--cdi-dir"].map(str::to_owned);
        let [config, state, data, cdi] = flags;
        [config, text("etc"), state, text("run"), data, text("data"), cdi, text("cdi")]
    }

    /// `underlay-runtime`, which is led to the files of this bed by words before the runtime's.
    pub fn wrapper(&self) -> Command {
        let mut command = self.host.command(self.wrapper_path());
        command.args(self.dirs());
        command
    }

    /// A script that is `underlay-runtime` with the files of this bed, for engines that give a runtime no words.
    pub fn wrapper_script(&self) -> PathBuf {
        let path = self.path("wrapper");
        if !path.exists() {
            let words = [&[self.wrapper_path().display().to_string()][..], &self.dirs()].concat();
            write_program(&path, &format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")));
        }
        path
    }

    /// The file of `underlay-runtime`: our binary under another name.
    pub fn wrapper_path(&self) -> PathBuf {
        if self.installed {
            return "/usr/bin/underlay-runtime".into();
        }
        let path = self.path("underlay-runtime");
        if !path.exists() {
            std::os::unix::fs::symlink(binary(), &path).unwrap();
        }
        path
    }

    /// The variables that lead the commands of `underlay`, not its hooks, to the files of this bed.
    pub fn variables(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("UNDERLAY_CONFIG_DIR", self.path("etc")),
            ("UNDERLAY_STATE_DIR", self.path("run")),
            ("UNDERLAY_DATA_DIR", self.path("data")),
            ("UNDERLAY_CDI_DIR", self.path("cdi")),
        ]
    }

    /// What the CDI file says, if there is one.
    pub fn cdi(&self) -> Option<Value> {
        let text = fs::read(self.path("cdi/underlay.json")).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    /// The CDI device of a network.
    #[track_caller]
    pub fn device(&self, network: &str) -> Value {
        let spec = self.cdi().expect("there is a CDI file");
        let found = spec["devices"].as_array().unwrap().iter().find(|device| device["name"] == network);
        found.cloned().unwrap_or_else(|| panic!("there is no device {network}: {spec}"))
    }

    /// Runs `underlay`, which must succeed, and returns what it prints.
    #[track_caller]
    pub fn run(&self, arguments: &str) -> String {
        finish(&mut self.underlay(arguments)).unwrap()
    }

    /// Runs `underlay gc`, and returns what it has done. Other tests share the machine: a namespace of theirs that could not
    /// be read keeps leases that have no record, so gc is run again then.
    #[track_caller]
    pub fn gc(&self) -> String {
        let mut done = String::new();
        for _ in 0..5 {
            let outcome = self.outcome("gc", "");
            assert_eq!(outcome.code, 0, "{outcome:?}");
            done += &outcome.stdout;
            if !outcome.stderr.is_empty() {
                eprintln!("gc: {}", outcome.stderr);
            }
            if !["count as alive", "/ns/net"].iter().any(|what| outcome.stderr.contains(what)) {
                break;
            }
            thread::sleep(Duration::from_millis(200));
        }
        done
    }

    /// Runs `underlay` with `stdin`, whatever comes of it.
    pub fn outcome(&self, arguments: &str, stdin: impl AsRef<[u8]>) -> Outcome {
        outcome(&mut self.underlay(arguments), stdin.as_ref())
    }

    /// Creates a network, which must succeed.
    #[track_caller]
    pub fn create(&self, arguments: &str) {
        self.run(&format!("network create {arguments}"));
    }

    /// Writes a file below the config dir.
    pub fn configure(&self, name: &str, text: &str) {
        fs::write(self.path("etc").join(name), text).unwrap();
    }

    /// A container to be started by `engine`.
    pub fn container<'a>(&'a self, engine: Engine, id: &str) -> Builder<'a> {
        Builder::new(self, engine, id)
    }

    /// Whether somebody answers at `address`, as seen from the LAN.
    pub fn answers(&self, address: &str) -> bool {
        self.lan.try_run("busybox", &format!("ping -c 1 -W 5 {address}")).is_ok()
    }

    /// Holds the lock of the ledger, by a write lock of its file as the program takes, until it is dropped.
    pub fn lock(&self) -> fs::File {
        self.lock_file("lock")
    }

    /// Is the agent as far as others can see, by its lock, until it is dropped; and does nothing.
    pub fn be_agent(&self) -> fs::File {
        self.lock_file("agent.lock")
    }

    fn lock_file(&self, name: &str) -> fs::File {
        let path = self.path("run").join(name);
        let file =
            fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).unwrap();
        let mut lock = libc::flock { l_type: 0, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
        lock.l_type = libc::F_WRLCK as i16;
        fcntl(&file, FcntlArg::F_OFD_SETLKW(&lock)).unwrap();
        file
    }

    /// What `underlay ps` knows.
    pub fn ps(&self) -> Vec<Value> {
        serde_json::from_str(&self.run("ps --format json")).unwrap()
    }

    /// The same, but for what no mark tells: which addresses underlay chose, and whether the LAN was asked ahead.
    pub fn rebuildable(&self) -> Vec<Value> {
        let mut all = self.ps();
        for attached in all.iter_mut().flat_map(|record| record["attachments"].as_array_mut().unwrap()) {
            let attached = attached.as_object_mut().unwrap();
            attached.remove("picked");
            attached.remove("asked");
        }
        all
    }

    /// The leases of addresses there are, as `IFINDEX/ADDRESS`.
    pub fn leases(&self) -> Vec<String> {
        self.leased().into_iter().filter(|lease| mac_of(lease).is_none()).collect()
    }

    /// The MAC addresses that are leased.
    pub fn macs(&self) -> Vec<String> {
        self.leased().iter().filter_map(|lease| mac_of(lease)).collect()
    }

    fn leased(&self) -> Vec<String> {
        let mut leases = Vec::new();
        for segment in fs::read_dir(self.path("run/segments")).into_iter().flatten() {
            let segment = segment.unwrap();
            for lease in fs::read_dir(segment.path()).unwrap() {
                let name = lease.unwrap().file_name().into_string().unwrap();
                if name != "segment.json" {
                    leases.push(format!("{}/{name}", segment.file_name().to_str().unwrap()));
                }
            }
        }
        leases.sort();
        leases
    }

    /// The ids of the records there are.
    pub fn records(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("run/containers")).into_iter().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The records of containers whose poststop has left the rest to the agent.
    pub fn ended(&self) -> usize {
        self.ps().iter().filter(|container| container["state"] == "ended").count()
    }

    /// Asserts that the ledger holds nothing, and no half-written file either. An agent may still have to release what was
    /// left to it.
    #[track_caller]
    pub fn assert_nothing_held(&self) {
        wait(|| self.ended() == 0);
        assert_eq!((self.leased(), self.records()), (vec![], vec![]), "leases and records");
    }

    /// What the hook has reported.
    pub fn log(&self) -> String {
        self.outcome("events", "").stdout
    }
}

/// Writes a script that can be run.
pub fn write_program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(&script, text).unwrap();
    place_program(script.path(), path);
}

/// Copies the program `from` to `to`. Another process does: a process that another test has just forked would have the file
/// open for writing for a moment, and the kernel executes none that is (`ETXTBSY`).
pub fn place_program(from: &Path, to: &Path) {
    finish(Command::new("install").args(["-m", "755"]).arg(from).arg(to)).unwrap();
}

/// The MAC address that a lease is of, if it is of one.
fn mac_of(lease: &str) -> Option<String> {
    let name = lease.rsplit('/').next()?;
    let octets: Vec<_> = name.split(':').collect();
    let is_octet = |text: &&str| text.len() == 2 && u8::from_str_radix(text, 16).is_ok();
    (octets.len() == 6 && octets.iter().all(is_octet)).then(|| name.to_owned())
}

/// The binary to test.
pub fn binary() -> PathBuf {
    std::env::var_os("UNDERLAY_BIN").map_or_else(|| env!("CARGO_BIN_EXE_underlay").into(), PathBuf::from)
}

/// Runs a program; its stdout, or what went wrong.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    finish(Command::new(program).args(arguments))
}

/// Runs a command; its stdout, or what went wrong.
pub fn finish(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(stdout);
    }
    Err(format!("{command:?}: {status}\n{stdout}{}", String::from_utf8_lossy(&stderr)))
}

/// Runs a command with `stdin`, whatever comes of it.
pub fn outcome(command: &mut Command, stdin: &[u8]) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // All of it must be taken: a hook that does not read its stdin to the end can kill its runtime.
    pipe.write_all(stdin).unwrap();
    drop(pipe);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Outcome { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
}

/// Links, addresses and routes of this machine, and what the tests have left of namespaces.
pub fn host_network() -> String {
    let mut text = String::new();
    for arguments in [&["-br", "link"][..], &["-br", "addr"], &["route"], &["-6", "route"]] {
        writeln!(text, "{}", run("ip", arguments).unwrap_or_default()).unwrap();
    }
    let own = format!("{PREFIX}-{}-", std::process::id());
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with(&own)) {
            writeln!(text, "{name}").unwrap();
        }
    }
    text
}
