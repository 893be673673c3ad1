// Both gradients of one or two samples, by rows of weights as they are stored.
#pragma once
#include <numeric>

#include "few_samples.h"
#include "weight_sum.h"

// sums[s][k] = sum over r of g[s][r] * w[r][k], for `rows` rows of `count` weights.
template <class T, int SAMPLES>
void add_weights(const T* w, int64_t rows, int64_t count, const T* g, int64_t g_line, T* sums, int64_t line) {
    constexpr int L = LANES<T>, COLS = VECTOR_REGISTERS == 32 ? 8 : 4;
    if (count < L) {
        for (int s = 0; s < SAMPLES; ++s)
            for (int64_t k = 0; k < count; ++k) {
                T sum = 0;
                for (int64_t r = 0; r < rows; ++r) sum += g[s * g_line + r] * w[r * count + k];
                sums[s * line + k] = sum;
            }
        return;
    }
    auto columns = [&](auto at) {
        Vec<T> sum[SAMPLES][COLS] = {};
        for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 8
            for (int c = 0; c < COLS; ++c) {
                Vec<T> v = load_once(w + r * count + at(c));
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
template <class T, int SAMPLES, class Grads>
void few_grad_input(const Plan& plan, const Grads& grads, const T* weight, T* dx, int threads) {
    const Side& side = plan.forward;
    const int64_t nodes = plan.num_nodes, terms = side.start[nodes], channels = plan.out_channels;
    T* sums = Scratch::take<T>(SAMPLES * (terms + channels));
    T* g = sums + SAMPLES * terms;
    parallel(threads, [&](const Team& team) {
        team.each(channels, [&](int64_t row) {
            for (int s = 0; s < SAMPLES; ++s) g[s * channels + row] = grads.at(s, row);
        });
        for (int64_t v = 0; v < nodes; ++v) {
            int64_t part = side.cost[v] * team.size / std::max<int64_t>(side.cost[nodes], 1);
            if (std::min(part, team.size - 1) != team.me) continue;
            int64_t row = side.channels[v];
            add_weights<T, SAMPLES>(weight + plan.weight_offset[v], side.channels[v + 1] - row,
                                    side.start[v + 1] - side.start[v], g + row, channels,
                                    sums + side.start[v], terms);
        }
        team.barrier();
        team.each(SAMPLES, [&](int64_t s) {
            T* to = dx + s * plan.in_channels;
            std::fill(to, to + plan.in_channels, T(0));
            for (int64_t k = 0; k < terms; ++k) to[side.term[k]] += sums[s * terms + k];
        });
    });
}

template <class T, int SAMPLES, class Grads>
void few_grad_weight(const Gradients<Grads, Rows<T>>& job, T* out, T* bias, int threads) {
    constexpr int L = LANES<T>;
    const Plan& plan = job.plan;
    const Side& side = plan.forward;
    const int64_t nodes = plan.num_nodes, line = most_terms(side, nodes);
    T* all_lines = Scratch::take<T>(threads * SAMPLES * line);
    parallel(threads, [&](const Team& team) {
        T* lines = all_lines + team.me * SAMPLES * line;
        Range rows = costed_part(side, nodes, team.me, team.size);
        int64_t v = node_of(side.channels, nodes, rows.first);
        for (int64_t row = rows.first; row < rows.last; ++v) {
            int64_t last = std::min(rows.last, side.channels[v + 1]);
            if (last <= row) continue;
            int64_t count = side.start[v + 1] - side.start[v];
            gather_terms<T, SAMPLES>(side, v, job.x, lines, line);
            T* to = out + plan.weight_offset[v] + (row - side.channels[v]) * count;
            for (; row < last; ++row, to += count) {
                T g[SAMPLES];
                for (int s = 0; s < SAMPLES; ++s) g[s] = job.g.at(s, row);
                if (bias) bias[row] = std::accumulate(g + 1, g + SAMPLES, g[0]);
                auto products = [&](auto x) {
                    auto sum = g[0] * x(0);
                    for (int s = 1; s < SAMPLES; ++s) sum += g[s] * x(s);
                    return sum;
                };
                if (count < L) {
                    for (int64_t k = 0; k < count; ++k)
                        to[k] = products([&](int s) { return lines[s * line + k]; });
                    continue;
                }
                for (int64_t k = 0; k < count; k += L) {
                    k = std::min(k, count - L);
                    store<T>(to + k, products([&](int s) { return load(lines + s * line + k); }));
                }
            }
        }
    });
}

template <class T, class Grads>
void few_grad_input(const Plan& plan, const Grads& grads, const T* weight, T* dx, int threads) {
    if (grads.count == 1) few_grad_input<T, 1>(plan, grads, weight, dx, threads);
    else few_grad_input<T, 2>(plan, grads, weight, dx, threads);
}

template <class T, class Grads>
void few_grad_weight(const Gradients<Grads, Rows<T>>& job, T* out, T* bias, int threads) {
    if (job.x.count == 1) few_grad_weight<T, 1>(job, out, bias, threads);
    else few_grad_weight<T, 2>(job, out, bias, threads);
}
