//! Giving up the power over the clock: nothing that this process starts can have it either.

use std::io;

use crate::sys;

/// `CAP_SYS_TIME` of linux/capability.h.
const SYS_TIME: u32 = 25;

/// Takes `CAP_SYS_TIME` out of every set of this thread, for good. Call it before starting threads.
///
/// # Errors
/// What the system says. Without `CAP_SETPCAP` the bounding set cannot be changed; there the other sets are enough
/// for a process that is not root, so that is no error.
pub fn drop_sys_time() -> io::Result<()> {
    if let Err(error) = sys::drop_from_bounding_set(SYS_TIME.into()) {
        if error.raw_os_error() != Some(libc::EPERM) {
            return Err(error);
        }
    }
    sys::set_capabilities(sys::capabilities()?.map(|set| set & !(1 << SYS_TIME)))
}

/// Whether this thread could set the clock.
///
/// # Errors
/// What the system says.
pub fn has_sys_time() -> io::Result<bool> {
    Ok(sys::capabilities()?[0] >> SYS_TIME & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_dropped_it_is_gone() {
        drop_sys_time().unwrap();
        assert!(!has_sys_time().unwrap());
    }
}
