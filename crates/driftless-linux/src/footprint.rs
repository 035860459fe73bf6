//! Gives memory back that only the start needed.
//!
//! A process's resident memory is mostly code: the kernel maps what is cached of a file 64 kB at a time round each page that is touched, and the
//! start touches nearly all of the program and of libc. Code that is never written can be let go; what the loop needs comes back at once from
//! the page cache, and nothing else does.

use std::fs;

use crate::sys;

/// Lets go of all code that is mapped from files. Returns how many bytes were mapped, 0 where nothing could be had of it.
pub fn release_code() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines()
        .filter_map(code)
        .filter(|(from, length)| sys::forget_code(*from, *length).is_ok())
        .map(|m| m.1)
        .sum()
}

/// Where a line of `/proc/self/maps` speaks of executable, unwritable, private code from a file: its address and length.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_whitespace();
    let (range, rights) = (fields.next()?, fields.next()?);
    let is_file = fields.nth(3)?.starts_with('/');
    let (from, to) = range.split_once('-')?;
    let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
    (rights == "r-xp" && is_file).then(|| (from, to.saturating_sub(from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_from_files_is_let_go() {
        let line =
            |rights: &str, name: &str| format!("55d0a000-55d0c000 {rights} 00001000 fe:00 1234   {name}");
        assert_eq!(code(&line("r-xp", "/usr/bin/driftless")), Some((0x55d0_a000, 0x2000)));
        for (rights, name) in
            [("r--p", "/usr/bin/driftless"), ("rw-p", "/usr/lib/libc.so.6"), ("r-xp", "[vdso]")]
        {
            assert_eq!(code(&line(rights, name)), None);
        }
    }

    #[test]
    fn the_program_runs_on_without_what_it_let_go() {
        assert!(release_code() > 100_000);
        assert_eq!("12".parse::<u8>().unwrap() + 1, 13);
    }
}
