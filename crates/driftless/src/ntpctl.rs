//! `ntpctl`: OpenNTPD's view of peers, sensors and status, of the driftless that runs here.
//!
//! Its lines, column for column, so that what reads them goes on reading. Peers are servers; sensors are clocks that are read. A weight is always 1; the trust
//! is 10 for who is followed, 6 to 9 for who could be, by how many of the last eight looks were answered, and below 6, "not valid", for others.

use driftless_daemon::control::{Request, ask};
use serde_json::Value;

use crate::{ControlSocket, Outcome, say};

/// Arguments of `ntpctl`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ntpctl -s all
  ntpctl -s status          one line: how many are valid, and whether the clock is synced
  ntpctl -s peers           servers: weight, trust, stratum, next look, interval, offset, delay, jitter
  ntpctl -s Sensors         clocks that are read

What is shown may be abbreviated; a capital S is for sensors. Offsets are reference - local. Exit status 1 when no daemon answers.")]
pub(crate) struct Args {
    /// What to show: all, peers, Sensors or status
    #[arg(short, value_name = "WHAT", value_parser = what)]
    show: What,
    #[command(flatten)]
    socket: ControlSocket,
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    All,
    Peers,
    Sensors,
    Status,
}

/// The least trust of a source that is valid.
const TRUST_VALID: u32 = 6;
/// Kinds of sources that are read, not asked.
const SENSORS: [&str; 3] = ["phc:", "vmclock:", "rtc:"];

/// As the original abbreviates: by the beginning, in which case tells sensors from status.
fn what(text: &str) -> Result<What, String> {
    let known =
        [("all", What::All), ("peers", What::Peers), ("Sensors", What::Sensors), ("status", What::Status)];
    known
        .into_iter()
        .find(|(name, _)| !text.is_empty() && name.starts_with(text))
        .map(|(_, what)| what)
        .ok_or_else(|| "known are all, peers, Sensors, status, and what they begin with".to_owned())
}

pub(crate) fn run(args: &Args) -> Outcome {
    match ask(&args.socket.control, Request::Status) {
        Ok(report) => {
            say(shown(args.show, &report).trim_end_matches('\n'));
            Outcome::Done
        }
        Err(error) => Outcome::NotYet.told(&error),
    }
}

fn shown(what: What, report: &Value) -> String {
    let all = report["sources"].as_array().map_or(&[][..], Vec::as_slice);
    let (sensors, peers): (Vec<&Value>, Vec<&Value>) = all.iter().partition(|source| is_sensor(source));
    match what {
        What::Status => status(report, &peers, &sensors),
        What::Peers if peers.is_empty() => "no peers configured\n".to_owned(),
        What::Peers => table("peer", PEER_HEADER, &peers, peer),
        What::Sensors if sensors.is_empty() => "no sensors configured\n".to_owned(),
        What::Sensors => table("sensor", SENSOR_HEADER, &sensors, sensor),
        What::All => {
            let mut text = status(report, &peers, &sensors);
            if !peers.is_empty() {
                text += &format!("\n{}", table("peer", PEER_HEADER, &peers, peer));
            }
            if !sensors.is_empty() {
                text += &format!("\n{}", table("sensor", SENSOR_HEADER, &sensors, sensor));
            }
            text
        }
    }
}

const PEER_HEADER: &str = "   wt tl st  next  poll          offset       delay      jitter";
const SENSOR_HEADER: &str = "   wt gd st  next  poll          offset  correction";

fn table(name: &str, header: &str, sources: &[&Value], line: fn(&Value) -> String) -> String {
    let lines: String =
        sources.iter().map(|source| format!("{}\n {}\n", description(source), line(source))).collect();
    format!("{name}\n{header}\n{lines}")
}

fn status(report: &Value, peers: &[&Value], sensors: &[&Value]) -> String {
    let count = |name: &str, sources: &[&Value]| {
        let valid = sources.iter().filter(|source| trust(source) >= TRUST_VALID).count();
        if sources.is_empty() { String::new() } else { format!("{valid}/{} {name} valid, ", sources.len()) }
    };
    let mut text = count("peers", peers) + &count("sensors", sensors);
    if text.is_empty() {
        text = "no peers and no sensors configured\n".to_owned();
    }
    if matches!(report["state"].as_str(), Some("synchronised" | "holdover")) {
        return format!("{text}clock synced, stratum {}\n", report["stratum"]);
    }
    let offset = report["offset"].as_f64().filter(|offset| offset.abs() > 5e-10);
    let offset = offset.map_or_else(String::new, |offset| format!(", clock offset is {:.3}ms", offset * 1e3));
    format!("{text}clock unsynced{offset}\n")
}

/// Address and name, or the name alone.
fn description(source: &Value) -> String {
    let name = source["name"].as_str().unwrap_or("?");
    if is_sensor(source) {
        return name.to_owned();
    }
    let host = name.strip_prefix("ntp:").unwrap_or(name).split('?').next().unwrap_or_default();
    match source["address"].as_str() {
        Some(address) if !host.starts_with(address) && address != host => format!("{address} {host}"),
        _ => host.to_owned(),
    }
}

fn peer(source: &Value) -> String {
    let stratum = match source["received"].as_u64() {
        None | Some(0) => " -".to_owned(),
        Some(_) => format!("{:2}", source["stratum"].as_u64().unwrap_or(0)),
    };
    let trust = trust(source);
    let measured = if trust >= TRUST_VALID {
        let ms = |key: &str| source[key].as_f64().unwrap_or(0.0) * 1e3;
        format!("  {:12.3}ms {:9.3}ms  {:8.3}ms", ms("offset"), ms("delay"), ms("jitter"))
    } else {
        "             ---- peer not valid ----".to_owned()
    };
    format!("{} {:2} {trust:2} {stratum} {}{measured}", mark(source), 1, times(source))
}

fn sensor(source: &Value) -> String {
    let is_good = trust(source) >= TRUST_VALID;
    let measured = if is_good {
        format!("   {:11.3}ms {:9.3}ms", source["offset"].as_f64().unwrap_or(0.0) * 1e3, 0.0)
    } else {
        "         - sensor not valid -".to_owned()
    };
    let stratum = source["stratum"].as_u64().unwrap_or(0);
    format!("{} {:2} {:2} {stratum:2} {}{measured}", mark(source), 1, u32::from(is_good), times(source))
}

fn times(source: &Value) -> String {
    let seconds = |key: &str| source[key].as_f64().unwrap_or(0.0).round();
    format!("{:4}s {:4}s", seconds("next"), seconds("interval"))
}

fn mark(source: &Value) -> char {
    if source["state"] == "selected" { '*' } else { ' ' }
}

fn trust(source: &Value) -> u32 {
    let answered = source["reach"].as_u64().unwrap_or(0).count_ones();
    match source["state"].as_str() {
        Some("selected" | "combined") => 10,
        Some("candidate") => (5 + answered).clamp(TRUST_VALID, 9),
        Some("falseticker") => 2,
        _ => 1,
    }
}

fn is_sensor(source: &Value) -> bool {
    source["name"].as_str().is_some_and(|name| SENSORS.iter().any(|kind| name.starts_with(kind)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source(name: &str, state: &str) -> Value {
        json!({
            "name": name, "address": "192.0.2.7", "state": state, "reach": 255, "stratum": 2, "poll": 5, "interval": 34.0, "next": 23.4,
            "offset": 0.04165, "delay": 0.190_744, "jitter": 0.227_001, "received": 8,
        })
    }

    #[test]
    fn n5_peers_sensors_and_status_have_openntpds_columns() {
        let sources = [
            source("ntp:pool.example", "selected"),
            source("ntp:192.0.2.7", "unreachable"),
            source("phc:kvm", "combined"),
        ];
        let report = json!({"state": "synchronised", "stratum": 3, "sources": sources});
        let wanted = "\
1/2 peers valid, 1/1 sensors valid, clock synced, stratum 3

peer
   wt tl st  next  poll          offset       delay      jitter
192.0.2.7 pool.example
 *  1 10  2   23s   34s        41.650ms   190.744ms   227.001ms
192.0.2.7
    1  1  2   23s   34s             ---- peer not valid ----

sensor
   wt gd st  next  poll          offset  correction
phc:kvm
    1  1  2   23s   34s        41.650ms     0.000ms
";
        assert_eq!(shown(What::All, &report), wanted);
    }

    #[test]
    fn n5_an_unsynced_clock_is_told_with_its_offset() {
        let report =
            json!({"state": "acquiring", "offset": -1.048_342, "sources": [source("ntp:a", "candidate")]});
        assert_eq!(
            shown(What::Status, &report),
            "1/1 peers valid, clock unsynced, clock offset is -1048.342ms\n"
        );
        let nobody = json!({"state": "unsynchronised", "sources": []});
        assert_eq!(shown(What::Status, &nobody), "no peers and no sensors configured\nclock unsynced\n");
        assert_eq!(shown(What::Sensors, &nobody), "no sensors configured\n");
    }

    #[test]
    fn n5_what_is_shown_may_be_abbreviated() {
        for (text, wanted) in [
            ("a", What::All),
            ("p", What::Peers),
            ("S", What::Sensors),
            ("s", What::Status),
            ("stat", What::Status),
        ] {
            assert_eq!(what(text), Ok(wanted), "{text}");
        }
        assert!(what("").is_err() && what("x").is_err());
    }
}
