//! What was measured, for people and for programs: a table, the bars, plots.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::bars::Bars;
use crate::cases::{Results, typical};
use crate::growth::{AT_ONCE, LEASES, LINKS, ROW};
use crate::measure::Cost;
use crate::plot::{Curve, svg};

/// Facts that are counted, not measured.
pub struct Counted {
    pub attach_calls: usize,
    pub detach_calls: usize,
    /// For how long an attach has the ledger locked, in nanoseconds.
    pub locked: u64,
    pub binary: u64,
    pub kernel: String,
}

const ATTACH: &str = "underlay macvlan: attach";

/// Millions of instructions of user and system time.
fn cpu(results: &Results, name: &str) -> Option<f64> {
    typical(results, name, |cost| cost.cpu).map(|(median, _)| median as f64 / 1e6)
}

fn wall(results: &Results, name: &str) -> Option<f64> {
    typical(results, name, |cost| cost.wall).map(|(median, _)| median as f64 / 1e6)
}

/// Writes `results.json`, `table.md` and the plots into `folder`, and returns the table.
pub fn write(folder: &Path, results: &Results, counted: &Counted) -> String {
    fs::create_dir_all(folder).unwrap();
    let all = json!({
        "kernel": counted.kernel, "binary_bytes": counted.binary, "attach_system_calls": counted.attach_calls,
        "detach_system_calls": counted.detach_calls, "attach_locked": counted.locked, "results": all_runs(results),
    });
    fs::write(folder.join("results.json"), format!("{all:#}\n")).unwrap();
    let table = format!("{}\n{}", bars(results, counted), table(results, &counted.kernel));
    fs::write(folder.join("table.md"), &table).unwrap();
    plots(folder, results);
    table
}

/// What every run of each case cost.
pub fn all_runs(results: &Results) -> Value {
    let list = |costs: &Vec<Cost>, of: fn(&Cost) -> u64| costs.iter().map(of).collect::<Vec<_>>();
    let values = results.iter().map(|(name, costs)| {
        let memory = costs.iter().map(|cost| cost.memory).max();
        let value =
            json!({"cpu": list(costs, |c| c.cpu), "wall": list(costs, |c| c.wall), "memory_kb": memory});
        (name.clone(), value)
    });
    Value::Object(values.collect())
}

fn bars(results: &Results, counted: &Counted) -> String {
    let mut bars = Bars::new();
    let ratio = |one: &str, other: &str| Some(cpu(results, one)? / cpu(results, other)?);
    let in_time = |one: &str, other: &str| Some(wall(results, one)? / wall(results, other)?);
    bars.at_most(
        "attach, whole process, detection off, to raw netlink",
        1.35,
        "",
        ratio(ATTACH, "raw macvlan: attach"),
    );
    bars.at_most(
        "the same with detection",
        1.35,
        "",
        ratio("underlay macvlan with detection: attach", "raw macvlan: attach"),
    );
    bars.at_least(
        "CNI macvlan + host-local ADD to attach",
        12.0,
        "",
        ratio("CNI macvlan + host-local: ADD", ATTACH),
    );
    bars.at_least("netavark setup to attach", 4.2, "", ratio("netavark: setup", ATTACH));
    bars.at_most(
        "detach of a dead container to an empty program",
        1.3,
        "",
        ratio("underlay macvlan: detach", "empty program"),
    );
    for runtime in ["crun", "runc"] {
        let name = |hook: &str| format!("{runtime} run, hook: {hook}");
        let share = ratio(&name("ours"), &name("empty")).map(|ratio| (ratio - 1.0) * 100.0);
        bars.at_most(&format!("{runtime} run with our hook, over an empty hook"), 8.0, " %", share);
    }
    let podman = ["our hook", "netavark macvlan"].map(|network| format!("podman run, {network}"));
    bars.at_most("podman with our hook to podman with netavark, cpu", 1.0, "", ratio(&podman[0], &podman[1]));
    bars.at_most("the same, time", 1.0, "", in_time(&podman[0], &podman[1]));
    let docker = in_time("docker run, our hook", "docker run, its macvlan");
    bars.at_most("Docker with our hook to Docker with its macvlan, time", 1.0, "", docker);
    bars.at_most(
        "attach among 60,000 leases to among 10",
        1.1,
        "",
        ratio("among 60000 leases", "among 10 leases"),
    );
    bars.at_most(
        "attach in a pool 99.9 % full to among 10",
        2.0,
        "",
        ratio("in a pool 99.9 % full", "among 10 leases"),
    );
    let memory = results.get(ATTACH).and_then(|costs| costs.iter().map(|cost| cost.memory).max());
    bars.at_most("peak memory of the hook", 3.0, " MiB", memory.map(|kb| kb as f64 / 1024.0));
    bars.at_most("system calls of one v4 attach", 100.0, "", Some(counted.attach_calls as f64));
    bars.at_most("stripped static binary", 3.0, " MiB", Some(counted.binary as f64 / 1024.0 / 1024.0));
    format!(
        "{bars}\nAn attach has the ledger locked for {:.2} million instructions; a poststop makes {} system calls.\n",
        counted.locked as f64 / 1e6,
        counted.detach_calls
    )
}

fn table(results: &Results, kernel: &str) -> String {
    let mut out = format!(
        "Kernel {kernel}. Millions of instructions, median and distance of the quartiles; of an attach by raw netlink.\n\n\
         | case | runs | cpu | ± | wall | cpu, ratio |\n|---|---|---|---|---|---|\n"
    );
    let raw = cpu(results, "raw macvlan: attach");
    for (name, costs) in results.iter().filter(|(name, _)| !name.starts_with("in a row")) {
        let (Some((median, spread)), Some(wall)) =
            (typical(results, name, |cost| cost.cpu), wall(results, name))
        else {
            continue;
        };
        let median = median as f64 / 1e6;
        let ratio = raw.map(|raw| format!("{:.2}", median / raw)).unwrap_or_default();
        let _ = writeln!(
            out,
            "| {name} | {} | {median:.2} | {:.2} | {wall:.2} | {ratio} |",
            costs.len(),
            spread as f64 / 1e6
        );
    }
    out
}

fn plots(folder: &Path, results: &Results) {
    let points = |counts: &[usize], name: &dyn Fn(usize) -> String, of: fn(&Results, &str) -> Option<f64>| {
        counts.iter().filter_map(|&count| Some((count as f64, of(results, &name(count))?))).collect()
    };
    let curve = |name: &str, points| Curve { name: name.to_owned(), points };
    let draw = |file: &str, title: &str, across: &str, logarithmic, curves: &[Curve]| {
        if curves.iter().all(|curve| !curve.points.is_empty()) {
            fs::write(folder.join(file), svg(title, across, "million instructions", logarithmic, curves))
                .unwrap();
        }
    };
    let leases = points(&LEASES, &|count| format!("among {count} leases"), cpu);
    draw(
        "leases.svg",
        "One attach among leases",
        "leases of the pool",
        true,
        &[curve("attach, cpu", leases)],
    );
    let links = points(&LINKS, &|count| format!("among {count} links"), cpu);
    draw("links.svg", "One attach among links of the parent", "links", true, &[curve("attach, cpu", links)]);
    let part = |count: usize, part: usize| {
        let mut walls: Vec<_> =
            results.get(&format!("{count} at once"))?.iter().map(|cost| cost.wall).collect();
        walls.sort_unstable();
        Some((count as f64, walls[(walls.len() - 1) * part / 100] as f64 / 1e6))
    };
    let of = |wanted: usize| AT_ONCE.iter().filter_map(|&count| part(count, wanted)).collect();
    let curves = [curve("p50", of(50)), curve("p99", of(99))];
    draw("at-once.svg", "Attaches begun at once, wall", "attaches", true, &curves);
    let row: Vec<_> = (0..ROW).step_by(100).collect();
    let of = |what: &'static str| points(&row, &move |from| format!("in a row, from {from}: {what}"), cpu);
    let curves = [curve("attach, cpu", of("attach")), curve("detach, cpu", of("detach"))];
    draw("in-a-row.svg", "Containers up and down in a row", "containers before", false, &curves);
}
