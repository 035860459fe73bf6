//! Unpredictable bits from `getrandom(2)`.

use driftless_core::engine::Entropy;

use crate::sys;

/// The kernel's generator.
#[derive(Debug, Default)]
pub struct KernelEntropy;

impl Entropy for KernelEntropy {
    /// # Panics
    /// Where the kernel has no generator: guessable bits would be worse than none.
    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        for _ in 0..100 {
            if sys::getrandom(&mut bytes).is_ok_and(|count| count == bytes.len()) {
                return u64::from_ne_bytes(bytes);
            }
        }
        panic!("the kernel gives no random bits: getrandom(2) failed 100 times")
    }
}
