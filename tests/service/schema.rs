//! As much of JSON Schema as `openapi.yaml` uses, so that answers can be held to it. A word that is not known here fails
//! the test, so that nothing is passed over in silence.

use regex::Regex;
use serde_json::Value;

/// The schemas of the contract.
pub(super) struct Schemas<'a>(&'a Value);

impl<'a> Schemas<'a> {
    pub(super) fn of(contract: &'a Value) -> Self {
        Self(contract)
    }

    /// Holds that `value` is as the schema called `name` says.
    #[track_caller]
    pub(super) fn hold(&self, name: &str, value: &Value) {
        let schema = &self.0["components"]["schemas"][name];
        assert!(schema.is_object(), "no schema {name}");
        if let Err(what) = self.check(schema, value) {
            panic!("{name}: {what}\n{value}");
        }
    }

    fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        for (word, says) in schema.as_object().expect("a schema is an object") {
            self.check_word(word, says, schema, value).map_err(|what| {
                if what.starts_with("at ") {
                    what
                } else {
                    format!("at {word}: {what}")
                }
            })?;
        }
        Ok(())
    }

    fn check_word(
        &self,
        word: &str,
        says: &Value,
        schema: &Value,
        value: &Value,
    ) -> Result<(), String> {
        let none = Vec::new();
        let list = says.as_array().unwrap_or(&none);
        let holds = match word {
            "$ref" => {
                let schema = self
                    .0
                    .pointer(&says.as_str().unwrap()[1..])
                    .expect("a reference leads somewhere");
                return self.check(schema, value);
            }
            "allOf" => return list.iter().try_for_each(|schema| self.check(schema, value)),
            "anyOf" => list.iter().any(|schema| self.check(schema, value).is_ok()),
            "oneOf" => {
                let fitting = list
                    .iter()
                    .filter(|schema| self.check(schema, value).is_ok())
                    .count();
                fitting == 1
            }
            "not" => self.check(says, value).is_err(),
            "type" => match says {
                Value::Array(types) => types.iter().any(|name| is_of(name, value)),
                name => is_of(name, value),
            },
            "enum" => list.contains(value),
            "const" => says == value,
            "required" => {
                let Some(object) = value.as_object() else {
                    return Ok(());
                };
                match list
                    .iter()
                    .find(|key| !object.contains_key(key.as_str().unwrap()))
                {
                    Some(key) => return Err(format!("no {key}")),
                    None => true,
                }
            }
            "properties" => {
                let Some(object) = value.as_object() else {
                    return Ok(());
                };
                for (key, schema) in says.as_object().unwrap() {
                    if let Some(value) = object.get(key) {
                        self.check(schema, value)
                            .map_err(|what| format!("at {key}: {what}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = &schema["properties"];
                says == true
                    || value
                        .as_object()
                        .is_none_or(|object| object.keys().all(|key| known.get(key).is_some()))
            }
            "items" => {
                let items = value.as_array().into_iter().flatten();
                return items
                    .into_iter()
                    .try_for_each(|item| self.check(says, item));
            }
            "minItems" => value
                .as_array()
                .is_none_or(|items| items.len() as u64 >= says.as_u64().unwrap()),
            "minimum" => value
                .as_f64()
                .is_none_or(|number| number >= says.as_f64().unwrap()),
            "maximum" => value
                .as_f64()
                .is_none_or(|number| number <= says.as_f64().unwrap()),
            "exclusiveMinimum" => value
                .as_f64()
                .is_none_or(|number| number > says.as_f64().unwrap()),
            "minLength" => value
                .as_str()
                .is_none_or(|text| text.chars().count() as u64 >= says.as_u64().unwrap()),
            "maxLength" => value
                .as_str()
                .is_none_or(|text| text.chars().count() as u64 <= says.as_u64().unwrap()),
            "pattern" => {
                let Some(text) = value.as_str() else {
                    return Ok(());
                };
                // ECMA's \u0000 is \u{0000} here.
                let pattern = Regex::new(r"\\u([0-9A-Fa-f]{4})").unwrap();
                let pattern = pattern.replace_all(says.as_str().unwrap(), r"\u{$1}");
                Regex::new(&pattern).unwrap().is_match(text)
            }
            "description" | "example" | "examples" | "format" | "contentEncoding" => true,
            other => panic!("{other} is a word of JSON Schema that is not known here"),
        };
        if holds {
            Ok(())
        } else {
            Err(format!("{value} is not {says}"))
        }
    }
}

fn is_of(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("no type {other}"),
    }
}
