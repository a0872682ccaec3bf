"""The two optimizers of the training: Muon inside the blocks, AdamW around them."""

import torch


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by Newton-Schulz iterations (Jordan et al. 2024), equal shapes batched.

    For the matrices inside the blocks; scaled by 0.2 * sqrt(longer side) so that AdamW's learning rate fits (Liu et al. 2025).
    """

    def __init__(self, parameters, lr, weight_decay=1e-2, momentum=0.95, iterations=4):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "iterations": iterations})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            held = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in held]
            for p in held:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            momenta = [self.state[p]["momentum"] for p in held]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            updates = torch._foreach_lerp(gradients, momenta, group["momentum"])
            torch._foreach_mul_(held, 1 - group["lr"] * group["weight_decay"])
            shapes: dict[tuple, list] = {}
            for p, update in zip(held, updates, strict=True):
                tall = p.shape[0] > p.shape[1]
                shapes.setdefault((min(p.shape), max(p.shape)), []).append((p, update.T if tall else update, tall))
            for (_, longer), members in shapes.items():
                x = torch.stack([update for _, update, _ in members])
                x = (x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)).bfloat16()
                for _ in range(group["iterations"]):
                    a = x @ x.transpose(1, 2)
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
                steps = [update.T if tall else update for (_, _, tall), update in zip(members, x.float(), strict=True)]
                torch._foreach_add_([p for p, _, _ in members], steps, alpha=-group["lr"] * 0.2 * longer**0.5)


# Names of what is a matrix and yet no linear map inside a block.
TABLES = ("scale_shift_table", "relative_attention_bias")
# T5's biases start near nothing and must reach several units before a token can look to its left: at the common rate, which
# bounds what a step changes, that would take longer than the whole training. Without it the encoder learns captions by heart.
SWIFT, SWIFT_SCALE = "relative_attention_bias", 30.0


def optimizers(modules: list[torch.nn.Module], rate: float, weight_decay: float) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices of the blocks (of diffusers' transformer, of T5), AdamW for everything else."""
    named = [pair for module in modules for pair in module.named_parameters()]
    blocks = [(name, p) for name, p in named if name.startswith(("transformer_blocks.", "encoder.block."))]
    inner = [p for name, p in blocks if p.ndim == 2 and not any(table in name for table in TABLES)]
    swift = [p for name, p in blocks if SWIFT in name]
    taken = {id(p) for p in [*inner, *swift]}
    groups = [{"params": [p for _, p in named if id(p) not in taken]}]
    if swift:
        groups.append({"params": swift, "scale": SWIFT_SCALE})
    return {
        "adamw": torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), weight_decay=weight_decay / 10, foreach=True),
        "muon": Muon(inner, rate, weight_decay),
    }


def descend(loss: torch.Tensor, two: dict[str, torch.optim.Optimizer]):
    """One step down, of all parameters that the optimizers hold."""
    loss.backward()
    held = [p for optimizer in two.values() for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(held, 1.0)
    for optimizer in two.values():
        optimizer.step()


def begin_step(optimizers: dict[str, torch.optim.Optimizer], rate: float):
    """Forgets the gradients of the last step and sets the rate of this one."""
    for optimizer in optimizers.values():
        optimizer.zero_grad(set_to_none=True)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
