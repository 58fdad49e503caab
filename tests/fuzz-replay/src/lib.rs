//! What the fuzzers run: one function for each target, which panics where a promise is broken.
//!
//! `fuzz/` wraps each of them for libFuzzer; `tests/replay.rs` runs each over what is kept in
//! `fuzz/corpus` and `fuzz/regressions`, without a fuzzer, in every `./run test`.

mod command_line;
mod frame;
mod header;
mod judge;
pub mod machine;
mod plan;
mod statement;

pub use command_line::sudo_args;
pub use frame::wire_frame;
pub use header::root_header;
pub use machine::machine;
pub use plan::plan_decode;
pub use statement::{lease_decode, lease_verify, receipt_decode, verdict_decode};

/// What a fuzzer calls.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: [(&str, Target); 9] = [
    ("lease_decode", lease_decode),
    ("lease_verify", lease_verify),
    ("machine", machine),
    ("plan_decode", plan_decode),
    ("receipt_decode", receipt_decode),
    ("root_header", root_header),
    ("sudo_args", sudo_args),
    ("verdict_decode", verdict_decode),
    ("wire_frame", wire_frame),
];
