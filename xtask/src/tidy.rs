//! The shape of the tree, held by a test: arrows, lengths, where unsafe may be, what core and simulator may not call.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::lab::workspace;

/// Longest source file, its tests left out.
const FILE_LINES_MAX: usize = 500;
/// Who may depend on whom among our own crates.
const ARROWS: [(&str, &[&str]); 7] = [
    ("driftless-core", &[]),
    ("driftless-linux", &["driftless-core"]),
    ("driftless-portable", &["driftless-core"]),
    ("driftless-sim", &["driftless-core"]),
    ("driftless-daemon", &["driftless-core", "driftless-linux"]),
    ("driftless-picture", &[]),
    (
        "driftless",
        &["driftless-core", "driftless-linux", "driftless-daemon", "driftless-picture", "driftless-sim"],
    ),
];
/// What a crate without I/O may not say.
const NOT_IN_CORE: [&str; 9] = [
    "Instant::now",
    "SystemTime::now",
    "std::thread",
    "std::fs",
    "UdpSocket",
    "println!",
    "std::env",
    "std::process",
    "use log",
];
/// What brings raw system calls or an event loop of its own.
const NOT_IN_DAEMON: [&str; 6] = ["tokio", "mio", "nix", "rustix", "polling", "async-io"];
/// Names that say nothing.
const NAMELESS: [&str; 5] = ["util", "utils", "helper", "common", "misc"];

/// Prints each violation; true where there is none.
pub(crate) fn run() -> Result<bool> {
    let found = violations(&workspace()?)?;
    for violation in &found {
        eprintln!("tidy: {violation}");
    }
    eprintln!("xtask: tidy: {}", if found.is_empty() { "ok" } else { "FAILED" });
    Ok(found.is_empty())
}

fn violations(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in tracked(root)? {
        let name = file.to_string_lossy().into_owned();
        let Ok(text) = fs::read_to_string(root.join(&file)) else { continue };
        if name.ends_with(".rs") {
            found.extend(in_source(&name, &text));
        }
        if name.ends_with(".md") {
            found.extend(dead_links(root, &file, &text));
        }
    }
    for (name, allowed) in ARROWS {
        let manifest = fs::read_to_string(root.join("crates").join(name).join("Cargo.toml"))?;
        found.extend(wrong_arrows(name, allowed, &manifest));
    }
    let lock = tree(root)?;
    found.extend(NOT_IN_DAEMON.iter().filter(|banned| lock.lines().any(|line| line == **banned)).map(
        |banned| format!("driftless-daemon depends on {banned}, which makes system calls behind libc's back"),
    ));
    Ok(found)
}

fn in_source(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(format!("{name}: {lines} lines, {FILE_LINES_MAX} are allowed: a room is missing"));
    }
    let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if NAMELESS.contains(&stem.as_str()) {
        found.push(format!("{name}: the name says nothing"));
    }
    if is_unsafe(code) && !name.starts_with("crates/driftless-linux/src/sys/") {
        found.push(format!("{name}: unsafe belongs into crates/driftless-linux/src/sys/"));
    }
    let is_root = name.ends_with("src/lib.rs") || name.ends_with("src/main.rs");
    if is_root && !name.contains("driftless-linux") && !text.contains("#![forbid(unsafe_code)]") {
        found.push(format!("{name}: #![forbid(unsafe_code)] is missing"));
    }
    let is_pure =
        name.starts_with("crates/driftless-core/src") || name.starts_with("crates/driftless-sim/src");
    for banned in NOT_IN_CORE.iter().filter(|banned| is_pure && without_comments(code).contains(**banned)) {
        found.push(format!("{name}: `{banned}` has no place where nothing touches the world"));
    }
    found
}

fn without_comments(code: &str) -> String {
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn is_unsafe(code: &str) -> bool {
    let plain = without_comments(code);
    ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|&word| {
        // This very file names them in strings.
        plain.lines().any(|line| line.contains(word) && !line.contains(&format!("\"{word}\"")))
    })
}

fn wrong_arrows(name: &str, allowed: &[&str], manifest: &str) -> Vec<String> {
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    dependencies
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|dependency| dependency.starts_with("driftless") && !allowed.contains(dependency))
        .map(|dependency| format!("{name} depends on {dependency}: that arrow points back"))
        .collect()
}

fn dead_links(root: &Path, file: &Path, text: &str) -> Vec<String> {
    let folder = root.join(file.parent().unwrap_or_else(|| Path::new("")));
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#']).next())
        .filter(|link| !link.is_empty() && !link.contains("://") && !folder.join(link).exists())
        .map(|link| format!("{}: the link to {link} is dead", file.display()))
        .collect()
}

fn tracked(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect())
}

/// Names of what the daemon is built from.
fn tree(root: &Path) -> Result<String> {
    let arguments =
        ["tree", "--offline", "-p", "driftless-daemon", "-e", "normal", "--prefix", "none", "-f", "{lib}"];
    let output = Command::new("cargo").args(arguments).current_dir(root).output().context("cargo tree")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        assert_eq!(violations(&workspace().unwrap()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn each_rule_can_fail() {
        let count = |name: &str, text: &str| in_source(name, text).len();
        assert_eq!(count("crates/driftless-core/src/a.rs", "fn f() {}\n"), 0);
        assert_eq!(count("crates/driftless-core/src/a.rs", "fn f() { Instant::now(); }\n"), 1);
        assert_eq!(count("crates/driftless-daemon/src/a.rs", "fn f() { unsafe { g() } }\n"), 1);
        assert_eq!(count("crates/driftless-daemon/src/lib.rs", "mod a;\n"), 1);
        assert_eq!(count("xtask/src/util.rs", ""), 1);
        assert_eq!(count("xtask/src/a.rs", &"//\n".repeat(FILE_LINES_MAX + 1)), 1);
        let manifest = "[dependencies]\ndriftless-sim.workspace = true\n";
        assert_eq!(wrong_arrows("driftless-core", &[], manifest).len(), 1);
        assert_eq!(
            dead_links(Path::new("/nonexistent"), Path::new("a.md"), "[a](b.md) [c](https://d)").len(),
            1
        );
    }
}
