//! See `holdfast_fuzz::vitals`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::vitals(bytes));
