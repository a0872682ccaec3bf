//! The IR read back: layers in an order in which each stands behind those that it takes from, constants by their place in the
//! `.bin`.
//!
//! It reads what [`super::Graph`] writes, and refuses what it would not write again as it was: subgraphs, element types that
//! our graphs do not use, layers out of order. A file is trusted no further than it has been checked.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use roxmltree::{Document, Node};
use thiserror::Error;

use super::bin::BLOCK_BYTES;
use super::graph::Graph;
use super::layer::{ElementType, Layer, Mark, Value};
use crate::files;

/// Longest `.xml` taken. That of a published transformer has 2 MB.
const MAX_XML_BYTES: u64 = 256 << 20;

/// Why an IR cannot be read.
#[derive(Debug, Error)]
pub enum IrError {
    /// One of its files cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no IR, or one that this room does not write.
    #[error("{path} is not an IR that pixart wrote ({detail}): convert the checkpoint again", path = path.display())]
    Foreign {
        /// The `.xml`.
        path: PathBuf,
        /// What is wrong, by the name of a layer where it has one.
        detail: String,
    },
}

/// A network on disk.
#[derive(Debug)]
pub struct Network {
    name: String,
    layers: Vec<Layer>,
    bin: File,
    bin_path: PathBuf,
    bin_bytes: u64,
}

/// A constant: what it is, and where its bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constant {
    /// Type of its elements.
    pub element: ElementType,
    /// Its dimensions.
    pub shape: Vec<usize>,
    offset: u64,
    bytes: usize,
}

impl Network {
    /// Opens the IR at `xml`, whose `.bin` lies beside it.
    ///
    /// # Errors
    /// When a file cannot be read, or is not what [`Graph`] writes.
    pub fn open(xml: &Path) -> Result<Self, IrError> {
        let read = |path: &Path| {
            let path = path.to_owned();
            move |source| IrError::Read { path, source }
        };
        let bin_path = xml.with_extension("bin");
        let bin = files::open(&bin_path).map_err(read(&bin_path))?;
        let foreign = |detail: String| IrError::Foreign {
            path: xml.to_owned(),
            detail,
        };
        let text = match files::read_text(xml, MAX_XML_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(foreign(format!("longer than {MAX_XML_BYTES} bytes")));
            }
            Err(error) => return Err(read(xml)(error)),
        };
        Self::parse(&text, bin, xml)
    }

    /// Reads the `text` of the IR at `xml`, whose weights are in `bin`.
    ///
    /// # Errors
    /// When the `.bin` cannot be looked at, or the text is not what [`Graph`] writes.
    pub fn parse(text: &str, bin: File, xml: &Path) -> Result<Self, IrError> {
        let bin_path = xml.with_extension("bin");
        let read = |source| IrError::Read {
            path: bin_path.clone(),
            source,
        };
        let bin_bytes = bin.metadata().map_err(read)?.len();
        let (name, layers) = parse(text, bin_bytes).map_err(|detail| IrError::Foreign {
            path: xml.to_owned(),
            detail,
        })?;
        Ok(Self {
            name,
            layers,
            bin,
            bin_path,
            bin_bytes,
        })
    }

    /// What the network is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length of its `.bin`.
    pub fn bin_bytes(&self) -> u64 {
        self.bin_bytes
    }

    /// Its layers; a [`Value`] names one by its place here, and every layer stands behind those that it takes from.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layer that a value comes from.
    pub fn source(&self, value: Value) -> &Layer {
        &self.layers[value.layer]
    }

    /// The constant that the layer at `index` is, if it is one.
    pub fn constant(&self, index: usize) -> Option<Constant> {
        let layer = &self.layers[index];
        // That it makes sense was held when the file was read.
        if layer.kind == "Const" {
            constant(layer)
        } else {
            None
        }
    }

    /// Hands the bytes of a constant to `each`, block by block.
    ///
    /// # Errors
    /// When the `.bin` cannot be read, and those of `each`.
    pub fn blocks<E: From<io::Error>>(
        &self,
        constant: &Constant,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut block = vec![0; BLOCK_BYTES.min(constant.bytes)];
        for start in (0..constant.bytes).step_by(BLOCK_BYTES) {
            let length = BLOCK_BYTES.min(constant.bytes - start);
            self.bin
                .read_exact_at(&mut block[..length], constant.offset + start as u64)
                .map_err(|error| self.unreadable(&error))?;
            each(&block[..length])?;
        }
        Ok(())
    }

    /// Part of a constant's bytes: `count` elements from element `first` on. Of whole bytes each.
    ///
    /// # Errors
    /// When the `.bin` cannot be read.
    pub fn elements(&self, constant: &Constant, first: usize, count: usize) -> io::Result<Vec<u8>> {
        let (skipped, length) = (constant.element.bytes(first), constant.element.bytes(count));
        debug_assert!(skipped + length <= constant.bytes, "within the constant");
        let mut bytes = vec![0; length];
        self.bin
            .read_exact_at(&mut bytes, constant.offset + skipped as u64)
            .map_err(|error| self.unreadable(&error))?;
        Ok(bytes)
    }

    fn unreadable(&self, error: &io::Error) -> io::Error {
        io::Error::new(
            error.kind(),
            format!("{}: {error}", self.bin_path.display()),
        )
    }
}

impl Graph {
    /// Copies every layer of `network`. Returns the outputs of each, by its place there.
    ///
    /// # Errors
    /// As [`Self::copy`].
    pub fn copy_all(&mut self, network: &Network) -> io::Result<Vec<Vec<Value>>> {
        let mut values: Vec<Vec<Value>> = Vec::with_capacity(network.layers.len());
        for (index, layer) in network.layers.iter().enumerate() {
            let inputs = layer
                .inputs
                .iter()
                .map(|input| values[input.layer][input.output])
                .collect();
            values.push(self.copy(network, index, inputs)?);
        }
        Ok(values)
    }

    /// Copies the layer at `index` of `network`, a constant with its bytes, on values of this graph. Returns its outputs.
    ///
    /// # Errors
    /// When the one `.bin` cannot be read or the other not written.
    pub fn copy(
        &mut self,
        network: &Network,
        index: usize,
        inputs: Vec<Value>,
    ) -> io::Result<Vec<Value>> {
        let layer = &network.layers[index];
        let Some(constant) = network.constant(index) else {
            return Ok(self.copied(layer, inputs));
        };
        let value = self.constant(constant.element, &constant.shape, |bin| {
            network.blocks(&constant, |block| bin.write(block))
        })?;
        self.rename(value, &layer.name);
        Ok(vec![value])
    }
}

/// Everything between the tags; the error is a detail for [`IrError::Foreign`].
fn parse(text: &str, bin_bytes: u64) -> Result<(String, Vec<Layer>), String> {
    let document = Document::parse(text).map_err(|error| error.to_string())?;
    let net = document.root_element();
    if net.tag_name().name() != "net" || net.attribute("version") != Some("11") {
        return Err("its root is not <net version=\"11\">".to_owned());
    }
    let mut places = BTreeMap::new();
    let mut layers = Vec::new();
    let mut ports = Vec::new();
    for node in children(child(net, "layers")?, "layer") {
        let (layer, layer_ports) = read_layer(node)?;
        if layer.kind == "Const" {
            let constant = constant(&layer)
                .ok_or_else(|| format!("the constant {} makes no sense", layer.name))?;
            let end = constant.offset.checked_add(constant.bytes as u64);
            if end.is_none_or(|end| end > bin_bytes) {
                return Err(format!("the constant {} lies behind the .bin", layer.name));
            }
        }
        let id = required(node, "id")?.to_owned();
        if places.insert(id.clone(), layers.len()).is_some() {
            return Err(format!("two layers have the id {id}"));
        }
        layers.push(layer);
        ports.push(layer_ports);
    }
    let mut inputs: Vec<BTreeMap<usize, Value>> = vec![BTreeMap::new(); layers.len()];
    for edge in children(child(net, "edges")?, "edge") {
        let place = |key: &str| -> Result<usize, String> {
            let id = required(edge, key)?;
            places
                .get(id)
                .copied()
                .ok_or_else(|| format!("an edge names the layer {id}, which is not there"))
        };
        let (from, to) = (place("from-layer")?, place("to-layer")?);
        let output = port_index(&ports[from].outputs, required(edge, "from-port")?)?;
        let input = port_index(&ports[to].inputs, required(edge, "to-port")?)?;
        if from >= to {
            return Err(format!(
                "{} stands in front of {}, which it takes from",
                layers[to].name, layers[from].name
            ));
        }
        let value = Value {
            layer: from,
            output,
            element: layers[from].outputs[output],
        };
        inputs[to].insert(input, value);
    }
    for ((layer, taken), ports) in layers.iter_mut().zip(inputs).zip(&ports) {
        if taken.len() != ports.inputs.len() {
            return Err(format!("an input of {} comes from nowhere", layer.name));
        }
        layer.inputs = taken.into_values().collect();
    }
    Ok((net.attribute("name").unwrap_or_default().to_owned(), layers))
}

/// Ids of a layer's ports, in order.
struct Ports {
    inputs: Vec<String>,
    outputs: Vec<String>,
}

fn port_index(ports: &[String], id: &str) -> Result<usize, String> {
    ports
        .iter()
        .position(|port| port == id)
        .ok_or_else(|| format!("an edge names the port {id}, which is not there"))
}

fn read_layer(node: Node<'_, '_>) -> Result<(Layer, Ports), String> {
    let name = required(node, "name")?.to_owned();
    if node.children().any(|inner| inner.has_tag_name("body")) {
        return Err(format!("{name} has a network of its own"));
    }
    let owned = |text: &str| Cow::Owned::<'static, str>(text.to_owned());
    let attributes = node
        .children()
        .find(|inner| inner.has_tag_name("data"))
        .map(|data| {
            data.attributes()
                .map(|attribute| (owned(attribute.name()), attribute.value().to_owned()))
                .collect()
        })
        .unwrap_or_default();
    let mark = node
        .children()
        .filter(|inner| inner.has_tag_name("rt_info"))
        .flat_map(|info| info.children())
        .find_map(|attribute| match attribute.attribute("name") {
            Some("decompression") => Some(Mark::Decompression),
            Some("precise") => Some(Mark::Precise),
            _ => None,
        });
    let mut layer = Layer {
        kind: owned(required(node, "type")?),
        opset: owned(required(node, "version")?),
        name,
        attributes,
        inputs: Vec::new(),
        outputs: Vec::new(),
        port_names: Vec::new(),
        dims: None,
        mark,
    };
    let ids = |tag: &str| -> Result<Vec<String>, String> {
        ports_of(node, tag)
            .map(|port| required(port, "id").map(str::to_owned))
            .collect()
    };
    let ports = Ports {
        inputs: ids("input")?,
        outputs: ids("output")?,
    };
    for port in ports_of(node, "output") {
        let precision = required(port, "precision")?;
        let element = ElementType::of_port(precision)
            .ok_or_else(|| format!("{} is of {precision}", layer.name))?;
        layer.outputs.push(element);
        if layer.port_names.is_empty()
            && let Some(names) = port.attribute("names")
        {
            layer.port_names = names.split(',').map(owned).collect();
        }
        let dims: Vec<i64> = children(port, "dim")
            .map(|dim| {
                let text = dim.text().unwrap_or_default();
                text.parse()
                    .map_err(|_| format!("'{text}' is no dimension"))
            })
            .collect::<Result<_, _>>()?;
        // A scalar's port has no dimensions, and so has one that is left to inference: only constants need them back.
        let known = !dims.is_empty() || layer.kind == "Const" || layer.kind == "Parameter";
        layer.dims = known.then_some(dims);
    }
    Ok((layer, ports))
}

/// What the attributes of a `Const` say of it; nothing where they make no sense.
fn constant(layer: &Layer) -> Option<Constant> {
    let element = *layer.outputs.first()?;
    let shape: Vec<usize> = match layer.attribute("shape")? {
        "" => Vec::new(),
        dims => dims
            .split(',')
            .map(|dim| dim.trim().parse().ok())
            .collect::<Option<_>>()?,
    };
    let elements = shape
        .iter()
        .try_fold(1_usize, |product, &dim| product.checked_mul(dim))?;
    let bytes: usize = layer.attribute("size")?.parse().ok()?;
    let constant = Constant {
        element,
        shape,
        offset: layer.attribute("offset")?.parse().ok()?,
        bytes,
    };
    // No type of ours takes more than 8 bytes an element.
    let whole = elements.checked_mul(8).is_some() && element.bytes(elements) == bytes;
    (whole && layer.attribute("element_type")? == element.name()).then_some(constant)
}

fn ports_of<'a, 'input: 'a>(
    layer: Node<'a, 'input>,
    tag: &str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    layer
        .children()
        .filter(move |inner| inner.has_tag_name(tag))
        .flat_map(|side| children(side, "port"))
        .collect::<Vec<_>>()
        .into_iter()
}

fn children<'a, 'input: 'a>(
    node: Node<'a, 'input>,
    tag: &'static str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(move |inner| inner.has_tag_name(tag))
}

fn child<'a, 'input>(
    node: Node<'a, 'input>,
    tag: &'static str,
) -> Result<Node<'a, 'input>, String> {
    children(node, tag)
        .next()
        .ok_or_else(|| format!("it has no <{tag}>"))
}

fn required<'a>(node: Node<'a, '_>, key: &str) -> Result<&'a str, String> {
    node.attribute(key)
        .ok_or_else(|| format!("a <{}> has no {key}", node.tag_name().name()))
}
