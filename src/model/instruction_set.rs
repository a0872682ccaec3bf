//! What decides how fast this processor's kernels are.

use std::fs;

/// Tiles of bf16.
const AMX_BF16: &str = "AMX-BF16";

/// The extensions of the instruction set that OpenVINO's CPU kernels are chosen by, as far as this processor has them, by the names
/// that its maker gives them. `most`: what oneDNN was told to use at most, by its names (`AVX2`, `AVX512_CORE_BF16`).
pub fn instruction_set(most: Option<&str>) -> Vec<&'static str> {
    let mut found = extensions();
    found.extend(tiles());
    found.retain(|name| most.is_none_or(|most| is_within(name, most)));
    found
}

/// Whether an extension may be used where oneDNN's `most` is the best that may. A name that oneDNN does not know limits nothing.
/// Source: oneDNN 3.x, `src/cpu/x64/cpu_isa_traits.hpp`, where each level has the bits of those below it.
fn is_within(extension: &str, most: &str) -> bool {
    const LEVELS: [&str; 10] = [
        "SSE41",
        "AVX",
        "AVX2",
        "AVX2_VNNI",
        "AVX2_VNNI_2",
        "AVX512_CORE",
        "AVX512_CORE_VNNI",
        "AVX512_CORE_BF16",
        "AVX512_CORE_FP16",
        "AVX512_CORE_AMX",
    ];
    let Some(most) = LEVELS.iter().position(|&level| level == most) else {
        return true;
    };
    let level = |name: &str| LEVELS.iter().position(|&level| level == name);
    let least = match extension {
        "AVX2" | "FMA" => level("AVX2"),
        // Of its own line: the first levels of AVX512 are without it.
        "AVX-VNNI" if LEVELS[most].starts_with("AVX512") => level("AVX512_CORE_FP16"),
        "AVX-VNNI" => level("AVX2_VNNI"),
        "AVX512" => level("AVX512_CORE"),
        "AVX512-VNNI" => level("AVX512_CORE_VNNI"),
        "AVX512-BF16" => level("AVX512_CORE_BF16"),
        "AMX-INT8" | AMX_BF16 => level("AVX512_CORE_AMX"),
        _ => None,
    };
    least.is_none_or(|least| most >= least)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_onednn_is_told_to_leave_is_left() {
        let here = [
            "AVX2",
            "FMA",
            "AVX512",
            "AVX512-BF16",
            "AVX-VNNI",
            "AMX-BF16",
        ];
        for (most, expected) in [
            ("SSE41", ""),
            ("AVX2", "AVX2 FMA"),
            ("AVX2_VNNI", "AVX2 FMA AVX-VNNI"),
            ("AVX512_CORE", "AVX2 FMA AVX512"),
            ("AVX512_CORE_BF16", "AVX2 FMA AVX512 AVX512-BF16"),
            (
                "AVX512_CORE_AMX",
                "AVX2 FMA AVX512 AVX512-BF16 AVX-VNNI AMX-BF16",
            ),
            ("ALL", "AVX2 FMA AVX512 AVX512-BF16 AVX-VNNI AMX-BF16"),
        ] {
            let left: Vec<&str> = here
                .into_iter()
                .filter(|name| is_within(name, most))
                .collect();
            assert_eq!(left.join(" "), expected, "{most}");
        }
        assert_eq!(instruction_set(None), instruction_set(Some("DEFAULT")));
    }
}
