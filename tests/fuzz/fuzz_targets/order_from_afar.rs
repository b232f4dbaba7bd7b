#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| palisade_fuzz::run("order_from_afar", bytes));
