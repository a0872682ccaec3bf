//! Any text as the `config.json` of each component: refused, or numbers that can be worked with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pixart::model::{Defaults, PipelineClass, TextEncoderSpec, TransformerSpec, VaeSpec};

fuzz_target!(|text: &str| {
    if let Ok(spec) = TextEncoderSpec::from_json(text) {
        assert!(spec.inner_dim() > 0);
    }
    let transformer = TransformerSpec::from_json(text);
    if let Ok(spec) = &transformer {
        assert!(spec.inner_dim() > 0 && spec.patch_size <= spec.sample_size);
    }
    let vae = VaeSpec::from_json(text);
    if let Ok(spec) = &vae {
        assert!(spec.scale_factor() >= 1);
    }
    if let (Ok(transformer), Ok(vae)) = (transformer, vae) {
        for class in [PipelineClass::Alpha, PipelineClass::Sigma] {
            let _ = Defaults::of(class, &transformer, &vae);
        }
    }
});
