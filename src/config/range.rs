//! What a value may be: errors name the key, the value and what would do.

use std::fmt::Display;
use std::ops::RangeInclusive;

/// A day: nobody waits longer for a picture.
pub(super) const DAY_SECONDS: u64 = 86_400;

/// Holds `value` to `range`. `what` says what is counted, with its unit: `waiting jobs`, `seconds`.
pub(super) fn within<T: PartialOrd + Display>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
    what: &str,
) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(format!("{key} is {value}: give {least} to {most} ({what})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_beyond_its_range_is_told_with_key_value_and_range() {
        assert_eq!(
            within("queue.capacity", 1000, 0..=1000, "waiting jobs"),
            Ok(())
        );
        assert_eq!(
            within("queue.capacity", 1001, 0..=1000, "waiting jobs"),
            Err("queue.capacity is 1001: give 0 to 1000 (waiting jobs)".to_owned())
        );
    }
}
