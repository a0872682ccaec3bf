"""Fixtures of the arithmetic around the networks: noise, schedules, position buckets, aspect bins, resizing.

None of these needs a checkpoint.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, LCMScheduler
from diffusers.image_processor import PixArtImageProcessor
from diffusers.pipelines.pixart_alpha import pipeline_pixart_alpha as alpha
from diffusers.pipelines.pixart_alpha import pipeline_pixart_sigma as sigma
from transformers.models.t5.modeling_t5 import T5Attention

from storage import sha256, write_json, write_tensors

# ---------------------------------------------------------------------------------------------------------- noise

NOISE_SEEDS = (0, 1, 42, 2**31 - 1, 2**32 - 1, 2**32, 2**32 + 42, 2**63 - 1, 2**64 - 1)

# Each entry is one generator's life: the shapes drawn from it, in order. Below 16 values torch draws pairwise in
# double precision and keeps the unused sine half for the generator's next small draw; from 16 values on it draws in
# blocks and leaves that half alone. The mixed sequences pin both.
NOISE_SEQUENCES = (
    ([1, 4, 16, 16],),
    ([1, 4, 16, 16], [1, 4, 16, 16], [1, 4, 16, 16], [1, 4, 16, 16]),
    ([1, 4, 13, 9], [1, 4, 13, 9]),
    ([2, 4, 3, 5], [2, 4, 3, 5]),
    ([1],),
    ([1], [1], [1], [2], [1]),
    ([2], [3], [7], [15]),
    ([15], [15]),
    ([16], [16]),
    ([17], [31], [33]),
    ([1], [16], [1], [17], [3], [33], [2], [7], [16], [15], [1]),
    ([3], [1, 4, 16, 16], [1], [1, 4, 13, 9], [15]),
    ([16], [1], [31], [1]),
)
LARGE_NOISE = ([1, 4, 128, 128], [1, 4, 128, 128])


def make_noise(out: Path) -> None:
    """`noise.json`: what `torch.randn` draws on the CPU in f32, by checksum and by the bits at both ends."""
    records = []
    for seed in NOISE_SEEDS:
        sequences = NOISE_SEQUENCES + ((LARGE_NOISE,) if seed in (0, 42, 2**32 - 1) else ())
        for shapes in sequences:
            generator = torch.Generator("cpu").manual_seed(seed)
            draws = [_describe_draw(torch.randn(shape, generator=generator)) for shape in shapes]
            records.append({"seed": seed, "draws": draws})
    write_json(out / "noise.json", records)


def _describe_draw(values: torch.Tensor) -> dict[str, object]:
    data = values.numpy().astype("<f4").tobytes()
    bits = [f"{bit:08x}" for bit in values.flatten().numpy().view("<u4").tolist()]
    return {"shape": list(values.shape), "sha256": sha256(data), "first": bits[:8], "last": bits[-8:]}


# ------------------------------------------------------------------------------------------------------ schedules


@dataclass(frozen=True)
class Schedule:
    """One scheduler configuration and the number of steps it is asked for; `options` override diffusers' defaults."""

    scheduler: type
    steps: int
    options: dict[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A readable, unique name: the scheduler, the steps, and every option that is not the default."""
        kind = "lcm" if self.scheduler is LCMScheduler else "dpm"
        options = [f"{key}={value}" for key, value in self.options.items()]
        return ",".join([kind, f"steps={self.steps}", *options]).lower()


SCHEDULE_LATENT_SHAPE = (1, 4, 2, 3)
PUBLISHED_BETAS = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}


def _schedules() -> list[Schedule]:
    lcm, solver, betas = LCMScheduler, DPMSolverMultistepScheduler, PUBLISHED_BETAS
    consistency = [
        *(Schedule(lcm, steps, betas) for steps in (1, 2, 3, 4, 5, 8, 12, 14, 15, 20, 25, 50)),
        *(
            Schedule(lcm, steps, betas | {"original_inference_steps": original})
            for steps, original in ((4, 100), (3, 7), (8, 40), (5, 1000), (12, 30))
        ),
        Schedule(lcm, 4, {}),
        Schedule(lcm, 5, {"beta_schedule": "squaredcos_cap_v2"}),
        *(Schedule(lcm, 4, betas | {"timestep_scaling": scaling}) for scaling in (1.0, 0.1)),
        *(Schedule(lcm, 4, betas | {"timestep_spacing": kind}) for kind in ("linspace", "trailing")),
        Schedule(lcm, 4, betas | {"steps_offset": 1, "set_alpha_to_one": False}),
        *(Schedule(lcm, 4, betas | {"prediction_type": kind}) for kind in ("v_prediction", "sample")),
        Schedule(lcm, 4, betas | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}),
        Schedule(lcm, 3, betas | {"num_train_timesteps": 500, "original_inference_steps": 20}),
    ]
    multistep = [
        *(Schedule(solver, steps) for steps in (1, 2, 3, 4, 5, 8, 12, 14, 15, 20, 25, 50)),
        *(Schedule(solver, steps, {"solver_order": 1}) for steps in (1, 5, 20)),
        *(Schedule(solver, steps, {"solver_type": "heun"}) for steps in (2, 8, 20)),
        *(Schedule(solver, steps, {"timestep_spacing": "leading"}) for steps in (4, 14, 20)),
        *(Schedule(solver, steps, {"timestep_spacing": "leading", "steps_offset": 1}) for steps in (5, 20)),
        *(Schedule(solver, steps, {"timestep_spacing": "trailing"}) for steps in (3, 12, 20)),
        *(Schedule(solver, steps, {"final_sigmas_type": "sigma_min"}) for steps in (1, 4, 12, 20)),
        *(
            Schedule(solver, steps, {"lower_order_final": False, "final_sigmas_type": kind})
            for steps, kind in ((5, "sigma_min"), (5, "zero"), (20, "sigma_min"), (20, "zero"))
        ),
        *(Schedule(solver, steps, {"euler_at_final": True, "final_sigmas_type": "sigma_min"}) for steps in (8, 20)),
        Schedule(solver, 20, {"euler_at_final": True, "lower_order_final": False}),
        Schedule(solver, 8, {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
        Schedule(solver, 8, {"beta_schedule": "squaredcos_cap_v2"}),
        Schedule(solver, 8, {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1}),
        *(Schedule(solver, 8, {"prediction_type": kind}) for kind in ("v_prediction", "sample")),
        Schedule(solver, 6, {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}),
        Schedule(solver, 7, {"num_train_timesteps": 500, "solver_type": "heun", "timestep_spacing": "trailing"}),
    ]
    return consistency + multistep


def make_schedules(out: Path) -> None:
    """`schedules.safetensors` and `schedules.json`: each configuration stepped over a fixed small latent.

    Tensors of schedule NAME: `NAME.timesteps` i64 [N], `NAME.sample` f32 [1, 4, 2, 3] (before the first step),
    `NAME.model_output` f32 [N, 1, 4, 2, 3], `NAME.prev_sample` f32 [N, 1, 4, 2, 3] (after each step),
    `NAME.alphas_cumprod` f32 [N] (at the timesteps); LCM: `NAME.noise` f32 [N - 1, 1, 4, 2, 3] (absent for N = 1);
    DPM-Solver++: `NAME.sigmas` f32 [N + 1].
    """
    tensors: dict[str, torch.Tensor] = {}
    records = []
    for number, schedule in enumerate(_schedules()):
        noise_seed = 1000 + number
        scheduler = schedule.scheduler(**schedule.options)
        run = _run(scheduler, schedule.steps, number, noise_seed)
        tensors.update({f"{schedule.name}.{key}": value for key, value in run.items()})
        records.append(
            {
                "name": schedule.name,
                "scheduler": "lcm" if schedule.scheduler is LCMScheduler else "dpmsolver++",
                "num_inference_steps": schedule.steps,
                "noise_seed": noise_seed,
                # Text as diffusers saves it, because it is not always JSON: lambda_min_clipped is written -Infinity.
                "scheduler_config": scheduler.to_json_string(),
            }
        )
    names = [record["name"] for record in records]
    if len(set(names)) != len(names):
        raise ValueError("two schedules have the same name")
    write_tensors(out / "schedules.safetensors", tensors, {"latent_shape": json.dumps(SCHEDULE_LATENT_SHAPE)})
    write_json(out / "schedules.json", records)


def _run(scheduler, steps: int, seed: int, noise_seed: int) -> dict[str, torch.Tensor]:
    """Steps `scheduler` as the pipeline does, with model outputs from a seeded generator in place of a network."""
    values = torch.Generator("cpu").manual_seed(seed)
    noise_generator = torch.Generator("cpu").manual_seed(noise_seed)
    is_lcm = isinstance(scheduler, LCMScheduler)
    scheduler.set_timesteps(steps)
    scheduler.set_begin_index(0)
    sample = torch.randn(SCHEDULE_LATENT_SHAPE, generator=values) * scheduler.init_noise_sigma
    model_output = torch.randn((len(scheduler.timesteps), *SCHEDULE_LATENT_SHAPE), generator=values)

    current, prev_sample = sample, []
    for timestep, output in zip(scheduler.timesteps, model_output, strict=True):
        extra = {"generator": noise_generator} if is_lcm else {}
        current = scheduler.step(output, timestep, current, return_dict=False, **extra)[0]
        prev_sample.append(current)

    tensors = {
        "timesteps": scheduler.timesteps,
        "sample": sample,
        "model_output": model_output,
        "prev_sample": torch.stack(prev_sample),
        "alphas_cumprod": scheduler.alphas_cumprod[scheduler.timesteps],
    }
    if not torch.isfinite(tensors["prev_sample"]).all():
        raise ValueError(f"{scheduler.config} gives values that are not finite")
    if not is_lcm:
        tensors["sigmas"] = scheduler.sigmas
    elif steps > 1:
        redraw = torch.Generator("cpu").manual_seed(noise_seed)
        tensors["noise"] = torch.stack([torch.randn(SCHEDULE_LATENT_SHAPE, generator=redraw) for _ in range(steps - 1)])
    return tensors


# --------------------------------------------------------------------------------------------- T5 position buckets

BUCKET_TABLES = ((32, 128), (16, 64), (8, 20))
BUCKET_REACH = 300


def make_t5_buckets(out: Path) -> None:
    """`t5_buckets.json`: the bidirectional bucket of every offset (key position minus query position)."""
    offsets = torch.arange(-BUCKET_REACH, BUCKET_REACH + 1)
    records = []
    for num_buckets, max_distance in BUCKET_TABLES:
        buckets = T5Attention._relative_position_bucket(
            offsets, bidirectional=True, num_buckets=num_buckets, max_distance=max_distance
        )
        records.append(
            {
                "num_buckets": num_buckets,
                "max_distance": max_distance,
                "first_offset": -BUCKET_REACH,
                "buckets": buckets.tolist(),
            }
        )
    write_json(out / "t5_buckets.json", records)


# ------------------------------------------------------------------------------------------- resolution binning

BIN_TABLES = {
    "256": alpha.ASPECT_RATIO_256_BIN,
    "512": alpha.ASPECT_RATIO_512_BIN,
    "1024": alpha.ASPECT_RATIO_1024_BIN,
    "2048": sigma.ASPECT_RATIO_2048_BIN,
}
RANDOM_BIN_SIZES = 96
# Squares, extremes, and ties: a ratio midway between two bins goes to the one listed first.
CHOSEN_BIN_SIZES = (
    (1024, 1024), (512, 512), (256, 256), (128, 128), (8, 8), (8, 4096), (4096, 8), (1, 1), (1024, 1025),
    (88, 120), (120, 200), (200, 120), (970, 1000), (1035, 1000), (91, 100), (2045, 1000), (350, 100), (1875, 500),
    (255, 1000), (265, 1000), (300, 1000), (325, 1000), (85, 100), (80, 100), (1550, 1000), (720, 1280), (1280, 720),
)  # fmt: skip

# Decoded size and requested size, both (height, width): shrink, grow, crop left and right, crop above and below,
# nothing to do, and sizes at which `int()` of the scaled length cuts a fraction off.
RESIZES = (
    ((24, 40), (12, 20)),
    ((16, 16), (37, 29)),
    ((32, 20), (16, 16)),
    ((20, 32), (18, 11)),
    ((24, 24), (24, 24)),
    ((30, 26), (29, 25)),
    ((26, 38), (41, 57)),
    ((24, 33), (7, 33)),
)


def make_binning(out: Path) -> None:
    """`binning.json` and `resize.safetensors`: how a requested size becomes a drawn size and back again."""
    generator = torch.Generator("cpu").manual_seed(6)
    random_sizes = torch.randint(8, 2049, (RANDOM_BIN_SIZES, 2), generator=generator).tolist()
    sizes = [*CHOSEN_BIN_SIZES, *map(tuple, random_sizes)]
    classify = PixArtImageProcessor.classify_height_width_bin
    tables = {
        name: [{"ratio": ratio, "height": int(height), "width": int(width)} for ratio, (height, width) in table.items()]
        for name, table in BIN_TABLES.items()
    }
    results = []
    for height, width in sizes:
        bins = {name: list(classify(height, width, ratios=table)) for name, table in BIN_TABLES.items()}
        results.append({"height": height, "width": width, "bins": bins})
    write_json(out / "binning.json", {"tables": tables, "sizes": results})

    tensors = {}
    for number, (drawn, (height, width)) in enumerate(RESIZES):
        decoded = torch.rand((1, 3, *drawn), generator=generator) * 2.5 - 1.25
        tensors[f"decoded.{number}"] = decoded
        tensors[f"resized.{number}"] = PixArtImageProcessor.resize_and_crop_tensor(decoded, width, height)
    write_tensors(out / "resize.safetensors", tensors, {"count": len(RESIZES)})
