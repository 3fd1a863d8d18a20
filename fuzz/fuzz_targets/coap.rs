//! See `holdfast_fuzz::coap`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::coap(bytes));
