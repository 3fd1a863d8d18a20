//! See `holdfast_fuzz::flight`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::flight(bytes));
