//! `driftless provision`: what an operator writes where, so that guests find a server.

use std::net::{IpAddr, Ipv6Addr};

use crate::{Outcome, say};

/// Arguments of `driftless provision`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless provision --server 10.0.0.1 --format vendor-data > vendor_data.json
  driftless provision --server 10.0.0.1 --server fd00::1 --format dnsmasq > /etc/dnsmasq.d/time.conf
  driftless provision --server 10.0.0.1 --format neutron | sh

DHCP's option 42 carries IPv4 addresses, DHCPv6's option 56 IPv6 addresses: a name is refused there. Nothing is contacted and nothing is written.")]
pub(crate) struct Args {
    /// The server's address or name; may be given several times
    #[arg(long, value_name = "ADDR", required = true)]
    server: Vec<String>,
    /// Who is to hand it over
    #[arg(long, value_name = "FORMAT")]
    format: Format,
}

/// Who hands servers over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// OpenStack: `vendor_data.json` for the metadata service and config drives
    VendorData,
    /// cloud-init's user or vendor data; installs no package
    CloudConfig,
    /// dnsmasq's configuration
    Dnsmasq,
    /// Kea's configuration: `Dhcp4` and `Dhcp6`
    Kea,
    /// OpenStack Neutron: commands for a port
    Neutron,
    /// ISC dhcpd's configuration
    Dhcpd,
}

pub(crate) fn run(args: &Args) -> Outcome {
    match snippet(args.format, &args.server) {
        Ok(text) => {
            say(text.trim_end());
            Outcome::Done
        }
        Err(error) => Outcome::Wrong.told(&error),
    }
}

/// The servers by what they are: DHCP carries each family in its own option.
struct Servers<'a> {
    all: &'a [String],
    v4: Vec<String>,
    v6: Vec<String>,
}

fn snippet(format: Format, servers: &[String]) -> Result<String, String> {
    let mut known = Servers { all: servers, v4: Vec::new(), v6: Vec::new() };
    let is_dhcp = !matches!(format, Format::VendorData | Format::CloudConfig);
    for server in servers {
        match server.parse::<IpAddr>() {
            Ok(IpAddr::V4(v4)) => known.v4.push(v4.to_string()),
            Ok(IpAddr::V6(v6)) => known.v6.push(v6.to_string()),
            Err(_) if is_dhcp => {
                return Err(format!(
                    "--server {server}: DHCP hands addresses over, not names; write an address"
                ));
            }
            Err(_) if !is_name(server) => {
                return Err(format!("--server {server}: neither an address nor a name"));
            }
            Err(_) => {}
        }
    }
    Ok(match format {
        Format::VendorData => vendor_data(&known),
        Format::CloudConfig => cloud_config(&known),
        Format::Dnsmasq => dnsmasq(&known),
        Format::Kea => kea(&known),
        Format::Neutron => neutron(&known),
        Format::Dhcpd => dhcpd(&known),
    })
}

fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(is_letter) && !text.starts_with(['-', '.'])
}

/// With our key for driftless, and cloud-init's for other clients.
fn vendor_data(servers: &Servers<'_>) -> String {
    let document =
        serde_json::json!({ "driftless": { "sources": servers.all }, "cloud-init": cloud_config(servers) });
    format!("{document:#}")
}

/// cloud-init's `ntp` module with driftless as its client: told in full, it installs no other one. Where there is no driftless, it writes one file that nobody reads.
fn cloud_config(servers: &Servers<'_>) -> String {
    let list: String = servers.all.iter().map(|server| format!("    - \"{server}\"\n")).collect();
    format!(
        "#cloud-config\n\
        ntp:\n  enabled: true\n  ntp_client: driftless\n  servers:\n{list}  pools: []\n  config:\n    confpath: /run/driftless/dhcp/cloud-init.v4\n    \
        check_exe: /bin/sh\n    packages: []\n    service_name: driftless\n    template: |\n      \
        ## template:jinja\n      {{% for server in servers %}}{{{{ server }}}}\n      {{% endfor %}}\n"
    )
}

fn dnsmasq(servers: &Servers<'_>) -> String {
    let v4 =
        (!servers.v4.is_empty()).then(|| format!("dhcp-option=option:ntp-server,{}\n", servers.v4.join(",")));
    let bracketed: Vec<String> = servers.v6.iter().map(|server| format!("[{server}]")).collect();
    let v6 = (!bracketed.is_empty()).then(|| {
        let list = bracketed.join(",");
        format!("dhcp-option=option6:ntp-server,{list}\n# For clients that know only the older option.\ndhcp-option=option6:sntp-server,{list}\n")
    });
    v4.into_iter().chain(v6).collect()
}

/// DHCPv6's option 56: sub-options, each an address (RFC 5908). Neither Kea nor dhcpd knows them by name, so the octets are given.
fn option_56(servers: &[String]) -> Vec<u8> {
    let octets = |server: &String| {
        let address = server.parse::<Ipv6Addr>().map(|ip| ip.octets()).unwrap_or_default();
        [0, 1, 0, 16].into_iter().chain(address)
    };
    servers.iter().flat_map(octets).collect()
}

fn kea(servers: &Servers<'_>) -> String {
    let v4 = serde_json::json!([{ "name": "ntp-servers", "data": servers.v4.join(", ") }]);
    let suboptions: String = option_56(&servers.v6).iter().map(|octet| format!("{octet:02x}")).collect();
    let v6 = serde_json::json!([
        { "name": "sntp-servers", "data": servers.v6.join(", ") },
        { "space": "dhcp6", "code": 56, "csv-format": false, "data": suboptions },
    ]);
    let mut document = serde_json::Map::new();
    if !servers.v4.is_empty() {
        document.insert("Dhcp4".into(), serde_json::json!({ "option-data": v4 }));
    }
    if !servers.v6.is_empty() {
        document.insert("Dhcp6".into(), serde_json::json!({ "option-data": v6 }));
    }
    format!("{:#}", serde_json::Value::Object(document))
}

/// Neutron's DHCP agent is dnsmasq: option names are dnsmasq's.
fn neutron(servers: &Servers<'_>) -> String {
    let option = |value: &[String], version: u8| {
        let list = value.join(",");
        format!(
            "openstack port set --extra-dhcp-option name=ntp-server,value='{list}',ip-version={version} \"$PORT\"\n"
        )
    };
    let v4 = (!servers.v4.is_empty()).then(|| option(&servers.v4, 4));
    let bracketed: Vec<String> = servers.v6.iter().map(|server| format!("[{server}]")).collect();
    let v6 = (!bracketed.is_empty()).then(|| option(&bracketed, 6));
    let head = "# PORT=NAME-OR-ID first; once a port, as Neutron has no such option for a whole network.\n"
        .to_owned();
    [head].into_iter().chain(v4).chain(v6).collect()
}

/// The two families are two daemons with a file each.
fn dhcpd(servers: &Servers<'_>) -> String {
    let v4 = (!servers.v4.is_empty())
        .then(|| format!("# dhcpd.conf\noption ntp-servers {};\n", servers.v4.join(", ")));
    let octets: Vec<String> = option_56(&servers.v6).iter().map(|octet| format!("{octet:02x}")).collect();
    let v6 = (!servers.v6.is_empty()).then(|| {
        format!(
            "# dhcpd6.conf\noption dhcp6.ntp-server code 56 = string;\noption dhcp6.ntp-server {};\n\
            # For clients that know only the older option.\noption dhcp6.sntp-servers {};\n",
            octets.join(":"),
            servers.v6.join(", ")
        )
    });
    v4.into_iter().chain(v6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> [String; 2] {
        ["10.0.0.1".to_owned(), "fd00::1".to_owned()]
    }

    #[test]
    fn each_family_goes_into_its_own_option() {
        let text = snippet(Format::Dnsmasq, &both()).unwrap();
        assert!(
            text.contains("option:ntp-server,10.0.0.1\n") && text.contains("option6:ntp-server,[fd00::1]\n"),
            "{text}"
        );
        let text = snippet(Format::Kea, &both()).unwrap();
        assert!(text.contains("00010010fd000000000000000000000000000001"), "{text}");
        let text = snippet(Format::Dhcpd, &both()[..1]).unwrap();
        assert!(text.contains("option ntp-servers 10.0.0.1;") && !text.contains("dhcp6"), "{text}");
        let text = snippet(Format::Neutron, &both()).unwrap();
        assert!(text.contains("value='[fd00::1]',ip-version=6"), "{text}");
    }

    #[test]
    fn a_name_is_handed_over_where_names_can_be_and_nothing_is_injected() {
        let name = ["time.lab.example".to_owned()];
        assert!(snippet(Format::VendorData, &name).unwrap().contains("\"time.lab.example\""));
        assert!(snippet(Format::Dnsmasq, &name).unwrap_err().contains("write an address"));
        for wrong in ["a b", "x\"\n- y", "$(reboot)", ""] {
            assert!(snippet(Format::CloudConfig, &[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
