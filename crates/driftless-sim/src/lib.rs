//! The deterministic world that the core is proven in.
#![forbid(unsafe_code)]
