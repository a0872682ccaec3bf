//! The noise levels that a picture is walked down, and the arithmetic of each step.
//!
//! A [`Schedule`] is an immutable value made from a checkpoint's configuration and a number of steps; many pictures may
//! share it. What a solver remembers of earlier steps is in a [`Solver`], which belongs to one picture. Nothing here
//! knows the network: it is given what the network predicted.

mod betas;
mod dpm_solver;
mod lcm;

use ndarray::{Array4, ArrayView4};
use thiserror::Error;

use self::dpm_solver::{DpmSolverSchedule, History};
use self::lcm::LcmSchedule;
use super::noise::TorchGenerator;
use crate::domain::{SchedulerKind, Steps};
use crate::model::scheduler_config::{SchedulerConfig, SchedulerConfigError};

/// A schedule that cannot be made.
#[derive(Debug, Error)]
pub enum ScheduleError {
    /// The configuration does not suit the scheduler that was asked for.
    #[error("the checkpoint's scheduler_config.json does not suit this scheduler")]
    Config(#[from] SchedulerConfigError),
    /// More steps than the scheduler has distinct timesteps.
    #[error("{steps} steps are too many for the {scheduler} scheduler: at most {limit} ({reason})")]
    TooManySteps {
        /// The scheduler.
        scheduler: SchedulerKind,
        /// Steps asked for.
        steps: usize,
        /// The most steps there can be.
        limit: usize,
        /// Where the limit comes from.
        reason: &'static str,
    },
    /// `steps_offset` moves the first timestep out of the table.
    #[error(
        "the first timestep would be {timestep} and the model was trained on 0 to {}: ask for fewer steps, or lower steps_offset in scheduler_config.json",
        num_train_timesteps - 1
    )]
    BeyondTraining {
        /// The first timestep.
        timestep: usize,
        /// Length of the noise table.
        num_train_timesteps: usize,
    },
    /// The noise table leaves nothing of the picture, so that it cannot be divided by what is left.
    #[error(
        "the noise table has nothing left of the picture at timestep {timestep}: lower beta_end or num_train_timesteps in scheduler_config.json, or turn rescale_betas_zero_snr off"
    )]
    NothingLeft {
        /// The first such timestep.
        timestep: usize,
    },
}

/// Timesteps and coefficients for one number of steps.
#[derive(Debug, Clone)]
pub struct Schedule(Walk);

#[derive(Debug, Clone)]
enum Walk {
    Lcm(LcmSchedule),
    DpmSolver(DpmSolverSchedule),
}

impl Schedule {
    /// Makes the schedule of `kind`, which need not be the checkpoint's own (see [`SchedulerConfig`]).
    ///
    /// # Errors
    /// When the configuration does not suit `kind`, or there are more steps than it has timesteps.
    pub fn new(
        kind: SchedulerKind,
        config: &SchedulerConfig,
        steps: Steps,
    ) -> Result<Self, ScheduleError> {
        Ok(Self(match kind {
            SchedulerKind::Lcm => Walk::Lcm(LcmSchedule::new(&config.lcm()?, steps)?),
            SchedulerKind::DpmSolverPlusPlus => {
                Walk::DpmSolver(DpmSolverSchedule::new(&config.dpm_solver()?, steps)?)
            }
        }))
    }

    /// The timestep that the network is told at each step: i64, falling, within the training timesteps. There may be
    /// fewer than the steps asked for when the configuration clips noise levels (`lambda_min_clipped`).
    pub fn timesteps(&self) -> &[i64] {
        match &self.0 {
            Walk::Lcm(schedule) => &schedule.timesteps,
            Walk::DpmSolver(schedule) => &schedule.timesteps,
        }
    }

    /// DPM-Solver++'s noise-to-signal ratios: one for each step and one for after the last. LCM has none.
    pub fn sigmas(&self) -> Option<&[f32]> {
        match &self.0 {
            Walk::Lcm(_) => None,
            Walk::DpmSolver(schedule) => Some(&schedule.sigmas),
        }
    }

    /// Standard deviation of the noise that the walk begins with: 1 for both schedulers. Neither scales the network's
    /// input (diffusers' `scale_model_input` returns it as it is).
    pub fn init_noise_sigma(&self) -> f32 {
        1.0
    }

    /// A solver at the first step, for one picture.
    pub fn solver(&self) -> Solver<'_> {
        Solver {
            schedule: self,
            history: History::default(),
        }
    }
}

/// Timesteps in the type that the network takes.
#[expect(
    clippy::cast_possible_wrap,
    reason = "a noise table has at most 100,000 timesteps"
)]
fn as_model_input(timesteps: &[usize]) -> Vec<i64> {
    timesteps.iter().map(|&timestep| timestep as i64).collect()
}

/// What a step gives, both f32 [B, C, h, w].
#[derive(Debug, Clone, PartialEq)]
pub struct Stepped {
    /// The latents after the step.
    pub latents: Array4<f32>,
    /// The clean latents that the step predicted: a preview of the picture. LCM: what the boundary condition leaves of its
    /// prediction, which the last step returns as it is. DPM-Solver++: `d0`, the data prediction.
    pub denoised: Array4<f32>,
}

/// One picture's walk down a schedule.
#[derive(Debug)]
pub struct Solver<'a> {
    schedule: &'a Schedule,
    history: History,
}

impl Solver<'_> {
    /// Takes step `step` (from 0, in order, below the number of timesteps).
    ///
    /// `model_output`: f32 [B, C, h, w], what the network predicted, after guidance and without the learned sigma.
    /// `sample`: f32 [B, C, h, w], the latents before the step. LCM draws noise of that shape from `generator` on every
    /// step but the last; DPM-Solver++ draws none.
    ///
    /// # Panics
    /// When there is no such step, or the two shapes differ.
    pub fn step(
        &mut self,
        step: usize,
        model_output: ArrayView4<'_, f32>,
        sample: &Array4<f32>,
        generator: &mut TorchGenerator,
    ) -> Stepped {
        match &self.schedule.0 {
            Walk::Lcm(schedule) => schedule.step(step, model_output, sample, generator),
            Walk::DpmSolver(schedule) => {
                schedule.step(step, model_output, sample, &mut self.history)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Seed;

    const KINDS: [SchedulerKind; 2] = [SchedulerKind::Lcm, SchedulerKind::DpmSolverPlusPlus];

    fn config(keys: &str) -> SchedulerConfig {
        let text = format!(r#"{{"_class_name": "DPMSolverMultistepScheduler"{keys}}}"#);
        SchedulerConfig::from_json(&text).unwrap()
    }

    fn schedule(kind: SchedulerKind, keys: &str, steps: u32) -> Result<Schedule, ScheduleError> {
        Schedule::new(kind, &config(keys), Steps::new(steps).unwrap())
    }

    fn message(schedule: Result<Schedule, ScheduleError>) -> String {
        schedule.unwrap_err().to_string()
    }

    /// Reference: diffusers 0.42, `from_pretrained` of one scheduler and `from_config` of the other.
    #[test]
    fn the_scheduler_that_is_not_the_checkpoints_own_is_made_as_diffusers_makes_it() {
        let text = include_str!("../../../models/sketchbook/scheduler/scheduler_config.json");
        let student = SchedulerConfig::from_json(text).unwrap();
        assert_eq!(student.kind(), SchedulerKind::Lcm);
        let steps = Steps::new(8).unwrap();
        let solver = Schedule::new(SchedulerKind::DpmSolverPlusPlus, &student, steps).unwrap();
        // "leading", from the student's file, where DPM-Solver++'s own default is "linspace".
        assert_eq!(solver.timesteps(), [888, 777, 666, 555, 444, 333, 222, 111]);
        assert!((solver.sigmas().unwrap()[0] - 54.567_516).abs() < 1e-5);

        let lcm = schedule(SchedulerKind::Lcm, r#", "num_train_timesteps": 500"#, 4).unwrap();
        assert_eq!(lcm.timesteps(), [499, 379, 249, 129]);
    }

    #[test]
    fn too_many_steps_are_refused_with_the_limit_and_where_it_comes_from() {
        use SchedulerKind::{DpmSolverPlusPlus, Lcm};
        assert_eq!(
            message(schedule(Lcm, "", 51)),
            "51 steps are too many for the lcm scheduler: at most 50 (original_inference_steps in scheduler_config.json)"
        );
        assert!(message(schedule(DpmSolverPlusPlus, "", 1000)).contains("at most 999"));
        assert!(schedule(DpmSolverPlusPlus, "", 999).is_ok());
        let trailing = r#", "timestep_spacing": "trailing", "num_train_timesteps": 500"#;
        assert!(message(schedule(DpmSolverPlusPlus, trailing, 501)).contains("at most 500"));
        assert!(schedule(DpmSolverPlusPlus, trailing, 500).is_ok());
        let clipped = r#", "lambda_min_clipped": 0.0"#;
        assert!(message(schedule(DpmSolverPlusPlus, clipped, 900)).contains("at most"));
    }

    #[test]
    fn an_offset_that_leaves_the_training_timesteps_is_refused() {
        let keys = r#", "timestep_spacing": "leading", "steps_offset": 60"#;
        let kind = SchedulerKind::DpmSolverPlusPlus;
        assert!(message(schedule(kind, keys, 20)).contains("would be 1000"));
        assert!(schedule(kind, keys, 10).is_ok());
    }

    #[test]
    fn a_table_without_signal_is_refused_instead_of_divided_by() {
        let keys = r#", "num_train_timesteps": 100000"#;
        for kind in KINDS {
            assert!(
                message(schedule(kind, keys, 4)).contains("lower beta_end"),
                "{kind}"
            );
        }
        let rescaled = r#", "rescale_betas_zero_snr": true"#;
        assert!(message(schedule(SchedulerKind::Lcm, rescaled, 4)).contains("timestep 999"));
    }

    #[test]
    fn trailing_spacing_has_no_timestep_below_zero() {
        let keys = r#", "timestep_spacing": "trailing""#;
        let schedule = schedule(SchedulerKind::DpmSolverPlusPlus, keys, 61).unwrap();
        assert_eq!(schedule.timesteps().len(), 61);
        assert_eq!(schedule.timesteps()[0], 999);
        assert!(schedule.timesteps()[60] >= 0);
    }

    #[test]
    fn a_network_that_knows_the_picture_leads_to_it_exactly() {
        let picture =
            Array4::from_shape_fn((1, 4, 2, 2), |(_, c, y, x)| (c + 2 * y + x) as f32 - 3.0);
        for kind in KINDS {
            let schedule = schedule(kind, r#", "prediction_type": "sample""#, 8).unwrap();
            let mut generator = TorchGenerator::new(Seed::new(3));
            let mut solver = schedule.solver();
            let mut sample = Array4::zeros(picture.raw_dim());
            for step in 0..schedule.timesteps().len() {
                let stepped = solver.step(step, picture.view(), &sample, &mut generator);
                assert!(close(&stepped.denoised, &picture), "{kind}, step {step}");
                sample = stepped.latents;
            }
            assert!(close(&sample, &picture), "{kind}: {sample}");
        }
    }

    /// LCM's boundary condition keeps less than 1e-6 of its input (c_skip).
    fn close(a: &Array4<f32>, b: &Array4<f32>) -> bool {
        (a - b).iter().all(|error| error.abs() < 1e-4)
    }

    #[test]
    fn the_last_step_ends_in_what_it_predicted() {
        for kind in KINDS {
            let schedule = schedule(kind, "", 4).unwrap();
            let mut generator = TorchGenerator::new(Seed::new(3));
            let mut solver = schedule.solver();
            let mut sample = Array4::from_elem((1, 1, 2, 2), 0.5);
            for step in 0..4 {
                let stepped = solver.step(step, sample.view(), &sample, &mut generator);
                let ends = stepped.latents == stepped.denoised;
                assert_eq!(ends, step == 3, "{kind}, step {step}");
                sample = stepped.latents;
            }
        }
    }

    #[test]
    fn solvers_of_one_schedule_do_not_share_history() {
        let schedule = schedule(SchedulerKind::DpmSolverPlusPlus, "", 4).unwrap();
        let mut generator = TorchGenerator::new(Seed::new(3));
        let start = Array4::from_elem((1, 1, 2, 2), 0.5);
        let walk = |generator: &mut TorchGenerator| {
            let mut solver = schedule.solver();
            (0..4).fold(start.clone(), |sample, step| {
                solver.step(step, sample.view(), &sample, generator).latents
            })
        };
        assert_eq!(walk(&mut generator), walk(&mut generator));
    }

    proptest! {
        #[test]
        fn timesteps_fall_and_steps_stay_finite(
            steps in 1_u32..=1000,
            train in 2_u32..1200,
            spacing in prop::sample::select(vec!["linspace", "leading", "trailing"]),
            betas in prop::sample::select(vec!["linear", "scaled_linear", "squaredcos_cap_v2"]),
            heun in any::<bool>(),
        ) {
            let solver_type = if heun { "heun" } else { "midpoint" };
            let keys = format!(
                r#", "timestep_spacing": "{spacing}", "num_train_timesteps": {train},
                    "beta_schedule": "{betas}", "solver_type": "{solver_type}",
                    "original_inference_steps": {}"#,
                train.min(50)
            );
            for kind in KINDS {
                let Ok(schedule) = schedule(kind, &keys, steps) else { continue };
                let timesteps = schedule.timesteps();
                prop_assert_eq!(timesteps.len(), steps as usize);
                prop_assert!(timesteps.windows(2).all(|pair| pair[1] < pair[0]));
                prop_assert!(timesteps.iter().all(|&t| (0..i64::from(train)).contains(&t)));
                let mut generator = TorchGenerator::new(Seed::new(0));
                let mut solver = schedule.solver();
                let mut sample = Array4::from_elem((1, 1, 1, 1), 1.0);
                for step in 0..timesteps.len() {
                    let output = Array4::zeros(sample.raw_dim());
                    sample = solver.step(step, output.view(), &sample, &mut generator).latents;
                }
                prop_assert!(sample.iter().all(|value| value.is_finite()), "{:?}", sample);
            }
        }
    }
}
