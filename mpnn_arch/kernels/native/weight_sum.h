// The gradient with respect to the weights: on edge u -> v the sum over samples of grad_v x_u^T.
#pragma once
#include "checks.h"
#include "outer.h"
#include "panel.h"

// UNIT rows from `first` on -> [channels][UNIT], zeros past the last row.
template <class Rows, class T>
void pack_unit(const Rows& rows, int64_t first, int64_t channel, int64_t channels, T* to) {
    constexpr int L = LANES<T>;
    int64_t c = 0;
    if (rows.count - first >= UNIT<T>) {
        for (; c + L <= channels; c += L) {
            Vec<T> a = rows.vector(first, channel + c);
            if (UNIT<T> == 1) {
                store(to + c, a);
            } else {
                Vec<T> b = rows.vector(first + 1, channel + c);
                store(to + 2 * c, weave_low<T>(a, b));
                store(to + 2 * c + L, weave_high<T>(a, b));
            }
        }
    }
    for (; c < channels; ++c)
        for (int i = 0; i < UNIT<T>; ++i)
            to[c * UNIT<T> + i] = first + i < rows.count ? rows.at(first + i, channel + c) : T(0);
}

// As pack_unit, into unit `q` of every group.
template <class Rows, class T>
void pack_groups(const Rows& rows, int64_t first, int64_t channels, int64_t q, int64_t units_held,
                 T* to) {
    for (int64_t c = 0; c < channels; c += GROUP)
        pack_unit(rows, first, c, std::min<int64_t>(HELD, channels - c),
                  to + grouped<T>(c, units_held) + q * HELD * UNIT<T>);
}

// What both gradients read: the gradient with respect to the sums, and x, each by rows of samples.
template <class Grads, class Rows = Grads>
struct Gradients {
    const Plan& plan;
    Grads g;
    Rows x;
};

// Rows `rows` of every weight block, summed over `units` units of samples.
template <class T>
void sum_rows(const Plan& plan, Range rows, const T* g, int64_t g_panel, const T* x, int64_t units,
              int64_t units_held, Sums<T> out, bool add) {
    const Columns& columns = columns_of<T>(plan);
    each_node(plan.forward.channels, plan.num_nodes, rows, [&](int64_t v, int64_t row, int64_t last) {
        int64_t height = last - row;
        int64_t tiles = outer_tiles(height);
        int64_t vectors = columns.start[v + 1] - columns.start[v] - 1;
        int64_t columns_at_once = outer_cols((height + tiles - 1) / tiles);
        int64_t spans = (vectors + columns_at_once - 1) / columns_at_once;
        Sums<T> to = out.at(plan.weight_offset[v] +
                            (row - plan.forward.channels[v]) * plan.fan_in[v]);
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
                                     to.at(tile.first * plan.fan_in[v]),
                                     add};
                bool next = t == tiles - 1 && s < spans - 1;
                pick_outer<T>(tile.last - tile.first, span.last - span.first, next)(task);
            }
        }
    });
}

// The batch in pieces whose x fits the L2 cache, and of which the few channels that a tile reads fit
// the L1 cache where registers are few and a tile is read often. They do not depend on threads.
template <class T>
struct Pieces {
    int64_t units, each;

    Pieces(const Plan& plan, int64_t rows) : units((rows + UNIT<T> - 1) / UNIT<T>) {
        int64_t most = (7 << 17) / int64_t(plan.in_channels * UNIT<T> * sizeof(T));
        if (VECTOR_REGISTERS == 16) most = std::min<int64_t>(most, 384 / (UNIT<T> * sizeof(T)));
        most = std::max<int64_t>(most, 32);
        int64_t pieces = (units + most - 1) / most;
        each = ((units + pieces - 1) / pieces + BUNCH<T> - 1) / BUNCH<T> * BUNCH<T>;
    }
};

// Rows `rows` of g summed over its samples: the gradient with respect to a bias.
template <class T>
void sum_samples(Range rows, const T* g, int64_t g_panel, int64_t panels, T* sums, bool add) {
    for (int64_t row = rows.first; row < rows.last; ++row) {
        Vec<T> some = {};
        for (int64_t p = 0; p < panels; ++p)
            for (int64_t i = 0; i < PANEL<T>; i += LANES<T>)
                some += load(g + p * g_panel + row * PANEL<T> + i);
        T sum = add ? sums[row] : 0;
        for (int i = 0; i < LANES<T>; ++i) sum += some[i];
        sums[row] = sum;
    }
}

// Adds to every weight block its sum over the piece of the batch that begins with unit `first`, and, if `bias`
// is not null, to that the sum of g, whose panels of this piece are packed here or were before.
template <class Gradients, class T>
void weight_piece(const Team& team, const Gradients& job, const Pieces<T>& pieces, int64_t first,
                  T* x_units, T* g, bool packed, Sums<T> out, T* bias) {
    const Plan& plan = job.plan;
    int64_t g_panel = plan.out_channels * PANEL<T>;
    Range rows = costed_part(plan.forward, plan.num_nodes, team.me, team.size);
    int64_t some = std::min(pieces.each, pieces.units - first);
    int64_t panels = (some + BUNCH<T> - 1) / BUNCH<T>;
    team.each(panels, [&](int64_t p) {
        int64_t row = first * UNIT<T> + p * PANEL<T>;
        if (!packed) pack_panel(job.g, row, plan.out_channels, g + p * g_panel, PANEL<T>);
        int64_t last = std::min<int64_t>(some, (p + 1) * BUNCH<T>);
        for (int64_t q = p * BUNCH<T>; q < last; ++q, row += UNIT<T>)
            pack_groups(job.x, row, plan.in_channels, q, pieces.each, x_units);
    });
    bool ends = first + pieces.each >= pieces.units;
    sum_rows(plan, rows, g, g_panel, x_units, some, pieces.each, out.rounded_if(ends), first > 0);
    if constexpr (std::is_same<T, Sum<T>>::value)
        if (bias) sum_samples(rows, g, g_panel, panels, bias, first > 0);
    team.barrier();
}

// Numbers of scratch memory for a piece of x and of g.
template <class T>
int64_t piece_size(const Plan& plan, const Pieces<T>& pieces) {
    return grouped_size<T>(plan.in_channels, pieces.each) +
           pieces.each * UNIT<T> * plan.out_channels;
}

// The gradient with respect to the weights alone, in `scratch` of piece_size(); and to a bias.
template <class Gradients, class T>
void weight_alone(const Gradients& job, const Pieces<T>& pieces, T* scratch, Sums<T> out, int threads,
                  T* bias = nullptr) {
    T* g = scratch + grouped_size<T>(job.plan.in_channels, pieces.each);
    parallel(threads, [&](const Team& team) {
        for (int64_t first = 0; first < pieces.units; first += pieces.each)
            weight_piece(team, job, pieces, first, scratch, g, false, out, bias);
    });
}
