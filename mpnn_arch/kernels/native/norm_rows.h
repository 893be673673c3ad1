// Batch normalisation of vectors, whose channels lie side by side: a few vectors of channels at a time, so
// that their part of every row stays in a cache between the passes. Lanes are channels, so every number is
// computed as if its channel were alone.
#pragma once
#include "norm_numbers.h"

namespace {

// Vectors of channels at a time: some cache lines of every row, of sums that fit the registers.
constexpr int NORM_WIDE = VECTOR_REGISTERS == 32 ? 4 : 2;
// Rows ahead that are prefetched, as they are too far apart for the hardware.
constexpr int64_t ROWS_AHEAD = 8;
// Rows that are added up before their sums are added in double precision.
constexpr int64_t ROWS_SUMMED = 64;

template <class S>
constexpr int64_t CHANNELS_AT_ONCE = NORM_WIDE * LANES<S>;

// WIDE vectors of channels, or of one the first `count` channels.
template <class N, int VECTORS>
struct ChannelBlock {
    typedef Sum<N> S;
    static constexpr int WIDE = VECTORS;
    static constexpr int L = LANES<S>;
    const Maps<S>& m;
    int64_t first, count;

    bool part() const { return WIDE == 1 && count < L; }
    INLINE int64_t at(int64_t row, int i) const { return row * m.channels + first + i * L; }
    INLINE Vec<S> load(const N* x, int64_t row, int i) const {
        return part() ? load_map(x + at(row, i), count) : load_map(x + at(row, i));
    }
    INLINE void store(N* x, int64_t row, int i, Vec<S> v) const {
        if (part()) store_map(x + at(row, i), v, count);
        else store_map(x + at(row, i), v);
    }
    INLINE void prefetch(const N* x, int64_t row) const {
        if (row + ROWS_AHEAD >= m.batch) return;
#pragma GCC unroll 4
        for (int i = 0; i < WIDE; ++i) __builtin_prefetch(x + at(row + ROWS_AHEAD, i));
    }
    // sums[k][c] of add(row, k-th vectors) over the rows.
    template <int COUNT, class Add>
    INLINE void sum(double (&sums)[COUNT][WIDE * L], Add add) const {
        for (auto& some : sums) std::fill(some, some + WIDE * L, 0.0);
        for (int64_t row = 0; row < m.batch;) {
            Vec<S> some[COUNT][WIDE] = {};
            for (int64_t end = std::min(row + ROWS_SUMMED, m.batch); row < end; ++row) add(row, some);
            for (int k = 0; k < COUNT; ++k)
                for (int c = 0; c < WIDE * L; ++c) sums[k][c] += some[k][c / L][c % L];
        }
    }
    // Calls set(j, channel) for the channels, the j-th of this block.
    template <class Set>
    void each(Set set) const {
        for (int64_t j = 0; j < count; ++j) set(j, first + j);
    }
};

template <class N, int WIDE, bool RELU, bool RESIDUAL>
void forward_block(const ChannelBlock<N, WIDE>& at, const N* x, const N* residual, double eps, N* y,
                     Sum<N>* means, Sum<N>* variances, Sum<N>* factors) {
    typedef Sum<N> S;
    constexpr int L = LANES<S>;
    const Maps<S>& m = at.m;
    double sums[1][WIDE * L], about[2][WIDE * L];
    at.sum(sums, [&](int64_t row, auto& some) {
        at.prefetch(x, row);
#pragma GCC unroll 4
        for (int i = 0; i < WIDE; ++i) some[0][i] += at.load(x, row, i);
    });
    Vec<S> mean[WIDE] = {}, scale[WIDE] = {}, shift[WIDE] = {};
    at.each([&](int64_t j, int64_t) { mean[j / L][j % L] = S(sums[0][j] / m.batch); });
    at.sum(about, [&](int64_t row, auto& some) {  // of x - mean, which rounding leaves, and its square
#pragma GCC unroll 4
        for (int i = 0; i < WIDE; ++i) {
            Vec<S> v = at.load(x, row, i) - mean[i];
            some[0][i] += v, some[1][i] += v * v;
        }
    });
    at.each([&](int64_t j, int64_t c) {
        double rest = about[0][j] / m.batch, variance = about[1][j] / m.batch - rest * rest;
        double factor = 1 / std::sqrt(variance + eps);
        means[c] = mean[j / L][j % L], variances[c] = S(variance), factors[c] = S(factor);
        scale[j / L][j % L] = S(factor * (m.weight ? m.weight[c] : 1));
        shift[j / L][j % L] = m.bias ? m.bias[c] : 0;
    });
    for (int64_t row = 0; row < m.batch; ++row) {
#pragma GCC unroll 4
        for (int i = 0; i < WIDE; ++i) {
            Vec<S> v = (at.load(x, row, i) - mean[i]) * scale[i] + shift[i];
            if (RESIDUAL) v += at.load(residual, row, i);
            at.store(y, row, i, RELU ? relu<S>(v) : v);
        }
    }
}

// `dr`, null for none, takes the gradient past the activation.
template <class N, int WIDE, bool RELU>
void backward_block(const ChannelBlock<N, WIDE>& at, const N* grad, const N* y, const N* x,
                      const Sum<N>* means, const Sum<N>* factors, N* dx, N* dr, Sum<N>* dweight,
                      Sum<N>* dbias) {
    typedef Sum<N> S;
    constexpr int L = LANES<S>;
    const Maps<S>& m = at.m;
    auto past = [&](int64_t row, int i) {
        Vec<S> g = at.load(grad, row, i);
        return RELU ? passed<S>(g, at.load(y, row, i)) : g;
    };
    Vec<S> mean[WIDE] = {}, by_grad[WIDE] = {}, by_x[WIDE] = {}, rest[WIDE] = {};
    at.each([&](int64_t j, int64_t c) { mean[j / L][j % L] = means[c]; });
    double sums[2][WIDE * L];
    at.sum(sums, [&](int64_t row, auto& some) {
        at.prefetch(grad, row);
        at.prefetch(x, row);
        if (RELU) at.prefetch(y, row);
#pragma GCC unroll 4
        for (int i = 0; i < WIDE; ++i) {
            Vec<S> g = past(row, i);
            some[0][i] += g, some[1][i] += g * (at.load(x, row, i) - mean[i]);
        }
    });
    at.each([&](int64_t j, int64_t c) {
        double factor = factors[c], scale = factor * (m.weight ? m.weight[c] : 1);
        dweight[c] = S(sums[1][j] * factor), dbias[c] = S(sums[0][j]);
        by_grad[j / L][j % L] = S(scale);
        by_x[j / L][j % L] = S(-scale * factor * factor * sums[1][j] / m.batch);
        rest[j / L][j % L] = S(-scale * sums[0][j] / m.batch);
    });
    for (int64_t row = 0; row < m.batch; ++row) {
#pragma GCC unroll 4
        for (int i = 0; i < WIDE; ++i) {
            Vec<S> g = past(row, i);
            if (dr) at.store(dr, row, i, g);
            at.store(dx, row, i, g * by_grad[i] + (at.load(x, row, i) - mean[i]) * by_x[i] + rest[i]);
        }
    }
}

// Calls run(channels) for those of a block, by several vectors where they fill it.
template <class N, class Run>
void each_block(const Maps<Sum<N>>& m, int64_t block, Run run) {
    constexpr int64_t L = LANES<Sum<N>>, MOST = CHANNELS_AT_ONCE<Sum<N>>;
    int64_t first = block * MOST, last = std::min(first + MOST, m.channels);
    if (last - first == MOST) return run(ChannelBlock<N, NORM_WIDE>{m, first, MOST});
    for (; first < last; first += L)
        run(ChannelBlock<N, 1>{m, first, std::min(L, last - first)});
}

}  // namespace
