"""The part of a round that settles its backend."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from mpnn_arch.errors import InputError
from mpnn_arch.kernels.backends import BACKENDS as FUSED_BACKENDS
from mpnn_arch.kernels.picker import Picker
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.messages import MessageFunction

BACKENDS = ("auto", "reference", *FUSED_BACKENDS)

# PyG's hooks that see single messages or a node's aggregate; a fused round makes neither.
_MESSAGE_HOOKS = (
    "message_forward_pre_hook",
    "message_forward_hook",
    "aggregate_forward_pre_hook",
    "aggregate_forward_hook",
)


class BackendMixin:
    """``backend``, its choices and their explanation, beside PyG's ``MessagePassing``."""

    picker: Picker
    message_function: MessageFunction
    _backend: str

    @property
    def plan(self) -> RoundPlan:
        """Where every share, message and weight lies."""
        raise NotImplementedError

    def why_not_fused(self) -> str | None:
        """Why the round is not one product with gathered weights; None if it is one."""
        raise NotImplementedError

    @property
    def backend(self) -> str:
        """How the round is computed; set it to another backend at any time.

        ``"auto"`` times those that can run on the first batch of a shape and keeps the quickest,
        see :meth:`explain_backend`; a round that is not one product passes messages then.
        """
        return self._backend

    @backend.setter
    def backend(self, backend: str) -> None:
        if backend not in BACKENDS:
            raise InputError(
                f"there is no backend {backend!r}; choose one of {', '.join(BACKENDS)}"
            )
        reason = self.why_not_fused()
        if reason and backend not in ("auto", "reference"):
            raise InputError(
                f"backend {backend!r} cannot compute this round, {reason}; use backend='reference'"
            )
        messages = "reference" if self.message_function.uses_block_index else "shares"
        self.plan.prepare(messages if reason or backend == "reference" else backend)
        self.picker = Picker("auto" if backend == "reference" else backend)
        self._backend = backend

    @property
    def passes_messages(self) -> bool:
        """Whether messages are made one by one: asked for, not one product, or hooked."""
        if self._backend == "reference" or self._message_hook():
            return True
        return self._backend == "auto" and self.why_not_fused() is not None

    @property
    def backend_choices(self) -> dict[str, str]:
        """What ``"auto"`` picked so far, shape to backend; JSON-able.

        Assign what was kept, and the same shapes run on the same backends, to the same bits.
        """
        return self.picker.choices

    @backend_choices.setter
    def backend_choices(self, choices: Mapping[str, str]) -> None:
        self.picker.choices = choices  # type: ignore[assignment]

    def explain_backend(self) -> str:
        """What computes this round and why, with each candidate's time where they were timed."""
        if self._backend == "reference":
            return "reference: asked for"
        hook = self._message_hook()
        if hook:
            return f"reference: a {hook} is registered, and a fused round makes no messages"
        reason = self.why_not_fused()
        return f"reference: {reason}" if reason else self.picker.explain(self.plan)

    def register_message_forward_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """As in PyG; while it is there the round passes messages."""
        return self._register("message_forward_pre_hook", hook)

    def register_message_forward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """As in PyG; while it is there the round passes messages."""
        return self._register("message_forward_hook", hook)

    def register_aggregate_forward_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """As in PyG; while it is there the round passes messages."""
        return self._register("aggregate_forward_pre_hook", hook)

    def register_aggregate_forward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """As in PyG; while it is there the round passes messages."""
        return self._register("aggregate_forward_hook", hook)

    def _register(self, kind: str, hook: Callable[..., Any]) -> RemovableHandle:
        was_fused = not self.passes_messages
        handle: RemovableHandle = getattr(super(), f"register_{kind}")(hook)
        if was_fused:
            self.plan.prepare("reference")
            warnings.warn(
                f"a {kind} sees messages, which a fused round does not make: this round runs on "
                f"the reference backend instead of {self._backend!r} until the hook is removed",
                stacklevel=3,
            )
        return handle

    def _message_hook(self) -> str | None:
        held = self.__dict__  # asked in every round: quicker than `getattr` in a generator
        for kind in _MESSAGE_HOOKS:
            if held[f"_{kind}s"]:
                return kind
        return None


def export_choices(model: nn.Module) -> dict[str, dict[str, str]]:
    """What ``"auto"`` picked in every round of ``model``, JSON-able, by the round's name.

    Keep it beside the weights and give it back to :func:`import_choices`: the run that goes on
    uses the same backends, to the same bits.
    """
    return {
        name: module.backend_choices
        for name, module in model.named_modules()
        if isinstance(module, BackendMixin) and module.backend_choices
    }


def import_choices(model: nn.Module, choices: Mapping[str, Mapping[str, str]]) -> None:
    """Give the rounds of ``model`` the choices that :func:`export_choices` read.

    Raises:
        InputError: a name that is no round of the model, or an unknown backend.
    """
    modules = dict(model.named_modules())
    for name, kept in choices.items():
        module = modules.get(name)
        if not isinstance(module, BackendMixin):
            raise InputError(
                f"the stored backend choices name {name!r}, which is no round of this model; "
                "load them into the model they were stored with"
            )
        module.backend_choices = dict(kept)
