"""The words' side: the sentencepiece tokenizer and the T5 encoder, trained before the transformer looks at a single picture.

The encoder is taught by linear heads that read, off every token, all that is said of the subject which the token is about,
on which side it stands, and the place and the hour: so that whichever token the transformer's cross-attention looks at, it
finds there what to draw. The heads are thrown away afterwards.
"""

import collections
import math
import re
from pathlib import Path
from random import Random

import numpy as np
import sentencepiece
import torch
from sentencepiece import sentencepiece_model_pb2
from torch.nn import functional
from transformers import T5Config, T5EncoderModel

from captions import LEFT, RIGHT, Stated, caption, marked_caption, parts
from device import autocast
from optimizers import begin_step, descend, optimizers
from pictures import scene_of
from scenes import COLOURS, MOODS, NAMES, OBJECTS, PLACES, SIZES, TIMES, Scene, sample_scene
from training import Steps, learning_rate

WIDTH = 192
MAX_TOKENS = 32
END_OF_TEXT, PADDING = 1, 0


# ---- tokenizer


def train_tokenizer(folder: Path, seed: int, sentences: int = 60_000) -> sentencepiece.SentencePieceProcessor:
    """A unigram model over captions, to which every whole word of theirs is added: left alone it splits even "blue"."""
    file = folder / "spiece.model"
    if not file.exists():
        corpus = []
        for i in range(sentences):
            scene, rng = scene_of(seed + 1, i)
            corpus.append(caption(scene, rng)[0].lower())
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus), model_prefix=str(folder / "spiece"), vocab_size=420, model_type="unigram",
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", eos_piece="</s>", unk_piece="<unk>",
            character_coverage=1.0, normalization_rule_name="nmt_nfkc", byte_fallback=False, hard_vocab_limit=False,
            required_chars="abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-&/", minloglevel=2,
        )  # fmt: skip
        add_words(file, corpus)
    return sentencepiece.SentencePieceProcessor(model_file=str(file))


def add_words(file: Path, corpus: list[str]):
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(file.read_bytes())
    counts = collections.Counter(word for line in corpus for word in re.findall(r"[a-z]{2,}", line))
    total, pieces = sum(counts.values()), {piece.piece: piece for piece in model.pieces}
    for piece in model.pieces:
        if piece.type == 1 and not piece.piece.startswith("▁") and piece.piece.isalpha():
            piece.score = min(piece.score, -12.0)
    for word, count in counts.most_common():
        if count < 3:
            continue
        piece = pieces.get("▁" + word) or model.pieces.add(piece="▁" + word)
        piece.score = math.log(count / total)
    model.trainer_spec.vocab_size = len(model.pieces)
    model.trainer_spec.model_prefix = "spiece"
    file.write_bytes(model.SerializeToString())


def token_ids(tokenizer, texts: list[str]) -> np.ndarray:
    """int16 [n, 32], ended by </s>, padded with 0. The pipeline lower-cases what it is given; so do we."""
    ids = np.zeros((len(texts), MAX_TOKENS), np.int16)
    for row, tokens in zip(ids, tokenizer.encode([text.lower().strip() for text in texts]), strict=True):
        tokens = [*tokens[: MAX_TOKENS - 1], END_OF_TEXT]
        row[: len(tokens)] = tokens
    return ids


# ---- what the heads read


# For every property a class, and one more where the caption leaves it open. A token tells of the subject that its words are
# about, and of its place beside the other; what is about neither tells of the place and the hour alone.
ROLES = {"": "both", LEFT: "left", RIGHT: "right"}
HEADS = {
    "object": NAMES,
    "colour": list(COLOURS),
    "size": SIZES,
    "mood": MOODS,
    "role": ["alone", *ROLES.values()],
    "count": [1, 2, 3],
    "place": PLACES,
    "time": TIMES,
}
CLASSES = [len(values) + 1 for values in HEADS.values()]
# No class: the head is not asked.
UNASKED = -100


def meaning(stated: Stated, role: str) -> list[int]:
    """The class of each head for a token of this role; silence means what scenes.py says it does."""
    first = stated.subjects[0]
    said = first["object"] is not None
    place = stated.place or (OBJECTS[first["object"]][1] if said else None)
    time = stated.time or ("night" if place == "space" else "day" if said else None)
    values = {
        "role": "alone" if stated.alike else ROLES[role],
        "count": len(stated.subjects) if said else None,
        "place": place,
        "time": time,
    }
    if stated.alike or role:
        subject = stated.subjects[1] if role == RIGHT else first
        usual = OBJECTS[subject["object"]][0] if said else []
        values |= {
            "object": subject["object"],
            "colour": subject["colour"] or (usual[0] if len(usual) == 1 else None),
            "size": subject["size"] or ("medium" if said else None),
            "mood": subject["mood"] or ("happy" if said else None),
        }
    return [
        UNASKED if head not in values else len(known) if values[head] is None else known.index(values[head])
        for head, known in HEADS.items()
    ]


def say_all(scenes: list[Scene], each: int, seed: int) -> list[str]:
    """`each` captions for every scene."""
    rng = Random(seed)
    return [caption(scene, rng)[0] for scene in scenes for _ in range(each)]


# ---- encoder


def new_encoder(vocabulary: int) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary, d_model=WIDTH, d_kv=48, d_ff=512, num_layers=4, num_heads=4, dropout_rate=0.0,
            relative_attention_num_buckets=32, relative_attention_max_distance=128, layer_norm_epsilon=1e-6,
            feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False, tie_word_embeddings=False,
            pad_token_id=PADDING, eos_token_id=END_OF_TEXT, decoder_start_token_id=PADDING,
        )
    )  # fmt: skip


def embed(encoder: T5EncoderModel, ids: torch.Tensor) -> torch.Tensor:
    """int64 [n, tokens] to f32 [n, tokens, 192]; padding is masked."""
    with autocast():
        return encoder(input_ids=ids, attention_mask=ids != PADDING).last_hidden_state.float()


def fresh_batch(tokenizer, size: int, rng: Random) -> tuple[torch.Tensor, torch.Tensor]:
    """Captions that were never seen before, for there is no end of them: kept ones would be learnt by heart. Which of two
    subjects is what is the hard part, so half of them are about two. Token ids [size, n] and classes [size, n, heads]."""
    ids = torch.zeros(size, MAX_TOKENS, dtype=torch.long)
    classes = torch.full((size, MAX_TOKENS, len(HEADS)), UNASKED)
    row = 0
    while row < size:
        scene = sample_scene(rng)
        if row < size // 2 and scene.alike:
            continue
        marked, stated = marked_caption(scene, rng)
        spelt = [(token, role) for role, words in parts(marked) for token in tokenizer.encode(words.lower().strip())]
        spelt = [*spelt[: MAX_TOKENS - 1], (END_OF_TEXT, "")]
        known = {role: meaning(stated, role) for role in {role for _, role in spelt}}
        ids[row, : len(spelt)] = torch.tensor([token for token, _ in spelt])
        classes[row, : len(spelt)] = torch.tensor([known[role] for _, role in spelt])
        row += 1
    longest = int((ids != PADDING).sum(1).max())
    return ids[:, :longest], classes[:, :longest]


def right_answers(scores: torch.Tensor, classes: torch.Tensor) -> list[float]:
    """For each head the share of tokens that it reads right."""
    asked = classes != UNASKED
    return [
        (part.argmax(2) == classes[..., head])[asked[..., head]].float().mean().item()
        for head, part in enumerate(scores.split(CLASSES, 2))
    ]


def train_encoder(folder: Path, tokenizer, settings, seed: int) -> T5EncoderModel:
    done = folder / "text_encoder.pt"
    torch.manual_seed(seed)
    encoder, heads = new_encoder(tokenizer.get_piece_size()), torch.nn.Linear(WIDTH, sum(CLASSES))
    if done.exists():
        encoder.load_state_dict(torch.load(done))
        return encoder
    two = optimizers([encoder, heads], settings.rate, 1e-2)
    steps = Steps("text", folder, settings.steps, seed, {"encoder": encoder, "heads": heads, **two})
    for step in steps:
        begin_step(two, learning_rate(step, settings.steps, settings.rate, warm_up=30, hold=0.3))
        ids, classes = fresh_batch(tokenizer, settings.batch, Random(f"{seed}/{step}"))
        scores = heads(embed(encoder, ids))
        loss = sum(
            functional.cross_entropy(part.flatten(0, 1), classes[..., head].flatten(), ignore_index=UNASKED)
            for head, part in enumerate(scores.split(CLASSES, 2))
        )
        descend(loss, two)
        right = right_answers(scores, classes)
        steps.tell(loss=loss.item(), right=float(np.mean(right)), worst=min(right))
    with torch.no_grad():
        ids, classes = fresh_batch(tokenizer, 1000, Random(f"{seed}/never seen"))
        for head, right in zip(HEADS, right_answers(heads(embed(encoder, ids)), classes), strict=True):
            print(f"text: captions it has not seen, {head}: {right:.3f}")
    torch.save(encoder.state_dict(), done)
    return encoder
