//! Any text as `model_index.json`, `pixart.json` and `scheduler_config.json`: refused or read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pixart::model::{Defaults, ModelIndex, SchedulerConfig};

fuzz_target!(|text: &str| {
    if let Ok(index) = ModelIndex::from_json(text) {
        assert!(index.class.max_tokens() > 0);
    }
    let _ = Defaults::from_json(text);
    if let Ok(scheduler) = SchedulerConfig::from_json(text) {
        let _ = (scheduler.lcm(), scheduler.dpm_solver());
    }
});
