// Any text as the `.xml` of a network beside a `.bin` of 4096 bytes: refused, or layers and constants that can be walked. Run by the
// fuzz target of this name, and by tests/parsers on damaged networks.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use pixart::ir::Network;

/// The `.bin` of every network.
fn bin() -> File {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let name = format!("pixart-fuzz-ir-{}.bin", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = File::create(&path).expect("a folder for temporary files");
        file.write_all(&[7; 4096]).expect("4 kB of room");
        path
    });
    File::open(path).expect("it was written above")
}

/// Whether it is a network.
pub fn check(xml: &str) -> bool {
    let Ok(network) = Network::parse(xml, bin(), "fuzz.xml".as_ref()) else {
        return false;
    };
    for (index, layer) in network.layers().iter().enumerate() {
        for input in layer.inputs() {
            assert!(input.layer() < index, "layers stand behind what they take");
            network.source(*input);
        }
        let Some(constant) = network.constant(index) else {
            continue;
        };
        let mut bytes = 0;
        network
            .blocks(&constant, |block| {
                bytes += block.len();
                Ok::<_, std::io::Error>(())
            })
            .expect("it was held to lie within the file");
        let elements = constant.shape.iter().product();
        assert_eq!(bytes, constant.element.bytes(elements));
        let all = network.elements(&constant, 0, elements);
        assert_eq!(all.expect("as above").len(), bytes);
    }
    true
}
