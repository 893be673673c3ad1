// A round on vectors: y_v = sum over u in N(v) of W_vu x_u, and its two gradients.
#include "tables.h"
#include "tiles.h"

namespace {

// ---- layouts -----------------------------------------------------------------------------------

// (samples, channels) rows, `count` of at most `width` samples -> [channels][width], zeros past
// `count`.
template <class T>
void pack_panel(const T* x, int64_t row, int64_t count, int64_t channels, T* panel, int64_t width) {
    constexpr int L = LANES<T>;
    for (int64_t s = 0; s < width; s += L) {
        if (channels < L || s >= count) {
            for (int64_t c = 0; c < channels; ++c)
                for (int64_t i = s; i < s + L; ++i)
                    panel[c * width + i] = i < count ? x[i * row + c] : T(0);
            continue;
        }
        for (int64_t c = 0; c < channels; c += L) {
            c = std::min<int64_t>(c, channels - L);
            Vec<T> block[L];
            const T* from = x + s * row + c;
            if (s + L <= count) {
#pragma GCC unroll 16
                for (int i = 0; i < L; ++i) block[i] = load(from + i * row);
            } else {
                for (int i = 0; i < L; ++i)
                    block[i] = s + i < count ? load(from + i * row) : Vec<T>{};
            }
            transpose<T>(block);
#pragma GCC unroll 16
            for (int i = 0; i < L; ++i) store(panel + (c + i) * width + s, block[i]);
        }
    }
}

// The way back.
template <class T>
void unpack_panel(const T* panel, int64_t width, int64_t count, int64_t first, int64_t last, T* y,
                  int64_t row) {
    constexpr int L = LANES<T>;
    for (int64_t s = 0; s < count; s += L) {
        if (last - first < L) {
            for (int64_t i = s; i < std::min(s + L, count); ++i)
                for (int64_t c = first; c < last; ++c) y[i * row + c] = panel[c * width + i];
            continue;
        }
        for (int64_t c = first; c < last; c += L) {
            c = std::min<int64_t>(c, last - L);
            Vec<T> block[L];
#pragma GCC unroll 16
            for (int i = 0; i < L; ++i) block[i] = load(panel + (c + i) * width + s);
            transpose<T>(block);
            T* to = y + s * row + c;
            if (s + L <= count) {
#pragma GCC unroll 16
                for (int i = 0; i < L; ++i) store(to + i * row, block[i]);
            } else {
                for (int i = 0; s + i < count; ++i) store(to + i * row, block[i]);
            }
        }
    }
}

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

// The same -> unit `q` of every group.
template <class T>
void pack_groups(const T* x, int64_t row, int64_t count, int64_t channels, int64_t q,
                 int64_t units_held, T* to) {
    for (int64_t c = 0; c < channels; c += GROUP)
        pack_unit(x + c, row, count, std::min<int64_t>(HELD, channels - c),
                  to + grouped<T>(c, units_held) + q * HELD * UNIT<T>);
}

// ---- forward, and gradient for the input -------------------------------------------------------

template <class T>
struct Job {
    const Plan* plan;
    const Side* side;
    const T* x;
    int64_t x_row, batch, x_channels;
    const T* weight;
    T* y;
    int64_t y_row;
};

// Output channels first .. last of `panels` packed panels.
template <class T, int WIDE, bool TRANSPOSED>
void run_panels(const Job<T>& job, Range rows, int64_t panels, const T* x, T* y) {
    constexpr int WIDTH = WIDE * LANES<T>;
    const Plan& plan = *job.plan;
    const Side& side = *job.side;
    int64_t y_channels = side.channels[plan.num_nodes];
    int64_t v = node_of(side.channels, plan.num_nodes, rows.first);
    for (int64_t row = rows.first; row < rows.last; ++v) {
        int64_t last = std::min(rows.last, side.channels[v + 1]), height = last - row;
        if (height <= 0) continue;
        int64_t count = side.start[v + 1] - side.start[v];
        int64_t local = row - side.channels[v];
        int64_t stride = TRANSPOSED ? 1 : plan.row_width[v];
        const T* w = TRANSPOSED ? job.weight + local
                                : job.weight + plan.weight_offset[v] + local * stride;
        int64_t tiles = (height + MOST_ROWS<WIDE> - 1) / MOST_ROWS<WIDE>;
        for (int64_t p = 0; p < panels; ++p) {
            for (int64_t t = 0; t < tiles; ++t) {
                Range part = even_part(height, t, tiles);
                const T* from = w + part.first * stride;
                pick_product<T, WIDE, WIDTH, TRANSPOSED>(part.last - part.first)(
                    from, stride, TRANSPOSED ? side.where + side.start[v] : nullptr,
                    x + p * job.x_channels * WIDTH, side.term + side.start[v], count,
                    y + (p * y_channels + row + part.first) * WIDTH, WIDTH);
            }
        }
        row = last;
    }
}

template <class T, int WIDE, bool TRANSPOSED>
void run_product(const Job<T>& job, int threads) {
    constexpr int64_t WIDTH = WIDE * LANES<T>;
    int64_t nodes = job.plan->num_nodes, y_channels = job.side->channels[nodes];
    int64_t panels = (job.batch + WIDTH - 1) / WIDTH;
    int64_t x_panel = job.x_channels * WIDTH, y_panel = y_channels * WIDTH;
    auto pack = [&](int64_t p, T* to) {
        pack_panel(job.x + p * WIDTH * job.x_row, job.x_row,
                   std::min(WIDTH, job.batch - p * WIDTH), job.x_channels, to, WIDTH);
    };
    auto unpack = [&](int64_t p, const T* from, Range rows) {
        unpack_panel(from, WIDTH, std::min(WIDTH, job.batch - p * WIDTH), rows.first, rows.last,
                     job.y + p * WIDTH * job.y_row, job.y_row);
    };
    // As many panels at once as half of a second-level cache holds: their weights are read once.
    int64_t held = std::max<int64_t>(1, (1 << 20) / int64_t((x_panel + y_panel) * sizeof(T)));
    if (panels % threads == 0 || panels >= 4 * threads) {
        held = std::min(held, (panels + threads - 1) / threads);
        T* scratch = Scratch::take<T>(threads * held * (x_panel + y_panel));
#pragma omp parallel num_threads(threads)
        {
            int64_t me = omp_get_thread_num();
            Range mine = even_part(panels, me, omp_get_num_threads());
            T* x = scratch + me * held * (x_panel + y_panel);
            T* y = x + held * x_panel;
            for (int64_t p = mine.first; p < mine.last; p += held) {
                int64_t some = std::min(held, mine.last - p);
                for (int64_t i = 0; i < some; ++i) pack(p + i, x + i * x_panel);
                run_panels<T, WIDE, TRANSPOSED>(job, {0, y_channels}, some, x, y);
                for (int64_t i = 0; i < some; ++i) unpack(p + i, y + i * y_panel, {0, y_channels});
            }
        }
        return;
    }
    T* x = Scratch::take<T>(panels * (x_panel + y_panel));
    T* y = x + panels * x_panel;
#pragma omp parallel num_threads(threads)
    {
        int64_t me = omp_get_thread_num(), team = omp_get_num_threads();
#pragma omp for schedule(static)
        for (int64_t p = 0; p < panels; ++p) pack(p, x + p * x_panel);
        Range rows = costed_part(*job.side, nodes, me, team);
        run_panels<T, WIDE, TRANSPOSED>(job, rows, panels, x, y);
        for (int64_t p = 0; p < panels; ++p) unpack(p, y + p * y_panel, rows);
    }
}

template <class T, bool TRANSPOSED>
void product(const Job<T>& job, int threads) {
    if (!job.batch) return;
    constexpr int L = LANES<T>;
    int64_t nodes = job.plan->num_nodes;
    int64_t share = job.side->channels[nodes] / nodes;
    // Few rows leave registers free: take more samples at once, if there are so many.
    if (job.batch <= L) run_product<T, 1, TRANSPOSED>(job, threads);
    else if (VECTOR_REGISTERS == 16 || share >= 6 || job.batch <= 2 * L)
        run_product<T, 2, TRANSPOSED>(job, threads);
    else run_product<T, 4, TRANSPOSED>(job, threads);
}

// ---- gradient for the weights ------------------------------------------------------------------

template <class T>
void outer(const Plan& plan, const T* g, int64_t g_row, const T* x, int64_t x_row, int64_t batch,
           T* out, int threads) {
    const Columns& columns = columns_of<T>(plan);
    int64_t nodes = plan.num_nodes, ins = plan.in_channels, outs = plan.out_channels;
    int64_t units = (batch + UNIT<T> - 1) / UNIT<T>;
    // A batch too long for the second-level cache goes in pieces; pieces do not depend on threads.
    int64_t piece = std::max<int64_t>(32, (5 << 18) / int64_t(ins * UNIT<T> * sizeof(T)));
    int64_t pieces = (units + piece - 1) / piece;
    piece = (units + pieces - 1) / pieces;
    T* x_units = Scratch::take<T>(grouped_size<T>(ins, piece) + grouped_size<T>(outs, piece));
    T* g_units = x_units + grouped_size<T>(ins, piece);
#pragma omp parallel num_threads(threads)
    {
        int64_t me = omp_get_thread_num(), team = omp_get_num_threads();
        Range rows = costed_part(plan.forward, nodes, me, team);
        for (int64_t first = 0; first < units; first += piece) {
            int64_t some = std::min(piece, units - first);
#pragma omp for schedule(static)
            for (int64_t q = 0; q < some; ++q) {
                int64_t sample = (first + q) * UNIT<T>;
                int64_t left = std::min<int64_t>(UNIT<T>, batch - sample);
                pack_groups(x + sample * x_row, x_row, left, ins, q, piece, x_units);
                pack_groups(g + sample * g_row, g_row, left, outs, q, piece, g_units);
            }
            int64_t v = node_of(plan.forward.channels, nodes, rows.first);
            for (int64_t row = rows.first; row < rows.last; ++v) {
                int64_t last = std::min(rows.last, plan.forward.channels[v + 1]);
                int64_t height = last - row;
                if (height <= 0) continue;
                int64_t tiles = (height + OUTER_ROWS - 1) / OUTER_ROWS;
                int64_t vectors = columns.start[v + 1] - columns.start[v] - 1;
                int64_t spans = (vectors + OUTER_COLS - 1) / OUTER_COLS;
                for (int64_t t = 0; t < tiles; ++t) {
                    Range tile = even_part(height, t, tiles);
                    int64_t first_row = row + tile.first, count = tile.last - tile.first;
                    for (int64_t s = 0; s < spans; ++s) {
                        Range span = even_part(vectors, s, spans);
                        int64_t at = columns.start[v] + span.first;
                        OuterTask<T> task = {g_units + grouped<T>(first_row, piece),
                                             x_units,
                                             some,
                                             piece,
                                             columns.channel + at,
                                             columns.column + at,
                                             int32_t(plan.row_width[v]),
                                             out + plan.weight_offset[v] +
                                                 (first_row - plan.forward.channels[v]) *
                                                     plan.row_width[v],
                                             first > 0};
                        pick_outer<T>(count, span.last - span.first)(task);
                    }
                }
                row = last;
            }
#pragma omp barrier
        }
    }
}

}  // namespace

extern "C" {

int NAMED(linear_forward)(const Plan* plan, const T* x, int64_t x_row, int64_t batch,
                          const T* weight, T* y, int64_t threads) try {
    Job<T> job = {plan,  &plan->forward,    x, x_row, batch, plan->in_channels,
                  weight, y, plan->out_channels};
    product<T, false>(job, threads);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

int NAMED(linear_grad_input)(const Plan* plan, const T* grad, int64_t row, int64_t batch,
                             const T* weight, T* x, int64_t threads) try {
    Job<T> job = {plan,  &plan->backward,   grad, row, batch, plan->out_channels,
                  weight, x, plan->in_channels};
    product<T, true>(job, threads);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

int NAMED(linear_grad_weight)(const Plan* plan, const T* grad, int64_t grad_row, const T* x,
                              int64_t x_row, int64_t batch, T* weight, int64_t threads) try {
    outer<T>(*plan, grad, grad_row, x, x_row, batch, weight, threads);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

int NAMED(places)() { return PLACES<T>; }

}  // extern "C"
