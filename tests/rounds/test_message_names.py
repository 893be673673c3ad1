"""A message function may give its parameter any name, or is refused in one line that says why."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn

from mpnn_arch import (
    InputError,
    MessageFunction,
    MessageRound,
    RelationalConv2d,
    RelationalLinear,
    graphs,
)
from mpnn_arch.rounds import LinearMessage
from mpnn_arch.rounds.fused_round import FusedRound
from mpnn_arch.rounds.messages import EdgeProduct, make_message

GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")


def taken() -> set[str]:
    """Names that a message function has; other libraries may have added some to ``nn.Module``."""
    own = {"plan", "geometry", "factory", "initial_gain"}
    return set(dir(MessageFunction)) | set(vars(nn.Module())) | own


def every_name() -> list[str]:
    """All attributes of a round, of its message function and of torch's and PyG's base classes."""
    layer = RelationalLinear(GRAPH, 16, 16, activation="relu", norm="batch")
    function = layer.message_function
    names = {*dir(FusedRound), *dir(layer), *vars(layer), *dir(function), *vars(function)}
    names |= {"gain", "weight", "bias", "plan", "rows", "kernel", "scale", "x", "x_j", "index"}
    return sorted(name for name in names if name.isidentifier() and not name.startswith("__"))


def scaled(name: str, register: bool = False) -> type[MessageFunction]:
    """A message x_j times a parameter called ``name``, which starts at 3."""

    class Scaled(MessageFunction):
        def __init__(self, plan, **kwargs):
            super().__init__(plan, **kwargs)
            parameter = nn.Parameter(torch.full((), 3.0))
            if register:
                self.register_parameter(name, parameter)
            else:
                setattr(self, name, parameter)

        def forward(self, x_j):
            return x_j * self.get_parameter(name)

        def reset_parameters(self, generator=None):
            pass

        def multiply_adds(self, spatial_size=()):
            return 0

    return Scaled


@pytest.mark.parametrize("register", [False, True])
def test_every_name_works_or_is_refused_in_one_line(register, generator):
    x = torch.randn(3, 16, generator=generator)
    adjacency = torch.from_numpy(GRAPH.adjacency).float()
    expected = 3 * torch.einsum("vu,buc->bvc", adjacency, x.view(3, 8, 2)).flatten(1)
    refused: dict[str, str] = {}
    held = set()
    for name in every_name():
        try:
            layer = RelationalLinear(
                GRAPH, 16, 16, message=scaled(name, register), aggr="sum", bias=False
            )
        except InputError as error:
            refused[name] = str(error)
            continue
        held.add(name)
        parameter = layer.message_function.get_parameter(name)
        out = layer(x)
        torch.testing.assert_close(out, expected, msg=name)
        out.sum().backward()
        assert parameter.grad is not None, name
        layer.reset_parameters()
        other = RelationalLinear(GRAPH, 16, 16, message=scaled(name, register), bias=False)
        other.load_state_dict(layer.double().float().state_dict())
        torch.testing.assert_close(copy.deepcopy(other).eval()(x), expected, msg=name)
        assert layer.multiply_adds() == 0
        assert "Scaled" in repr(layer) + layer.explain_backend()
    for name, message in refused.items():
        assert f"an attribute {name!r} already" in message
        assert "\n" not in message
    assert set(refused) <= taken()
    assert set(refused) >= {"plan", "geometry", "factory", "initial_gain", "forward"}
    assert held >= {"gain", "weight", "bias", "rows", "kernel", "scale", "x", "x_j", "index"}
    assert held >= {"message", "aggregate", "update", "edge_index", "norm", "aggr", "graph"}
    assert len(held) > 90


class Unlike(MessageFunction):
    """What a message of one's own may get wrong, but for one thing at a time."""

    def forward(self, x_j):
        return x_j


class WithoutSuper(Unlike):
    def __init__(self, plan, **kwargs):
        self.scale = 2.0


class LateSuper(Unlike):
    def __init__(self, plan, **kwargs):
        self.part = nn.Linear(2, 2)
        super().__init__(plan, **kwargs)


class HiddenPlan(Unlike):
    def __init__(self, plan, **kwargs):
        super().__init__(plan, **kwargs)
        self.plan = nn.Linear(2, 2)


class WithoutReset(Unlike):
    def __init__(self, plan, **kwargs):
        super().__init__(plan, **kwargs)
        self.part = nn.Linear(2, 2)


class HalfReset(Unlike):
    def __init__(self, plan, **kwargs):
        super().__init__(plan, **kwargs)
        self.product = EdgeProduct(plan, self.geometry, **self.factory)
        self.part = nn.Linear(2, 2)


class WithoutForward(MessageFunction):
    pass


class WithoutEdges(MessageFunction):
    """Declares edges, and hands them to one of its two products."""

    def __init__(self, plan, **kwargs):
        super().__init__(plan, **kwargs)
        self.first = EdgeProduct(plan, self.geometry, **self.factory)
        self.second = EdgeProduct(plan, self.geometry, **self.factory)

    def forward(self, x_j, edges):
        return self.first(x_j, edges) + self.second(x_j)


class Twice(WithoutEdges):
    """The second product has the columns of a sender, and not those that the first returns."""

    def forward(self, x_j):
        return self.second(self.first(x_j))


class OfVectors(MessageFunction):
    def __init__(self, plan, **kwargs):
        super().__init__(plan, **kwargs)
        self.product = EdgeProduct(plan, **self.factory)

    def forward(self, x_j):
        return self.product(x_j)


class Nothing(Unlike):
    def forward(self, x_j):
        x_j.sin()


class Two(Unlike):
    def forward(self, x_j):
        return x_j, x_j


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (WithoutSuper, r"begin it with super\(\).__init__\(plan, \*\*kwargs\)"),
        (LateSuper, r"begin it with super\(\).__init__\(plan, \*\*kwargs\)"),
        (HiddenPlan, "leaves no attribute 'plan': .*, and give no module that name"),
        (WithoutReset, "has no reset_parameters, .*: define reset_parameters"),
        (HalfReset, "HalfReset has no reset_parameters, and parameters other than those of Edge"),
        (WithoutForward, r"WithoutForward has no forward: define forward\(self, x_j\)"),
        (Nothing, r"Nothing.forward returned None; it returns the messages"),
        (Two, r"Two.forward returned a tuple; it returns the messages"),
        (torch.sin, "make a subclass of MessageFunction of it"),
        (nn.Linear(2, 2), "make a subclass of MessageFunction of it"),
        (RelationalLinear(GRAPH, 16, 16).message_function, "LinearMessage .* give the class, its"),
    ],
)
def test_a_mistake_in_a_message_of_ones_own_is_one_sentence(message, words):
    with pytest.raises(InputError, match=words):
        RelationalLinear(GRAPH, 16, 16, message=message)(torch.zeros(1, 16))


@pytest.mark.parametrize(
    ("message", "layer", "words"),
    [
        (
            WithoutEdges,
            RelationalLinear,
            r"takes \(40, B, 2\), .*, not \(\d, 4, 2\): .*, as in self.product\(x_j, edges\)",
        ),
        (Twice, RelationalLinear, r"takes \(40, B, 2\), .*, not \(40, 4, 3\): .* give columns="),
        (
            OfVectors,
            partial(RelationalConv2d, kernel_size=1),
            r"takes \(40, B, 2\), .*, not \(40, 4, 2, 5, 5\): over maps give it self.geometry",
        ),
    ],
)
def test_a_product_says_what_it_takes(message, layer, words, monkeypatch):
    monkeypatch.setattr(FusedRound, "max_message_elements", 100)  # some edges at a time
    made = layer(GRAPH, 16, 24, message=message)
    shape = (4, 16, 5, 5) if made.message_function.spatial_dims else (4, 16)
    with pytest.raises(InputError, match=words):
        made(torch.zeros(shape))


def no_method():
    class Wrong(MessageFunction):
        @staticmethod
        def forward(x_j):
            return x_j


def no_function():
    class Wrong(MessageFunction):
        forward = 3


@pytest.mark.parametrize("define", [no_method, no_function])
def test_a_forward_that_is_no_method_is_refused_where_it_is_defined(define):
    with pytest.raises(InputError, match=r"Wrong.forward is a method, such as"):
        define()


def test_features_of_edges_are_told_where_they_are_read():
    with pytest.raises(InputError, match=r"reach `message\(self, x_j, edge_attr\)`"):

        class OfEdges(MessageFunction):
            def forward(self, x_j, edge_attr):
                return x_j * edge_attr


def test_methods_take_what_the_round_calls_them_with():
    # As torch's own layers have it, but the round draws from its generator.
    with pytest.raises(InputError, match=r"define reset_parameters\(self, generator=None\)"):

        class Undrawn(MessageFunction):
            def reset_parameters(self):
                nn.init.ones_(self.scale)

            def forward(self, x_j):
                return x_j

    with pytest.raises(InputError, match=r"define multiply_adds\(self, spatial_size=\(\)\)"):

        class Uncounted(MessageFunction):
            def multiply_adds(self):
                return 0

            def forward(self, x_j):
                return x_j


def test_a_message_is_called_with_the_arguments_that_it_declares():
    plan = RelationalLinear(GRAPH, 16, 16).plan
    x = torch.randn(plan.num_edges, 1, plan.largest_in)
    assert make_message("shared_linear", plan)(x).shape == x.shape
    with pytest.raises(InputError, match=r"BilinearMessage needs x_i, .*: call message_function"):
        make_message("bilinear", plan)(x)


def test_a_message_over_maps_too(generator):
    x = torch.randn(2, 16, 4, 4, generator=generator)
    adjacency = torch.from_numpy(GRAPH.adjacency).float()
    layer = RelationalConv2d(GRAPH, 16, 16, 1, message=scaled("gain"), bias=False)
    expected = 3 * torch.einsum("vu,buchw->bvchw", adjacency, x.unflatten(1, (8, 2)))
    torch.testing.assert_close(layer(x), expected.flatten(1, 2))


class Several(MessageFunction):
    """A sum of products that are in a list, as heads would be."""

    def __init__(self, plan, **kwargs):
        super().__init__(plan, **kwargs)
        products = [EdgeProduct(plan, self.geometry, **self.factory) for _ in range(3)]
        self.products = nn.ModuleList(products)

    def forward(self, x_j, edges):
        return sum(product(x_j, edges) for product in self.products)


def test_products_at_any_depth_are_drawn_and_counted():
    first, second = (
        RelationalLinear(GRAPH, 16, 16, message=Several, generator=torch.Generator().manual_seed(0))
        for _ in range(2)
    )
    for name, weight in first.named_parameters():
        assert torch.equal(weight, second.get_parameter(name)), name
        assert weight.unique().numel() == weight.numel(), name
    assert first.multiply_adds() == 3 * RelationalLinear(GRAPH, 16, 16).multiply_adds()


class Signs(LinearMessage):
    """Weights of +1 and -1, with the gradient of the weights behind them."""

    def flat_weight(self):
        weight = super().flat_weight()
        return weight + (weight.sign() - weight).detach()


def test_a_flat_weight_of_ones_own_is_that_of_every_path(generator):
    x = torch.randn(3, 16, generator=generator)
    layer = RelationalLinear(GRAPH, 16, 16, message=Signs, bias=False)
    expected = x @ layer.dense_weight().T
    assert set(layer.dense_weight().unique().tolist()) == {-1.0, 0.0, 1.0}
    for backend in ("masked", "gather", "auto", "reference"):
        layer.backend = backend
        for _ in range(2):  # the second call of a shape takes a shorter path
            out = layer(x)
            torch.testing.assert_close(out, expected)
        (gradient,) = torch.autograd.grad(out.sum(), layer.message_function.weight)
        assert gradient.count_nonzero() == gradient.numel()
    literal = MessageRound(GRAPH, 16, 16, Signs, bias=False)
    literal.load_state_dict(layer.state_dict())
    torch.testing.assert_close(literal(x), expected)
