// Batch normalisation of maps, channel by channel. A channel's maps stay in a cache between the passes over
// them, so memory is read and written once.
#pragma once
#include "norm_numbers.h"

namespace {

// Calls whole(offset) for vectors of channel c's maps and part(offset, count) for what is left of each.
template <class S, class Whole, class Part>
INLINE void each_vector(const Maps<S>& m, int64_t c, Whole whole, Part part) {
    constexpr int L = LANES<S>;
    for (int64_t image = 0; image < m.batch; ++image) {
        int64_t first = (image * m.channels + c) * m.area, last = first + m.area, p = first;
        for (; p + L <= last; p += L) whole(p);
        if (p < last) part(p, last - p);
    }
}

// Sums in vectors, of which every few are added up in double precision.
template <class S, int COUNT>
struct Totals {
    static constexpr int OFTEN = 64;
    Vec<S> some[COUNT] = {};
    double all[COUNT] = {};
    int held = 0;
    INLINE void add(const Vec<S> (&v)[COUNT]) {
#pragma GCC unroll 4
        for (int i = 0; i < COUNT; ++i) some[i] += v[i];
        if (++held == OFTEN) fold();
    }
    void fold() {
        for (int i = 0; i < COUNT; ++i) {
            for (int l = 0; l < LANES<S>; ++l) all[i] += some[i][l];
            some[i] = Vec<S>{};
        }
        held = 0;
    }
};

template <class N, bool RELU, bool RESIDUAL>
void forward_channel(const Maps<Sum<N>>& m, int64_t c, const N* x, const N* residual, double eps, N* y,
                     Sum<N>* means, Sum<N>* variances, Sum<N>* factors) {
    typedef Sum<N> S;
    double count = double(m.batch) * m.area;
    Totals<S, 1> sum;
    each_vector(m, c, [&](int64_t p) { sum.add({load_map(x + p)}); },
                [&](int64_t p, int64_t n) { sum.add({load_map(x + p, n)}); });
    sum.fold();
    S mean = S(sum.all[0] / count);
    Totals<S, 2> about;  // of x - mean, which rounding leaves, and of its square
    each_vector(
        m, c,
        [&](int64_t p) {
            Vec<S> v = load_map(x + p) - mean;
            about.add({v, v * v});
        },
        [&](int64_t p, int64_t n) {
            S some[LANES<S>], flat[LANES<S>] = {};
            store(some, load_map(x + p, n));
            for (int64_t i = 0; i < n; ++i) flat[i] = some[i] - mean;
            Vec<S> v = load(flat);
            about.add({v, v * v});
        });
    about.fold();
    double rest = about.all[0] / count, variance = about.all[1] / count - rest * rest;
    double factor = 1 / std::sqrt(variance + eps);
    means[c] = mean, variances[c] = S(variance), factors[c] = S(factor);
    S scale = S(factor * (m.weight ? m.weight[c] : 1)), shift = m.bias ? m.bias[c] : 0;
    auto normal = [&](Vec<S> v, auto added) {
        v = (v - mean) * scale + shift;
        if (RESIDUAL) v += added;
        return RELU ? relu<S>(v) : v;
    };
    each_vector(
        m, c,
        [&](int64_t p) {
            Vec<S> added = RESIDUAL ? load_map(residual + p) : Vec<S>{};
            store_map(y + p, normal(load_map(x + p), added));
        },
        [&](int64_t p, int64_t n) {
            Vec<S> added = RESIDUAL ? load_map(residual + p, n) : Vec<S>{};
            store_map(y + p, normal(load_map(x + p, n), added), n);
        });
}

// `dr` takes the gradient past the activation: that of the residual, or dx itself, overwritten at last.
template <class N, bool RELU>
void backward_channel(const Maps<Sum<N>>& m, int64_t c, const N* grad, const N* y, const N* x,
                      const Sum<N>* means, const Sum<N>* factors, N* dx, N* dr, Sum<N>* dweight,
                      Sum<N>* dbias) {
    typedef Sum<N> S;
    double count = double(m.batch) * m.area;
    S mean = means[c];
    Totals<S, 2> sums;
    each_vector(
        m, c,
        [&](int64_t p) {
            Vec<S> g = load_map(grad + p);
            if (RELU) g = passed<S>(g, load_map(y + p));
            store_map(dr + p, g);
            sums.add({g, g * (load_map(x + p) - mean)});
        },
        [&](int64_t p, int64_t n) {
            Vec<S> g = load_map(grad + p, n);
            if (RELU) g = passed<S>(g, load_map(y + p, n));
            store_map(dr + p, g, n);
            sums.add({g, g * (load_map(x + p, n) - mean)});  // g is 0 past the map
        });
    sums.fold();
    double factor = factors[c], scale = factor * (m.weight ? m.weight[c] : 1);
    dweight[c] = S(sums.all[1] * factor), dbias[c] = S(sums.all[0]);
    S by_grad = S(scale), by_x = S(-scale * factor * factor * sums.all[1] / count);
    S rest = S(-scale * sums.all[0] / count);
    each_vector(
        m, c,
        [&](int64_t p) {
            store_map(dx + p,
                      load_map(dr + p) * by_grad + (load_map(x + p) - mean) * by_x + rest);
        },
        [&](int64_t p, int64_t n) {
            store_map(dx + p,
                      load_map(dr + p, n) * by_grad + (load_map(x + p, n) - mean) * by_x + rest, n);
        });
}

}  // namespace
