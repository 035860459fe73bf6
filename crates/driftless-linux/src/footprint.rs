//! Gives memory back that only the start needed.
//!
//! A process's resident memory is mostly what is mapped of files, code and constants: the kernel maps what is cached of a file 64 kB at a time
//! round each page that is touched, and the start touches nearly all of the program and of libc. What was never written can be let go; what the
//! loop needs comes back at once from the page cache, and nothing else does.

use std::fs;

use crate::sys;

/// A private mapping of a file, as `/proc/self/smaps` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mapped {
    from: usize,
    length: usize,
    /// It may not be written, and none of its pages differs from the file's: what the linker wrote before it took the right away does.
    is_pristine: bool,
}

/// Lets go of all that is mapped from files and never was written. Returns how many bytes were mapped, 0 where nothing could be had of it.
pub fn release_files() -> usize {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let pristine = mappings(&maps).into_iter().filter(|mapped| mapped.is_pristine);
    pristine.filter(|m| sys::forget_pages(m.from, m.length).is_ok()).map(|m| m.length).sum()
}

fn mappings(smaps: &str) -> Vec<Mapped> {
    let mut found: Vec<Mapped> = Vec::new();
    for line in smaps.lines() {
        let mut fields = line.split_whitespace();
        let (Some(first), Some(second)) = (fields.next(), fields.next()) else { continue };
        if first == "Anonymous:" {
            // Pages of our own: the file's were written.
            if let Some(last) = found.last_mut() {
                last.is_pristine &= second == "0";
            }
        } else if let Some((from, to)) = first.split_once('-') {
            let (from, to) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16));
            let (Ok(from), Ok(to)) = (from, to) else { continue };
            let is_file = fields.nth(3).is_some_and(|name| name.starts_with('/'));
            let is_pristine = is_file && matches!(second, "r-xp" | "r--p");
            found.push(Mapped { from, length: to.saturating_sub(from), is_pristine });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_pristine(rights: &str, name: &str, anonymous_kb: u8) -> bool {
        let text = format!(
            "55d0a000-55d0c000 {rights} 00001000 fe:00 1234   {name}\nRss:    8 kB\nAnonymous:    {anonymous_kb} kB\n"
        );
        let found = mappings(&text);
        assert_eq!((found.len(), found[0].from, found[0].length), (1, 0x55d0_a000, 0x2000));
        found[0].is_pristine
    }

    #[test]
    fn only_what_was_never_written_is_let_go() {
        assert!(is_pristine("r-xp", "/usr/bin/driftless", 0) && is_pristine("r--p", "/usr/lib/libc.so.6", 0));
        assert!(!is_pristine("r--p", "/usr/bin/driftless", 4), "relocated, then made read-only");
        assert!(!is_pristine("rw-p", "/usr/lib/libc.so.6", 0) && !is_pristine("r-xp", "[vdso]", 0));
        assert!(!is_pristine("r--s", "/dev/vmclock0", 0));
    }

    #[test]
    fn the_program_runs_on_without_what_it_let_go() {
        assert!(release_files() > 100_000);
        assert_eq!("12".parse::<u8>().unwrap() + 1, 13);
        assert!(format!("{:?}", mappings("")).contains('['));
    }
}
