//! Writes manual pages into the folder `man` of its argument, and completions into `completions`.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

fn main() -> io::Result<()> {
    let into: Option<OsString> = env::args_os().nth(1);
    let into = PathBuf::from(into.ok_or_else(|| io::Error::other("usage: underlay-generate DIR"))?);
    let folder = |name: &str| {
        let folder = into.join(name);
        fs::create_dir_all(&folder).map(|()| folder)
    };
    let mut command = underlay::cli::command().disable_help_subcommand(true);
    command.build();
    manual(&command, &folder("man")?)?;
    let completions = folder("completions")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut for_people(&underlay::cli::command()), "underlay", &completions)?;
    }
    Ok(())
}

/// The command without what is hidden, which completions would offer.
fn for_people(command: &clap::Command) -> clap::Command {
    let shown = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    clap::Command::new("underlay").args(command.get_arguments()).subcommands(shown)
}

/// A page for `command` and one for each of its subcommands that people call.
fn manual(command: &clap::Command, into: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        manual(subcommand, into)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name());
    let page = Man::new(command.clone()).section("1").manual("underlay");
    let mut file = File::create(into.join(page.get_filename()))?;
    page.render(&mut file)?;
    more(name).to_writer(&mut file)?;
    file.flush()
}

/// What the definition of the command line does not tell.
fn more(name: &str) -> Roff {
    let mut more = Roff::new();
    let found = match name {
        "underlay-check" => "1: failed, or there are differences.",
        "underlay-doctor" => "1: failed, or something is worse than a note.",
        "underlay-boot" => "1: something could not be made; the rest is done.",
        "underlay" => "1: failed, or check, doctor or boot have found what is not as it should be.",
        _ => "1: failed.",
    };
    let status = format!("0: done. {found} 2: wrong usage. 70: a fault of underlay itself.");
    more.control("SH", ["EXIT STATUS"]).text([roman(status)]);
    if name != "underlay" {
        more.control("SH", ["SEE ALSO"]).text([bold("underlay"), roman("(1)")]);
        return more;
    }
    more.control("SH", ["FILES"]);
    for (path, what) in [
        ("/etc/underlay/networks/NAME.json", "The definition of a network: docs/reference/network-file.md."),
        ("/etc/underlay/underlay.json", "Settings and policy, optional."),
        ("/run/underlay", "The ledger: who has which address. A reboot forgets it with the links."),
        ("/run/underlay/events, events.old", "What the hook did, and why it failed: `underlay events` shows it."),
        ("/run/underlay/lock, lock.1", "By the first that is not sticky the ledger is locked; whoever can write it can."),
        ("/run/underlay/dns/by-identity/NAME/resolv.conf", "The name servers of a DHCP lease, for a container to mount."),
        ("/etc/cdi/underlay.json", "The networks as devices, for Docker, podman and CRI-O."),
        ("/var/lib/underlay", "Which addresses a container had: losing it harms nobody."),
        ("/var/lib/underlay/host", "A key of root's, and the machine id: to be in no image that is cloned."),
        ("/usr/share/containers/oci/hooks.d/underlay-*.json", "By these podman and CRI-O call the hook."),
    ] {
        more.control("TP", []).text([bold(path)]).text([roman(what)]);
    }
    more.control("SH", ["ANNOTATIONS"]);
    for (key, what) in [
        ("io.underlay.networks", "The networks that a container is attached to: pub_net:ip=172.16.86.10;san."),
        ("io.underlay.identity", "Who it is when it comes again: the same addresses and MAC address."),
        ("io.underlay.network.NAME", "A network defined by the annotation, where the settings allow that."),
    ] {
        more.control("TP", []).text([bold(key)]).text([roman(what)]);
    }
    more.control("SH", ["SEE ALSO"]);
    more.text([roman("podman-run(1), oci-hooks(5), ip-link(8), and the pages of docs/.")]);
    more
}
