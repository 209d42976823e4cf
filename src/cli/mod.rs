//! The command line: what was typed, which story it starts, what is printed.

mod check;
mod container;
mod hook;
mod network;
mod output;
mod plan;
mod ps;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::announce;
use crate::error::{Kind, Result};
use crate::gc;
use crate::kernel;
use crate::name::ContainerId;
use crate::store::Store;
use output::Format;

/// Gives containers their own place on a physical network: macvlan and ipvlan links, addresses, routes.
#[derive(Debug, Parser)]
#[command(name = "underlay", version, max_term_width = 100)]
struct Cli {
    /// Where networks and settings are defined
    #[arg(long, value_name = "DIR", env = "UNDERLAY_CONFIG_DIR", default_value = "/etc/underlay")]
    config_dir: PathBuf,
    /// Where the ledger is kept
    #[arg(long, value_name = "DIR", env = "UNDERLAY_STATE_DIR", default_value = "/run/underlay")]
    state_dir: PathBuf,
    /// Where it is remembered which address an identity had
    #[arg(long, value_name = "DIR", env = "UNDERLAY_DATA_DIR", default_value = "/var/lib/underlay")]
    data_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Attach or detach a container: called by OCI runtimes, with the container's state on stdin
    Hook {
        /// The stage the runtime is at
        stage: Stage,
    },
    /// Create, list, inspect and remove networks
    #[command(subcommand)]
    Network(network::Command),
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
    /// Take back what dead containers hold, and delete links of ours that nobody needs
    Gc {
        /// Only print what would be done
        #[arg(long)]
        dry_run: bool,
    },
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

/// Runs the command in `args` (the first is the program's name) and returns its exit code: 0 done, 1 failed,
/// 2 wrong usage.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" of code 0, printed on stdout.
            output::usage(&error);
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .parse_default_env()
        .format(|to, record| writeln!(to, "{}", output::diagnostic(record)))
        .init();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(if error.kind() == Kind::Usage { 2 } else { 1 })
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let store = Store::new(cli.config_dir, cli.state_dir, cli.data_dir);
    match cli.command {
        Command::Hook { stage: Stage::CreateRuntime } => hook::create_runtime(&store),
        Command::Hook { stage: Stage::Poststop } => hook::poststop(&store),
        Command::Network(command) => network::run(&store, command),
        Command::Plan(options) => plan::plan(&store, &options),
        Command::Ps { format } => ps::list(&store, format),
        Command::Gc { dry_run } => gc::gc(&store, dry_run)?.iter().try_for_each(|line| output::line(line)),
        Command::Check { container, format } => check::check(&store, container.as_deref(), format),
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
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
