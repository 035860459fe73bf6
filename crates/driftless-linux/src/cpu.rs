//! Processors: which there are, and a thread kept on one (`sched_setaffinity(2)`).

use std::fs;
use std::io;

use crate::sys;

/// The processors that are switched on, by number; the first alone where the kernel does not say.
#[must_use]
pub fn online() -> Vec<usize> {
    let list = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let found = numbers(list.trim());
    if found.is_empty() { vec![0] } else { found }
}

/// Keeps this thread on one processor.
///
/// # Errors
/// What the system says; a container may not own that processor.
pub fn pin(cpu: usize) -> io::Result<()> {
    sys::pin_to(cpu)
}

/// A list as the kernel writes it: `0-3,8`.
fn numbers(list: &str) -> Vec<usize> {
    list.split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(numbers("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(numbers("0"), [0]);
        assert!(numbers("").is_empty());
    }

    #[test]
    fn a_thread_may_be_kept_on_one_and_not_on_one_that_is_not_there() {
        std::thread::spawn(|| {
            assert!(pin(1_000_000).is_err());
            // A container may own none of those that are on, but one of them is ours then.
            assert!(online().into_iter().any(|cpu| pin(cpu).is_ok()));
        })
        .join()
        .unwrap();
    }
}
