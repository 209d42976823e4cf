//! The command line: one file for each subcommand. It reads arguments, calls `lifecycle` or `diagnose`, and prints.
//!
//! `hook.rs` has both stages of the OCI hook, `runtime.rs` is `underlay-runtime`, `output.rs` the only door to stdout and
//! stderr.

mod boot;
mod cdi;
mod check;
mod container;
mod doctor;
mod events;
mod folders;
mod gc;
mod hook;
mod metrics;
mod network;
mod output;
mod plan;
mod ps;
mod runtime;

use std::ffi::OsString;
use std::mem::ManuallyDrop;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::error::{Kind, Result};
use crate::kernel;
use crate::lifecycle::announce;
use crate::net::name::{ContainerId, NetworkName};
use folders::{Folders, of_environment};
use output::Format;

/// Gives containers their own place on a physical network: macvlan and ipvlan links, addresses, routes.
#[derive(Debug, Parser)]
#[command(name = "underlay", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    folders: Folders,
    #[command(subcommand)]
    command: Command,
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
    /// Say why packets do not flow, and what fixes it; exit code 1 if anything is worse than a note
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
