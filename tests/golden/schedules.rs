//! `schedules.json` and `schedules.safetensors`: timesteps, noise levels and every step of both schedulers.

use std::fs;

use ndarray::{Array4, ArrayView4};
use pixart::domain::{SchedulerKind, Seed, Steps};
use pixart::model::scheduler_config::SchedulerConfig;
use pixart::pipeline::noise::TorchGenerator;
use pixart::pipeline::schedule::Schedule;
use safetensors::SafeTensors;

use super::{f32_values, path, read_json};

// The arithmetic is diffusers' own, in f32 and in its order. What differs is torch's square root, logarithm and
// exponential: its MKL rounds them to within 1 ulp, a fifth of the square roots not to the nearest on the AMD machine
// that made the fixtures; ours are rounded to the nearest. With torch's three functions replaced by correctly rounded
// ones the same configurations are equal bit for bit, sigmas and samples. With the fixtures as they are 86 of 545
// sigmas differ, by 1 ulp (by 2 after rescale_betas_zero_snr, which subtracts), and samples by up to 6.4e-7 (LCM) and
// 7.4e-7 (DPM-Solver++) of the largest latent.
const SIGMA_TOLERANCE_ULP: u32 = 2;
const LCM_TOLERANCE: f32 = 1e-6;
const DPM_SOLVER_TOLERANCE: f32 = 2e-6;
const SHAPE: (usize, usize, usize, usize) = (1, 4, 2, 3);
const LATENT: usize = 24;

#[test]
fn every_configuration_steps_as_in_diffusers() {
    let bytes = fs::read(path("schedules.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let records = read_json("schedules.json");
    let records = records.as_array().unwrap();
    assert!(records.len() > 50, "{} configurations", records.len());
    let mut worst = [(0.0_f32, String::new()), (0.0, String::new())];
    let (mut unequal_sigmas, mut all_sigmas) = (0, 0);
    for record in records {
        let name = record["name"].as_str().unwrap();
        let values = |tensor: &str| f32_values(&tensors, &format!("{name}.{tensor}"));
        let kind: SchedulerKind = record["scheduler"].as_str().unwrap().parse().unwrap();
        let config = SchedulerConfig::from_json(record["scheduler_config"].as_str().unwrap());
        let config = config.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(config.kind(), kind, "{name}");
        let steps = record["num_inference_steps"].as_u64().unwrap();
        let steps = Steps::new(steps.try_into().unwrap()).unwrap();
        let schedule =
            Schedule::new(kind, &config, steps).unwrap_or_else(|error| panic!("{name}: {error}"));

        let timesteps = tensors.tensor(&format!("{name}.timesteps")).unwrap();
        let timesteps: Vec<i64> = timesteps
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|bytes| i64::from_le_bytes(*bytes))
            .collect();
        assert_eq!(schedule.timesteps(), timesteps, "timesteps of {name}");
        if let Some(sigmas) = schedule.sigmas() {
            let expected = values("sigmas");
            assert_eq!(sigmas.len(), expected.len(), "sigmas of {name}");
            for (step, (found, expected)) in sigmas.iter().zip(&expected).enumerate() {
                let ulp = found.to_bits().abs_diff(expected.to_bits());
                assert!(
                    ulp <= SIGMA_TOLERANCE_ULP,
                    "{name}, sigma {step}: {found} and {expected}"
                );
                unequal_sigmas += u32::from(ulp > 0);
                all_sigmas += 1;
            }
        }

        let outputs = values("model_output");
        let expected = values("prev_sample");
        assert_eq!(outputs.len(), timesteps.len() * LATENT, "{name}");
        let noise_seed = Seed::new(record["noise_seed"].as_u64().unwrap());
        let mut generator = TorchGenerator::new(noise_seed);
        let mut solver = schedule.solver();
        let mut sample = Array4::from_shape_vec(SHAPE, values("sample")).unwrap();
        for step in 0..timesteps.len() {
            let range = step * LATENT..(step + 1) * LATENT;
            let output = ArrayView4::from_shape(SHAPE, &outputs[range.clone()]).unwrap();
            sample = solver.step(step, output, &sample, &mut generator).latents;
            let size = sample
                .iter()
                .fold(1.0_f32, |size, value| size.max(value.abs()));
            for (index, (&found, &expected)) in sample.iter().zip(&expected[range]).enumerate() {
                let error = (found - expected).abs() / size;
                let worst = &mut worst[usize::from(kind != SchedulerKind::Lcm)];
                if error > worst.0 || error.is_nan() {
                    *worst = (error, format!("{name}, step {step}, value {index}"));
                }
            }
        }
    }
    println!("{unequal_sigmas} of {all_sigmas} sigmas differ; largest relative errors {worst:?}");
    let [(lcm, lcm_name), (dpm_solver, dpm_solver_name)] = worst;
    assert!(lcm <= LCM_TOLERANCE, "{lcm:e} at {lcm_name}");
    assert!(
        dpm_solver <= DPM_SOLVER_TOLERANCE,
        "{dpm_solver:e} at {dpm_solver_name}"
    );
}
