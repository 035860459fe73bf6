//! Where unpredictable bits come from: the driver has them, the core asks.

/// Unpredictable bits for the wire (RFC 9109, RFC 8633 section 5.4).
pub trait Entropy {
    /// 64 bits that nobody can guess.
    fn next_u64(&mut self) -> u64;
}
