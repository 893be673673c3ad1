// The gradient of a round over vectors with respect to its weights, on edge u -> v the sum over samples
// of grad_v x_u^T; alone, or with that with respect to x, for which grad is packed once.
#include "checks.h"
#include "outer.h"
#include "rounds.h"

namespace {

// UNIT rows of samples -> [channels][UNIT], zeros past `count` samples.
template <class T>
void pack_unit(const T* x, int64_t row, int64_t count, int64_t channels, T* to) {
    constexpr int L = LANES<T>;
    int64_t c = 0;
    if (count >= UNIT<T>) {
        for (; c + L <= channels; c += L) {
            Vec<T> a = load(x + c);
            if (UNIT<T> == 1) {
                store(to + c, a);
            } else {
                Vec<T> b = load(x + row + c);
                store(to + 2 * c, weave_low<T>(a, b));
                store(to + 2 * c + L, weave_high<T>(a, b));
            }
        }
    }
    for (; c < channels; ++c)
        for (int i = 0; i < UNIT<T>; ++i) to[c * UNIT<T> + i] = i < count ? x[i * row + c] : T(0);
}

// As pack_unit, into unit `q` of every group.
template <class T>
void pack_groups(const T* x, int64_t row, int64_t count, int64_t channels, int64_t q,
                 int64_t units_held, T* to) {
    for (int64_t c = 0; c < channels; c += GROUP)
        pack_unit(x + c, row, count, std::min<int64_t>(HELD, channels - c),
                  to + grouped<T>(c, units_held) + q * HELD * UNIT<T>);
}

// What both gradients read: the gradient with respect to y, and x, each by rows of samples.
template <class T>
struct Gradients {
    const Plan& plan;
    const T* g;
    int64_t g_row;
    const T* x;
    int64_t x_row, batch;
};

// Rows `rows` of every weight block, summed over `units` units of samples.
template <class T>
void sum_rows(const Plan& plan, Range rows, const T* g, int64_t g_panel, const T* x, int64_t units,
              int64_t units_held, T* out, bool add) {
    const Columns& columns = columns_of<T>(plan);
    int64_t v = node_of(plan.forward.channels, plan.num_nodes, rows.first);
    for (int64_t row = rows.first; row < rows.last; ++v) {
        int64_t last = std::min(rows.last, plan.forward.channels[v + 1]), height = last - row;
        if (height <= 0) continue;
        int64_t tiles = outer_tiles(height);
        int64_t vectors = columns.start[v + 1] - columns.start[v] - 1;
        int64_t columns_at_once = outer_cols((height + tiles - 1) / tiles);
        int64_t spans = (vectors + columns_at_once - 1) / columns_at_once;
        T* to = out + plan.weight_offset[v] + (row - plan.forward.channels[v]) * plan.fan_in[v];
        // A span of x stays in the L1 cache while the tiles are processed.
        for (int64_t s = 0; s < spans; ++s) {
            Range span = even_part(vectors, s, spans);
            int64_t at = columns.start[v] + span.first;
            for (int64_t t = 0; t < tiles; ++t) {
                Range tile = even_part(height, t, tiles);
                OuterTask<T> task = {g + (row + tile.first) * PANEL<T>,
                                     g_panel,
                                     x,
                                     units,
                                     units_held,
                                     columns.channel + at,
                                     columns.column + at,
                                     int32_t(plan.fan_in[v]),
                                     to + tile.first * plan.fan_in[v],
                                     add};
                bool next = t == tiles - 1 && s < spans - 1;
                pick_outer<T>(tile.last - tile.first, span.last - span.first, next)(task);
            }
        }
        row = last;
    }
}

// The batch in pieces whose x fits the L2 cache, and of which the few channels that a tile reads fit
// the L1 cache where registers are few and a tile is read often. They do not depend on threads.
template <class T>
struct Pieces {
    int64_t units, each;

    Pieces(const Plan& plan, int64_t batch) : units((batch + UNIT<T> - 1) / UNIT<T>) {
        int64_t most = (7 << 17) / int64_t(plan.in_channels * UNIT<T> * sizeof(T));
        if (VECTOR_REGISTERS == 16) most = std::min<int64_t>(most, 64);
        most = std::max<int64_t>(most, 32);
        int64_t pieces = (units + most - 1) / most;
        each = ((units + pieces - 1) / pieces + BUNCH<T> - 1) / BUNCH<T> * BUNCH<T>;
    }
};

// Sums every weight block over the batch. Its g is packed piece by piece, or kept from before, whole.
template <class T>
void weight_pass(const Team& team, const Gradients<T>& job, const Pieces<T>& pieces, T* x_units,
                 T* g_panels, bool kept, T* out) {
    const Plan& plan = job.plan;
    int64_t g_panel = plan.out_channels * PANEL<T>;
    Range rows = costed_part(plan.forward, plan.num_nodes, team.me, team.size);
    for (int64_t first = 0; first < pieces.units; first += pieces.each) {
        int64_t some = std::min(pieces.each, pieces.units - first);
        T* g = g_panels + (kept ? first / BUNCH<T> * g_panel : 0);
        team.each((some + BUNCH<T> - 1) / BUNCH<T>, [&](int64_t p) {
            int64_t sample = first * UNIT<T> + p * PANEL<T>;
            if (!kept)
                pack_panel<T>(job.g, job.g_row, job.batch, sample, plan.out_channels,
                              g + p * g_panel, PANEL<T>);
            int64_t last = std::min<int64_t>(some, (p + 1) * BUNCH<T>);
            for (int64_t q = p * BUNCH<T>; q < last; ++q, sample += UNIT<T>)
                pack_groups(job.x + sample * job.x_row, job.x_row,
                            std::min<int64_t>(UNIT<T>, job.batch - sample), plan.in_channels, q,
                            pieces.each, x_units);
        });
        sum_rows(plan, rows, g, g_panel, x_units, some, pieces.each, out, first > 0);
        team.barrier();
    }
}

template <class T>
void weight_alone(const Gradients<T>& job, T* out, int threads) {
    Pieces<T> pieces(job.plan, job.batch);
    int64_t x_size = grouped_size<T>(job.plan.in_channels, pieces.each);
    int64_t g_size = pieces.each * UNIT<T> * job.plan.out_channels;
    T* x_units = Scratch::take<T>(x_size + g_size);
    parallel(threads, [&](const Team& team) {
        weight_pass(team, job, pieces, x_units, x_units + x_size, false, out);
    });
}

template <class T>
void both(const Gradients<T>& job, const T* weight, T* dx, T* out, int threads) {
    const Plan& plan = job.plan;
    Job<T> input = {&plan, &plan.backward, job.g, job.g_row, job.batch, plan.out_channels,
                    weight, dx, plan.in_channels};
    PanelProduct<T, 2, true> product(input, threads);
    Pieces<T> pieces(plan, job.batch);
    // What is used first and what is used last share memory.
    int64_t shared = std::max(product.scratch_size(), grouped_size<T>(plan.in_channels, pieces.each));
    T* g_panels = Scratch::take<T>(product.panels * product.x_panel + shared);
    T* scratch = g_panels + product.panels * product.x_panel;
    parallel(threads, [&](const Team& team) {
        product.run(team, g_panels, scratch, true);
        team.barrier();
        weight_pass(team, job, pieces, scratch, g_panels, true, out);
    });
}

}  // namespace

extern "C" {

EXPORT int NAMED(linear_grad_weight)(const Plan* plan, const T* grad, int64_t grad_row, const T* x,
                              int64_t x_row, int64_t batch, T* weight, int64_t threads) {
    return checked([&] {
        require_plan(plan, grad, x, weight);
        require(batch >= 1);
        require_rows(batch, grad_row, plan->out_channels);
        require_rows(batch, x_row, plan->in_channels);
        weight_alone(Gradients<T>{*plan, grad, grad_row, x, x_row, batch}, weight,
                     team_size(threads));
    });
}

// grad_x and grad_weight at once.
EXPORT int NAMED(linear_grads)(const Plan* plan, const T* grad, int64_t grad_row, const T* x,
                        int64_t x_row, int64_t batch, const T* weight, T* grad_x, T* grad_weight,
                        int64_t threads) {
    return checked([&] {
        require_plan(plan, grad, x, weight);
        require(grad_x && grad_weight && batch >= 1);
        require_rows(batch, grad_row, std::max(plan->in_channels, plan->out_channels));
        require_rows(batch, x_row, plan->in_channels);
        both(Gradients<T>{*plan, grad, grad_row, x, x_row, batch}, weight, grad_x, grad_weight,
             team_size(threads));
    });
}

EXPORT int NAMED(places)() { return PLACES<T>; }

}  // extern "C"
