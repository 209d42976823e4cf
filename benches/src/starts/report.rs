//! What was measured of whole starts: the bars, and a table of all cases.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::bars::Bars;
use crate::cases::Results;
use crate::measure::{Cost, quantile};
use crate::report::all_runs;
use crate::starts::at_once::{COUNT, Counted};
use crate::starts::attach::{ATTACH, RAW};

const MEDIAN: f64 = 0.5;
const SLOWEST: f64 = 1.0;

/// That of `part` of all runs, in milliseconds.
fn milliseconds(results: &Results, name: &str, part: f64, of: fn(&Cost) -> u64) -> Option<f64> {
    Some(quantile(results.get(name)?.iter().map(of).collect(), part) as f64 / 1e6)
}

/// Writes `results.json` and `table.md` into `folder`, and returns the table.
pub fn write(folder: &Path, results: &Results, counted: &Counted) -> String {
    let release = |file: &str| fs::read_to_string(file).unwrap().trim().to_owned();
    let kernel = release("/proc/sys/kernel/osrelease");
    let debian = release("/etc/debian_version");
    let all = json!({"kernel": kernel, "debian": debian, "failed": counted.failed, "processes": counted.processes, "results": all_runs(results)});
    let table =
        format!("Debian {debian} on kernel {kernel}.\n\n{}\n{}", bars(results, counted), table(results));
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("results.json"), format!("{all:#}\n")).unwrap();
    fs::write(folder.join("table.md"), &table).unwrap();
    table
}

fn bars(results: &Results, counted: &Counted) -> String {
    let ratio = |case: &str, one: &str, other: &str, part: f64| {
        let wall =
            |network: &str| milliseconds(results, &format!("{case}: {network}"), part, |cost| cost.wall);
        Some(wall(one)? / wall(other)?)
    };
    let mut bars = Bars::new();
    let to_none = |case: &str, part| ratio(case, "ours", "none", part);
    let to_own = |case: &str| ratio(case, "ours", "its macvlan", MEDIAN);
    bars.at_most("podman run --rm, ours to none", 1.1, "", to_none("podman run --rm", MEDIAN));
    bars.at_most("the slowest of these", 2.0, "", to_none("podman run --rm", SLOWEST));
    bars.at_most("podman run --rm, ours to podman's macvlan", 0.85, "", to_own("podman run --rm"));
    let by_driver = |case: &str, other: &str| ratio(case, "its network of ours", other, MEDIAN);
    bars.at_most(
        "podman run --rm, -d underlay to podman's macvlan",
        1.0,
        "",
        by_driver("podman run --rm", "its macvlan"),
    );
    bars.at_most("podman run --rm, -d underlay to none", 1.1, "", by_driver("podman run --rm", "none"));
    bars.at_most(
        "podman rm -f, -d underlay to podman's macvlan",
        1.0,
        "",
        by_driver("podman rm -f", "its macvlan"),
    );
    bars.at_most("podman rm -f, ours to none", 1.1, "", to_none("podman rm -f", MEDIAN));
    bars.at_most("podman stop, ours to none", 1.1, "", to_none("podman stop", MEDIAN));
    let quadlet = "systemctl stop of a quadlet";
    bars.at_most(&format!("{quadlet}, ours to none"), 1.1, "", to_none(quadlet, MEDIAN));
    bars.at_most("docker run --rm, ours to none", 1.1, "", to_none("docker run --rm", MEDIAN));
    bars.at_most("docker run --rm, ours to Docker's macvlan", 1.0, "", to_own("docker run --rm"));
    bars.at_most(
        "docker run --rm, -d underlay to Docker's macvlan",
        1.0,
        "",
        by_driver("docker run --rm", "its macvlan"),
    );
    bars.at_most("docker run --rm, -d underlay to none", 1.1, "", by_driver("docker run --rm", "none"));
    bars.at_most("docker stop, -d underlay to none", 1.1, "", by_driver("docker stop", "none"));
    bars.at_most("docker stop, ours to none", 1.1, "", to_none("docker stop", MEDIAN));
    for case in ["crun run", "podman run -d"].map(|run| format!("{run}, {COUNT} at once")) {
        bars.at_most(&format!("{case}, ours to none"), 1.15, "", to_none(&case, MEDIAN));
    }
    bars.at_most("of these, that did not start", 0.0, "", Some(counted.failed as f64));
    bars.at_most("processes of ours a second later", 1.0, "", Some(counted.processes as f64));
    let cpu = |name: &str| milliseconds(results, name, MEDIAN, |cost| cost.cpu);
    let attach = cpu(ATTACH).zip(cpu(RAW)).map(|(attach, raw)| attach / raw);
    bars.at_most("cpu of a default attach, hook and agent, to raw netlink", 2.0, "", attach);
    bars.to_string()
}

fn table(results: &Results) -> String {
    let mut out =
        "Milliseconds: the time until the command has ended, and what all processes have used together.\n\n\
         | case | runs | median | p90 | slowest | cpu, median |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for (name, costs) in results {
        let wall = |part| milliseconds(results, name, part, |cost| cost.wall);
        // A part of a case has no time of its own.
        let wall =
            |part| wall(part).filter(|&wall| wall > 0.0).map_or("–".into(), |wall| format!("{wall:.1}"));
        let cpu = milliseconds(results, name, MEDIAN, |cost| cost.cpu).unwrap_or_default();
        let (median, p90, slowest) = (wall(MEDIAN), wall(0.9), wall(SLOWEST));
        let _ = writeln!(out, "| {name} | {} | {median} | {p90} | {slowest} | {cpu:.2} |", costs.len());
    }
    out
}
