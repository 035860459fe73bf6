//! `/etc/dntpd.conf`: `server NAME` a line, `#` begins a comment anywhere, blank lines (contract D1).

use std::fs;
use std::io;
use std::path::Path;

/// Where it is when nothing else is said.
pub const DEFAULT_FILE: &str = "/etc/dntpd.conf";

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DntpdConf {
    /// Servers in the order of their lines.
    pub servers: Vec<String>,
    /// Lines that say nothing useful, each with its place; the others count all the same.
    pub complaints: Vec<String>,
}

impl DntpdConf {
    /// Reads a file.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(Self::parse(&path.display().to_string(), &fs::read_to_string(path)?))
    }

    fn parse(path: &str, text: &str) -> Self {
        let mut conf = Self::default();
        for (index, line) in text.lines().enumerate() {
            let said = line.split('#').next().unwrap_or_default();
            let mut words = said.split_whitespace();
            let complaint = match (words.next(), words.next()) {
                (None, _) => continue,
                (Some("server"), Some(server)) => {
                    conf.servers.push(server.to_owned());
                    continue;
                }
                (Some("server"), None) => "a host is missing: server NAME".to_owned(),
                (Some(keyword), _) => format!("`{keyword}` is not known here, only server NAME"),
            };
            conf.complaints.push(format!("{path}:{}: {complaint}", index + 1));
        }
        conf
    }
}

/// A target as dntpd names it, a host, as a source's SPEC; SPECs are taken as they are.
#[must_use]
pub fn spec(target: &str) -> String {
    const KINDS: [&str; 6] = ["ntp:", "ntp+vsock:", "ntp+unix:", "phc:", "vmclock:", "rtc:"];
    if KINDS.iter().any(|kind| target.starts_with(kind)) {
        target.to_owned()
    } else {
        format!("ntp:{target}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d1_servers_comments_and_blank_lines_are_read() {
        let text = "# the host\nserver 10.0.2.2\n\n  server\ttime.example # near\n#server gone.example\n";
        let conf = DntpdConf::parse("f", text);
        assert_eq!(conf.servers, ["10.0.2.2", "time.example"]);
        assert!(conf.complaints.is_empty(), "{conf:?}");
    }

    #[test]
    fn d1_a_line_that_is_not_understood_is_told_by_its_place_and_left_out() {
        let conf = DntpdConf::parse("/etc/dntpd.conf", "server\npool a\nserver b\n");
        assert_eq!(conf.servers, ["b"]);
        assert_eq!(conf.complaints.len(), 2);
        assert!(conf.complaints[0].starts_with("/etc/dntpd.conf:1: a host is missing"), "{conf:?}");
        assert!(conf.complaints[1].contains(":2: `pool` is not known"), "{conf:?}");
    }

    #[test]
    fn d1_a_target_is_a_host_or_a_spec() {
        for (target, wanted) in [
            ("10.0.2.2", "ntp:10.0.2.2"),
            ("fd00::1", "ntp:fd00::1"),
            ("time.example:11123", "ntp:time.example:11123"),
            ("phc:kvm", "phc:kvm"),
        ] {
            assert_eq!(spec(target), wanted);
            assert!(crate::spec::parse(wanted).is_ok(), "{wanted}");
        }
    }
}
