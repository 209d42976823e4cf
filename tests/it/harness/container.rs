//! Containers, started by real engines, or by nothing but a process in its own network namespace.

mod engine;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::bed::{Bed, Outcome, binary, finish, outcome};
use crate::harness::podman;
use crate::harness::rootfs::rootfs;
pub use engine::Engine;

/// A container that is not started yet.
pub struct Builder<'a> {
    bed: &'a Bed,
    engine: Engine,
    id: String,
    annotations: Vec<(String, String)>,
    netns: Option<PathBuf>,
    podman_network: &'static str,
    hooks: bool,
    failing_hook: bool,
    devices: Vec<String>,
    host_name: &'static str,
    resolv_conf: Option<PathBuf>,
    wrapper: Option<PathBuf>,
}

impl<'a> Builder<'a> {
    pub fn new(bed: &'a Bed, engine: Engine, id: &str) -> Self {
        // Engines keep ids for the whole machine: tests run in parallel.
        let id = format!("{id}-{}", bed.host.name);
        Self {
            bed,
            engine,
            id,
            annotations: Vec::new(),
            netns: None,
            podman_network: "none",
            hooks: true,
            failing_hook: false,
            devices: Vec::new(),
            host_name: "test",
            resolv_conf: None,
            wrapper: None,
        }
    }

    /// Asks for networks.
    pub fn networks(self, value: &str) -> Self {
        self.annotation("io.underlay.networks", value)
    }

    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Puts the container into a namespace that is there.
    pub fn in_netns(mut self, path: PathBuf) -> Self {
        self.netns = Some(path);
        self
    }

    /// Attaches it to a network of podman's too.
    pub fn podman_network(mut self, name: &'static str) -> Self {
        self.podman_network = name;
        self
    }

    pub fn without_hooks(mut self) -> Self {
        self.hooks = false;
        self
    }

    /// Gives it the CDI device of a network.
    pub fn device(mut self, network: &str) -> Self {
        self.devices.push(network.to_owned());
        self
    }

    /// Gives it another host name than `test`. podman has its own.
    pub fn host_name(mut self, name: &'static str) -> Self {
        self.host_name = name;
        self
    }

    /// Has its config.json say that the file `path` of the host is mounted as `/etc/resolv.conf`, as Docker does.
    pub fn with_resolv_conf(mut self, path: &Path) -> Self {
        self.resolv_conf = Some(path.to_owned());
        self
    }

    /// Without hooks of its own, and started by `underlay-runtime`.
    pub fn wrapped(self) -> Self {
        let wrapper = self.bed.wrapper_script();
        self.wrapped_by(&wrapper)
    }

    /// Without hooks of its own, and started by `runtime`, which comes to `underlay-runtime`.
    pub fn wrapped_by(mut self, runtime: &Path) -> Self {
        self.wrapper = Some(runtime.to_owned());
        self.without_hooks()
    }

    /// Another createRuntime hook after ours, which fails.
    pub fn with_failing_hook(mut self) -> Self {
        self.failing_hook = true;
        self
    }

    /// Starts it; what the engine said, if it did not start.
    pub fn start(self) -> Result<Container<'a>, String> {
        match self.engine {
            Engine::Bare => self.start_bare(),
            Engine::Crun | Engine::Runc => self.start_by_runtime(),
            Engine::Podman => self.start_by_podman(),
        }
    }

    fn start_bare(self) -> Result<Container<'a>, String> {
        let mut command = match &self.netns {
            Some(path) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", path.display()));
                command
            }
            None => {
                let mut command = self.bed.host.command("unshare");
                command.arg("--net");
                command
            }
        };
        let bundle = self.write_bundle();
        command.args(["sleep", "1000"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let pid = child.id() as i32;
        let mut container =
            Container { bed: self.bed, engine: self.engine, id: self.id, pid, bundle, child: Some(child) };
        // Until the program runs, the process is still on its way into the namespace.
        wait(|| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n"));
        let devices = self.devices.iter().map(|name| format!("createRuntime --network {name}"));
        for stage in devices.chain(self.hooks.then(|| "createRuntime".to_owned())) {
            let made = container.hook(&stage);
            if made.code != 0 {
                container.kill();
                return Err(made.stderr);
            }
        }
        Ok(container)
    }

    fn start_by_runtime(self) -> Result<Container<'a>, String> {
        let bundle = self.write_bundle();
        let root = runtime_root(self.bed, self.engine);
        let program = self.wrapper.clone().unwrap_or_else(|| self.engine.program().into());
        let mut command = self.bed.host.command(program);
        command
            .arg("--root")
            .arg(&root)
            .arg("run")
            .arg("--detach")
            .arg("--bundle")
            .arg(&bundle)
            .arg(&self.id);
        // Into a file: the container keeps the descriptors.
        let log = self.bed.path(&format!("{}.log", self.id));
        let file = fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let status = command.status().unwrap();
        if !status.success() {
            // What is left of it, if anything, is not ours to keep.
            let _ = finish(runtime(self.bed, self.engine).args(["delete", "--force", &self.id]));
            return Err(fs::read_to_string(log).unwrap());
        }
        let state = finish(runtime(self.bed, self.engine).args(["state", &self.id]))?;
        let state: Value = serde_json::from_str(&state).unwrap();
        let pid = state["pid"].as_i64().unwrap() as i32;
        Ok(Container { bed: self.bed, engine: self.engine, id: self.id, pid, bundle, child: None })
    }

    fn start_by_podman(self) -> Result<Container<'a>, String> {
        let bundle = self.bed.path(&format!("{}.bundle", self.id));
        let hooks = bundle.join("hooks");
        fs::create_dir_all(&bundle).unwrap();
        match self.hooks {
            // Those of the package podman finds by itself.
            true if self.bed.installed => {}
            true => podman::write_hooks(self.bed, &bundle),
            false => fs::create_dir(&hooks).unwrap(),
        }
        if self.failing_hook {
            let failing = json!({
                "version": "1.0.0", "hook": {"path": "/bin/false"},
                "when": {"always": true}, "stages": ["createRuntime"],
            });
            fs::write(hooks.join("zz.json"), failing.to_string()).unwrap();
        }
        let mut command = podman::with_hooks(self.bed, &bundle);
        command.args(["run", "--detach", "--name", &self.id]);
        command.arg("--pidfile").arg(bundle.join("pid"));
        match &self.netns {
            Some(path) => command.arg(format!("--network=ns:{}", path.display())),
            None => command.arg(format!("--network={}", self.podman_network)),
        };
        for network in &self.devices {
            command.arg(format!("--device=underlay.io/net={network}"));
        }
        for (key, value) in &self.annotations {
            let annotation = format!("{key}={value}");
            command.arg("--annotation").arg(match annotation.contains('"') && podman::splits_annotations() {
                true => format!("\"{}\"", annotation.replace('"', "\"\"")),
                false => annotation,
            });
        }
        command.arg("--rootfs").arg(format!("{}:O", rootfs().display())).args(["sleep", "1000"]);
        match finish(&mut command) {
            Ok(id) => Ok(Container {
                bed: self.bed,
                engine: Engine::Podman,
                id: id.trim().to_owned(),
                pid: podman::pid(&bundle),
                bundle,
                child: None,
            }),
            Err(error) => {
                let _ = finish(podman::podman(self.bed).args(["rm", "--force", &self.id]));
                Err(error)
            }
        }
    }

    fn write_bundle(&self) -> PathBuf {
        let bundle = self.bed.path(&format!("{}.bundle", self.id));
        fs::create_dir_all(&bundle).unwrap();
        fs::write(bundle.join("config.json"), serde_json::to_vec(&self.config()).unwrap()).unwrap();
        bundle
    }

    /// A config.json that crun and runc take.
    fn config(&self) -> Value {
        let hook = |stage: &str| {
            let mut arguments = vec!["underlay".to_owned()];
            arguments.extend(self.bed.dirs());
            arguments.extend(["hook".to_owned(), stage.to_owned()]);
            json!({"path": binary(), "args": arguments, "timeout": 60})
        };
        let mut hooks = json!({"createRuntime": [], "poststop": []});
        let mut add = |stage: &str, hook: Value| hooks[stage].as_array_mut().unwrap().push(hook);
        // An engine appends the edits of the devices, in the order they are named.
        for network in &self.devices {
            for mut hook in self.bed.device(network)["containerEdits"]["hooks"].as_array().unwrap().clone() {
                let stage = hook.as_object_mut().unwrap().remove("hookName").unwrap();
                add(stage.as_str().unwrap(), hook);
            }
        }
        if self.hooks {
            add("createRuntime", hook("createRuntime"));
            add("poststop", hook("poststop"));
        }
        if self.failing_hook {
            add("createRuntime", json!({"path": "/bin/false"}));
        }
        let mut network = json!({"type": "network"});
        if let Some(path) = &self.netns {
            network["path"] = path.display().to_string().into();
        }
        let annotations: serde_json::Map<_, _> =
            self.annotations.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        let mut config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sleep", "1000"],
                "env": ["PATH=/bin"], "noNewPrivileges": true,
            },
            "root": {"path": rootfs(), "readonly": true},
            "hostname": self.host_name,
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            ],
            "hooks": hooks,
            "annotations": annotations,
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, network]},
        });
        if let Some(path) = &self.resolv_conf {
            let mount = json!({"destination": "/etc/resolv.conf", "type": "bind", "source": path, "options": ["rbind"]});
            config["mounts"].as_array_mut().unwrap().push(mount);
        }
        config
    }
}

/// A running container; gone when dropped, if it is not stopped before.
pub struct Container<'a> {
    bed: &'a Bed,
    pub engine: Engine,
    pub id: String,
    pub pid: i32,
    /// Its bundle; with podman, the folder of its hooks and its pid.
    pub bundle: PathBuf,
    child: Option<Child>,
}

impl<'a> Container<'a> {
    /// One that somebody else has started, and takes away.
    pub fn of_another(bed: &'a Bed, id: String, pid: i32) -> Self {
        Self { bed, engine: Engine::Bare, id, pid, bundle: PathBuf::new(), child: None }
    }
}

impl Container<'_> {
    /// Runs a program of this machine in the container's network namespace.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &str) -> String {
        self.try_run(program, arguments).unwrap()
    }

    pub fn try_run(&self, program: &str, arguments: &str) -> Result<String, String> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--net", program]);
        finish(command.args(arguments.split_whitespace()))
    }

    /// What `ip -json` says in the container, but for the operational state: the kernel gets round to it later.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> Value {
        let mut links: Value =
            serde_json::from_str(&self.run("ip", &format!("-json -details {arguments}"))).unwrap();
        for link in links.as_array_mut().unwrap() {
            link.as_object_mut().unwrap().remove("operstate");
        }
        links
    }

    /// The names of its links but `lo`, in the order of their numbers.
    pub fn links(&self) -> Vec<String> {
        let links = self.ip("link");
        let names = links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned());
        names.filter(|name| name != "lo").collect()
    }

    /// What `ip addr` says of one link.
    #[track_caller]
    pub fn link(&self, name: &str) -> Value {
        let all = self.ip("addr");
        let found = all.as_array().unwrap().iter().find(|link| link["ifname"] == name).cloned();
        found.unwrap_or_else(|| panic!("there is no link {name}: {all}"))
    }

    /// The addresses of `link` with their prefix lengths, link-local ones left out.
    pub fn addresses(&self, link: &str) -> Vec<String> {
        let found = self.link(link);
        let addresses = found["addr_info"].as_array().unwrap().iter();
        let global = addresses.filter(|address| address["scope"] == "global");
        global.map(|a| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"])).collect()
    }

    /// The lines of `ip route` (`family` is `-4` or `-6`), without those of link-local addresses.
    pub fn routes(&self, family: &str) -> Vec<String> {
        let routes = self.run("ip", &format!("{family} route"));
        routes.lines().map(|line| line.trim().to_owned()).filter(|line| !line.starts_with("fe80")).collect()
    }

    /// Whether a ping reaches `address`.
    pub fn reaches(&self, address: &str) -> bool {
        self.try_run("busybox", &format!("ping -c 1 -W 5 {address}")).is_ok()
    }

    /// The OCI state as crun gives it.
    pub fn state(&self, pid: i32, status: &str) -> String {
        json!({
            "ociVersion": "1.0", "id": self.id, "pid": pid, "root": rootfs(), "bundle": self.bundle, "status": status,
        })
        .to_string()
    }

    /// Calls the hook as a runtime would: without environment.
    pub fn hook(&self, stage: &str) -> Outcome {
        let mut command = self.bed.underlay(&format!("hook {stage}"));
        outcome(command.env_clear(), self.state_at(stage).as_bytes())
    }

    /// The OCI state at a stage, as crun gives it.
    pub fn state_at(&self, stage: &str) -> String {
        match stage.split(' ').next().unwrap() {
            "poststop" => self.state(0, "stopped"),
            _ => self.state(self.pid, "created"),
        }
    }

    /// Kills its process, without a word to the engine.
    pub fn kill(&mut self) {
        match &mut self.child {
            Some(child) => {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            None => {
                let _ = finish(Command::new("kill").args(["-9", &self.pid.to_string()]));
            }
        }
        let gone = format!("/proc/{}/ns/net", self.pid);
        wait(|| !Path::new(&gone).exists());
    }

    /// Leaves it, dead, as it is: nobody calls poststop any more.
    pub fn forget(mut self) {
        assert_eq!(self.engine, Engine::Bare);
        self.child = None;
    }

    /// Stops it the engine's way.
    #[track_caller]
    pub fn stop(mut self) {
        self.stop_by_engine().unwrap();
    }

    fn stop_by_engine(&mut self) -> Result<(), String> {
        match self.engine {
            Engine::Bare => {
                if self.child.is_some() {
                    self.kill();
                    self.child = None;
                    let outcome = self.hook("poststop");
                    if outcome.code != 0 || !outcome.stderr.is_empty() {
                        return Err(format!("{outcome:?}"));
                    }
                }
            }
            Engine::Crun | Engine::Runc => {
                finish(runtime(self.bed, self.engine).args(["delete", "--force", &self.id]))?;
            }
            Engine::Podman => {
                finish(podman::podman(self.bed).args(["rm", "--force", "--time", "0", &self.id]))?;
            }
        }
        Ok(())
    }

    /// Restarts it, which only podman does.
    #[track_caller]
    pub fn restart(&mut self) {
        assert_eq!(self.engine, Engine::Podman);
        let mut command = podman::with_hooks(self.bed, &self.bundle);
        let restarted = finish(command.args(["restart", "--time", "0", &self.id]));
        assert!(restarted.is_ok(), "{restarted:?}\n{}", self.bed.log());
        self.pid = podman::pid(&self.bundle);
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.stop_by_engine();
    }
}

/// Waits until `done`, or panics after a minute.
#[track_caller]
pub fn wait(done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "waited for a minute in vain");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Where the repository's files are: beside the tests, or where the guest has them.
pub fn repository() -> PathBuf {
    std::env::var_os("UNDERLAY_REPOSITORY").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

fn runtime_root(bed: &Bed, engine: Engine) -> PathBuf {
    bed.path(engine.program())
}

fn runtime(bed: &Bed, engine: Engine) -> Command {
    let mut command = bed.host.command(engine.program());
    command.arg("--root").arg(runtime_root(bed, engine));
    command
}
