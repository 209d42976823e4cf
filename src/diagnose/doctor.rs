//! The story of the doctor: what is there is looked at, from the kernel up to the engines, and what is wrong is said.
//! Nothing is changed and nothing is sent.

use std::path::Path;

use crate::diagnose::check;
use crate::diagnose::containers::{self, Filters};
use crate::diagnose::finding::{Finding, Severity, Subject};
use crate::diagnose::hooks;
use crate::diagnose::links::{self, Defined};
use crate::diagnose::modules::{LinkType, missing, needed};
use crate::diagnose::programs::{self, Program};
use crate::diagnose::system::{self, System};
use crate::diagnose::{docker, permissions, platform, quarantine};
use crate::error::{Error, Result};
use crate::kernel::{self, NetnsFile};
use crate::ledger::Store;
use crate::ledger::host_link;
use crate::ledger::record::Record;
use crate::lifecycle::context::Context;
use crate::lifecycle::gc;
use crate::net::link::HostLinkInfo;
use crate::netlink::Socket;

/// Everything that is found wrong, by subject, the worst first.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn doctor(store: &Store, system: &System) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut host = Socket::open()?;
    let defined = networks(store, &mut host, &mut findings)?;
    let links = host.host_links()?;
    can_make(system, &defined, &mut findings)?;
    let dmi = system.dmi();
    findings.extend(defined.iter().filter_map(|one| platform::network(&dmi, &one.network, &one.file)));
    let uplink = host.uplink()?;
    findings.extend(defined.iter().flat_map(|one| links::parent(one, &links, uplink)));
    findings.extend(links::together(&defined, &links));
    findings.extend(set_aside(store, &links));
    let engines = system.engines();
    let program = program(system);
    findings.extend(hooks::hooks(&engines, &System::hook_files(&engines), &program, |path| {
        let there = system.path(path).to_string_lossy().into_owned();
        (system.program(path), there)
    }));
    let (cdi, named) = system.cdi_programs();
    findings.extend(named.iter().filter_map(|called| {
        programs::program(&system.program(called), called, &cdi, "underlay cdi".to_owned())
    }));
    if let Some(docker) = system.docker() {
        findings.extend(docker::docker(&docker, !defined.is_empty()));
    }
    state(store, &mut findings);
    running(store, &defined, &links, &mut host, &mut findings)?;
    Ok(in_order(&findings))
}

/// By subject, and of each the worst first; two networks on one link have the same to say of it, which is said once.
fn in_order(findings: &[Finding]) -> Vec<Finding> {
    let mut ordered: Vec<Finding> = Vec::with_capacity(findings.len());
    for subject in Subject::ALL {
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            for finding in findings.iter().filter(|of| of.subject == subject && of.severity == severity) {
                if !ordered.contains(finding) {
                    ordered.push(finding.clone());
                }
            }
        }
    }
    ordered
}

/// The networks that are defined, those that cannot be read being findings, as are settings that cannot.
fn networks(store: &Store, host: &mut Socket, findings: &mut Vec<Finding>) -> Result<Vec<Defined>> {
    let wrong = |id, error: &Error| {
        let why = error.hint_text().unwrap_or("mend it in an editor: the sentence says where").to_owned();
        Finding::new((Subject::Networks, Severity::Error, id), error.to_string(), why)
    };
    let [config, ..] = store.dirs();
    let folders = [config.to_owned(), config.join("networks"), store.settings_path()];
    let names = store.network_names()?;
    let paths = names.iter().map(|name| store.network_path(name));
    let trusted = |path: &Path, findings: &mut Vec<Finding>| {
        let found = system::access(path).map(|access| permissions::access(path, access, Subject::Networks));
        let found = found.unwrap_or_default();
        let is_trusted = found.is_empty();
        findings.extend(found);
        is_trusted
    };
    let all: Vec<_> = folders.iter().cloned().chain(paths).map(|path| trusted(&path, findings)).collect();
    let (of_folders, of_networks) = all.split_at(folders.len());
    // What is not read says nothing else.
    if of_folders.contains(&false) {
        return Ok(Vec::new());
    }
    if let Err(error) = store.settings() {
        findings.push(wrong("settings", &error));
    }
    let mut defined = Vec::new();
    for (name, _) in names.iter().zip(of_networks).filter(|(_, trusted)| **trusted) {
        match store.network(name) {
            Ok(network) => {
                let file = store.network_path(name).to_string_lossy().into_owned();
                let problem = crate::lifecycle::parents::find(&network, host).err();
                defined.push(Defined { network, file, problem });
            }
            Err(error) => findings.push(wrong("network-file", &error)),
        }
    }
    if names.is_empty() {
        let what = format!("no network is defined in {}", config.join("networks").display());
        let why = "containers have nothing to be attached to: see `underlay network create --help`";
        findings.push(Finding::new((Subject::Networks, Severity::Note, "no-network"), what, why));
    }
    Ok(defined)
}

/// What the kernel cannot make of what the networks need.
fn can_make(system: &System, defined: &[Defined], findings: &mut Vec<Finding>) -> Result<()> {
    let release = kernel::release()?;
    let mut types: Vec<LinkType> = Vec::new();
    for link in defined.iter().flat_map(|one| needed(&one.network)) {
        if !types.contains(&link) {
            types.push(link);
        }
    }
    for link in types {
        if !system.has_link_type(&release, link)? {
            findings.push(missing(&release, link));
        }
    }
    Ok(())
}

/// The program that hook files call: where it is installed, or this one.
fn program(system: &System) -> String {
    let installed = "/usr/bin/underlay";
    let own = std::env::current_exe().ok().filter(|_| system.program(installed) != Program::Runs);
    own.map_or_else(|| installed.to_owned(), |own| own.to_string_lossy().into_owned())
}

/// The ledger's folder, and what is in it that nobody needs or that differs from what there is.
fn state(store: &Store, findings: &mut Vec<Finding>) {
    let [_, state, _] = store.dirs();
    if system::is_on_tmpfs(state) == Some(false) {
        findings.push(permissions::not_on_tmpfs(state));
    }
    // As long as there is none, there is nothing in it: looking would make it.
    let Some(access) = system::access(state) else { return };
    let wrong = permissions::access(state, access, Subject::State);
    if !wrong.is_empty() {
        findings.extend(wrong);
        return;
    }
    // Settings that cannot be read are told of already.
    if store.settings().is_err() {
        return;
    }
    let unread = |error: &Error| {
        let why = error.hint_text().unwrap_or("what containers hold cannot be told").to_owned();
        Finding::new((Subject::State, Severity::Error, "ledger"), error.to_string(), why)
    };
    match Context::new(store).and_then(|mut context| gc::gc(&mut context, false, true)) {
        Ok(collected) => findings.extend(permissions::left_over(&collected.done)),
        Err(error) => findings.push(unread(&error)),
    }
    match check::all(store) {
        Ok(differences) => findings.extend(differences.iter().filter_map(containers::difference)),
        Err(error) => findings.push(unread(&error)),
    }
}

/// What of addresses is set aside, link by link. A ledger that cannot be read is told of elsewhere.
fn set_aside(store: &Store, links: &[HostLinkInfo]) -> Vec<Finding> {
    let segments = store.segments().unwrap_or_default().into_iter();
    let of_segment = |segment| {
        let link = links.iter().find(|link| link.link.ifindex == segment)?;
        let entries: Vec<_> = store.quarantined(segment).into_iter().map(|(_, entry)| entry).collect();
        quarantine::set_aside(&link.link.name, &entries)
    };
    segments.filter_map(of_segment).collect()
}

/// What drops the packets of containers that run.
fn running(
    store: &Store,
    defined: &[Defined],
    links: &[HostLinkInfo],
    host: &mut Socket,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let addresses = host.addresses_by_link()?;
    // What of the ledger cannot be read is told of already.
    let records = store.records().map(|records| records.sound).unwrap_or_default();
    for record in records.iter().filter(|record| kernel::lives(&record.holder)) {
        findings.extend(containers::duplicates(record, links, &addresses));
        if record.attachments().len() > 1 {
            match inside(record) {
                Ok(filters) => findings.extend(containers::filters(record, &filters)),
                Err(error) => log::warn!("container {}: {error}: it is left alone", record.container),
            }
        }
    }
    for one in defined.iter().filter(|one| one.network.file.host_access.is_some()) {
        let name = host_link::name(&one.network.name);
        if links.iter().any(|link| link.link.name == name.as_str()) {
            findings.extend(containers::host_filters(name.as_str(), filters(name.as_str())));
        }
    }
    Ok(())
}

/// What holds for each attachment of `record`; the kernel's defaults where its namespace is gone.
fn inside(record: &Record) -> Result<Vec<Filters>> {
    let names = record.attachments().iter().map(|attached| attached.ifname.as_str());
    match NetnsFile::of(&record.holder)? {
        Some((_, netns)) => netns.inside(|| Ok(names.map(filters).collect())),
        None => Ok(names.map(|_| Filters::default()).collect()),
    }
}

/// What holds for `link` in the namespace of this thread: of `all` and the link the greater (ip-sysctl).
fn filters(link: &str) -> Filters {
    let of = |name: &str, key: &str| kernel::sysctl_of(name, key).unwrap_or_default();
    let greater = |key: &str| of("all", key).max(of(link, key));
    Filters { arp_ignore: greater("arp_ignore"), rp_filter: greater("rp_filter") }
}
