"""Where it is computed: torch's default device, which __main__.py sets once: a GPU where there is one, else the CPU."""

import numpy as np
import torch


def here(array: np.ndarray) -> torch.Tensor:
    """An array as a tensor on the device."""
    return torch.from_numpy(np.array(array)).to(torch.get_default_device())


def generator(seed: int) -> torch.Generator:
    """A generator for tensors on the device. The same seed draws other numbers on another kind of device."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


def autocast() -> torch.autocast:
    """Multiplications in bf16."""
    return torch.autocast(torch.get_default_device().type, torch.bfloat16)
