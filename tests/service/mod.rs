//! The service: its own router, jobs and worker, with a studio in the place of the model; and the real one.

mod admission;
mod again;
mod binary;
mod canary;
mod cancel;
mod clients;
mod contract;
mod deadline;
mod events;
mod faces;
mod faults;
mod fields;
mod follows;
mod jobs;
mod line;
mod log;
mod memory;
mod page;
mod residency;
mod schema;
mod server;
mod signals;
mod sizes;
mod streams;
mod studio;

use std::time::Duration;

use serde_json::{Value, json};

use events::{Events, names};
use server::{Answer, Server, hold_error_shape, send};
use studio::{Studio, Trouble};

/// Far longer than anything here takes, even on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what must come.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("what is waited for comes")
}

/// A request for a picture of 4 steps.
fn red(seed: u64) -> Value {
    json!({"prompt": "a red circle", "seed": seed})
}

/// The same with more fields.
fn red_with(seed: u64, more: &Value) -> Value {
    let mut body = red(seed);
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}
