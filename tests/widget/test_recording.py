"""What the hooks recorded is what the layer computes."""

import pytest
import torch
from torch import nn

from mpnn_arch import InputError, RelationalConv2d, RelationalLinear, graphs
from mpnn_arch.rounds import GraphRound, MessageRound
from mpnn_arch.widget.recording import dense_output, partial_aggregates, record


@pytest.mark.parametrize("aggr", ["sum", "mean", "max", "softmax", "mean+max", "degree-scaled"])
def test_a_recording_is_the_layers_own_output(graph, generator, aggr):
    layer = RelationalLinear(graph, 20, 23, aggr=aggr, activation="relu", generator=generator)
    layer.backend = "reference"
    x = torch.randn(5, 20, generator=generator)
    recording = record(layer, x, sample=3)[""]
    torch.testing.assert_close(recording.output, layer(x)[3].detach())
    torch.testing.assert_close(recording.x, x[3])
    assert recording.messages.shape == (layer.plan.num_edges, layer.plan.largest_out)
    # sigma of what was recorded before it is what was recorded after it.
    updated = layer.update(recording.aggregate[None], None)[0].detach()
    torch.testing.assert_close(updated, recording.output)


def test_the_last_partial_aggregate_is_the_aggregate(graph, generator):
    layer = RelationalLinear(graph, 18, 21, aggr="max", generator=generator)
    recording = record(layer, torch.randn(2, 18, generator=generator), sample=1)[""]
    partial = partial_aggregates(recording)
    plan = layer.plan
    for v in range(9):
        first, last = int(plan.edge_ptr[v]), int(plan.edge_ptr[v + 1]) - 1
        size, start = int(plan.out_sizes[v]), int(plan.out_offsets[v])
        whole = recording.aggregate[start : start + size]
        torch.testing.assert_close(partial[last, :size], whole)
        torch.testing.assert_close(partial[first, :size], recording.messages[first, :size])
        assert (partial[first : last + 1, :size].diff(dim=0) >= 0).all()  # a maximum grows


def test_partial_aggregates_are_left_out_where_a_round_aggregates_in_its_own_way(generator):
    class Doubled(MessageRound):
        def aggregate(self, inputs, index, dim_size):
            return 2 * super().aggregate(inputs, index, dim_size)

    recording = record(Doubled(graphs.ring(8, 4), 8, 8), torch.ones(1, 8))[""]
    assert partial_aggregates(recording) is None


def test_a_round_of_another_precision_is_recorded(generator):
    layer = RelationalLinear(
        graphs.ring(8, 4), 16, 16, aggr="attentional", dtype=torch.float64, generator=generator
    )
    x = torch.randn(2, 16, generator=generator)
    recording = record(layer, x)[""]
    torch.testing.assert_close(recording.output, layer(x.double())[0].float().detach())
    assert partial_aggregates(recording).shape == (40, 2)


@pytest.mark.parametrize("residual", [False, True])
def test_the_dense_layer_computes_the_same(graph, generator, residual):
    layer = RelationalLinear(
        graph, 18, 18, norm="layer", activation="relu", residual=residual, generator=generator
    )
    recording = record(layer, torch.randn(1, 18, generator=generator))[""]
    torch.testing.assert_close(dense_output(recording), recording.output)


def test_the_dense_convolution_computes_the_same(graph, generator):
    layer = RelationalConv2d(graph, 10, 12, 3, stride=2, padding=1, generator=generator)
    recording = record(layer, torch.randn(2, 10, 8, 8, generator=generator), sample=1)[""]
    assert recording.messages.shape[2:] == (4, 4)
    torch.testing.assert_close(dense_output(recording), recording.output)


def test_rounds_of_a_model_are_recorded_in_the_order_they_run(generator):
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            ring = graphs.ring(8, 4)
            self.second = RelationalLinear(ring, 16, 8, generator=generator)
            self.first = RelationalLinear(ring, 8, 16, generator=generator)
            self.never = RelationalLinear(ring, 8, 8, generator=generator)
            self.norm = nn.BatchNorm1d(8)

        def forward(self, x):
            return self.norm(self.second(self.first(x).relu()))

    model = Backwards().train()
    before = model.norm.running_mean.clone()
    recordings = record(model, torch.randn(4, 8, generator=generator), sample=2)
    assert list(recordings) == ["first", "second"]
    torch.testing.assert_close(recordings["second"].x, recordings["first"].output.relu())
    assert model.training
    assert model.norm.training
    torch.testing.assert_close(model.norm.running_mean, before)


def test_what_a_later_module_does_in_place_is_not_recorded(generator):
    first, second = (
        RelationalLinear(
            graphs.ring(8, 4), 16, 16, bias=bias, activation=activation, backend="masked"
        )
        for bias, activation in ((True, None), (False, nn.ReLU(inplace=True)))
    )
    model = nn.Sequential(first, nn.ReLU(inplace=True), second)
    x = torch.randn(2, 16, generator=generator)
    recordings = record(model, x)
    torch.testing.assert_close(recordings["0"].output, first(x)[0].detach())
    assert (recordings["0"].output < 0).any()
    assert (recordings["2"].aggregate < 0).any()
    for recording in recordings.values():
        torch.testing.assert_close(dense_output(recording), recording.output)


def test_a_recording_of_a_round_in_training_is_drawn_in_evaluation_mode(generator):
    layer = RelationalConv2d(graphs.ring(8, 4), 8, 8, 3, norm="batch", generator=generator).train()
    norm = layer.norm.running_mean.clone()
    recording = record(layer, torch.randn(1, 8, 3, 3, generator=generator))[""]  # one pixel is left
    torch.testing.assert_close(dense_output(recording), recording.output)
    assert partial_aggregates(recording) is not None
    assert layer.training
    assert layer.norm.training
    assert torch.equal(layer.norm.running_mean, norm)


def test_a_norm_by_the_batch_has_no_dense_output_of_a_sample(generator):
    norm = nn.BatchNorm1d(8, track_running_stats=False)
    layer = RelationalLinear(graphs.ring(8, 4), 8, 8, norm=norm, generator=generator)
    recording = record(layer, torch.randn(4, 8, generator=generator))[""]
    with pytest.raises(InputError, match="no running statistics"):
        dense_output(recording)


@pytest.mark.parametrize("compiled", [torch.compile, lambda layer: layer.compile() or layer])
def test_compiled_rounds_are_recorded(generator, compiled):
    layer = RelationalLinear(graphs.ring(8, 4), 8, 8, generator=generator)
    x = torch.randn(2, 8, generator=generator)
    expected = record(layer, x)[""]
    alone = record(compiled(layer), x)
    (within,) = record(nn.Sequential(compiled(layer)), x).values()
    for recording in (*alone.values(), within):
        assert torch.equal(recording.messages, expected.messages)
        assert torch.equal(recording.output, expected.output)


def test_no_hook_stays_and_the_round_is_fused_again(generator):
    layer = RelationalLinear(graphs.ring(8, 4), 8, 8, generator=generator)
    record(layer, torch.ones(1, 8))
    assert not layer.passes_messages
    with pytest.raises(InputError):
        record(layer, torch.ones(1, 9))
    assert not layer.passes_messages


def test_tokens_of_a_sample_lie_side_by_side(generator):
    layer = RelationalLinear(graphs.ring(8, 4), 8, 8, generator=generator)
    x = torch.randn(3, 5, 8, generator=generator)
    recording = record(layer, x, sample=2)[""]
    torch.testing.assert_close(recording.x, x[2, 0])
    torch.testing.assert_close(recording.output, layer(x)[2, 0].detach())


class Silent(MessageRound):
    def forward(self, x):
        return x


class Pair(MessageRound):
    def forward(self, x):
        return super().forward(x), x


class Passing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = RelationalLinear("ring:4,2", 4, 4)

    def forward(self, x):
        assert x.shape[0] == 1, "one sample"
        return x


class Direct(Passing):
    def forward(self, x):
        return self.layer.forward(x)


@pytest.mark.parametrize(
    ("model", "x", "sample", "sentence"),
    [
        (nn.Linear(4, 4), torch.ones(1, 4), 0, "has no round"),
        (GraphRound(4, 4), torch.ones(1, 4), 0, "has no round"),
        (RelationalLinear("ring:4,2", 4, 4), torch.ones(1, 5), 0, "takes"),
        (RelationalLinear("ring:4,2", 4, 4), torch.ones(2, 4), 2, "no sample 2"),
        (RelationalLinear("ring:4,2", 4, 4), torch.ones(0, 4), 0, "holds no sample"),
        (nn.Sequential(RelationalLinear("ring:4,2", 4, 4)), torch.ones(1, 4, 1, 1, 7), 0, "take"),
        (RelationalLinear("ring:4,2", 4, 4, device="meta"), torch.ones(1, 4), 0, "meta device"),
        (RelationalLinear("ring:4,2", 4, 4), torch.ones(1, 4, device="meta"), 0, "meta device"),
        (
            RelationalLinear("ring:4,2", 4, 4, dtype=torch.cfloat),
            torch.ones(1, 4),
            0,
            "complex numbers",
        ),
        (Silent("ring:4,2", 4, 4), torch.ones(1, 4), 0, "this Silent passed no messages"),
        (Pair("ring:4,2", 4, 4), torch.ones(1, 4), 0, "return a tensor"),
        (Passing(), torch.ones(1, 4), 0, "no round of this Passing ran"),
        (Passing(), torch.ones(2, 4), 0, "one sample"),
        (Direct(), torch.ones(1, 4), 0, "RelationalLinear 'layer' is not seen"),
    ],
)
def test_what_cannot_be_recorded_is_said(model, x, sample, sentence):
    with pytest.raises(InputError, match=sentence):
        record(model, x, sample)


def test_nested_tensors_are_refused():
    x = torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(3, 4)], layout=torch.jagged)
    with pytest.raises(InputError, match="nested"):
        record(RelationalLinear("ring:4,2", 4, 4), x)
