"""Trains sketchbook, all of it: `python models/sketchbook/train --work FOLDER --output models`.

Every stage leaves its result in the work folder and is skipped where it is there; a stage that was interrupted goes on where
it was. Hours on two cores; the stages tell how long they still need.
"""

import argparse
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, PixArtTransformer2DModel
from transformers import T5EncoderModel

from device import here
from draw import Painter
from export import export
from pictures import load_pictures, load_scenes, render_all
from reader import export_reader, train_reader
from recipe import Recipe, recipe_for
from sampling import sample
from sheets import OTHER_WORDS, PROMPTS, sheet
from student import train_student
from teacher import Words, attention_maps, train_teacher
from text import WIDTH, say_all, token_ids, train_encoder, train_tokenizer
from tiny import train_tiny
from transformer import new_transformer
from unseen import write_calibration, write_open, write_rendered, write_unseen
from vae import encode, fold, reconstruct, train_vae


def latents_of(folder: Path, vae: AutoencoderKL, pictures, recipe: Recipe):
    """Folds the latents' mean and spread into `vae`; returns latents of all scenes at half size, and of some at full size."""
    file = folder / "latents.pt"
    if not file.exists():
        full = encode(vae, pictures[: recipe.full_size_scenes], False, "latents at full size")
        half = encode(vae, pictures, True, "latents at half size")
        mean, deviation = fold(vae, full)
        mean, deviation = mean[None, :, None, None], deviation[None, :, None, None]
        parts = {"vae": vae.state_dict(), "full": ((full - mean) / deviation).half(), "half": ((half - mean) / deviation).half()}
        torch.save(parts, file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)
    parts = torch.load(file)
    vae.load_state_dict(parts["vae"])
    return parts["half"], parts["full"]


def main():
    parser = argparse.ArgumentParser(prog="train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where the stages leave their results (needs 8 GB)")
    parser.add_argument("--output", type=Path, required=True, help="where sketchbook/ and sketchbook-teacher/ are written")
    parser.add_argument("--from", dest="start", type=Path, help="a checkpoint to start from, in place of random weights: its VAE and, if it has one, its transformer")
    parser.add_argument("--keep", nargs="*", choices=["vae", "tiny", "text", "reader"], default=[], help="what is not trained any further: of that checkpoint, or the reader that lies in the output")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to compute: cpu or cuda")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if options.keep and not options.start:
        parser.error("--keep needs --from: there is nothing to keep")
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.set_float32_matmul_precision("high")
    if options.device != "cpu":
        torch.set_default_device(options.device)
    recipe, work = recipe_for(options.device), options.work
    work.mkdir(parents=True, exist_ok=True)

    render_all(work, recipe.scenes, recipe.seed, options.threads)
    pictures, scenes = load_pictures(work), load_scenes(work)
    start = None
    if options.start:
        start = AutoencoderKL.from_pretrained(options.start / "vae", torch_dtype=torch.float32).to(options.device)
    vae = start if "vae" in options.keep else train_vae(work, pictures, recipe.vae, recipe.seed + 10, start)
    half, full = latents_of(work, vae, pictures, recipe)
    if "tiny" in options.keep:
        tiny = AutoencoderTiny.from_pretrained(options.start / "tiny_vae", torch_dtype=torch.float32).to(options.device)
    else:
        tiny = train_tiny(work, pictures, full, recipe.tiny, recipe.seed + 15)

    if "text" in options.keep:
        shutil.copyfile(options.start / "tokenizer" / "spiece.model", work / "spiece.model")
    tokenizer = train_tokenizer(work, recipe.seed)
    said = say_all(scenes, recipe.captions_each, recipe.seed + 20)
    ids = here(token_ids(tokenizer, said)).view(len(scenes), recipe.captions_each, -1)
    if "text" in options.keep:
        encoder = T5EncoderModel.from_pretrained(options.start / "text_encoder", dtype=torch.float32).to(options.device)
    else:
        encoder = train_encoder(work, tokenizer, recipe.text, recipe.seed + 30)
    encoder.requires_grad_(False).eval()
    words = Words(encoder, ids)

    def look(name, step, forward, guidance=3.0):
        drawn = sample(forward, vae, tokenizer, encoder, PROMPTS, guidance, seed=1)
        sheet(drawn, PROMPTS, work / f"{name}-{step}.jpg")

    torch.manual_seed(recipe.seed + 40)
    teacher = new_transformer(WIDTH)
    if options.start and (options.start / "transformer").exists():
        started = PixArtTransformer2DModel.from_pretrained(options.start / "transformer", torch_dtype=torch.float32)
        teacher.load_state_dict(started.state_dict())
    train_teacher("teacher-half", work, teacher, half, words, attention_maps(scenes, 16), recipe.half_size, recipe.seed + 41, look)
    some = scenes[: len(full)]
    train_teacher("teacher", work, teacher, full, words, attention_maps(some, 32), recipe.full_size, recipe.seed + 42, look)
    student = train_student(
        "student", work, teacher, full, words, recipe.student, recipe.seed + 50, lambda name, step, forward: look(name, step, forward, None)
    )

    score = options.output / "sketchbook" / "score"
    score.mkdir(parents=True, exist_ok=True)
    if "reader" not in options.keep:
        reader = train_reader(work, pictures, scenes, vae, recipe.reader, recipe.seed + 60)
        torch.set_default_device("cpu")
        export_reader(reader.cpu(), score / "reader.xml")

    # What follows is of files.
    torch.set_default_device("cpu")
    for model in (vae, tiny, encoder, teacher, student):
        model.cpu()
    seen = {text.lower().rstrip(".") for text in said}
    write_unseen(score / "captions.jsonl", 500, seen, recipe.seed + 70)
    write_open(score / "open.jsonl", 100, recipe.seed + 71)
    write_rendered(work / "rendered", 500, recipe.seed + 72)
    judged = [score / "captions.jsonl", score / "open.jsonl"]
    write_calibration(options.output / "sketchbook" / "calibration.txt", 100, judged, recipe.seed + 73)

    shared = {"vae": vae, "tiny_vae": tiny, "text_encoder": encoder, "spiece": work / "spiece.model"}
    export(options.output / "sketchbook", student, "LCMScheduler", shared)
    export(options.output / "sketchbook-teacher", teacher, "DPMSolverMultistepScheduler", shared)
    write_sheets(options.output, vae.float(), pictures[-8:], said[-8 * recipe.captions_each :: recipe.captions_each])


def write_sheets(output: Path, vae: AutoencoderKL, rendered, captions: list[str]):
    """Contact sheets of what ships, drawn by diffusers from the files: `rendered` pictures through the VAE, teacher, student."""
    sheets = output / "sketchbook" / "sheets"
    sheets.mkdir(exist_ok=True)
    pairs = np.stack([rendered, reconstruct(vae, rendered)], 1).reshape(-1, *rendered.shape[1:])
    told = [text for caption in captions for text in (caption, "the same through the VAE")]
    sheet(pairs, told, sheets / "vae.webp")
    student = Painter(output / "sketchbook")
    drawn = student.draw_all(PROMPTS, 1)
    sheet(drawn, PROMPTS, sheets / "student.webp")
    tiny = Painter(output / "sketchbook", tiny=True)
    pairs = np.stack([drawn[:8], tiny.draw_all(PROMPTS[:8], 1)], 1).reshape(-1, *drawn.shape[1:])
    sheet(pairs, [text for prompt in PROMPTS[:8] for text in (prompt, "the same by the tiny decoder")], sheets / "tiny.webp")
    sheet(student.draw_all(OTHER_WORDS, 1), OTHER_WORDS, sheets / "other-words.webp")
    sheet(Painter(output / "sketchbook-teacher").draw_all(PROMPTS, 1), PROMPTS, sheets / "teacher.webp")


if __name__ == "__main__":
    main()
