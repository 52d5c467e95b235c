"""Devices of models, and a fixed order of sums."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from mlff_calc.errors import OptionError

_NOTHING = nullcontext()


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device that `device` stands for.

    Args:
        device: ``auto`` (the first CUDA device where there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:N`` or a
            torch device.

    Raises:
        OptionError: the device is unknown, or a CUDA device is not available.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise OptionError(f"unknown device {device!r}; choose auto, cpu, cuda or cuda:N") from error
    if found.type not in {"cpu", "cuda"}:
        raise OptionError(
            f"device {str(device)!r} is not supported (energies are summed in float64); choose cpu or cuda"
        )
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (found.index or 0) >= count:
            raise OptionError(
                f"device {str(device)!r} was requested, but PyTorch {torch.__version__} sees {count} CUDA devices; "
                "choose device='cpu', or install a CUDA build of PyTorch and check the driver with nvidia-smi"
            )
    return found


def deterministic_sums(enabled: bool) -> AbstractContextManager[None]:
    """Make PyTorch add numbers in a fixed order inside the block; earlier settings are restored afterwards.

    On CUDA, messages are added to atoms by atomic operations whose order changes from call to call. Results then differ
    in the last digits, and trajectories diverge after some thousand steps. With the switch on, PyTorch sorts the sums,
    which costs time. On the CPU the order is always fixed for a given number of threads.

    Args:
        enabled: whether to fix the order.

    Raises:
        OptionError: cuBLAS is not configured to use a fixed workspace.
    """
    return _fixed_order() if enabled else _NOTHING


def gradients_on() -> AbstractContextManager[None]:
    """Make autograd record inside the block in any mode of the caller, since forces are a gradient."""
    recording = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    return _NOTHING if recording else _recording()


@contextmanager
def _recording() -> Iterator[None]:
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def _fixed_order() -> Iterator[None]:
    """Context of `deterministic_sums`."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    debugging: Any = torch.utils.deterministic  # its one attribute is set by a property that type checkers miss
    fill = debugging.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    debugging.fill_uninitialized_memory = False  # a debugging aid that would cost time
    try:
        yield
    except RuntimeError as error:
        if "CUBLAS_WORKSPACE_CONFIG" in str(error):
            raise OptionError(
                "deterministic=True on CUDA needs the environment variable CUBLAS_WORKSPACE_CONFIG=:4096:8, set before "
                "Python starts, so that matrix products use a fixed workspace"
            ) from error
        raise
    finally:
        debugging.fill_uninitialized_memory = fill
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
