//! Drawing pictures so that their networks can be watched.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use super::statistics::Statistics;
use super::{QuantizeError, QuantizeProgress};
use crate::domain::GenerateRequest;
use crate::pipeline::{Event, Generate, PipelineError, Watch};

/// Pictures between two savings: what an interruption loses at most.
const SAVE_EVERY: u32 = 4;

/// Draws the pictures of `requests` that `statistics` do not have yet, with a pipeline whose networks fold into them, and keeps
/// them in `file` on the way.
///
/// # Errors
/// When a picture cannot be drawn, the statistics cannot be kept, or the caller asked to stop; the pictures that were whole
/// by then are kept.
pub fn calibrate(
    pipeline: &mut dyn Generate,
    requests: &[GenerateRequest],
    statistics: &Rc<RefCell<Statistics>>,
    file: Option<&Path>,
    progress: &dyn QuantizeProgress,
) -> Result<(), QuantizeError> {
    let save = || match file {
        Some(path) => statistics.borrow().save(path),
        None => Ok(()),
    };
    let done = statistics.borrow().samples();
    progress.calibrating(done, u32::try_from(requests.len()).unwrap_or(u32::MAX));
    for request in requests.iter().skip(done as usize) {
        // A picture that is stopped midway is not in the statistics.
        let before = statistics.borrow().clone();
        let drawn = pipeline.generate(request, &mut Stop(progress));
        if let Err(error) = drawn {
            statistics.replace(before);
            save()?;
            return Err(match error {
                PipelineError::Cancelled => QuantizeError::Cancelled,
                error => error.into(),
            });
        }
        statistics.borrow_mut().sampled();
        progress.sampled();
        if statistics.borrow().samples().is_multiple_of(SAVE_EVERY) {
            save()?;
        }
    }
    Ok(save()?)
}

/// A picture that nobody looks at, and that stops with the calibration.
struct Stop<'a>(&'a dyn QuantizeProgress);

impl Watch for Stop<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }

    fn observe(&mut self, _: Event<'_>) {}
}
