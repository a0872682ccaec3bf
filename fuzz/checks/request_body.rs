// Any bytes as the body of a drawing request: refused with a code and a sentence, or a request within the limits. Run by the fuzz
// target of this name, and by tests/parsers on damaged bodies.

use pixart::http::body::Object;
use pixart::http::drawing::{Dialect, DrawingRequest, Limits};
use pixart::http::fields::Fields;

const LIMITS: Limits = Limits {
    max_images: 10,
    max_steps: 100,
    max_side_px: 2048,
};

/// Whether one of the dialects takes it.
pub fn check(body: &[u8]) -> bool {
    let object = match Object::parse(body) {
        Ok(object) => object,
        Err(error) => {
            assert!(!error.message(None).is_empty());
            return false;
        }
    };
    // Names only: prompts are in there.
    assert!(format!("{object:?}").len() < 64);
    let taken = [Dialect::Own, Dialect::Openai].map(|dialect| {
        match DrawingRequest::parse(Fields::new(object.clone()), dialect, &LIMITS) {
            Ok(request) => {
                assert!((1..=LIMITS.max_images).contains(&request.images));
                assert!(request.steps.is_none_or(|steps| steps.count() <= 100));
                if let Some(size) = request.size {
                    assert!(size.width_px().max(size.height_px()) <= LIMITS.max_side_px);
                }
                assert!(request.notes.len() <= 64);
                true
            }
            Err(error) => {
                assert!(!error.message(None).is_empty());
                false
            }
        }
    });
    taken.contains(&true)
}
