//! Exit codes: what a script can tell from how `pixart` ended.

use std::io;

use anyhow::Error;

use crate::app::names::NameError;
use crate::app::{NoMemory, NoMemoryToCalibrate};
use crate::bench::PeakError;
use crate::compare::{CompareError, ScoreError};
use crate::config::SettingsError;
use crate::convert::ConvertError;
use crate::domain::InvalidRequest;
use crate::engine::{EngineError, Scarcity};
use crate::model::{AddedTokensError, ModelError, SchedulerConfigError};
use crate::pipeline::tokenizer::TokenizerError;
use crate::pipeline::{PipelineError, TooLargeForMemory};
use crate::pull::PullError;
use crate::quantize::QuantizeError;
use crate::shown::shown;
use crate::synthesize::SynthesizeError;
use crate::telemetry::LogError;

/// Done.
pub(super) const DONE: u8 = 0;
/// Anything that has no code of its own.
const FAILED: u8 = 1;
/// The command line, a setting or the request makes no sense.
pub(super) const USAGE: u8 = 2;
/// The checkpoint or model is missing, incomplete, damaged or of another kind.
const MODEL: u8 = 3;
/// The OpenVINO runtime or the device is not there.
const RUNTIME: u8 = 4;
/// The output cannot be written.
const OUTPUT: u8 = 5;
/// A network failed, or gave numbers that are not finite.
const INFERENCE: u8 = 6;
/// The hub cannot be reached, or is busy: another attempt may succeed, which no other code says.
const HUB: u8 = 7;
/// The machine or the container has too little memory for the model and the settings, or for an image of this size.
const MEMORY: u8 = 8;
/// Stopped by Ctrl-C.
pub(super) const INTERRUPTED: u8 = 130;

/// The codes, for `--help`.
pub(super) const HELP: &str = "\
Exit codes:
  0    done
  1    anything without a code of its own
  2    the command line, a setting or the request makes no sense
  3    the checkpoint or model is missing, incomplete, damaged or of another kind
  4    the OpenVINO runtime or the device is not there
  5    the output cannot be written
  6    a network failed, or gave numbers that are not finite
  7    the hub cannot be reached, or is busy: try again
  8    too little memory for this model with these settings, or for this size
  130  stopped by Ctrl-C";

/// The output cannot be written: the one failure that the command line adds of its own.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}", path = path.display())]
pub(super) struct OutputError {
    pub(super) path: std::path::PathBuf,
    pub(super) source: io::Error,
}

/// A flag of a conversion at a pull that converts nothing.
#[derive(Debug, thiserror::Error)]
#[error("{flag} says how to convert, and nothing is converted: add --convert, or leave it out")]
pub(super) struct WithoutConvert {
    pub(super) flag: &'static str,
}

/// The error and its causes in one line, none of them said twice, with nothing in it that a terminal obeys.
pub(super) fn describe(error: &Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    if let Some(advice) = error.chain().find_map(limit) {
        text.push_str(": ");
        text.push_str(advice);
    }
    shown(&text).into_owned()
}

/// The code for an error, by the innermost cause that has one.
pub(super) fn code(error: &Error) -> u8 {
    if error.chain().any(is_out_of_files) {
        return FAILED;
    }
    error.chain().find_map(code_of).unwrap_or(FAILED)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(error) = cause.downcast_ref::<PipelineError>() {
        return Some(match error {
            PipelineError::Request(_)
            | PipelineError::NoBins { .. }
            | PipelineError::FrozenSize { .. }
            | PipelineError::FrozenShape { .. }
            | PipelineError::Schedule(_) => USAGE,
            PipelineError::Tokenizer(_) | PipelineError::Shape { .. } | PipelineError::Model(_) => {
                MODEL
            }
            PipelineError::Engine {
                source: source @ EngineError::Scarce { .. },
                ..
            } => engine_code(source),
            PipelineError::Engine { .. }
            | PipelineError::NotFinite { .. }
            | PipelineError::Pixels(_)
            | PipelineError::Encode(_) => INFERENCE,
            PipelineError::Cancelled => INTERRUPTED,
        });
    }
    if let Some(error) = cause.downcast_ref::<ConvertError>() {
        return Some(match error {
            ConvertError::OutputInTheWay { .. }
            | ConvertError::OtherFile { .. }
            | ConvertError::Write { .. }
            | ConvertError::NoSpace(_)
            | ConvertError::WriteIr(_)
            | ConvertError::Model(ModelError::Write { .. }) => OUTPUT,
            ConvertError::Cancelled => INTERRUPTED,
            ConvertError::Engine(error) => engine_code(error),
            _ => MODEL,
        });
    }
    if let Some(error) = cause.downcast_ref::<QuantizeError>() {
        return match error {
            QuantizeError::NothingToDo
            | QuantizeError::OntoItself { .. }
            | QuantizeError::UnknownOperation { .. }
            | QuantizeError::NotFloatByDefault { .. }
            | QuantizeError::BothWays { .. }
            | QuantizeError::Captions(_)
            | QuantizeError::Statistics(_) => Some(USAGE),
            QuantizeError::ForeignModel { .. }
            | QuantizeError::AlreadyQuantized { .. }
            | QuantizeError::Ir(_) => Some(MODEL),
            QuantizeError::NoIntegers { .. } | QuantizeError::NotInIntegers { .. } => Some(RUNTIME),
            QuantizeError::Write { .. } | QuantizeError::WriteIr(_) => Some(OUTPUT),
            QuantizeError::Cancelled => Some(INTERRUPTED),
            // Theirs are passed through, and have codes of their own.
            QuantizeError::Model(error) => code_of(error),
            QuantizeError::Output(error) => code_of(error),
            QuantizeError::Engine(error) => code_of(error),
            QuantizeError::Pipeline(error) => code_of(error),
        };
    }
    if let Some(error) = cause.downcast_ref::<CompareError>() {
        return Some(compare_code(error));
    }
    if let Some(error) = cause.downcast_ref::<ScoreError>() {
        return Some(score_code(error));
    }
    if let Some(error) = cause.downcast_ref::<NameError>() {
        return Some(name_code(error));
    }
    if let Some(error) = cause.downcast_ref::<PullError>() {
        return Some(pull_code(error));
    }
    if let Some(error) = cause.downcast_ref::<SynthesizeError>() {
        return Some(match error {
            SynthesizeError::InTheWay { .. }
            | SynthesizeError::Busy { .. }
            | SynthesizeError::NoSpace(_)
            | SynthesizeError::Write { .. } => OUTPUT,
            SynthesizeError::NoVocabulary | SynthesizeError::VocabularyTooSmall { .. } => USAGE,
            SynthesizeError::Cancelled => INTERRUPTED,
        });
    }
    if let Some(error) = cause.downcast_ref::<PeakError>() {
        return Some(peak_code(error));
    }
    if let Some(error) = cause.downcast_ref::<EngineError>() {
        return Some(engine_code(error));
    }
    if cause.is::<NoMemory>()
        || cause.is::<NoMemoryToCalibrate>()
        || cause.is::<TooLargeForMemory>()
    {
        return Some(MEMORY);
    }
    if cause.is::<InvalidRequest>()
        || cause.is::<WithoutConvert>()
        || cause.is::<SettingsError>()
        || matches!(cause.downcast_ref(), Some(LogError::Level { .. }))
    {
        return Some(USAGE);
    }
    code_of_file(cause)
}

/// The code for an error of a model's own files, or of an output.
fn code_of_file(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(ModelError::Write { .. }) = cause.downcast_ref() {
        return Some(OUTPUT);
    }
    if cause.is::<ModelError>()
        || cause.is::<AddedTokensError>()
        || cause.is::<TokenizerError>()
        || cause.is::<SchedulerConfigError>()
    {
        return Some(MODEL);
    }
    cause.is::<OutputError>().then_some(OUTPUT)
}

/// Whether it is the limit of open files that stands in the way, which is nobody else's fault.
fn is_out_of_files(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(system_code(cause), Some(libc::EMFILE | libc::ENFILE))
}

/// The system's own number of an error, which tempfile keeps in words alone.
fn system_code(cause: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let error = cause.downcast_ref::<io::Error>()?;
    error.raw_os_error().or_else(|| {
        let told = error.to_string();
        let (_, rest) = told.split_once("(os error ")?;
        rest.split(')').next()?.parse().ok()
    })
}

/// What to do where a limit of this process stands in the way, which no single place can say.
fn limit(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    match system_code(cause)? {
        libc::EMFILE | libc::ENFILE => {
            Some("this process may not open more files at once: raise its limit (ulimit -n)")
        }
        libc::EFBIG => Some("this process may not write longer files: raise its limit (ulimit -f)"),
        libc::ENOMEM => {
            Some("this process gets no more memory: raise its limit (ulimit -v, the container's)")
        }
        libc::EAGAIN => Some(
            "this process gets no more threads or memory: raise its limits (ulimit -u, ulimit -v, pids of the container)",
        ),
        _ => None,
    }
}

fn name_code(error: &NameError) -> u8 {
    match error {
        NameError::Settings(_)
        | NameError::Address(_)
        | NameError::NoHome
        | NameError::NoName { .. }
        | NameError::Ambiguous { .. } => USAGE,
        NameError::NotHere { .. }
        | NameError::NotConverted { .. }
        | NameError::TinyVae { .. }
        | NameError::NotWhole { .. }
        | NameError::NoSnapshot { .. }
        | NameError::Dangling { .. } => MODEL,
        NameError::Taken { .. } => OUTPUT,
    }
}

fn pull_code(error: &PullError) -> u8 {
    match error {
        PullError::Address { .. } => USAGE,
        PullError::NotFound { .. }
        | PullError::Unauthorized { .. }
        | PullError::Gated { .. }
        | PullError::HostileName { .. }
        | PullError::MissingFile { .. }
        | PullError::Incomplete { .. }
        | PullError::NoSafetensors { .. }
        | PullError::OtherFamily { .. }
        | PullError::TinyVaeAlone { .. }
        | PullError::BadIndex { .. }
        | PullError::BadHeader { .. }
        | PullError::Unusable { .. }
        | PullError::Offline { .. }
        | PullError::Length { .. }
        | PullError::Hash { .. } => MODEL,
        PullError::InTheWay { .. }
        | PullError::OtherRepository { .. }
        | PullError::DiskFull { .. }
        | PullError::NoSpace(_)
        | PullError::Write { .. } => OUTPUT,
        PullError::FileGone { .. }
        | PullError::HeaderChanged { .. }
        | PullError::GaveUp { .. }
        | PullError::NoHost { .. }
        | PullError::Busy { .. } => HUB,
        PullError::NoAuthorities
        | PullError::Untrusted { .. }
        | PullError::Status { .. }
        | PullError::NoHub { .. } => FAILED,
        PullError::Cancelled => INTERRUPTED,
    }
}

fn peak_code(error: &PeakError) -> u8 {
    match error {
        PeakError::Write { .. } => OUTPUT,
        PeakError::Engine(error) => engine_code(error),
    }
}

fn compare_code(error: &CompareError) -> u8 {
    match error {
        CompareError::Foreign { .. } => MODEL,
        CompareError::DifferentPictures { .. } | CompareError::RecordElsewhere { .. } => USAGE,
        CompareError::NoPicture => INFERENCE,
    }
}

fn score_code(error: &ScoreError) -> u8 {
    match error {
        ScoreError::OtherWorld { .. }
        | ScoreError::NotEmbedded
        | ScoreError::Captions { .. }
        | ScoreError::Size { .. } => USAGE,
        ScoreError::Folder(_) => OUTPUT,
        ScoreError::Engine(error) => engine_code(error),
        ScoreError::Reader(_) => MODEL,
    }
}

fn engine_code(error: &EngineError) -> u8 {
    match error {
        EngineError::RuntimeNotFound { .. }
        | EngineError::RuntimeBroken { .. }
        | EngineError::RuntimeTooOld { .. }
        | EngineError::UnknownDevice { .. }
        | EngineError::NoDevice { .. }
        | EngineError::UnsupportedPrecision { .. } => RUNTIME,
        EngineError::Scarce { scarcity, .. } => match scarcity {
            Scarcity::Memory => MEMORY,
            Scarcity::Threads | Scarcity::Files => FAILED,
        },
        EngineError::Graph { .. } | EngineError::MissingPort { .. } => MODEL,
        EngineError::Shape { .. }
        | EngineError::ElementType { .. }
        | EngineError::Inference { .. }
        | EngineError::NotAtRest { .. }
        | EngineError::Runtime(_) => INFERENCE,
        EngineError::Cancelled => INTERRUPTED,
    }
}
