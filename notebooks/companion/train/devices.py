"""From the name of a device, as a notebook's parameter spells it, to the device."""

import torch


def resolve_device(name: str = "auto") -> torch.device:
    """The device of that name, or for `"auto"` the fastest that computes in float64.

    Args:
        name: `"auto"` (cuda where there is one, else cpu) or a name that torch knows: `"cpu"`, `"cuda"`, `"cuda:1"`,
            `"mps"`. mps has no float64, in which the checked runs train, so it is used only when it is named.

    Raises:
        ValueError: the name is unknown to torch, or this machine has no such device.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f'Parameter `device` should name a device. Found `device = "{name}"`. Pass "auto", "cpu", "cuda" or "mps".'
        ) from None
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= count.get(device.type, 0):
        raise ValueError(
            f'Parameter `device` should name a device of this machine. Found `device = "{name}"`. '
            'Pass "auto", or "cpu", which every machine has.'
        )
    return device
