//! Any text as the `.xml` of a network: refused, or layers and constants that can be walked.
#![no_main]

#[path = "../checks/ir.rs"]
mod ir;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|xml: &str| {
    ir::check(xml);
});
