//! This machine's network.

use std::ffi::CStr;
use std::io::Result;
use std::net::IpAddr;

use super::{address, check};

/// Every address with its interface's name and its network's mask (`getifaddrs(3)`).
pub(crate) fn interface_addresses() -> Result<Vec<(String, IpAddr, IpAddr)>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is exclusively borrowed over the call.
    check(unsafe { libc::getifaddrs(&raw mut list) })?;
    let mut found = Vec::new();
    let mut next = list;
    // SAFETY: null, or an entry of the list, which lives until it is freed below.
    while let Some(entry) = unsafe { next.as_ref() } {
        if let Some((ip, mask)) = ip(entry.ifa_addr).zip(ip(entry.ifa_netmask)) {
            // SAFETY: an entry's name is a string that ends in a zero byte.
            let name = unsafe { CStr::from_ptr(entry.ifa_name) };
            found.push((name.to_string_lossy().into_owned(), ip, mask));
        }
        next = entry.ifa_next;
    }
    // SAFETY: made by getifaddrs, and nothing of it is used any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

fn ip(name: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: null, or an address that begins with its family.
    let family = i32::from(unsafe { name.as_ref() }?.sa_family);
    let length = match family {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    // SAFETY: all zeroes is a valid `sockaddr_storage`: no address.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    // SAFETY: an address of this family is so long, and the storage longer.
    unsafe { std::ptr::copy_nonoverlapping(name.cast::<u8>(), (&raw mut storage).cast(), length) };
    address(&storage).map(|address| address.ip())
}
