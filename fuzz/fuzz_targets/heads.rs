#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| belvo_gateway_fuzz::heads(bytes));
