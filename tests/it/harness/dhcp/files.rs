//! What each DHCP server is told, in its own words, and how it is called.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::{By, Kind, Options};

/// The bytes of options as the servers read them.
fn hex(bytes: &[u8], between: &str) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(between)
}

fn list<T: ToString>(all: &[T], between: &str) -> String {
    all.iter().map(T::to_string).collect::<Vec<_>>().join(between)
}

/// Option 121 as RFC 3442 has it.
fn classless(routes: &[(Ipv4Net, Ipv4Addr)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (to, router) in routes {
        let significant = usize::from(to.prefix_len().div_ceil(8));
        bytes.push(to.prefix_len());
        bytes.extend(&to.network().octets()[..significant]);
        bytes.extend(router.octets());
    }
    bytes
}

/// Writes its configuration into `folder`, and an empty file of leases if there is none.
pub fn write(kind: Kind, options: &Options, folder: &Path) {
    let text = match kind {
        Kind::Dnsmasq => dnsmasq(options, folder),
        Kind::Kea => kea(options, folder).to_string(),
        Kind::Isc => isc(options),
        Kind::Udhcpd => udhcpd(options, folder),
    };
    fs::write(folder.join("conf"), text).unwrap();
    File::options().create(true).append(true).open(folder.join("leases")).unwrap();
}

/// The command that runs it in the foreground. What it says goes to stdout or stderr.
pub fn command(kind: Kind, options: &Options, folder: &Path) -> Command {
    let file = |name| folder.join(name);
    let program = match kind {
        Kind::Dnsmasq => "dnsmasq",
        Kind::Kea => "kea-dhcp4",
        Kind::Isc => "dhcpd",
        Kind::Udhcpd => "busybox",
    };
    let mut command = Command::new(program);
    match kind {
        Kind::Dnsmasq => {
            command.args(["--keep-in-foreground", "--log-facility=-"]);
            command.arg(format!("--conf-file={}", file("conf").display()));
        }
        Kind::Kea => {
            command.arg("-c").arg(file("conf"));
            // Versions since 2.6.3 have files in these folders alone.
            for name in ["PIDFILE_DIR", "LOCKFILE_DIR", "DHCP_DATA_DIR", "LOG_FILE_DIR"] {
                command.env(format!("KEA_{name}"), folder);
            }
            command.env("KEA_LOGGER_DESTINATION", "stdout");
        }
        Kind::Isc => {
            command.args(["-4", "-f", "-d", "--no-pid", "-cf"]).arg(file("conf"));
            command.arg("-lf").arg(file("leases")).arg("lan0");
        }
        Kind::Udhcpd => {
            command.args(["udhcpd", "-f", "-I", &options.address.addr().to_string()]);
            if !options.ping {
                command.args(["-a", "1"]);
            }
            command.arg(file("conf"));
        }
    }
    command
}

fn dnsmasq(options: &Options, folder: &Path) -> String {
    let Options { address, range: [first, last], lease, .. } = options;
    let folder = folder.display();
    let mut lines = vec![
        "port=0".to_owned(),
        "user=root".to_owned(),
        "interface=lan0".to_owned(),
        "log-dhcp".to_owned(),
        format!("pid-file={folder}/pid"),
        format!("dhcp-leasefile={folder}/leases"),
        format!("dhcp-range={first},{last},{},{lease}", address.netmask()),
    ];
    let mut option = |name: &str, value: &str| lines.push(format!("dhcp-option=option:{name}{value}"));
    let mut listed = |name: &str, values: &str| option(name, &format!(",{values}"));
    if let Some((t1, t2)) = options.t1_t2 {
        listed("T1", &t1.to_string());
        listed("T2", &t2.to_string());
    }
    if !options.routes.is_empty() {
        let routes: Vec<_> = options.routes.iter().map(|(to, router)| format!("{to},{router}")).collect();
        listed("classless-static-route", &routes.join(","));
    }
    if let Some(mtu) = options.mtu {
        listed("mtu", &mtu.to_string());
    }
    if !options.dns.is_empty() {
        listed("dns-server", &list(&options.dns, ","));
    }
    if let Some(domain) = options.domain {
        listed("domain-name", domain);
    }
    if !options.search.is_empty() {
        listed("domain-search", &options.search.join(","));
    }
    match options.router {
        Some(router) => listed("router", &router.to_string()),
        // Otherwise it is itself the router.
        None => option("router", ""),
    }
    for (by, address) in &options.reserved {
        lines.push(match by {
            By::ClientId(id) => format!("dhcp-host=id:{},{address}", hex(id, ":")),
            By::Mac(mac) => format!("dhcp-host={mac},{address}"),
        });
    }
    let flags = [
        (!options.ping, "no-ping"),
        (options.authoritative, "dhcp-authoritative"),
        (options.rapid_commit, "dhcp-rapid-commit"),
    ];
    lines.extend(flags.into_iter().filter(|(is, _)| *is).map(|(_, name)| name.to_owned()));
    lines.join("\n") + "\n"
}

fn kea(options: &Options, folder: &Path) -> Value {
    let Options { address, range: [first, last], lease, .. } = options;
    assert!(!options.ping && !options.rapid_commit, "Kea has neither");
    let mut data = Vec::new();
    let mut option = |name: &str, value: String| data.push(json!({"name": name, "data": value}));
    if let Some(router) = options.router {
        option("routers", router.to_string());
    }
    if let Some(mtu) = options.mtu {
        option("interface-mtu", mtu.to_string());
    }
    if !options.dns.is_empty() {
        option("domain-name-servers", list(&options.dns, ","));
    }
    if let Some(domain) = options.domain {
        option("domain-name", domain.to_owned());
    }
    if !options.search.is_empty() {
        option("domain-search", options.search.join(","));
    }
    if !options.routes.is_empty() {
        // Versions before 2.5 know it by its number alone.
        data.push(json!({
            "code": 121, "space": "dhcp4", "csv-format": false, "data": hex(&classless(&options.routes), ""),
        }));
    }
    let reservations = options.reserved.iter().map(|(by, address)| match by {
        By::ClientId(id) => json!({"client-id": hex(id, ":"), "ip-address": address}),
        By::Mac(mac) => json!({"hw-address": mac, "ip-address": address}),
    });
    let mut dhcp4 = json!({
        "interfaces-config": {"interfaces": [format!("lan0/{}", address.addr())], "dhcp-socket-type": "raw"},
        "lease-database": {
            "type": "memfile", "persist": true, "name": folder.join("leases"), "lfc-interval": 0,
        },
        "valid-lifetime": lease,
        "authoritative": options.authoritative,
        "ddns-send-updates": false,
        // What comes first is answered first.
        "multi-threading": {"enable-multi-threading": false},
        "host-reservation-identifiers": ["client-id", "hw-address"],
        "subnet4": [{
            "id": 1, "subnet": address.trunc(), "interface": "lan0",
            "pools": [{"pool": format!("{first}-{last}")}],
            "option-data": data,
            "reservations": reservations.collect::<Vec<_>>(),
        }],
    });
    if let Some((t1, t2)) = options.t1_t2 {
        dhcp4["renew-timer"] = t1.into();
        dhcp4["rebind-timer"] = t2.into();
    }
    json!({"Dhcp4": dhcp4})
}

fn isc(options: &Options) -> String {
    let Options { address, range: [first, last], lease, .. } = options;
    assert!(!options.rapid_commit, "ISC dhcpd has none");
    let mut text = "option classless code 121 = array of unsigned integer 8;\n".to_owned();
    let mut say = |line: String| writeln!(text, "{line};").unwrap();
    // Numbers that are easily read, in its file of leases.
    say("db-time-format local".to_owned());
    say("lease-id-format hex".to_owned());
    say(format!("server-identifier {}", address.addr()));
    say(format!("min-lease-time {lease}; default-lease-time {lease}; max-lease-time {lease}"));
    say(format!("ping-check {}", options.ping));
    say(if options.authoritative { "authoritative" } else { "not authoritative" }.to_owned());
    if let Some((t1, t2)) = options.t1_t2 {
        say(format!("option dhcp-renewal-time {t1}; option dhcp-rebinding-time {t2}"));
    }
    if let Some(router) = options.router {
        say(format!("option routers {router}"));
    }
    if !options.routes.is_empty() {
        say(format!("option classless {}", list(&classless(&options.routes), ", ")));
    }
    if let Some(mtu) = options.mtu {
        say(format!("option interface-mtu {mtu}"));
    }
    if !options.dns.is_empty() {
        say(format!("option domain-name-servers {}", list(&options.dns, ", ")));
    }
    if let Some(domain) = options.domain {
        say(format!("option domain-name \"{domain}\""));
    }
    if !options.search.is_empty() {
        say(format!("option domain-search \"{}\"", options.search.join("\", \"")));
    }
    let subnet = address.trunc();
    writeln!(text, "subnet {} netmask {} {{ range {first} {last}; }}", subnet.addr(), subnet.netmask())
        .unwrap();
    for (number, (by, address)) in options.reserved.iter().enumerate() {
        let by = match by {
            By::ClientId(id) => format!("option dhcp-client-identifier {}", hex(id, ":")),
            By::Mac(mac) => format!("hardware ethernet {mac}"),
        };
        writeln!(text, "host reserved{number} {{ {by}; fixed-address {address}; }}").unwrap();
    }
    text
}

fn udhcpd(options: &Options, folder: &Path) -> String {
    let Options { address, range: [first, last], lease, .. } = options;
    assert!(!options.rapid_commit, "udhcpd has none");
    let folder = folder.display();
    let mut lines = vec![
        "interface lan0".to_owned(),
        format!("start {first}\nend {last}"),
        format!("lease_file {folder}/leases\npidfile {folder}/pid"),
        format!("min_lease {lease}\noption lease {lease}"),
        format!("option subnet {}", address.netmask()),
    ];
    let mut option = |name: &str, value: String| lines.push(format!("option {name} {value}"));
    if let Some((t1, t2)) = options.t1_t2 {
        option("0x3a", hex(&t1.to_be_bytes(), ""));
        option("0x3b", hex(&t2.to_be_bytes(), ""));
    }
    if let Some(router) = options.router {
        option("router", router.to_string());
    }
    if !options.routes.is_empty() {
        let routes: Vec<_> = options.routes.iter().map(|(to, router)| format!("{to} {router}")).collect();
        option("staticroutes", routes.join(", "));
    }
    if let Some(mtu) = options.mtu {
        option("mtu", mtu.to_string());
    }
    if !options.dns.is_empty() {
        option("dns", list(&options.dns, " "));
    }
    if let Some(domain) = options.domain {
        option("domain", domain.to_owned());
    }
    if !options.search.is_empty() {
        option("search", options.search.join(" "));
    }
    for (by, address) in &options.reserved {
        let By::Mac(mac) = by else { panic!("udhcpd knows no client ids") };
        lines.push(format!("static_lease {mac} {address}"));
    }
    lines.join("\n") + "\n"
}
