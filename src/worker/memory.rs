//! What images may take of memory: measured when the model is loaded and has drawn, and held while each is drawn.

use std::time::Instant;

use crate::engine::{give_back_memory, lift_data_limit, limit_data};
use crate::pipeline::{Generate, ImageCost, MemoryBudget, MemoryLimit, Planner};
use crate::telemetry::ProcessMemory;

/// Before a model is loaded, the first time or again.
pub(super) fn make_room() {
    give_back_memory();
    lift_data_limit();
}

/// Measures what is held at rest, and has `generate` keep within what is left.
/// `has_drawn` says that it has drawn an image of the model's own size. None where the system does not show what is held.
pub fn measure_memory(
    limit: MemoryLimit,
    planner: &Planner,
    generate: &mut dyn Generate,
    has_drawn: bool,
) -> Option<MemoryBudget> {
    give_back_memory();
    let now = ProcessMemory::now()?;
    let (unpacked, proven) = if has_drawn {
        (0, planner.default_cost().memory.bytes())
    } else {
        (limit.unpacked_bytes, 0)
    };
    let to_come = if generate.rest(Instant::now()).resident {
        0
    } else {
        limit.text_encoder_bytes
    };
    let resident = now.anonymous_bytes + unpacked + to_come;
    let budget = limit.budget(resident, proven);
    generate.keep_within(budget.room_bytes());
    tracing::info!(
        limit_bytes = budget.limit_bytes,
        resident_bytes = budget.resident_bytes,
        reserved_bytes = budget.reserved_bytes,
        largest_square = planner.largest_square(budget).map(|size| size.to_string()),
        "memory is measured: an image that would take more than the limit is refused"
    );
    Some(budget)
}

/// Has allocations fail where an image of this cost, about to be drawn, exceeds the limit.
pub fn hold_memory(limit: MemoryLimit, cost: ImageCost) {
    let Some(now) = ProcessMemory::now().filter(|_| limit.is_hard) else {
        return;
    };
    // What is mapped and not touched (stacks, what the C library keeps) is counted by the data limit and by no other; each image adds
    // to it, at 1024×1024 an eighth of what it touches.
    let untouched = now.data_bytes.saturating_sub(now.anonymous_bytes);
    let bytes = limit.bytes.saturating_sub(limit.slack_bytes());
    let bytes = bytes.saturating_add(untouched + cost.memory.bytes() / 8);
    limit_data(bytes, limit.service_bytes());
}
