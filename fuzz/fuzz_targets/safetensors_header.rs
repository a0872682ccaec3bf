//! Any bytes as the header of a safetensors file: refused, or tensors that tile the data.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pixart::convert::parse_header;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(metadata) = parse_header(bytes) {
        for info in metadata.tensors().values() {
            let bits = info.shape.iter().product::<usize>() * info.dtype.bitsize();
            assert_eq!((info.data_offsets.1 - info.data_offsets.0) * 8, bits);
            assert!(info.data_offsets.1 <= metadata.data_len());
        }
    }
});
