// Batch normalisation of maps with what follows it in a round, channel by channel:
//
//   y = relu(weight (x - mean) / sqrt(variance + eps) + bias + residual)
//
// A channel's maps stay in a cache between the passes over them, so memory is read and written once.
// One thread sums a channel, in a fixed order, so results do not depend on the number of threads.
#include <cmath>

#include "checks.h"

namespace {

// Maps (batch, channels, area), and what a channel is multiplied by and added to; null for none.
struct Maps {
    int64_t batch, channels, area, threads;
    const T *weight, *bias;
};

void require_maps(const Maps* m) {
    require(m && m->batch >= 1 && m->channels >= 1 && m->area >= 1);
    for (int64_t size : {m->batch, m->channels, m->area}) require(size <= MOST_INDEX);
    require(double(m->batch) * m->channels * m->area <= MOST_NUMBERS);
}

typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Bit;
typedef Bit Bits __attribute__((vector_size(sizeof(Vec<T>))));

// As torch's: NaN stays, and its gradient passes.
INLINE Vec<T> relu(Vec<T> v) { return (Vec<T>)((Bits)v & ~(Bits)(v < Vec<T>{})); }
INLINE Vec<T> passed(Vec<T> grad, Vec<T> y) { return (Vec<T>)((Bits)grad & ~(Bits)(y <= Vec<T>{})); }

// Part of a map in a vector; the rest of it is zeros.
INLINE Vec<T> load_some(const T* p, int64_t count) {
    T some[LANES<T>] = {};
    memcpy(some, p, count * sizeof(T));
    return load(some);
}
INLINE void store_some(T* p, int64_t count, Vec<T> v) { memcpy(p, &v, count * sizeof(T)); }

// Calls whole(offset) for vectors of channel c's maps and part(offset, count) for what is left of each.
template <class Whole, class Part>
INLINE void each_vector(const Maps& m, int64_t c, Whole whole, Part part) {
    constexpr int L = LANES<T>;
    for (int64_t image = 0; image < m.batch; ++image) {
        int64_t first = (image * m.channels + c) * m.area, last = first + m.area, p = first;
        for (; p + L <= last; p += L) whole(p);
        if (p < last) part(p, last - p);
    }
}

// Sums in vectors, of which every few are added up in double precision.
template <int COUNT>
struct Sums {
    static constexpr int OFTEN = 64;
    Vec<T> some[COUNT] = {};
    double all[COUNT] = {};
    int held = 0;
    INLINE void add(const Vec<T> (&v)[COUNT]) {
#pragma GCC unroll 4
        for (int i = 0; i < COUNT; ++i) some[i] += v[i];
        if (++held == OFTEN) fold();
    }
    void fold() {
        for (int i = 0; i < COUNT; ++i) {
            for (int l = 0; l < LANES<T>; ++l) all[i] += some[i][l];
            some[i] = Vec<T>{};
        }
        held = 0;
    }
};

template <bool RELU, bool RESIDUAL>
void forward_channel(const Maps& m, int64_t c, const T* x, const T* residual, double eps, T* y,
                     T* means, T* variances, T* factors) {
    double count = double(m.batch) * m.area;
    Sums<1> sum;
    each_vector(m, c, [&](int64_t p) { sum.add({load(x + p)}); },
                [&](int64_t p, int64_t n) { sum.add({load_some(x + p, n)}); });
    sum.fold();
    T mean = T(sum.all[0] / count);
    Sums<2> about;  // of x - mean, which rounding leaves, and of its square
    each_vector(
        m, c,
        [&](int64_t p) {
            Vec<T> v = load(x + p) - mean;
            about.add({v, v * v});
        },
        [&](int64_t p, int64_t n) {
            T flat[LANES<T>] = {};
            for (int64_t i = 0; i < n; ++i) flat[i] = x[p + i] - mean;
            Vec<T> v = load(flat);
            about.add({v, v * v});
        });
    about.fold();
    double rest = about.all[0] / count, variance = about.all[1] / count - rest * rest;
    double factor = 1 / std::sqrt(variance + eps);
    means[c] = mean, variances[c] = T(variance), factors[c] = T(factor);
    T scale = T(factor * (m.weight ? m.weight[c] : 1)), shift = m.bias ? m.bias[c] : 0;
    auto normal = [&](Vec<T> v, auto added) {
        v = (v - mean) * scale + shift;
        if (RESIDUAL) v += added;
        return RELU ? relu(v) : v;
    };
    each_vector(
        m, c,
        [&](int64_t p) { store(y + p, normal(load(x + p), RESIDUAL ? load(residual + p) : Vec<T>{})); },
        [&](int64_t p, int64_t n) {
            Vec<T> added = RESIDUAL ? load_some(residual + p, n) : Vec<T>{};
            store_some(y + p, n, normal(load_some(x + p, n), added));
        });
}

// `dr` takes the gradient past the activation: that of the residual, or dx itself, overwritten at last.
template <bool RELU>
void backward_channel(const Maps& m, int64_t c, const T* grad, const T* y, const T* x, const T* means,
                      const T* factors, T* dx, T* dr, T* dweight, T* dbias) {
    double count = double(m.batch) * m.area;
    T mean = means[c];
    Sums<2> sums;
    each_vector(
        m, c,
        [&](int64_t p) {
            Vec<T> g = load(grad + p);
            if (RELU) g = passed(g, load(y + p));
            store(dr + p, g);
            sums.add({g, g * (load(x + p) - mean)});
        },
        [&](int64_t p, int64_t n) {
            Vec<T> g = load_some(grad + p, n);
            if (RELU) g = passed(g, load_some(y + p, n));
            store_some(dr + p, n, g);
            sums.add({g, g * (load_some(x + p, n) - mean)});  // g is 0 past the map
        });
    sums.fold();
    double factor = factors[c], scale = factor * (m.weight ? m.weight[c] : 1);
    dweight[c] = T(sums.all[1] * factor), dbias[c] = T(sums.all[0]);
    T by_grad = T(scale), by_x = T(-scale * factor * factor * sums.all[1] / count);
    T rest = T(-scale * sums.all[0] / count);
    each_vector(
        m, c,
        [&](int64_t p) {
            store(dx + p, load(dr + p) * by_grad + (load(x + p) - mean) * by_x + rest);
        },
        [&](int64_t p, int64_t n) {
            store_some(dx + p, n,
                       load_some(dr + p, n) * by_grad + (load_some(x + p, n) - mean) * by_x + rest);
        });
}

template <class Run>
void each_channel(const Maps& m, Run run) {
    parallel(team_size(std::min(m.threads, m.channels)),
             [&](const Team& team) { team.each(m.channels, run); });
}

}  // namespace

extern "C" {

// y, and (channels,) means, variances and 1 / sqrt(variance + eps); `residual` may be null.
EXPORT int NAMED(norm_forward)(const Maps* m, const T* x, const T* residual, double eps, int64_t relu,
                        T* y, T* means, T* variances, T* factors) {
    return checked([&] {
        require_maps(m);
        require(x && y && means && variances && factors);
        auto run = relu ? residual ? forward_channel<true, true> : forward_channel<true, false>
                        : residual ? forward_channel<false, true> : forward_channel<false, false>;
        each_channel(*m, [&](int64_t c) {
            run(*m, c, x, residual, eps, y, means, variances, factors);
        });
    });
}

// Gradients with respect to x, weight and bias; and to the residual, if dr is not null. `y` is null
// where no activation followed.
EXPORT int NAMED(norm_backward)(const Maps* m, const T* grad, const T* y, const T* x, const T* means,
                         const T* factors, T* dx, T* dr, T* dweight, T* dbias) {
    return checked([&] {
        require_maps(m);
        require(grad && x && means && factors && dx && dweight && dbias);
        auto run = y ? backward_channel<true> : backward_channel<false>;
        each_channel(*m, [&](int64_t c) {
            run(*m, c, grad, y, x, means, factors, dx, dr ? dr : dx, dweight, dbias);
        });
    });
}

}  // extern "C"
