//! The agent: whether it does what is due after attaches and stops.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::config::conflict_detection::MOST_ANNOUNCEMENTS;
use crate::diagnose::finding::{Area, Finding, Fix, Severity};
use crate::diagnose::system::System;
use crate::escape::shell::Line;
use crate::ledger::Store;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::announce;

/// How long an agent may take to start, and to ask the LAN.
const PATIENCE: Duration = Duration::from_secs(30);

const UNIT: &str = "underlay-agent.path";

/// What keeps the agent of `system` from its work.
pub(super) fn agent(store: &Store, system: &System) -> Option<Finding> {
    let (overdue, has_unit) = (overdue(store), has_unit(system));
    let is_inactive = has_unit && !is_active(system);
    let waiting =
        if overdue == 1 { "one container waits".to_owned() } else { format!("{overdue} containers wait") };
    let what = match (overdue, is_inactive) {
        (0, false) => return None,
        (0, true) => format!("{UNIT} is not active: nothing starts the agent"),
        (_, true) => format!("{UNIT} is not active, and {waiting} for the agent"),
        (_, false) => format!("{waiting} for the agent, which does not come"),
    };
    let why = "addresses are announced once only, and nobody asks the LAN for those that an attach did not wait for: a neighbour \
               may keep an old MAC address, and two hosts may have one address; what ended containers have left stays";
    let fix = units_fix(system).unwrap_or_else(|| Line::of("underlay agent --once").into());
    Some(Finding::new((Area::Agent, Severity::Warning, "agent"), what, why, fix))
}

/// What to do about an agent that does not come, if `system` has its units, and systemd to start them.
pub(super) fn units_fix(system: &System) -> Option<Fix> {
    has_unit(system).then_some(())?;
    match is_active(system) {
        false => Some(Line::of("systemctl enable --now underlay-agent.path").into()),
        true => is_booted(system).then(|| "see `journalctl -u underlay-agent` for why it ends".into()),
    }
}

/// How many tasks an agent should have finished with by now. Those that cannot be read are told of elsewhere.
fn overdue(store: &Store) -> usize {
    let limit = announce::INTERVAL * MOST_ANNOUNCEMENTS + PATIENCE;
    let tasks = store.tasks().unwrap_or_default().tasks;
    let is_overdue = |since| since_boot().saturating_sub(since) > limit;
    tasks.iter().filter(|task| is_overdue(task.since) && task.has_record()).count()
}

fn has_unit(system: &System) -> bool {
    ["/usr/lib/systemd/system", "/etc/systemd/system"].iter().any(|at| system.has(&format!("{at}/{UNIT}")))
}

/// Whether systemd runs, as sd_booted(3).
fn is_booted(system: &System) -> bool {
    system.has("/run/systemd/system")
}

/// Whether systemd starts the agent after an attach, or would if it ran.
fn is_active(system: &System) -> bool {
    if system.is_this_one() && is_booted(system) {
        let mut systemctl = Command::new("/usr/bin/systemctl");
        systemctl.args(["is-active", "--quiet", UNIT]).env_clear().stdin(Stdio::null());
        systemctl.status().is_ok_and(|status| status.success())
    } else {
        system.path(&format!("/etc/systemd/system/paths.target.wants/{UNIT}")).symlink_metadata().is_ok()
    }
}
