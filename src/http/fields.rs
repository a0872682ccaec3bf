//! The fields of a JSON object, taken out by name until none is left.
//!
//! Null is the same as absent. Numbers are exact: an integer is never rounded to be taken. What a refusal repeats is a
//! number, or a word that had to be one of a few: never a text that could be somebody's prompt.

use std::fmt;
use std::ops::RangeInclusive;

use serde_json::Value;

use super::body::Object;
use super::error::{ApiError, ErrorCode};

/// Unknown fields that are told; a request with more is not helped by a longer list.
const MOST_UNKNOWN: usize = 16;
/// Characters of a field's name that are repeated.
const SHOWN_NAME: usize = 64;
/// Characters of a choice's word that are repeated.
const SHOWN_CHOICE: usize = 40;
/// The largest whole number that JSON's floats are trusted with: above it, neighbours share one value.
const MAX_WHOLE_FLOAT: f64 = 9_007_199_254_740_991.0;

/// What is left of an object.
pub struct Fields {
    left: Vec<(String, Value)>,
    /// Every name that was asked for: what an unknown field may have meant.
    known: Vec<&'static str>,
    /// The names under which fields came.
    taken: Vec<&'static str>,
}

/// A field that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownField {
    /// Its name, cut to 64 characters and cleaned.
    pub name: String,
    /// The field that it may have meant.
    pub meant: Option<&'static str>,
}

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a field of this request", self.name)?;
        match self.meant {
            Some(meant) => write!(f, ": did you mean {meant}?"),
            None => Ok(()),
        }
    }
}

/// A field that is there, under the name by which it came.
struct Found {
    name: &'static str,
    value: Value,
}

impl Found {
    /// A refusal that names the field, what was found and what would do.
    fn refuse(&self, found: &str, expected: &str) -> ApiError {
        let what = format!("{} is {found}: it must be {expected}", self.name);
        ApiError::new(ErrorCode::InvalidValue, what).about(self.name)
    }

    /// As [`Self::refuse`], for a value of the wrong kind.
    fn refuse_kind(&self, expected: &str) -> ApiError {
        self.refuse(&kind(&self.value), expected)
    }
}

impl Fields {
    /// All fields of `object`.
    pub fn new(object: Object) -> Self {
        Self {
            left: object.into_entries(),
            known: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Takes the field that goes by one of `names`.
    fn take(&mut self, names: &[&'static str]) -> Result<Option<Found>, ApiError> {
        self.known.extend_from_slice(names);
        let mut found: Option<Found> = None;
        for &name in names {
            let Some(at) = self.left.iter().position(|(other, _)| other == name) else {
                continue;
            };
            let (_, value) = self.left.remove(at);
            if value.is_null() {
                continue;
            }
            if let Some(first) = found {
                let what = format!(
                    "{} and {name} are two names for one field: send one of them",
                    first.name
                );
                return Err(ApiError::new(ErrorCode::ConflictingFields, what).about(name));
            }
            self.taken.push(name);
            found = Some(Found { name, value });
        }
        Ok(found)
    }

    /// The one of `names` under which a field was taken; the first where it was not there.
    pub fn spelled(&self, names: &[&'static str]) -> &'static str {
        let came = names.iter().find(|name| self.taken.contains(name));
        came.or(names.first()).copied().unwrap_or_default()
    }

    /// Takes a field whatever it is.
    pub fn any(&mut self, name: &'static str) -> Option<Value> {
        // One name cannot be in conflict with itself.
        self.take(&[name]).ok().flatten().map(|found| found.value)
    }

    /// Takes a text that has to be there.
    ///
    /// # Errors
    /// When it is not there or no string.
    pub fn string(&mut self, name: &'static str) -> Result<String, ApiError> {
        self.optional_string(name)?.ok_or_else(|| missing(name))
    }

    /// Takes a text.
    ///
    /// # Errors
    /// When it is no string.
    pub fn optional_string(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.take(&[name])? {
            None => Ok(None),
            Some(Found {
                value: Value::String(text),
                ..
            }) => Ok(Some(text)),
            Some(found) => Err(found.refuse_kind("a string")),
        }
    }

    /// Takes a whole number in `range`. A float without a fraction, such as `4.0`, is one below 2^53.
    ///
    /// # Errors
    /// When it is no whole number, outside `range`, or there under two names.
    pub fn integer(
        &mut self,
        names: &[&'static str],
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ApiError> {
        let Some(found) = self.take(names)? else {
            return Ok(None);
        };
        match whole_number(&found.value) {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let expected = format!("an integer from {} to {}", range.start(), range.end());
                Err(found.refuse_kind(&expected))
            }
        }
    }

    /// Takes a whole number in `range`, or -1, by which other programs say "any": the same as leaving it out.
    ///
    /// # Errors
    /// As [`Self::integer`].
    pub fn integer_or_any(
        &mut self,
        names: &[&'static str],
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ApiError> {
        let Some(found) = self.take(names)? else {
            return Ok(None);
        };
        match whole_number(&found.value) {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ if found.value.as_f64() == Some(-1.0) => Ok(None),
            _ => {
                let expected = format!(
                    "an integer from {} to {}, or -1 for any",
                    range.start(),
                    range.end()
                );
                Err(found.refuse_kind(&expected))
            }
        }
    }

    /// Takes a number in `range`. An integer is a number.
    ///
    /// # Errors
    /// When it is no number, outside `range`, or there under two names.
    pub fn number(
        &mut self,
        names: &[&'static str],
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ApiError> {
        let Some(found) = self.take(names)? else {
            return Ok(None);
        };
        match found.value.as_f64() {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let expected = format!("a number from {} to {}", range.start(), range.end());
                Err(found.refuse_kind(&expected))
            }
        }
    }

    /// Takes a number above 0 and no more than `most`.
    ///
    /// # Errors
    /// When it is no such number.
    pub fn positive_number(
        &mut self,
        name: &'static str,
        most: f64,
    ) -> Result<Option<f64>, ApiError> {
        let Some(found) = self.take(&[name])? else {
            return Ok(None);
        };
        match found.value.as_f64() {
            Some(number) if number > 0.0 && number <= most => Ok(Some(number)),
            _ => Err(found.refuse_kind(&format!("a number above 0 and at most {most}"))),
        }
    }

    /// Takes true or false.
    ///
    /// # Errors
    /// When it is neither.
    pub fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, ApiError> {
        match self.take(&[name])? {
            None => Ok(None),
            Some(Found {
                value: Value::Bool(answer),
                ..
            }) => Ok(Some(answer)),
            Some(found) => Err(found.refuse_kind("true or false")),
        }
    }

    /// Takes one of a few words, as what it stands for.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&'static str, T)],
    ) -> Result<Option<T>, ApiError> {
        let Some(found) = self.take(&[name])? else {
            return Ok(None);
        };
        let words: Vec<&str> = choices.iter().map(|&(word, _)| word).collect();
        let expected = format!("one of {}", words.join(", "));
        let Some(word) = found.value.as_str() else {
            return Err(found.refuse_kind(&expected));
        };
        let chosen = choices.iter().find(|(choice, _)| *choice == word);
        match chosen {
            Some(&(_, meaning)) => Ok(Some(meaning)),
            None => Err(found.refuse(&format!("'{}'", cut(word, SHOWN_CHOICE)), &expected)),
        }
    }

    /// The fields that nobody asked for, at most 16 of them.
    pub fn finish(self) -> Vec<UnknownField> {
        self.left
            .iter()
            .take(MOST_UNKNOWN)
            .map(|(name, _)| UnknownField {
                name: shown(name),
                meant: nearest(name, &self.known),
            })
            .collect()
    }

    /// Ends a request that may have no field beyond those taken.
    ///
    /// # Errors
    /// When one is left.
    pub fn finish_strictly(self) -> Result<(), ApiError> {
        let more = self.left.len().saturating_sub(1);
        let Some(unknown) = self.finish().into_iter().next() else {
            return Ok(());
        };
        let mut what = unknown.to_string();
        if more > 0 {
            what = format!("{what} ({more} more are unknown as well)");
        }
        Err(ApiError::new(ErrorCode::UnknownField, what).about(unknown.name))
    }
}

/// The refusal of a request without `name`.
pub fn missing(name: &'static str) -> ApiError {
    let what = format!("{name} is missing: it is required");
    ApiError::new(ErrorCode::MissingField, what).about(name)
}

/// The refusal of two fields that say the same thing.
pub fn conflicting(first: &'static str, second: &'static str) -> ApiError {
    let what = format!("{first} and {second} say the same thing: send one of them");
    ApiError::new(ErrorCode::ConflictingFields, what).about(second)
}

/// What a value is, in words. Only numbers are repeated.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(answer) => answer.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The number that `value` is, when it is a whole one from 0 to 2^64 - 1.
fn whole_number(value: &Value) -> Option<u64> {
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    let number = value.as_f64()?;
    let is_whole = number.fract() == 0.0 && (0.0..=MAX_WHOLE_FLOAT).contains(&number);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is whole and from 0 to 2^53 - 1"
    )]
    is_whole.then_some(number as u64)
}

/// At most `most` characters of `text`, an ellipsis where some are missing.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A field's name as it may be repeated: short, and of characters that names are made of.
pub fn shown(name: &str) -> String {
    let clean: String = name
        .chars()
        .take(SHOWN_NAME + 1)
        .map(|character| {
            let is_plain = character.is_ascii_alphanumeric() || "_-.".contains(character);
            if is_plain { character } else { '?' }
        })
        .collect();
    cut(&clean, SHOWN_NAME)
}

/// The one of `known` that `name` is most likely a slip of.
fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    if name.len() > SHOWN_NAME {
        return None;
    }
    let name = name.to_ascii_lowercase();
    known
        .iter()
        .map(|&candidate| (edits(&name, candidate), candidate))
        .filter(|&(edits, candidate)| edits <= 2 && edits * 3 <= candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete, replace or swap with their neighbour on the way from one text to the other (optimal string
/// alignment).
fn edits(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    // table[i][j]: from the first i letters to the first j.
    let mut table = vec![vec![0; to.len() + 1]; from.len() + 1];
    for i in 0..=from.len() {
        for j in 0..=to.len() {
            table[i][j] = if i == 0 || j == 0 {
                i.max(j)
            } else {
                let replaced = table[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
                let is_swap = i > 1 && j > 1 && from[i - 2..i] == [to[j - 1], to[j - 2]];
                let swapped = if is_swap {
                    table[i - 2][j - 2] + 1
                } else {
                    replaced
                };
                swapped
                    .min(replaced)
                    .min(table[i - 1][j] + 1)
                    .min(table[i][j - 1] + 1)
            };
        }
    }
    table[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::new(Object::parse(json.as_bytes()).unwrap())
    }

    const SEED: &[&str] = &["seed", "rng_seed"];

    #[test]
    fn whole_numbers_are_exact_to_the_last_bit() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("4.0", Some(4)),
            ("4e0", Some(4)),
            ("9007199254740991.0", Some((1 << 53) - 1)),
            ("9007199254740993.0", None),
            ("9223372036854775808", Some(1 << 63)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("1.8446744073709552e19", None),
            ("-1", None),
            ("-9223372036854775809", None),
            ("0.5", None),
            ("1e308", None),
            ("5e-324", None),
            ("\"4\"", None),
            ("true", None),
            ("[4]", None),
        ] {
            let taken = fields(&format!("{{\"seed\": {text}}}")).integer(SEED, 0..=u64::MAX);
            assert_eq!(taken.as_ref().ok(), expected.map(Some).as_ref(), "{text}");
            if let Err(error) = taken {
                assert_eq!(error.code(), ErrorCode::InvalidValue, "{text}");
                assert_eq!(error.param(), Some("seed"), "{text}");
            }
        }
    }

    #[test]
    fn a_number_outside_its_range_is_repeated_with_what_would_do() {
        let error = fields(r#"{"step": 1001}"#)
            .integer(&["num_inference_steps", "steps", "step"], 1..=100)
            .unwrap_err();
        assert_eq!(
            error.message(None),
            "step is 1001: it must be an integer from 1 to 100"
        );
        let error = fields(r#"{"cfg_scale": 50.1}"#)
            .number(&["guidance_scale", "cfg_scale"], 0.0..=50.0)
            .unwrap_err();
        assert_eq!(
            error.message(None),
            "cfg_scale is 50.1: it must be a number from 0 to 50"
        );
    }

    #[test]
    fn null_is_absent_whatever_the_field() {
        let mut fields = fields(r#"{"a": null, "b": null, "c": null, "d": null, "e": null}"#);
        assert_eq!(fields.optional_string("a").unwrap(), None);
        assert_eq!(fields.integer(&["b"], 0..=9).unwrap(), None);
        assert_eq!(fields.number(&["c"], 0.0..=9.0).unwrap(), None);
        assert_eq!(fields.boolean("d").unwrap(), None);
        assert_eq!(
            fields.string("e").unwrap_err().code(),
            ErrorCode::MissingField
        );
        assert_eq!(fields.finish(), []);
    }

    #[test]
    fn two_names_for_one_field_are_refused_naming_both() {
        let error = fields(r#"{"rng_seed": 1, "seed": 1}"#)
            .integer(SEED, 0..=9)
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::ConflictingFields);
        let message = error.message(None);
        assert!(
            message.contains("seed") && message.contains("rng_seed"),
            "{message}"
        );
        let taken = fields(r#"{"rng_seed": 1, "seed": null}"#).integer(SEED, 0..=9);
        assert_eq!(taken.unwrap(), Some(1));
    }

    #[test]
    fn a_text_of_the_wrong_kind_is_never_repeated() {
        let refusals = [
            fields(r#"{"a": "my secret"}"#)
                .integer(&["a"], 0..=9)
                .unwrap_err(),
            fields(r#"{"a": ["my secret"]}"#).string("a").unwrap_err(),
            fields(r#"{"a": {"my secret": 1}}"#)
                .boolean("a")
                .unwrap_err(),
            fields(r#"{"a": ["my secret"]}"#)
                .choice("a", &[("b", ())])
                .unwrap_err(),
        ];
        for refusal in refusals {
            let message = refusal.message(None);
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn a_wrong_choice_is_repeated_and_cut() {
        let choices = [("lcm", 1), ("dpmsolver++", 2)];
        let taken = fields(r#"{"scheduler": "lcm"}"#).choice("scheduler", &choices);
        assert_eq!(taken.unwrap(), Some(1));
        let long = format!(r#"{{"scheduler": "{}"}}"#, "ä".repeat(10_000));
        let message = fields(&long)
            .choice("scheduler", &choices)
            .unwrap_err()
            .message(None);
        assert!(
            message.contains("lcm, dpmsolver++") && message.contains(&"ä".repeat(40)),
            "{message}"
        );
        assert!(message.chars().count() < 110, "{message}");
    }

    #[test]
    fn an_unknown_field_comes_with_the_name_that_it_may_have_meant() {
        let mut fields = fields(r#"{"promt": "x", "Sede": 1, "strength": 2}"#);
        for name in ["prompt", "seed", "n", "size", "steps"] {
            assert_eq!(fields.any(name), None);
        }
        let unknown = fields.finish();
        let meant: Vec<_> = unknown.iter().map(|field| field.meant).collect();
        assert_eq!(meant, [Some("prompt"), Some("seed"), None]);
        assert_eq!(
            unknown[0].to_string(),
            "promt is not a field of this request: did you mean prompt?"
        );
    }

    #[test]
    fn names_of_unknown_fields_are_cleaned_and_few() {
        let long = format!(r#"{{"{}\r\n": 1}}"#, "x".repeat(100));
        assert_eq!(
            fields(&long).finish()[0].name,
            format!("{}…", "x".repeat(64))
        );
        assert_eq!(shown("a b\r\n\u{202e}é"), "a?b????");
        let many: Vec<_> = (0..5_000).map(|at| format!("\"f{at}\": 1")).collect();
        let many = format!("{{{}}}", many.join(","));
        assert_eq!(fields(&many).finish().len(), MOST_UNKNOWN);
        let error = fields(&many).finish_strictly().unwrap_err();
        assert!(error.message(None).contains("4999 more"));
        assert_eq!(error.param(), Some("f0"));
    }
}
