// The gradient of a round over vectors with respect to its weights: on edge u -> v, the sum over
// samples of grad_v x_u^T.
#include "checks.h"
#include "outer.h"

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

template <class T>
void outer(const Plan& plan, const T* g, int64_t g_row, const T* x, int64_t x_row, int64_t batch,
           T* out, int threads) {
    const Columns& columns = columns_of<T>(plan);
    int64_t nodes = plan.num_nodes, ins = plan.in_channels;
    int64_t units = (batch + UNIT<T> - 1) / UNIT<T>;
    // A batch too long for the L2 cache is split into pieces, which do not depend on threads.
    int64_t piece = std::max<int64_t>(32, (7 << 17) / int64_t(ins * UNIT<T> * sizeof(T)));
    int64_t pieces = (units + piece - 1) / piece;
    piece = (units + pieces - 1) / pieces;
    // x is packed once for all nodes; of g, each node's channels when the node is processed.
    int64_t most = 0;
    for (int64_t v = 0; v < nodes; ++v)
        most = std::max(most, plan.forward.channels[v + 1] - plan.forward.channels[v]);
    int64_t g_step = (most + LANES<T>) * UNIT<T>;
    T* x_units = Scratch::take<T>(grouped_size<T>(ins, piece) + threads * piece * g_step);
    parallel(threads, [&](const Team& team) {
        T* g_units = x_units + grouped_size<T>(ins, piece) + team.me * piece * g_step;
        Range rows = costed_part(plan.forward, nodes, team.me, team.size);
        for (int64_t first = 0; first < units; first += piece) {
            int64_t some = std::min(piece, units - first);
            auto sample = [&](int64_t q) { return (first + q) * UNIT<T>; };
            auto left = [&](int64_t q) { return std::min<int64_t>(UNIT<T>, batch - sample(q)); };
            team.each(some, [&](int64_t q) {
                pack_groups(x + sample(q) * x_row, x_row, left(q), ins, q, piece, x_units);
            });
            int64_t v = node_of(plan.forward.channels, nodes, rows.first);
            for (int64_t row = rows.first; row < rows.last; ++v) {
                int64_t last = std::min(rows.last, plan.forward.channels[v + 1]);
                int64_t height = last - row;
                if (height <= 0) continue;
                for (int64_t q = 0; q < some; ++q)
                    pack_unit(g + sample(q) * g_row + row, g_row, left(q), height,
                              g_units + q * g_step);
                int64_t tiles = (height + OUTER_ROWS - 1) / OUTER_ROWS;
                int64_t vectors = columns.start[v + 1] - columns.start[v] - 1;
                int64_t spans = (vectors + OUTER_COLS - 1) / OUTER_COLS;
                T* to = out + plan.weight_offset[v] +
                        (row - plan.forward.channels[v]) * plan.row_width[v];
                // A span of x stays in the L1 cache while the tiles are processed.
                for (int64_t s = 0; s < spans; ++s) {
                    Range span = even_part(vectors, s, spans);
                    int64_t at = columns.start[v] + span.first;
                    for (int64_t t = 0; t < tiles; ++t) {
                        Range tile = even_part(height, t, tiles);
                        OuterTask<T> task = {g_units + tile.first * UNIT<T>,
                                             g_step,
                                             x_units,
                                             some,
                                             piece,
                                             columns.channel + at,
                                             columns.column + at,
                                             int32_t(plan.row_width[v]),
                                             to + tile.first * plan.row_width[v],
                                             first > 0};
                        pick_outer<T>(tile.last - tile.first, span.last - span.first)(task);
                    }
                }
                row = last;
            }
            team.barrier();
        }
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
        outer<T>(*plan, grad, grad_row, x, x_row, batch, weight, team_size(threads));
    });
}

EXPORT int NAMED(places)() { return PLACES<T>; }

}  // extern "C"
