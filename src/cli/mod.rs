//! The command line: what was typed, which story it starts, what is printed.

mod boot;
mod cdi;
mod check;
mod container;
mod doctor;
mod events;
mod gc;
mod hook;
mod metrics;
mod network;
mod output;
mod plan;
mod ps;
mod runtime;

use std::env;
use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::path::{self, Path, PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::error::{Error, Kind, Result};
use crate::kernel;
use crate::ledger::Store;
use crate::lifecycle::announce;
use crate::net::name::{ContainerId, NetworkName};
use crate::oci::own_hooks::Program;
use output::Format;

/// The variables that name our folders, and where those are without them.
const CONFIG_DIR: (&str, &str) = ("UNDERLAY_CONFIG_DIR", "/etc/underlay");
const STATE_DIR: (&str, &str) = ("UNDERLAY_STATE_DIR", "/run/underlay");
const DATA_DIR: (&str, &str) = ("UNDERLAY_DATA_DIR", "/var/lib/underlay");
const CDI_DIR: (&str, &str) = ("UNDERLAY_CDI_DIR", "/etc/cdi");

/// Gives containers their own place on a physical network: macvlan and ipvlan links, addresses, routes.
#[derive(Debug, Parser)]
#[command(name = "underlay", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    folders: Folders,
    #[command(subcommand)]
    command: Command,
}

/// Where our files are. In a hook nothing but its arguments says so: its environment is the runtime's, and may be another
/// at the next stage.
#[derive(Debug, Default, Args)]
struct Folders {
    /// Where networks and settings are defined [env: UNDERLAY_CONFIG_DIR] [default: /etc/underlay]
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// Where the ledger is kept [env: UNDERLAY_STATE_DIR] [default: /run/underlay]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where it is remembered which address an identity had [env: UNDERLAY_DATA_DIR] [default: /var/lib/underlay]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where Docker and podman are told that networks are devices [env: UNDERLAY_CDI_DIR] [default: /etc/cdi, or cdi in
    /// another config dir]
    #[arg(long, value_name = "DIR")]
    cdi_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Attach or detach a container: called by OCI runtimes, with the container's state on stdin
    Hook {
        /// The stage the runtime is at
        stage: Stage,
        /// Attach it to this network too: as the hooks of CDI devices do
        #[arg(long, value_name = "NAME")]
        network: Option<NetworkName>,
    },
    /// Create, list, inspect and remove networks
    #[command(subcommand)]
    Network(network::Command),
    /// Write the CDI file, by which networks are devices for Docker and podman, and print where it is
    Cdi,
    /// Print what the hook would do for a container, as shell commands, and do nothing
    Plan(plan::Plan),
    /// List what is attached: containers, networks, interfaces, addresses
    Ps {
        /// How to print it
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Compare the ledger with the kernel, and print each difference; exit code 1 if there are any
    Check {
        /// Only of this container: its id, or the beginning of it
        container: Option<String>,
        /// How to print it
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// List what has happened: attaches, detaches, conflicts, failures, what was taken back
    Events {
        /// How to print it
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Print addresses in use and free, and how many events there were, for Prometheus
    Metrics,
    /// Say why packets do not flow, and what mends it; exit code 1 if anything is worse than a note
    Doctor(doctor::Doctor),
    /// Take back what dead containers hold, and delete links of ours that nobody needs
    Gc(gc::Gc),
    /// Make again, after a reboot, what of the networks lies on the host, and collect the garbage
    ///
    /// VLANs and dummy links are made, and the host's own link of each network whose host_access names all its
    /// addresses. What was done is printed as shell commands. What is wrong with one network does not keep the
    /// others from being made; the exit code is 1 then.
    Boot,
    /// Say again where a container's addresses are: started by the hook
    #[command(hide = true)]
    Announce {
        /// Its id
        container: ContainerId,
    },
    /// Show all that is known of one container, as JSON
    Inspect {
        /// Its id, or the beginning of it
        container: String,
        /// How to print it
        #[arg(long, value_parser = ["json"], default_value = "json")]
        format: String,
    },
}

/// The stages of the OCI runtime specification that underlay serves.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Stage {
    #[value(name = "createRuntime")]
    CreateRuntime,
    #[value(name = "poststop")]
    Poststop,
}

/// The command line, from which manual pages and completions are made.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command in `args` (the first is the program's name) and returns its exit code: 0 done, 1 failed,
/// 2 wrong usage. It is the first that is called: what Rust's own start would see to is done here.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    kernel::start();
    let args: Vec<_> = args.into_iter().collect();
    if runtime::is_meant(&args) {
        return runtime::main(&args);
    }
    let cli = match plain_hook(&args).map_or_else(|| Cli::try_parse_from(args), Ok) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" of code 0, printed on stdout.
            output::usage(&error);
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    output::begin_log();
    match run(cli) {
        Ok(()) => 0,
        Err(error) => {
            output::error(&error);
            if error.kind() == Kind::Usage { 2 } else { 1 }
        }
    }
}

/// The command line as hook files and CDI files have it, which needs no parser: `underlay hook STAGE [--network NAME]`.
/// What clap would read of it is a quarter of a hook's own work.
fn plain_hook(args: &[OsString]) -> Option<Cli> {
    let (hook, stage, network) = match args {
        [_, hook, stage] => (hook, stage, None),
        [_, hook, stage, flag, name] if flag == "--network" => {
            (hook, stage, Some(name.to_str()?.parse().ok()?))
        }
        _ => return None,
    };
    let stage = match stage.to_str()? {
        "createRuntime" => Stage::CreateRuntime,
        "poststop" => Stage::Poststop,
        _ => return None,
    };
    (hook == "hook").then(|| Cli { folders: Folders::default(), command: Command::Hook { stage, network } })
}

impl Folders {
    /// The store that lies there; `named` tells the value of a variable, where no argument names the folder. Networks that
    /// are defined elsewhere are no devices of this machine's engines, whose file would lose those of the default folder.
    fn store(self, named: impl Fn(&str) -> Option<PathBuf>) -> Store {
        let folder = |argument: Option<PathBuf>, (variable, default): (&str, &str)| {
            argument.or_else(|| named(variable)).unwrap_or_else(|| PathBuf::from(default))
        };
        let config_dir = folder(self.config_dir, CONFIG_DIR);
        let cdi_dir = self.cdi_dir.or_else(|| named(CDI_DIR.0));
        let cdi_dir = cdi_dir.unwrap_or_else(|| match config_dir == Path::new(CONFIG_DIR.1) {
            true => PathBuf::from(CDI_DIR.1),
            false => config_dir.join("cdi"),
        });
        Store::new(config_dir, folder(self.state_dir, STATE_DIR), folder(self.data_dir, DATA_DIR), cdi_dir)
    }
}

/// The folder that the environment names.
fn of_environment(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// How hooks are to call this program, so that they use the folders of `store`.
fn program(store: &Store) -> Result<Program> {
    let path = env::current_exe().map_err(|error| Error::io("read", "/proc/self/exe".as_ref(), &error))?;
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| {
            Error::input(format!("{} is no text, as the arguments of hooks are", path.display()))
                .hint("use a path of UTF-8 characters")
        })
    };
    text(&path)?;
    let names = [("--config-dir", CONFIG_DIR), ("--state-dir", STATE_DIR), ("--data-dir", DATA_DIR)];
    let mut options = Vec::new();
    for (folder, (option, (_, default))) in store.dirs().into_iter().zip(names) {
        if folder != Path::new(default) {
            let folder = path::absolute(folder).map_err(|error| Error::io("find", folder, &error))?;
            options.extend([option.to_owned(), text(&folder)?]);
        }
    }
    Ok(Program { path, options })
}

fn run(cli: Cli) -> Result<()> {
    // What it has open is left to the kernel, which closes all at once.
    let store = match cli.command {
        Command::Hook { .. } | Command::Announce { .. } => cli.folders.store(|_| None),
        _ => cli.folders.store(of_environment),
    };
    let store = ManuallyDrop::new(store);
    match cli.command {
        Command::Hook { stage: Stage::CreateRuntime, network } => {
            hook::create_runtime(&store, network.as_ref())
        }
        Command::Hook { stage: Stage::Poststop, .. } => hook::poststop(&store),
        Command::Network(command) => network::run(&store, command),
        Command::Cdi => cdi::write(&store),
        Command::Plan(options) => plan::plan(&store, &options),
        Command::Ps { format } => ps::list(&store, format),
        Command::Gc(options) => gc::gc(&store, &options),
        Command::Events { format } => events::list(&store, format),
        Command::Metrics => metrics::print(&store),
        Command::Boot => boot::boot(&store),
        Command::Check { container, format } => check::check(&store, container.as_deref(), format),
        Command::Doctor(options) => doctor::doctor(&store, options),
        Command::Announce { container } => {
            kernel::detach_self();
            announce::announce(&store, &container)
        }
        Command::Inspect { container, .. } => ps::inspect(&store, &container),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_hook_without_parser_is_the_same() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for line in [
            "underlay hook createRuntime",
            "/usr/bin/underlay hook poststop",
            "underlay hook createRuntime --network lan",
            "underlay hook poststop --network lan",
        ] {
            let parsed = Cli::try_parse_from(words(line)).unwrap();
            assert_eq!(format!("{:?}", plain_hook(&words(line)).unwrap()), format!("{parsed:?}"));
        }
        for line in [
            "underlay hook",
            "underlay hook poststart",
            "underlay network ls",
            "underlay hook poststop x",
            "underlay hook poststop --network a/b",
        ] {
            assert!(plain_hook(&words(line)).is_none(), "{line}");
        }
    }
}
