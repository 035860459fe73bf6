//! What the processor says of the hypervisor that it runs under.

use crate::sys;

/// The hypervisor's signature, as in `KVMKVMKVM`; none on hardware, or where the processor has no such leaf.
#[must_use]
pub fn hypervisor() -> Option<String> {
    let octets = sys::hypervisor_signature()?;
    let text: String =
        octets.iter().take_while(|octet| **octet != 0).map(|octet| char::from(*octet)).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_twelve_letters_at_most() {
        assert!(hypervisor().is_none_or(|name| name.len() <= 12));
    }
}
