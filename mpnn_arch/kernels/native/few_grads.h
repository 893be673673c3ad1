// Both gradients of few samples, by rows of weights as they are stored.
#pragma once
#include <numeric>

#include "few_samples.h"
#include "weight_sum.h"

constexpr int ROWS_AHEAD = 16;  // prefetch distance of weights: pieces of rows are not foreseen
// Samples; of more, panels, and units, take less time.
constexpr int FEW_FOR_INPUT = 4, FEW_FOR_WEIGHTS = 8;

// sums[s][k] = sum over r of g[s][r] * w[r][k], for `rows` rows of `count` weights.
template <class T, int SAMPLES, class W>
void add_weights(const W* w, int64_t rows, int64_t count, const T* g, int64_t g_line, T* sums, int64_t line) {
    constexpr int L = LANES<T>, COLS = (VECTOR_REGISTERS == 32 ? 16 : 8) / (SAMPLES < 3 ? 2 : 4);
    if (count < L) {
        for (int s = 0; s < SAMPLES; ++s)
            for (int64_t k = 0; k < count; ++k) {
                T sum = 0;
                for (int64_t r = 0; r < rows; ++r) sum += g[s * g_line + r] * weight_at<T>(w + r * count + k);
                sums[s * line + k] = sum;
            }
        return;
    }
    auto columns = [&](auto at) {
        Vec<T> sum[SAMPLES][COLS] = {};
        for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 8
            for (int c = 0; c < COLS; ++c) {
                Vec<T> v = weights_at<T>(w + r * count + at(c));
                __builtin_prefetch(w + (r + ROWS_AHEAD) * count + at(c));
#pragma GCC unroll 4
                for (int s = 0; s < SAMPLES; ++s) sum[s][c] += g[s * g_line + r] * v;
            }
        }
#pragma GCC unroll 4
        for (int s = 0; s < SAMPLES; ++s)
#pragma GCC unroll 8
            for (int c = 0; c < COLS; ++c) store(sums + s * line + at(c), sum[s][c]);
    };
    int64_t k = 0;
    for (; k + COLS * L <= count; k += COLS * L) columns([k](int c) { return k + c * L; });
    // The last vectors overlap those before: the same numbers again.
    if (k < count) columns([k, count](int c) { return std::min(k + c * L, count - L); });
}

// Every node's sums over its rows, which are then added to the channels that it received, node after node: the
// order of a sum does not depend on threads.
template <class T, class Grads, class W>
void few_grad_input(const Plan& plan, const Grads& grads, const W* weight, T* dx, int threads) {
    const Side& side = plan.forward;
    const int64_t nodes = plan.num_nodes, terms = side.start[nodes], channels = plan.out_channels;
    T* sums = Scratch::take<T>(grads.count * (terms + channels));
    T* g = sums + grads.count * terms;
    auto add = [](T* __restrict to, const T* __restrict from, int64_t count) {
        for (int64_t k = 0; k < count; ++k) to[k] += from[k];
    };
    parallel(threads, [&](const Team& team) {
        team.each(channels, [&](int64_t row) {
            for (int64_t s = 0; s < grads.count; ++s) g[s * channels + row] = grads.at(s, row);
        });
        for (int64_t v = 0; v < nodes; ++v) {
            int64_t part = side.cost[v] * team.size / std::max<int64_t>(side.cost[nodes], 1);
            if (std::min(part, team.size - 1) != team.me) continue;
            int64_t row = side.channels[v];
            of_few<FEW_FOR_INPUT>(grads.count, [&](auto samples) {
                add_weights<T, samples.value>(weight + plan.weight_offset[v], side.channels[v + 1] - row,
                                              side.start[v + 1] - side.start[v], g + row, channels,
                                              sums + side.start[v], terms);
            });
        }
        team.barrier();
        team.each(grads.count, [&](int64_t s) {
            T* to = dx + s * plan.in_channels;
            std::fill(to, to + plan.in_channels, T(0));
            const Columns& columns = columns_of<T>(plan);
            for (int64_t v = 0; v < nodes; ++v) {
                const T* from = sums + s * terms + side.start[v];
                for (int64_t i = columns.start[v]; i + 1 < columns.start[v + 1]; ++i) {
                    const T* column = from + columns.column[i];
                    T* channel = to + columns.channel[i];
                    int64_t n = columns.column[i + 1] - columns.column[i];
                    if (n == PLACES<T>) add(channel, column, PLACES<T>);  // most; a constant makes it one vector
                    else add(channel, column, n);
                }
            }
        });
    });
}

// A vector, or a number, as a weight is stored: in bfloat16 it is rounded.
template <class T>
INLINE void store_weights(T* p, Vec<T> v) { store<T>(p, v); }
INLINE void store_weights(Bf16* p, Vec<float> v) {
    *reinterpret_cast<LooseHalf*>(p) = round_to_bf16<LANES<float>>(v);
}
template <class T>
INLINE void store_weight(T* p, T number) { *p = number; }
INLINE void store_weight(Bf16* p, float number) { *p = round_to_bf16(number); }

template <class T, int SAMPLES, class Grads, class W>
void few_grad_weight(const Gradients<Grads, Rows<T>>& job, W* out, T* bias, int threads) {
    constexpr int L = LANES<T>;
    const Plan& plan = job.plan;
    const Side& side = plan.forward;
    const int64_t nodes = plan.num_nodes, line = (most_terms(side, nodes) + PLACES<T> + L - 1) / L * L;  // aligned
    auto of_samples = [](const auto* g, auto x) {
        auto sum = g[0] * x(0);
        for (int s = 1; s < SAMPLES; ++s) sum += g[s] * x(s);
        return sum;
    };
    T* all_lines = Scratch::take<T>(threads * SAMPLES * line);
    parallel(threads, [&](const Team& team) {
        T* lines = all_lines + team.me * SAMPLES * line;
        Range rows = costed_part(side, nodes, team.me, team.size);
        each_node(side.channels, nodes, rows, [&](int64_t v, int64_t row, int64_t last) {
            int64_t count = side.start[v + 1] - side.start[v];
            gather_terms<T, SAMPLES>(plan, v, job.x, lines, line);
            W* to = out + plan.weight_offset[v] + (row - side.channels[v]) * count;
            for (; row < last; ++row, to += count) {
                T g[SAMPLES];
                for (int s = 0; s < SAMPLES; ++s) g[s] = job.g.at(s, row);
                if (bias) bias[row] = std::accumulate(g + 1, g + SAMPLES, g[0]);
                if (count < L) {
                    for (int64_t k = 0; k < count; ++k)
                        store_weight(to + k, of_samples(g, [&](int s) { return lines[s * line + k]; }));
                    continue;
                }
                Vec<T> each[SAMPLES];
                for (int s = 0; s < SAMPLES; ++s) each[s] = Vec<T>{} + g[s];
                auto put = [&](int64_t k) {
                    store_weights(to + k, of_samples(each, [&](int s) { return load(lines + s * line + k); }));
                };
                for (int64_t k = 0; k + L <= count; k += L) put(k);
                put(count - L);  // what overlaps is the same again
            }
        });
    });
}

template <class T, class Grads, class W>
void few_grad_weight(const Gradients<Grads, Rows<T>>& job, W* out, T* bias, int threads) {
    of_few<FEW_FOR_WEIGHTS>(job.x.count, [&](auto samples) {
        few_grad_weight<T, samples.value>(job, out, bias, threads);
    });
}
