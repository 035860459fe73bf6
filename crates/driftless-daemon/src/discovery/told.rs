//! Sources that whoever starts this machine names: words `driftless.source=SPEC` on the kernel's command line, and the systemd credential `driftless.sources`.
//!
//! systemd passes a machine's credentials (`SMBIOS`, `fw_cfg`, kernel command line) on to services that ask for them by `ImportCredential=driftless.*` or
//! `LoadCredential=`, in the folder `$CREDENTIALS_DIRECTORY`; PID 1 keeps all of them in `/run/credentials/@system` (systemd.exec(5), systemd-creds(1)).

use std::path::Path;

use super::candidate::{Candidate, Rank};
use super::machine::Machine;
use crate::spec;

const WORD: &str = "driftless.source=";
/// The credential's name: SPECs, one a line or separated by blanks.
const CREDENTIAL: &str = "driftless.sources";
const SYSTEM: &str = "/run/credentials/@system";
/// More are not taken.
const SOURCES_MAX: usize = 16;

/// What is named, and what of it is not understood.
pub(super) fn sources(machine: &Machine) -> (Vec<Candidate>, Vec<String>) {
    let service = std::env::var("CREDENTIALS_DIRECTORY").ok().filter(|_| machine.is_here());
    sources_with(machine, service.as_deref())
}

fn sources_with(machine: &Machine, service: Option<&str>) -> (Vec<Candidate>, Vec<String>) {
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    let mut take = |spec: &str, from: &str| match spec::parse(spec) {
        Ok(_) if found.len() < SOURCES_MAX => found.push(Candidate::new(spec, Rank::Told, from)),
        Ok(_) => refused.push(format!("{from}: more than {SOURCES_MAX} sources")),
        Err(error) => refused.push(format!("{from}: {error}")),
    };
    if let Some(line) = machine.text("/proc/cmdline") {
        for spec in words(&line).iter().filter_map(|word| word.strip_prefix(WORD)) {
            take(spec, "the kernel's command line (driftless.source=)");
        }
    }
    let folder =
        service.into_iter().chain([SYSTEM]).find(|folder| machine.path(folder).join(CREDENTIAL).exists());
    if let Some(file) = folder.map(|folder| Path::new(folder).join(CREDENTIAL)) {
        let file = file.to_string_lossy();
        for spec in machine.text(&file).unwrap_or_default().split_whitespace() {
            take(spec, &format!("the credential {file}"));
        }
    }
    (found, refused)
}

/// Words of a kernel's command line: blanks within double quotes part nothing (lib/cmdline.c).
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for letter in line.chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            _ if letter.is_whitespace() && !is_quoted => words.push(String::new()),
            _ => words.last_mut().into_iter().for_each(|word| word.push(letter)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let machine = Machine::at(root.path());
        (root, machine)
    }

    #[test]
    fn the_command_line_names_sources_and_what_is_wrong_is_told() {
        let line = "quiet driftless.source=ntp:10.0.0.1 \"driftless.source=ntp:[fd00::1]?maxpoll=2\" driftless.source=http:x root=/dev/sda1\n";
        let (_root, machine) = machine(&[("proc/cmdline", line)]);
        let (found, refused) = sources(&machine);
        let specs: Vec<&str> = found.iter().map(|one| one.spec.as_str()).collect();
        assert_eq!(specs, ["ntp:10.0.0.1", "ntp:[fd00::1]?maxpoll=2"]);
        assert!(refused[0].contains("command line") && refused[0].contains("http:x"), "{refused:?}");
    }

    #[test]
    fn a_services_own_credential_stands_above_the_systems() {
        let files = [
            ("run/credentials/@system/driftless.sources", "ntp:10.0.0.1\n"),
            ("run/credentials/driftless.service/driftless.sources", "phc:kvm ntp:10.0.0.2\n"),
        ];
        let (_root, machine) = machine(&files);
        let specs =
            |service| sources_with(&machine, service).0.into_iter().map(|one| one.spec).collect::<Vec<_>>();
        assert_eq!(specs(None), ["ntp:10.0.0.1"]);
        assert_eq!(specs(Some("/run/credentials/driftless.service")), ["phc:kvm", "ntp:10.0.0.2"]);
    }
}
