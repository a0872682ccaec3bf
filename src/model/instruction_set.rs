//! What decides how fast this processor's kernels are.

use std::fs;

/// Tiles of bf16.
const AMX_BF16: &str = "AMX-BF16";

/// The extensions of the instruction set that OpenVINO's CPU kernels are chosen by, as far as this processor has them, by the names
/// that its maker gives them.
pub fn instruction_set() -> Vec<&'static str> {
    let mut found = extensions();
    found.extend(tiles());
    found
}

/// Whether it multiplies matrices of bf16 in tiles (AMX).
pub fn has_amx_bf16() -> bool {
    tiles().contains(&AMX_BF16)
}

#[cfg(target_arch = "x86_64")]
fn extensions() -> Vec<&'static str> {
    [
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("FMA", is_x86_feature_detected!("fma")),
        ("AVX512", is_x86_feature_detected!("avx512f")),
        ("AVX512-VNNI", is_x86_feature_detected!("avx512vnni")),
        ("AVX512-BF16", is_x86_feature_detected!("avx512bf16")),
        ("AVX-VNNI", is_x86_feature_detected!("avxvnni")),
    ]
    .into_iter()
    .filter_map(|(name, there)| there.then_some(name))
    .collect()
}

#[cfg(target_arch = "aarch64")]
fn extensions() -> Vec<&'static str> {
    vec!["NEON"]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn extensions() -> Vec<&'static str> {
    Vec::new()
}

/// The extensions of matrix tiles, which the standard library does not tell yet: by the system's own word.
fn tiles() -> Vec<&'static str> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    let flags: Vec<&str> = flags.unwrap_or_default().split_whitespace().collect();
    [("amx_int8", "AMX-INT8"), ("amx_bf16", AMX_BF16)]
        .into_iter()
        .filter_map(|(flag, name)| flags.contains(&flag).then_some(name))
        .collect()
}
