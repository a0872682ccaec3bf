//! `pixart`: text-to-image with PixArt-α on ordinary CPUs, through OpenVINO.
//!
//! This page is the map. A request takes a straight line through the rooms:
//!
//! ```text
//! http/images.rs      JSON → domain::GenerateRequest (parsed once, trusted from there on)
//!   └ jobs/           a place in the line, or an answer at once
//!       └ worker/     one named thread owns the compiled models and draws one job at a time
//!           └ pipeline/   the recipe, one call a line:
//!               prompt → tokenizer → text encoder → noise + schedule → denoise → VAE → pixels → PNG
//!                   └ engine/   runs one graph: the only room that names `openvino`
//!       ┌─────────┘ progress and finished pictures travel back through the job
//! http/images.rs      JSON with base64, the bytes, or server-sent events: three answers of one job
//! ```
//!
//! `cli/generate.rs` takes the short way: flags → domain::GenerateRequest → `pipeline/`. `app.rs` puts either together.
//!
//! A checkpoint takes another: `pull/` fetches a diffusers directory from a hub, `convert/` reads it and writes OpenVINO IR,
//! and `quantize/` makes that smaller and faster.
//!
//! | layer | room | what lives there |
//! |---|---|---|
//! | 0 | [`domain`] | what a picture is asked with and what comes back |
//! | 0 | [`files`] | opens what others have put there: regular files alone, within bounds |
//! | 0 | [`shown`] | makes text from elsewhere safe to show |
//! | 0 | [`threads`] | work side by side, or one after the other where the system gives no thread |
//! | 1 | [`config`] | file ← environment ← flags, resolved to `Settings` |
//! | 1 | [`model`] | what a model directory is: configurations, manifest, files |
//! | 1 | [`telemetry`] | every metric, and the set-up of the log |
//! | 1 | [`ir`] | OpenVINO IR as a typed graph: drawn, written, read back |
//! | 2 | [`engine`] | the OpenVINO runtime: find, load, compile, infer |
//! | 3 | [`pipeline`] | the path from a prompt to pixels, faithful to diffusers |
//! | 4 | [`jobs`] | the line, progress, cancel, deadlines, results, health: the border between callers and the worker |
//! | 5 | [`worker`] | the thread that owns the models: build, warm up, draw, build anew after a fault |
//! | 5 | [`http`] | JSON, status codes and connections: the only room that knows axum |
//! | side | [`pull`] | a repository on a hub → a diffusers directory, resumed and checked |
//! | side | [`convert`] | a diffusers directory → IR, streamed tensor by tensor |
//! | side | [`synthesize`] | a diffusers directory of published shapes and generated weights, for trials |
//! | side | [`quantize`] | a converted model → one that computes in integers, by pictures of its own |
//! | 4 | [`bench`] | times, memory and FLOPs of a pipeline's stages, and what a machine can at most |
//! | 5 | [`compare`] | two models' sizes, pictures and times beside each other |
//! | 6 | [`app`], [`cli`] | the composition root and the subcommands |
//!
//! Imports go downward only; `tests/tidy.rs` holds it. The decisions behind the plan are in `docs/adr/`.

pub mod app;
pub mod bench;
pub mod cli;
pub mod compare;
pub mod config;
pub mod convert;
pub mod domain;
pub mod engine;
pub mod files;
pub mod http;
pub mod ir;
pub mod jobs;
pub mod model;
pub mod pipeline;
pub mod pull;
pub mod quantize;
pub mod shown;
pub mod synthesize;
pub mod telemetry;
pub mod threads;
pub mod worker;
