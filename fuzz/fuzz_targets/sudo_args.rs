#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| olb_fuzz_targets::sudo_args(data));
