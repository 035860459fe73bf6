//! `cargo +nightly fuzz run server`: whatever comes to the time server.
#![no_main]

#[path = "../exercises/server.rs"]
mod server;

libfuzzer_sys::fuzz_target!(|data: &[u8]| server::exercise(data));
