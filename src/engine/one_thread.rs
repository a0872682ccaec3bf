//! A fault of OpenVINO's CPU plugin that ends the process, and what is compiled instead.
//!
//! On processors with AMX the plugin (2026.4.1) fuses a gated feed-forward, `down(act(gate(x)) · up(x))` as T5 has it, into one
//! operation when it computes in bf16. The fused operation divides the work between pairs of threads: with one thread it divides by
//! zero, and the process ends with SIGFPE while the network is compiled. In f32 nothing is fused. So a network with such a
//! feed-forward is compiled in f32 where there is one thread; every other network, and the same one with more threads, is
//! compiled as asked. `docs/adr/0019-one-thread-with-amx.md` has what was measured, and the report for OpenVINO.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use roxmltree::{Document, Node};

use super::Runtime;
use crate::config::Precision;
use crate::files;
use crate::model::has_amx_bf16;

/// Longest `.xml` that is searched. That of a published text encoder has 1 MB.
const MAX_XML_BYTES: u64 = 256 << 20;

/// What decides whether the fault is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    /// Whether the processor has tiles of bf16.
    has_amx_bf16: bool,
    /// Whether the device computes in bf16 when nobody says otherwise.
    prefers_bf16: bool,
    /// Threads that will compute.
    threads: usize,
}

impl Machine {
    /// This one. `threads` is the setting; `capabilities` are the CPU device's.
    fn here(threads: Option<u16>, capabilities: &[String]) -> Self {
        let cores = physical_cores();
        Self {
            has_amx_bf16: has_amx_bf16(),
            prefers_bf16: capabilities.iter().any(|can| can == "BF16"),
            // The runtime takes no more threads than there are cores, whatever it is asked for.
            threads: threads.map_or(cores, |threads| cores.min(threads.into())),
        }
    }

    fn has_the_fault(self, asked: Precision) -> bool {
        let in_bf16 = match asked {
            Precision::Auto => self.prefers_bf16,
            Precision::Bf16 => true,
            Precision::F32 | Precision::F16 => false,
        };
        self.has_amx_bf16 && in_bf16 && self.threads <= 1
    }
}

impl Runtime {
    /// The precision in which the network at `xml` can be compiled for `device`: the one asked for, but where the fault is met.
    /// `threads` is the setting.
    pub(super) fn safe_precision(
        &self,
        device: &str,
        asked: Precision,
        threads: Option<u16>,
        xml: &Path,
    ) -> Precision {
        if device != "CPU" {
            return asked;
        }
        let machine = Machine::here(threads, &self.capabilities(device));
        safe_precision(asked, machine, xml)
    }
}

fn safe_precision(asked: Precision, machine: Machine, xml: &Path) -> Precision {
    if machine.has_the_fault(asked) && has_gated_feed_forward(xml) {
        Precision::F32
    } else {
        asked
    }
}

/// Whether the IR at `xml` may have one. An IR that cannot be read has: compiling it will say what is wrong.
fn has_gated_feed_forward(xml: &Path) -> bool {
    files::read_text(xml, MAX_XML_BYTES).map_or(true, |text| is_gated(&text))
}

/// Whether a product of an activation and a matrix product goes into a matrix product.
fn is_gated(xml: &str) -> bool {
    let Ok(document) = Document::parse(xml) else {
        return true;
    };
    let named = |name: &'static str| {
        document
            .descendants()
            .filter(move |node| node.has_tag_name(name))
    };
    let attribute =
        |node: Node<'_, '_>, name: &str| node.attribute(name).unwrap_or_default().to_owned();
    let kinds: BTreeMap<String, String> = named("layer")
        .map(|layer| (attribute(layer, "id"), attribute(layer, "type")))
        .collect();
    let mut inputs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for edge in named("edge") {
        let from = attribute(edge, "from-layer");
        inputs
            .entry(attribute(edge, "to-layer"))
            .or_default()
            .push(from);
    }
    let kind = |id: &String| kinds.get(id).map_or("", String::as_str);
    let takes = |id: &String, wanted: &[&str]| {
        let mut inputs = inputs.get(id).into_iter().flatten();
        inputs.any(|input| wanted.contains(&kind(input)))
    };
    let gated: BTreeSet<&String> = kinds
        .keys()
        .filter(|id| kind(id) == "Multiply" && takes(id, &["Gelu", "Swish"]))
        .collect();
    kinds.keys().filter(|id| kind(id) == "MatMul").any(|id| {
        inputs
            .get(id)
            .is_some_and(|inputs| inputs.iter().any(|input| gated.contains(input)))
    })
}

/// Cores that this process may run on; of those that share one, one counts, as for OpenVINO.
fn physical_cores() -> usize {
    let logical = available_parallelism().map_or(1, usize::from);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .map(|list| cpus_in(list.trim()))
        .unwrap_or_default();
    let core = |cpu: &usize| {
        let topology = format!("/sys/devices/system/cpu/cpu{cpu}/topology");
        fs::read_to_string(format!("{topology}/thread_siblings_list")).ok()
    };
    // Where the system says nothing of its cores, each processor is one.
    let cores: Option<BTreeSet<String>> = allowed.iter().map(core).collect();
    match cores {
        Some(cores) if !cores.is_empty() => cores.len(),
        _ => logical,
    }
}

/// The numbers in a list such as `0-3,8,10-11`. What is no number is skipped.
fn cpus_in(list: &str) -> Vec<usize> {
    list.split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_FAULT: Machine = Machine {
        has_amx_bf16: true,
        prefers_bf16: true,
        threads: 1,
    };

    /// x → gate → activation ─┐
    /// x → up ────────────────┴→ Multiply → down
    fn feed_forward(activation: &str, product: &str) -> String {
        format!(
            r#"<net name="n" version="11"><layers>
                <layer id="0" type="Parameter"/><layer id="1" type="MatMul"/><layer id="2" type="{activation}"/>
                <layer id="3" type="MatMul"/><layer id="4" type="{product}"/><layer id="5" type="MatMul"/></layers>
            <edges><edge from-layer="0" to-layer="1"/><edge from-layer="1" to-layer="2"/><edge from-layer="0" to-layer="3"/>
                <edge from-layer="3" to-layer="4"/><edge from-layer="2" to-layer="4"/><edge from-layer="4" to-layer="5"/>
            </edges></net>"#
        )
    }

    fn compiled(asked: Precision, machine: Machine, xml: &str) -> Precision {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network.xml");
        fs::write(&path, xml).unwrap();
        safe_precision(asked, machine, &path)
    }

    #[test]
    fn a_gated_feed_forward_is_compiled_in_f32_where_one_thread_computes_with_tiles_of_bf16() {
        for activation in ["Gelu", "Swish"] {
            let xml = feed_forward(activation, "Multiply");
            for asked in [Precision::Auto, Precision::Bf16] {
                assert_eq!(compiled(asked, WITH_FAULT, &xml), Precision::F32);
            }
            assert_eq!(
                compiled(Precision::F16, WITH_FAULT, &xml),
                Precision::F16,
                "nothing is fused"
            );
        }
    }

    #[test]
    fn everything_else_is_compiled_as_asked() {
        let gated = feed_forward("Gelu", "Multiply");
        let others = [
            Machine {
                threads: 2,
                ..WITH_FAULT
            },
            Machine {
                has_amx_bf16: false,
                ..WITH_FAULT
            },
            Machine {
                prefers_bf16: false,
                ..WITH_FAULT
            },
        ];
        for machine in others {
            assert_eq!(compiled(Precision::Auto, machine, &gated), Precision::Auto);
        }
        // The transformer's own feed-forward, and a sum in place of the product.
        for xml in [
            feed_forward("Relu", "Multiply"),
            feed_forward("Gelu", "Add"),
        ] {
            assert_eq!(compiled(Precision::Auto, WITH_FAULT, &xml), Precision::Auto);
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_risked() {
        assert_eq!(
            compiled(Precision::Auto, WITH_FAULT, "<net"),
            Precision::F32
        );
        let nowhere = Path::new("/nowhere/network.xml");
        let precision = safe_precision(Precision::Auto, WITH_FAULT, nowhere);
        assert_eq!(precision, Precision::F32);
    }

    #[test]
    fn lists_of_processors_are_read_and_there_is_at_least_one_core() {
        assert_eq!(cpus_in("0-3,8,10-11"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(cpus_in("0"), [0]);
        assert_eq!(cpus_in(""), [0_usize; 0]);
        assert!(physical_cores() >= 1);
    }
}
