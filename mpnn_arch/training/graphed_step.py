"""A training step as one CUDA graph: captured once, replayed for every batch of its shape.

A small step consists of some hundred kernels of a few microseconds each, and its time is that of
their launches. A graph is launched at once. The first steps are ordinary ones: backends and tile
sizes are chosen in them, and the optimiser's state is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

WARM_UP = 3  # ordinary steps before the capture


class Graph(Protocol):
    """What is used of a ``torch.cuda.CUDAGraph``."""

    def replay(self) -> None:
        """Run the captured kernels again, on the same memory."""


def capture(run: Callable[[], None]) -> Graph:
    """``run`` as a CUDA graph; its kernels are recorded and not run."""
    graph = torch.cuda.CUDAGraph()
    # Other threads may go on to allocate, as those that read images from the disk do.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        run()
    return graph


class GraphedStep:
    """``step`` on batches of any shape: as a graph for the shape of the first, else as it is.

    What is captured reads images and labels from memory of its own, into which each batch is
    copied, and leaves loss and count in tensors that the next replay overwrites. Where the capture
    fails, every step is an ordinary one, and ``refusal`` says why.

    Args:
        step: takes images and labels, and takes one step of the optimiser; everything that changes
            from step to step lies in tensors.
        capture: see :func:`capture`.

    Attributes:
        refusal: why there is no graph, in one sentence; empty before, and where there is one.
    """

    def __init__(
        self, step: Step, capture: Callable[[Callable[[], None]], Graph] = capture
    ) -> None:
        self.step = step
        self.refusal = ""
        self._capture = capture
        self._side: torch.cuda.Stream | None = None
        self.forget()

    def forget(self) -> None:
        """Drop the graph, as weights or momentum have moved; it is captured again."""
        self._graph: Graph | None = None
        self._inputs: tuple[Tensor, Tensor] | None = None
        self._outputs: tuple[Tensor, Tensor] | None = None
        self._steps = 0

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One step; mean loss, and number of images misclassified."""
        if self.refusal:
            return self.step(images, labels)
        if self._inputs is None:
            # In the layout of the batch: a step may depend on strides.
            self._inputs = torch.empty_like(images), torch.empty_like(labels)
        if self._inputs[0].shape != images.shape:
            return self.step(images, labels)  # an epoch's last, smaller batch
        self._steps += 1
        if self._steps <= WARM_UP:
            return self._warmed_up(images, labels)
        for mine, given in zip(self._inputs, (images, labels), strict=True):
            mine.copy_(given)
        if self._graph is None:
            try:
                self._graph = self._capture(self._run)
            except Exception as error:  # whatever a layer does that a capture forbids
                lines = str(error).strip().splitlines() or [type(error).__name__]
                self.refusal = (
                    f"the training step could not be captured as a CUDA graph ({lines[0][:200]}); "
                    "it is trained step by step"
                )
                self._inputs = self._outputs = None
                return self.step(images, labels)
        self._graph.replay()
        assert self._outputs is not None
        return self._outputs

    def _run(self) -> None:
        assert self._inputs is not None
        self._outputs = self.step(*self._inputs)

    def _warmed_up(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """An ordinary step on a stream of its own, as a capture needs it before."""
        if not images.is_cuda:
            return self.step(images, labels)
        if self._side is None:
            self._side = torch.cuda.Stream()
        current, side = torch.cuda.current_stream(), self._side
        side.wait_stream(current)
        with torch.cuda.stream(side):
            loss, wrong = self.step(images, labels)
        current.wait_stream(side)
        for made in (loss, wrong):
            made.record_stream(current)
        return loss, wrong
