"""Where the parts of a generator are while others work: all on the device, or only what is needed.

Begun with all of them there. Where a device's memory does not hold that, denoiser and VAE take
turns, the one waiting in the processor's memory while the other works; where it does not hold the
denoiser by itself, that comes layer by layer (diffusers' group offloading), for drawing alone. What
was learnt so holds for the process, and changes no image.
"""

from __future__ import annotations

from typing import Any, Literal
from weakref import WeakMethod

import torch

from regl_app.core.errors import GeneratorError
from regl_app.core.log import logger
from regl_app.core.out_of_memory import is_out_of_memory
from regl_app.core.precision import Precision
from regl_app.generator.adapters import AdapterSlot
from regl_app.generator.held_weights import WeightsTooLargeError, memory_of, move

Part = Literal["denoiser", "vae"]
Mode = Literal["together", "in turns", "layer by layer"]
_PROCESSOR = torch.device("cpu")
_learnt: dict[tuple[object, ...], Mode] = {}


class Placement:
    """Brings the parts of a generator to its device, and out of each other's way if need be.

    Args:
        denoiser: whose weights nobody else moves.
        vae: likewise.
        adapters: what is merged into the denoiser, and goes where it goes.
        device: where they work.
        checkpoint: digest of its files: what was learnt is told apart by it, and by ``held``.
        held: what the denoiser's weights are in.
    """

    def __init__(
        self,
        denoiser: Any,
        vae: Any,
        adapters: AdapterSlot,
        device: torch.device,
        checkpoint: str,
        held: Precision,
    ) -> None:
        self._parts: dict[Part, Any] = {"denoiser": denoiser, "vae": vae}
        self._adapters = adapters
        self._device = device
        self._held = held
        self._key = (checkpoint, held, device)
        self._here: Part | None = None
        self.mode: Mode = "together"
        # Weakly: a circle would keep an old generator on the device until somebody collects.
        room = WeakMethod(self.make_room_for_adapter)
        adapters.make_room = lambda: bool((make := room()) and make())

    def begin(self, vae_held: Precision) -> None:
        """Bring the parts, fresh from their files, to the device, or as many as it holds.

        Raises:
            GeneratorError: they do not fit, and there is nowhere else to wait.
        """
        known = _learnt.get(self._key, "together")
        if known == "layer by layer" or not self._brought("denoiser", self._held):
            move(self._parts["denoiser"], _PROCESSOR, self._held)
            self._stream()
        elif known == "in turns" or not self._brought("vae", vae_held):
            self._settle("in turns")
        if self.mode != "together":
            move(self._parts["vae"], _PROCESSOR, vae_held)

    def use(self, part: Part | None) -> None:
        """Have ``part`` on the device, and where they take turns nothing else; None: nothing."""
        if self.mode == "together" or (part is not None and self._here == part):
            return
        self._here = None
        for other in self._parts:
            if other != part:
                self._to(other, _PROCESSOR)
        _release(self._device)
        if part is not None:
            self._to(part, self._device)
        self._here = part

    def take_turns(self, beside: str = "one image") -> bool:
        """Let denoiser and VAE take turns from now on; return whether that frees memory.

        ``beside`` is what the device's memory does not hold with both.
        """
        if self.mode != "together" or not can_wait(self._device):
            return False
        logger.warning(
            "the memory of %s (%s) does not hold denoiser and VAE of the generator with %s: from "
            "now on the one waits in the processor's memory while the other works",
            self._device,
            memory_of(self._device),
            beside,
        )
        self._settle("in turns")
        return True

    def make_room_for_adapter(self) -> bool:
        """Take off the device what an adapter's second copy of weights has no room beside.

        The VAE if it can wait; else the denoiser, which then comes with the adapter. Return whether
        there was anything.
        """
        if self.take_turns("an adapter's weights"):
            self.use("denoiser")
            return True
        if self.mode != "in turns" or self._here is None:
            return False
        self.use(None)
        return True

    def stream_layers(self) -> bool:
        """Let the denoiser come layer by layer from now on; return whether that frees memory."""
        if self.mode != "in turns":
            return False
        logger.warning(
            "the memory of %s (%s) does not hold the generator's denoiser with one image: from now "
            "on its layers come from the processor's memory one by one, which is slow",
            self._device,
            memory_of(self._device),
        )
        self._to("denoiser", _PROCESSOR)
        _release(self._device)
        self._stream()
        return True

    def ready_to_tune(self) -> None:
        """Have all of the denoiser's weights on the device.

        Raises:
            GeneratorError: it does not hold them.
        """
        streamed = self.mode == "layer by layer"
        if streamed:  # drawing did not fit: tuning may, or another process has left the device
            self._gather()
        try:
            self.use("denoiser")
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            # Another process has taken what it left.
        if streamed:
            self._to("denoiser", _PROCESSOR)
            _release(self._device)
            self._stream()
        raise GeneratorError(
            f"{self._device} with {memory_of(self._device)} does not hold the weights of the "
            "generator's denoiser, so that no adapter can be tuned on it "
            "(supplement.adapter=frozen draws without one; or let fewer clients run on it at once, "
            "take a smaller checkpoint, a device with more memory, or device=cpu)"
        )

    def _brought(self, part: Part, held: Precision) -> bool:
        try:
            move(self._parts[part], self._device, held)
            return True
        except WeightsTooLargeError as error:
            if not can_wait(self._device):
                raise
            told = str(error)
        how = "layer by layer, which is slow" if part == "denoiser" else "when it is needed"
        logger.warning("%s: from now on it comes from the processor's memory %s", told, how)
        torch.nn.Module.to(self._parts[part], _PROCESSOR)
        _release(self._device)
        return False

    def _settle(self, mode: Mode) -> None:
        self.mode, self._here = mode, None
        _learnt[self._key] = mode

    def _stream(self) -> None:
        from diffusers.hooks import apply_group_offloading

        apply_group_offloading(
            self._parts["denoiser"], onload_device=self._device, offload_type="leaf_level"
        )
        self._settle("layer by layer")

    def _gather(self) -> None:
        """Have the denoiser's layers in one piece again, in the processor's memory."""
        from diffusers.hooks import HookRegistry

        denoiser = self._parts["denoiser"]
        registry = HookRegistry.check_if_exists_or_initialize(denoiser)
        registry.remove_hook("group_offloading", recurse=True)
        self._settle("in turns")
        self._to("denoiser", _PROCESSOR)

    def _to(self, part: Part, device: torch.device) -> None:
        if part == "denoiser" and self.mode == "layer by layer":
            return  # its layers come and go by themselves
        _bring(self._parts[part], device)
        if part == "denoiser":
            self._adapters.follow()


def can_wait(device: torch.device) -> bool:
    """Return whether there is memory beside the device's own to wait in."""
    return device.type != "cpu"


def _bring(module: Any, device: torch.device) -> None:
    # nn.Module's own method: the library's override warns about modules kept in fp32.
    torch.nn.Module.to(module, device)


def _release(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
