//! Any bytes as the body of a drawing request: refused, or a request within the limits.
#![no_main]

#[path = "../checks/request_body.rs"]
mod request_body;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    request_body::check(body);
});
