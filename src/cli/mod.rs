//! The command line: one file for each subcommand. It reads arguments, calls `lifecycle` or `diagnose`, and prints.
//!
//! `hook.rs` has both stages of the OCI hook, `runtime.rs` is `underlay-runtime`, and only `output.rs` writes to stdout and
//! stderr.

mod argument;
mod boot;
mod cdi;
mod check;
mod container;
mod docker;
mod doctor;
mod events;
mod folders;
mod gc;
mod hook;
mod leases;
mod metrics;
mod netavark;
mod network;
mod output;
mod plan;
mod ps;
mod runtime;

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::error::Result;
use crate::kernel;
use crate::lifecycle::agent;
use crate::net::name::{Identity, NetworkName};
use folders::{Folders, of_environment};
use output::Listing;

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
        /// The stage of the OCI runtime specification
        stage: Stage,
        /// Attach it to this network too: given by the hooks of CDI devices
        #[arg(long, value_name = "NAME")]
        network: Option<NetworkName>,
    },
    /// Create, list, inspect and remove networks
    #[command(subcommand)]
    Network(network::Command),
    /// Write the CDI file, which makes networks devices of Docker and podman, and print its path
    Cdi,
    /// Print what the hook would do for a container, as shell commands, and change nothing
    Plan(plan::Plan),
    /// List what is attached: containers, networks, interfaces, addresses
    Ps(Listing),
    /// Compare the ledger with the kernel, and print each difference; exit code 1 if there are any
    Check {
        /// Only this container: id, or the beginning of it
        container: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// List events: attaches, detaches, conflicts, failures, what was reclaimed
    Events(Listing),
    /// Print addresses in use and free, and numbers of events, for Prometheus
    Metrics,
    /// Find out why packets do not flow, and print what fixes it; exit code 1 if anything is worse than a note
    Doctor(doctor::Doctor),
    /// Reclaim what dead containers hold, and delete links of underlay that nothing needs
    Gc(gc::Gc),
    /// Recreate the networks' links on the host after a reboot, and collect garbage
    ///
    /// Makes VLANs and dummy links, and the host's own link of each network whose host_access names all its addresses.
    /// Prints what was done as shell commands. If one network fails, the others are made all the same, and the exit
    /// code is 1.
    Boot,
    /// Announce addresses again, and ask the LAN for those in use and the next ones: run by underlay-agent.service
    ///
    /// It serves all containers of this host, and ends ten seconds after the last one.
    Agent {
        /// Do what is due now, and end: for hosts without systemd, from cron or any supervisor
        #[arg(long)]
        once: bool,
    },
    /// Serve Docker as its network and IPAM driver `underlay`: run by underlay-docker.service
    ///
    /// It ends when no call comes for a while, and is started again with the next one.
    DockerPlugin(docker::DockerPlugin),
    /// Print the path of the file with the name servers of an identity, for engines to mount as /etc/resolv.conf
    ///
    /// The file is made if it is missing. Once a container of the identity has an address by DHCP, it has the name servers that
    /// the DHCP server tells.
    ResolvConf {
        /// What the containers have as io.underlay.identity
        #[arg(value_parser = argument::hinted::<Identity>)]
        identity: Identity,
    },
    /// Serve podman's networks of driver underlay: called by netavark, podman's network stack
    #[command(subcommand)]
    Netavark(netavark::Called),
    /// Show all that is known of one container, as JSON
    Inspect {
        /// Container id, or the beginning of it
        container: String,
        /// How to print it
        #[arg(long, value_parser = ["json"], default_value = "json")]
        format: String,
    },
}

/// The stages of the OCI runtime specification that underlay serves.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "camelCase")]
enum Stage {
    CreateRuntime,
    Poststop,
}

/// The command line, from which manual pages and completions are made.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command in `args` (the first is the program's name) and returns its exit code: 0, or that of the kind of
/// error. To be called first: it also does what Rust's own start would do.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    kernel::init_process();
    let args = netavark::as_command(args.into_iter().collect());
    if runtime::is_meant(&args) {
        return runtime::main(&args);
    }
    let cli = match plain_hook(&args).map_or_else(|| Cli::try_parse_from(args), Ok) {
        Ok(cli) => cli,
        Err(error) => {
            // For clap, help and version are errors with exit code 0.
            output::usage(&error);
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    output::begin_log();
    // podman shows what is told on stdout, and stderr besides.
    let is_told = matches!(cli.command, Command::Netavark(_));
    match run(cli) {
        Ok(()) => 0,
        Err(error) => {
            if !is_told {
                output::error(&error);
            }
            error.kind().exit_code()
        }
    }
}

/// Parses the command line of hook files and CDI files: `underlay hook STAGE [--network NAME]`. With clap, parsing would be a
/// quarter of a hook's own work.
fn plain_hook(args: &[OsString]) -> Option<Cli> {
    let (hook, stage, network) = match args {
        [_, hook, stage] => (hook, stage, None),
        [_, hook, stage, flag, name] if flag == "--network" => {
            (hook, stage, Some(name.to_str()?.parse().ok()?))
        }
        _ => return None,
    };
    let stage = Stage::from_str(stage.to_str()?, false).ok()?;
    (hook == "hook").then(|| Cli { folders: Folders::default(), command: Command::Hook { stage, network } })
}

fn run(cli: Cli) -> Result<()> {
    let store = match cli.command {
        // The environment is the caller's.
        Command::Hook { .. } | Command::Netavark(_) => cli.folders.store(|_| None),
        _ => cli.folders.store(of_environment),
    };
    match cli.command {
        Command::Hook { stage: Stage::CreateRuntime, network } => {
            hook::create_runtime(&store, network.as_ref())
        }
        Command::Hook { stage: Stage::Poststop, .. } => hook::poststop(&store),
        Command::Network(command) => network::run(&store, command),
        Command::Cdi => cdi::write(&store),
        Command::Plan(options) => plan::plan(&store, &options),
        Command::Ps(Listing { format }) => ps::list(&store, format),
        Command::Gc(options) => gc::gc(&store, &options),
        Command::Events(Listing { format }) => events::list(&store, format),
        Command::Metrics => metrics::print(&store),
        Command::Boot => boot::boot(&store),
        Command::Check { container, listing } => check::check(&store, container.as_deref(), listing.format),
        Command::Doctor(options) => doctor::doctor(&store, options),
        Command::Agent { once: false } => agent::run(&store),
        Command::Agent { once: true } => agent::run_once(&store),
        Command::DockerPlugin(options) => docker::plugin(&store, &options),
        Command::ResolvConf { identity } => {
            output::line(&store.make_resolv_conf(&identity)?.display().to_string())
        }
        Command::Netavark(called) => netavark::answer(&store, &called),
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
