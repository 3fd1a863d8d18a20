//! See `holdfast_fuzz::modules`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::modules(bytes));
