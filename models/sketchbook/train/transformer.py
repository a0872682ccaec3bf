"""PixArt's transformer: diffusers' own model holds the weights, and a quicker forward of the same arithmetic trains them.

The forward keeps weights and the residual stream in f32 and multiplies in bf16; one block is compiled and used for all.
`check` compares it with diffusers' forward.
"""

import torch
from diffusers import PixArtTransformer2DModel
from torch.nn import functional

from device import autocast, generator

LAYERS, HEADS, WIDTH, PATCH = 6, 4, 192, 2
TRAIN_TIMESTEPS = 1000


def new_transformer(caption_width: int) -> PixArtTransformer2DModel:
    return PixArtTransformer2DModel(
        num_attention_heads=HEADS, attention_head_dim=WIDTH // HEADS, in_channels=4, out_channels=8, num_layers=LAYERS,
        dropout=0.0, norm_num_groups=32, cross_attention_dim=WIDTH, attention_bias=True, sample_size=128, patch_size=PATCH,
        activation_fn="gelu-approximate", num_embeds_ada_norm=TRAIN_TIMESTEPS, upcast_attention=False,
        norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6, use_additional_conditions=True,
        caption_channels=caption_width,
    )  # fmt: skip


def cumulative_alphas() -> torch.Tensor:
    """alpha-bar of diffusers' "linear" schedule, f32 [1000]."""
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, TRAIN_TIMESTEPS, dtype=torch.float64), 0).float()


def column(x: torch.Tensor) -> torch.Tensor:
    """One number for each picture of a batch, to multiply latents with."""
    return x[:, None, None, None]


def _block(h, modulation, words, mask, weights):
    """One block. h: f32 [b, tokens, width]; modulation: f32 [b, 6, width]; words: bf16 [b, n, width]."""
    bf = torch.bfloat16
    batch, tokens, width = h.shape
    table, q, k, v, qb, kb, vb, o, ob, q2, q2b, k2, v2, k2b, v2b, o2, o2b, up, upb, down, downb = weights
    shift1, scale1, gate1, shift2, scale2, gate2 = (table[None] + modulation).chunk(6, 1)

    def heads(x, parts):
        return x.view(batch, x.shape[1], parts, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)

    def joined(x):
        return x.transpose(1, 2).reshape(batch, tokens, width)

    x = (functional.layer_norm(h, (width,), eps=1e-6) * (1 + scale1) + shift1).to(bf)
    qkv = heads(functional.linear(x, torch.cat([q, k, v]).to(bf), torch.cat([qb, kb, vb]).to(bf)), 3)
    attended = joined(functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2]))
    h = h + gate1 * functional.linear(attended, o.to(bf), ob.to(bf)).float()
    query = heads(functional.linear(h.to(bf), q2.to(bf), q2b.to(bf)), 1)[0]
    key_value = heads(functional.linear(words, torch.cat([k2, v2]).to(bf), torch.cat([k2b, v2b]).to(bf)), 2)
    attended = joined(functional.scaled_dot_product_attention(query, key_value[0], key_value[1], attn_mask=mask))
    h = h + functional.linear(attended, o2.to(bf), o2b.to(bf)).float()
    x = (functional.layer_norm(h, (width,), eps=1e-6) * (1 + scale2) + shift2).to(bf)
    x = functional.gelu(functional.linear(x, up.to(bf), upb.to(bf)), approximate="tanh")
    return h + gate2 * functional.linear(x, down.to(bf), downb.to(bf)).float()


# Once for every number of pictures and of tokens that the stages have.
torch._dynamo.config.recompile_limit = 16
COMPILED = torch.compile(_block, dynamic=False, fullgraph=True)


def _weights(block):
    a, c, f = block.attn1, block.attn2, block.ff.net
    return [
        block.scale_shift_table,
        a.to_q.weight, a.to_k.weight, a.to_v.weight, a.to_q.bias, a.to_k.bias, a.to_v.bias, a.to_out[0].weight, a.to_out[0].bias,
        c.to_q.weight, c.to_q.bias, c.to_k.weight, c.to_v.weight, c.to_k.bias, c.to_v.bias, c.to_out[0].weight, c.to_out[0].bias,
        f[0].proj.weight, f[0].proj.bias, f[2].weight, f[2].bias,
    ]  # fmt: skip


class Forward:
    """Predicts the noise: latents f32 [b, 4, side, side], words f32 [b, n, width], their mask bool [b, n], timesteps [b]."""

    def __init__(self, model: PixArtTransformer2DModel, side: int, compiled: bool = True):
        self.model, self.side, self.grid = model, side, side // PATCH
        self.block = COMPILED if compiled else _block
        self.blocks = [_weights(block) for block in model.transformer_blocks]
        with torch.no_grad():
            embed = model.pos_embed
            self.positions = (embed(torch.zeros(1, 4, side, side)) - embed.proj.bias).float()

    def __call__(self, latents, words, mask, timesteps):
        model, batch, grid = self.model, len(latents), self.grid
        tokens, pixels = grid * grid, float(self.side * 8)
        patches = latents.view(batch, 4, grid, PATCH, grid, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(batch, tokens, 4 * PATCH * PATCH)
        h = functional.linear(patches, model.pos_embed.proj.weight.flatten(1), model.pos_embed.proj.bias) + self.positions
        conditions = {"resolution": torch.full((batch, 2), pixels), "aspect_ratio": torch.ones(batch, 1)}
        modulation, embedded = model.adaln_single(timesteps, conditions, batch_size=batch, hidden_dtype=torch.float32)
        modulation = modulation.view(batch, 6, WIDTH)
        with autocast():
            words = model.caption_projection(words).to(torch.bfloat16)
        bias = torch.zeros(mask.shape, dtype=torch.bfloat16).masked_fill(~mask, -10000.0)[:, None, None, :]
        bias = bias.expand(batch, 1, tokens, mask.shape[1])
        for weights in self.blocks:
            h = self.block(h, modulation, words, bias, weights)
        shift, scale = (model.scale_shift_table[None] + embedded[:, None]).chunk(2, 1)
        h = functional.layer_norm(h, (WIDTH,), eps=1e-6) * (1 + scale) + shift
        h = functional.linear(h, model.proj_out.weight, model.proj_out.bias)
        return h.view(batch, grid, grid, PATCH, PATCH, 8).permute(0, 5, 1, 3, 2, 4).reshape(batch, 8, self.side, self.side)[:, :4]


@torch.no_grad()
def check(model: PixArtTransformer2DModel, side: int, width: int) -> float:
    """The largest difference between diffusers' forward and ours, as a share of the largest value."""
    draw = generator(0)
    latents, words = torch.randn(2, 4, side, side, generator=draw), torch.randn(2, 9, width, generator=draw)
    mask, timesteps = torch.arange(9)[None] < torch.tensor([[9], [4]]), torch.tensor([900, 100])
    conditions = {"resolution": torch.full((2, 2), side * 8.0), "aspect_ratio": torch.ones(2, 1)}
    expected = model(latents, encoder_hidden_states=words, encoder_attention_mask=mask.float(), timestep=timesteps,
                     added_cond_kwargs=conditions, return_dict=False)[0][:, :4]  # fmt: skip
    got = Forward(model, side, compiled=False)(latents, words, mask, timesteps)
    return ((got - expected).abs().max() / expected.abs().max()).item()
