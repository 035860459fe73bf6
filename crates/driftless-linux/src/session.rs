//! A session of one's own (`setsid(2)`): the terminal that a daemon was started on does not end it.

use std::io;

use crate::sys;

/// Leaves the session that this process was started in.
///
/// # Errors
/// `PermissionDenied` where it leads a process group, as a shell's job does.
pub fn begin() -> io::Result<()> {
    sys::setsid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_begun_once() {
        // Whoever runs the tests may have begun one already: then the first call fails as well.
        let _ = begin();
        assert_eq!(begin().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
