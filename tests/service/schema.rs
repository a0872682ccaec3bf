//! The schemas of `openapi.yaml`, so that answers can be held to them.

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

/// The schemas of the contract.
pub(super) struct Schemas<'a>(&'a Value);

impl<'a> Schemas<'a> {
    pub(super) fn of(contract: &'a Value) -> Self {
        Self(contract)
    }

    /// Holds that `value` is as the schema called `name` says.
    #[track_caller]
    pub(super) fn hold(&self, name: &str, value: &Value) {
        let components = &self.0["components"];
        assert!(components["schemas"][name].is_object(), "no schema {name}");
        // References of the contract start at its root.
        let schema = json!({
            "$ref": format!("#/components/schemas/{name}"),
            "components": components,
        });
        let validator: Validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .build(&schema)
            .expect("the contract's schemas are schemas");
        if let Err(error) = validator.validate(value) {
            panic!("{name}: {error}, at {}\n{value}", error.instance_path());
        }
    }
}
