//! The `.xml` half of the IR. Names and values are ours, yet all text is escaped: names can come from a checkpoint.

use std::fmt::Write as _;

use super::layer::{Layer, Mark};

/// Writes the layers and the edges between them.
pub(super) fn write(name: &str, layers: &[Layer]) -> String {
    let mut xml = String::with_capacity(layers.len() * 400);
    xml.push_str("<?xml version=\"1.0\"?>\n");
    line(
        &mut xml,
        0,
        &format!("<net name=\"{}\" version=\"11\">", escape(name)),
    );
    line(&mut xml, 1, "<layers>");
    for (id, layer) in layers.iter().enumerate() {
        write_layer(&mut xml, id, layer);
    }
    line(&mut xml, 1, "</layers>");
    line(&mut xml, 1, "<edges>");
    for (id, layer) in layers.iter().enumerate() {
        for (port, input) in layer.inputs.iter().enumerate() {
            let from_port = layers[input.layer].inputs.len() + input.output;
            line(
                &mut xml,
                2,
                &format!(
                    "<edge from-layer=\"{}\" from-port=\"{from_port}\" to-layer=\"{id}\" to-port=\"{port}\"/>",
                    input.layer
                ),
            );
        }
    }
    line(&mut xml, 1, "</edges>");
    line(&mut xml, 1, "<rt_info/>");
    line(&mut xml, 0, "</net>");
    xml
}

fn write_layer(xml: &mut String, id: usize, layer: &Layer) {
    line(
        xml,
        2,
        &format!(
            "<layer id=\"{id}\" name=\"{}\" type=\"{}\" version=\"{}\">",
            escape(&layer.name),
            layer.kind,
            layer.opset
        ),
    );
    if !layer.attributes.is_empty() {
        let mut data = "<data".to_owned();
        for (key, value) in &layer.attributes {
            let _ = write!(data, " {key}=\"{}\"", escape(value));
        }
        data.push_str("/>");
        line(xml, 3, &data);
    }
    match layer.mark {
        Some(Mark::Decompression) => line(
            xml,
            3,
            "<rt_info><attribute name=\"decompression\" version=\"0\"/></rt_info>",
        ),
        Some(Mark::Precise) => line(
            xml,
            3,
            "<rt_info><attribute name=\"precise\" version=\"0\"/></rt_info>",
        ),
        None => {}
    }
    if !layer.inputs.is_empty() {
        line(xml, 3, "<input>");
        for port in 0..layer.inputs.len() {
            line(xml, 4, &format!("<port id=\"{port}\"/>"));
        }
        line(xml, 3, "</input>");
    }
    if !layer.outputs.is_empty() {
        line(xml, 3, "<output>");
        for (output, element) in layer.outputs.iter().enumerate() {
            let port = layer.inputs.len() + output;
            let names = if layer.port_names.is_empty() {
                String::new()
            } else {
                format!(" names=\"{}\"", escape(&layer.port_names.join(",")))
            };
            let open = format!(
                "<port id=\"{port}\" precision=\"{}\"{names}",
                element.port_name()
            );
            match &layer.dims {
                Some(dims) => {
                    line(xml, 4, &format!("{open}>"));
                    for dim in dims {
                        line(xml, 5, &format!("<dim>{dim}</dim>"));
                    }
                    line(xml, 4, "</port>");
                }
                None => line(xml, 4, &format!("{open}/>")),
            }
        }
        line(xml, 3, "</output>");
    }
    line(xml, 2, "</layer>");
}

fn line(xml: &mut String, depth: usize, text: &str) {
    for _ in 0..depth {
        xml.push('\t');
    }
    xml.push_str(text);
    xml.push('\n');
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            control if control.is_control() => escaped.push('\u{fffd}'),
            plain => escaped.push(plain),
        }
    }
    escaped
}
