//! A studio in the place of a model: it draws when a test lets it, and breaks where a test says so.
//!
//! Every step waits at a gate until it is let go, and looks while it waits whether its picture is still wanted, as the
//! engine does. What is drawn depends on the seed alone, and its latents and pixels suit each other, so that previews can
//! be fitted.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use ndarray::{Array2, Array4};
use pixart::domain::{
    Decoder, GenerateRequest, Generated, ImageSize, Processor, Receipt, RequestDefaults, Timings,
    Warning,
};
use pixart::engine::{EngineError, Scarcity};
use pixart::model::{PipelineClass, SchedulerConfig};
use pixart::pipeline::tokenizer::PromptTokenizer;
use pixart::pipeline::{Event, Generate, MemoryLimit, ModelFacts, PipelineError, Planner, Watch};
use pixart::pipeline::{encode, pixels};
use pixart::worker::Built;
use tokio::sync::watch;

use super::within;
use crate::support::{project, shapes};

/// How often one that waits looks whether it is still wanted: as often as the engine.
const LOOK: Duration = Duration::from_millis(1);
/// What a step says it took, whatever it took: so that predictions are the same everywhere.
pub(super) const STEP: Duration = Duration::from_secs(1);

/// What goes wrong at a step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trouble {
    /// The runtime fails.
    Engine,
    /// A network gives what is no number.
    NotFinite,
    /// The code breaks.
    Panic,
    /// A network finds too little memory.
    Memory,
}

/// What the studio is at.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// Steps that may be taken; `usize::MAX` never ends.
    permits: usize,
    /// The seed and step (from 0) at whose gate it waits.
    pub(super) waits_at: Option<(u64, usize)>,
    /// Seeds of the pictures that were finished.
    pub(super) drawn: Vec<u64>,
    /// Seeds of those that were stopped, each with the step at which.
    pub(super) stopped: Vec<(u64, usize)>,
    /// What goes wrong at the next steps.
    trouble: VecDeque<Trouble>,
    /// Whether models may be built now.
    holds_builds: bool,
    /// Builds that are going to fail.
    bad_builds: usize,
    memory: Option<MemoryLimit>,
    /// Builds that were begun.
    pub(super) builds: usize,
}

struct Shared {
    scene: watch::Sender<Scene>,
    /// Rings whenever a test has changed something.
    bell: (Mutex<()>, Condvar),
}

/// The test's hand on the studio; clones are the same one.
#[derive(Clone)]
pub(super) struct Studio(Arc<Shared>);

impl Studio {
    /// One that draws without being asked.
    pub(super) fn open() -> Self {
        let studio = Self::closed();
        studio.let_all_go();
        studio
    }

    /// One whose first step waits at the gate.
    pub(super) fn closed() -> Self {
        Self(Arc::new(Shared {
            scene: watch::Sender::new(Scene::default()),
            bell: (Mutex::new(()), Condvar::new()),
        }))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Scene) -> T) -> T {
        let mut changed = None;
        self.0
            .scene
            .send_modify(|scene| changed = Some(change(scene)));
        self.0.bell.1.notify_all();
        changed.unwrap()
    }

    /// Looks at the scene.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Scene) -> T) -> T {
        look(&self.0.scene.borrow())
    }

    /// Lets `steps` steps go.
    pub(super) fn let_go(&self, steps: usize) {
        self.change(|scene| scene.permits += steps);
    }

    /// Lets everything go from now on.
    pub(super) fn let_all_go(&self) {
        self.change(|scene| scene.permits = usize::MAX);
    }

    /// From now on every step waits at the gate.
    pub(super) fn close(&self) {
        self.change(|scene| scene.permits = 0);
    }

    /// The next step that is let go goes wrong.
    pub(super) fn break_next(&self, trouble: Trouble) {
        self.change(|scene| scene.trouble.push_back(trouble));
    }

    /// Models are not built until `release_builds`.
    pub(super) fn hold_builds(&self) {
        self.change(|scene| scene.holds_builds = true);
    }

    /// Models are built again.
    pub(super) fn release_builds(&self) {
        self.change(|scene| scene.holds_builds = false);
    }

    /// The next builds fail.
    pub(super) fn break_builds(&self, count: usize) {
        self.change(|scene| scene.bad_builds = count);
    }

    /// What is built from now on draws within this limit.
    pub(super) fn limit_memory(&self, bytes: u64) {
        let limit = MemoryLimit {
            bytes,
            // The tests' own process goes on allocating.
            is_hard: false,
            kept_bytes: 0,
            unpacked_bytes: 0,
            text_encoder_bytes: 0,
        };
        self.change(|scene| scene.memory = Some(limit));
    }

    /// Waits until the scene is as the test wants it.
    pub(super) async fn until(&self, mut what: impl FnMut(&Scene) -> bool) {
        let mut scene = self.0.scene.subscribe();
        within(scene.wait_for(|scene| what(scene))).await.unwrap();
    }

    /// Waits until it stands at the gate of this step.
    pub(super) async fn at(&self, seed: u64, step: usize) {
        self.until(|scene| scene.waits_at == Some((seed, step)))
            .await;
    }

    /// Waits a moment for the test to change something.
    fn rest(&self) {
        let (door, bell) = &self.0.bell;
        drop(bell.wait_timeout(door.lock().unwrap(), LOOK).unwrap());
    }

    /// Builds the model, when it may.
    pub(super) fn build(&self) -> Result<Built, String> {
        self.change(|scene| scene.builds += 1);
        while self.look(|scene| scene.holds_builds) {
            self.rest();
        }
        let fails = self.change(|scene| {
            let fails = scene.bad_builds > 0;
            scene.bad_builds = scene.bad_builds.saturating_sub(1);
            fails
        });
        if fails {
            return Err("the studio cannot be built".to_owned());
        }
        let planner = Arc::new(planner());
        Ok(Built {
            generate: Box::new(FakeGenerate {
                studio: self.clone(),
                planner: Arc::clone(&planner),
            }),
            planner,
            load: Duration::from_millis(5),
            memory: self.look(|scene| scene.memory),
        })
    }

    /// Waits at the gate of a step.
    fn pass(&self, gate: (u64, usize), watch: &dyn Watch) -> Result<(), PipelineError> {
        self.change(|scene| scene.waits_at = Some(gate));
        loop {
            if watch.cancelled() {
                self.change(|scene| {
                    scene.waits_at = None;
                    scene.stopped.push(gate);
                });
                return Err(PipelineError::Cancelled);
            }
            let goes = self.look(|scene| scene.permits > 0);
            if goes {
                break;
            }
            self.rest();
        }
        let trouble = self.change(|scene| {
            if scene.permits != usize::MAX {
                scene.permits -= 1;
            }
            scene.waits_at = None;
            scene.trouble.pop_front()
        });
        match trouble {
            None => Ok(()),
            Some(Trouble::Engine) => Err(PipelineError::Engine {
                stage: "transformer",
                source: EngineError::Inference {
                    graph: "transformer".to_owned(),
                    detail: "the device is lost".to_owned(),
                },
            }),
            Some(Trouble::Memory) => Err(PipelineError::Engine {
                stage: "VAE decoder",
                source: EngineError::Scarce {
                    what: "the VAE decoder failed".to_owned(),
                    scarcity: Scarcity::Memory,
                    detail: "std::bad_alloc".to_owned(),
                },
            }),
            Some(Trouble::NotFinite) => Err(PipelineError::NotFinite {
                stage: "transformer".to_owned(),
                count: 3,
                advice: "try --precision f32",
            }),
            // As `panic!`, without its words on the test's output.
            Some(Trouble::Panic) => std::panic::resume_unwind(Box::new("the studio is on fire")),
        }
    }
}

/// What the fake model is like: the embedded one's tokenizer and scheduler.
pub(super) fn planner() -> Planner {
    let file = |path: &str| std::fs::read(project("models/sketchbook").join(path)).unwrap();
    let scheduler = String::from_utf8(file("scheduler/scheduler_config.json")).unwrap();
    let scheduler = SchedulerConfig::from_json(&scheduler).unwrap();
    let defaults = RequestDefaults {
        scheduler: scheduler.kind(),
        decoder: Decoder::Full,
        size: ImageSize::new(128, 128).unwrap(),
        resolution_binning: false,
    };
    let tokenizer =
        PromptTokenizer::from_sentencepiece(&file("tokenizer/spiece.model"), 120).unwrap();
    let facts = ModelFacts {
        name: "sketchbook".to_owned(),
        weights: "f16".to_owned(),
        device: "CPU".to_owned(),
        precision: "f32".to_owned(),
        processor: Some(Processor {
            instruction_set: "AVX2 FMA".to_owned(),
            threads: 2,
        }),
        digest: "digest".to_owned(),
        openvino_version: "none".to_owned(),
        class: PipelineClass::Alpha,
        sample_size: 64,
        patch_size: 2,
        latent_channels: 4,
        micro_conditions: false,
        vae_scale_factor: 8,
        vae_scaling_factor: 0.5,
        tiny_vae_scaling_factor: None,
        frozen_grid: None,
        shapes: shapes(),
    };
    Planner::new(tokenizer, scheduler, facts, defaults)
}

struct FakeGenerate {
    studio: Studio,
    planner: Arc<Planner>,
}

impl Generate for FakeGenerate {
    fn generate(
        &mut self,
        request: &GenerateRequest,
        watch: &mut dyn Watch,
    ) -> Result<Generated, PipelineError> {
        let plan = self.planner.plan(request)?;
        let mut warnings = plan.warnings.clone();
        let seed = request.seed.value();
        let embeddings = Array2::zeros((plan.prompt.read, 2));
        watch.observe(Event::TextEncoded {
            prompt: embeddings.view(),
            negative: None,
        });
        let latents = latents(seed, plan.drawn_size);
        for step in 0..plan.steps {
            self.studio.pass((seed, step), watch)?;
            watch.observe(Event::Stepped {
                step,
                steps: plan.steps,
                took: STEP,
                latents: latents.view(),
                denoised: latents.view(),
                preview: None,
            });
        }
        let decoded = decoded(&latents);
        watch.observe(Event::Decoded {
            image: decoded.view(),
        });
        let picture = pixels::to_rgb8(pixels::resize_and_crop(decoded, request.size).view())?;
        if picture.is_flat() {
            warnings.push(Warning::FlatPicture);
        }
        let facts = self.planner.facts();
        self.studio.change(|scene| scene.drawn.push(seed));
        Ok(Generated {
            image: encode::encode(&picture, request, &[])?,
            timings: Timings {
                steps: vec![STEP; plan.steps],
                ..Timings::default()
            },
            receipt: Receipt {
                request: request.clone(),
                drawn_size: plan.drawn_size,
                model: facts.name.clone(),
                weights: facts.weights.clone(),
                device: facts.device.clone(),
                precision: facts.precision.clone(),
                processor: facts.processor.clone(),
                model_digest: facts.digest.clone(),
                openvino_version: facts.openvino_version.clone(),
            },
            warnings,
        })
    }
}

/// f32 `[1, 4, height / 8, width / 8]`, -1 to 1, of the seed alone.
fn latents(seed: u64, size: ImageSize) -> Array4<f32> {
    let shape = (
        1,
        4,
        size.height_px() as usize / 8,
        size.width_px() as usize / 8,
    );
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    Array4::from_shape_simple_fn(shape, || {
        // Knuth's MMIX generator: any will do that tells seeds apart.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f32::from((state >> 56) as u8) / 127.5 - 1.0
    })
}

/// Colours as a linear map of the latents: f32 `[1, 3, height, width]`.
fn decoded(latents: &Array4<f32>) -> Array4<f32> {
    let (_, _, rows, columns) = latents.dim();
    Array4::from_shape_fn((1, 3, rows * 8, columns * 8), |(_, colour, y, x)| {
        latents[[0, colour, y / 8, x / 8]] * 0.8 + latents[[0, 3, y / 8, x / 8]] * 0.2
    })
}
