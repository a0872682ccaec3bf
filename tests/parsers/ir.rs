//! The IR writer and its reader: whatever graph is drawn and whatever its parts are called, the runtime reads the same ports back,
//! and the reader the same layers.

use std::path::Path;

use pixart::engine::Port;
use pixart::ir::{BinWriter, ElementType, Graph, IrError, Network, Value};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::support::runtime;

const INPUTS: [&str; 4] = ["input_ids", "a", "latents", "é"];
const OUTPUTS: [&str; 4] = ["sample", "noise_pred", "b", "ü"];

/// An input of a random graph and what becomes of it.
#[derive(Debug, Clone)]
struct Line {
    element: ElementType,
    dims: Vec<i64>,
    steps: Vec<u8>,
}

fn line() -> impl Strategy<Value = Line> {
    (
        prop_oneof![
            Just(ElementType::F32),
            Just(ElementType::F16),
            Just(ElementType::I64),
            Just(ElementType::I32)
        ],
        proptest::collection::vec(prop_oneof![Just(-1_i64), 1_i64..9], 1..5),
        proptest::collection::vec(0_u8..5, 0..6),
    )
        .prop_map(|(element, dims, steps)| Line {
            element,
            dims,
            steps,
        })
}

/// Appends a step that keeps the shape.
fn step(graph: &mut Graph, value: Value, kind: u8) -> Value {
    match kind {
        0 => graph.add(value, value),
        1 => graph.maximum(value, value),
        2 => graph.subtract(value, value),
        3 => {
            let shape = graph.shape_of(value);
            graph.reshape_to(value, shape)
        }
        _ => graph.multiply(value, value),
    }
}

fn write(folder: &Path, name: &str, scope: &str, lines: &[Line]) -> std::path::PathBuf {
    let xml = folder.join("graph.xml");
    let bin = xml.with_extension("bin");
    let _ = std::fs::remove_file(&bin);
    let mut graph = Graph::new(name, BinWriter::create(&bin).unwrap());
    for (line, (input, output)) in lines.iter().zip(INPUTS.into_iter().zip(OUTPUTS)) {
        let mut value = graph.parameter(input, line.element, &line.dims);
        for &kind in &line.steps {
            value = graph
                .scoped(scope, |graph| {
                    Ok::<_, std::io::Error>(step(graph, value, kind))
                })
                .unwrap();
        }
        if line.steps.is_empty() {
            value = step(&mut graph, value, 0);
        }
        graph.result(output, value);
    }
    let (text, writer) = graph.finish();
    writer.finish().unwrap();
    check_escaped(&text);
    std::fs::write(&xml, text).unwrap();
    xml
}

/// Holds that text is tags and white space, and that no attribute has a character that ends it or the tag.
fn check_escaped(xml: &str) {
    for tag in xml.split('<').skip(1) {
        let (tag, between) = tag.split_once('>').expect("every tag ends");
        // Dimensions are the only text outside of tags.
        assert!(
            between
                .chars()
                .all(|c| c.is_whitespace() || c.is_ascii_digit() || c == '-'),
            "{between}"
        );
        let quotes = tag.matches('"').count();
        assert!(quotes.is_multiple_of(2), "{tag}");
        for value in tag.split('"').skip(1).step_by(2) {
            assert!(!value.chars().any(char::is_control), "{value:?}");
            for entity in value.split('&').skip(1) {
                let known = ["amp;", "lt;", "gt;", "quot;"];
                assert!(
                    known.iter().any(|known| entity.starts_with(known)),
                    "{value}"
                );
            }
        }
    }
}

fn port(element: ElementType, dims: &[i64]) -> Port {
    Port {
        element: element.name().to_owned(),
        dims: dims.iter().map(|&dim| usize::try_from(dim).ok()).collect(),
    }
}

#[test]
fn the_runtime_reads_the_ports_of_any_graph_back_whatever_its_parts_are_called() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = std::cell::RefCell::new(runtime());
    let strategy = (
        proptest::collection::vec(line(), 1..5),
        any::<String>(),
        "[<>&\"'/ \\t\\n\\x00-\\x1fa-zé🌵]{0,20}",
    );
    TestRunner::new(ProptestConfig::with_cases(64))
        .run(&strategy, |(lines, name, scope)| {
            let xml = write(folder.path(), &name, &scope, &lines);
            let (inputs, outputs) = runtime.borrow_mut().inspect(&xml).unwrap();
            prop_assert_eq!(inputs.len(), lines.len());
            prop_assert_eq!(outputs.len(), lines.len());
            for (index, line) in lines.iter().enumerate() {
                let expected = port(line.element, &line.dims);
                prop_assert_eq!(
                    &inputs[index],
                    &(INPUTS[index].to_owned(), expected.clone())
                );
                prop_assert_eq!(&outputs[index], &(OUTPUTS[index].to_owned(), expected));
            }
            Ok(())
        })
        .unwrap();
}

/// Copies every layer of a network into a new graph beside it. Returns the text and bytes of both copies.
fn copied(xml: &Path) -> (String, Vec<u8>) {
    let network = Network::open(xml).unwrap();
    let bin = xml.with_file_name("copy.bin");
    let _ = std::fs::remove_file(&bin);
    let mut graph = Graph::new(network.name().to_owned(), BinWriter::create(&bin).unwrap());
    graph.copy_all(&network).unwrap();
    let (text, writer) = graph.finish();
    writer.finish().unwrap();
    (text, std::fs::read(bin).unwrap())
}

#[test]
fn a_network_that_is_read_and_copied_is_the_same_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let strategy = (proptest::collection::vec(line(), 1..5), "[a-z.]{0,9}");
    TestRunner::new(ProptestConfig::with_cases(64))
        .run(&strategy, |(lines, scope)| {
            let xml = write(folder.path(), "network", &scope, &lines);
            let (text, bytes) = copied(&xml);
            prop_assert_eq!(std::fs::read_to_string(&xml).unwrap(), text);
            prop_assert_eq!(std::fs::read(xml.with_extension("bin")).unwrap(), bytes);
            Ok(())
        })
        .unwrap();
}

#[test]
fn every_network_of_a_converted_model_is_copied_to_the_byte() {
    let model = crate::support::small_model();
    for name in ["text_encoder", "transformer", "vae_decoder"] {
        let folder = tempfile::tempdir().unwrap();
        let xml = folder.path().join(name).with_extension("xml");
        for ending in ["xml", "bin"] {
            let file = xml.with_extension(ending);
            std::fs::copy(model.join(name).with_extension(ending), file).unwrap();
        }
        let (text, bytes) = copied(&xml);
        assert!(std::fs::read_to_string(&xml).unwrap() == text, "{name}.xml");
        assert!(
            std::fs::read(xml.with_extension("bin")).unwrap() == bytes,
            "{name}.bin"
        );
    }
}

#[test]
fn damaged_networks_are_refused_whatever_the_damage() {
    let folder = tempfile::tempdir().unwrap();
    let line = Line {
        element: ElementType::F32,
        dims: vec![2, 3],
        steps: vec![0, 3],
    };
    let xml = write(
        folder.path(),
        "network",
        "scope",
        std::slice::from_ref(&line),
    );
    let whole = std::fs::read_to_string(&xml).unwrap();
    for (from, to) in [
        ("<net ", "<set "),
        ("version=\"11\"", "version=\"10\""),
        ("</edges>", ""),
        ("<layers>", "<players>"),
        ("precision=\"FP32\"", "precision=\"FP8\""),
        ("from-layer=\"0\"", "from-layer=\"77\""),
        ("from-layer=\"0\"", "from-layer=\"1\""),
        ("from-port=\"0\"", "from-port=\"9\""),
        ("id=\"1\" name", "id=\"0\" name"),
        ("<edge ", "<hedge "),
    ] {
        let damaged = whole.replacen(from, to, 1);
        assert_ne!(damaged, whole, "{from}");
        std::fs::write(&xml, &damaged).unwrap();
        let refused = Network::open(&xml);
        assert!(
            matches!(refused, Err(IrError::Foreign { .. })),
            "{from} → {to}: {refused:?}"
        );
    }
    TestRunner::new(ProptestConfig::with_cases(256))
        .run(&(0..whole.len(), any::<char>()), |(at, character)| {
            let mut damaged = whole.clone();
            let at = (0..=at)
                .rev()
                .find(|&at| damaged.is_char_boundary(at))
                .unwrap();
            damaged.insert(at, character);
            std::fs::write(&xml, &damaged).unwrap();
            let _ = Network::open(&xml);
            Ok(())
        })
        .unwrap();
}
