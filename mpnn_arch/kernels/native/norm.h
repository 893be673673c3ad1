// Batch normalisation with what follows it in a round:
//
//   y = relu(weight (x - mean) / sqrt(variance + eps) + bias + residual)
//
// One thread sums a channel, in a fixed order, so results do not depend on the number of threads.
#pragma once
#include "norm_maps.h"
#include "norm_rows.h"

namespace {

// Calls run(i) for 0 <= i < count, each on one thread.
template <class S, class Run>
void share_out(const Maps<S>& m, int64_t count, Run run) {
    parallel(team_size(std::min(m.threads, count)),
             [&](const Team& team) { team.each(count, run); });
}

template <class S>
int64_t blocks_of(const Maps<S>& m) {
    return (m.channels + CHANNELS_AT_ONCE<S> - 1) / CHANNELS_AT_ONCE<S>;
}

template <class N, bool RELU, bool RESIDUAL>
void forward(const Maps<Sum<N>>& m, const N* x, const N* residual, double eps, N* y, Sum<N>* means,
             Sum<N>* variances, Sum<N>* factors) {
    if (m.area > 1)
        return share_out(m, m.channels, [&](int64_t c) {
            forward_channel<N, RELU, RESIDUAL>(m, c, x, residual, eps, y, means, variances, factors);
        });
    share_out(m, blocks_of(m), [&](int64_t block) {
        each_block<N>(m, block, [&](auto channels) {
            forward_block<N, channels.WIDE, RELU, RESIDUAL>(channels, x, residual, eps, y, means,
                                                             variances, factors);
        });
    });
}

template <class N, bool RELU>
void backward(const Maps<Sum<N>>& m, const N* grad, const N* y, const N* x, const Sum<N>* means,
              const Sum<N>* factors, N* dx, N* dr, Sum<N>* dweight, Sum<N>* dbias) {
    if (m.area > 1)
        return share_out(m, m.channels, [&](int64_t c) {
            backward_channel<N, RELU>(m, c, grad, y, x, means, factors, dx, dr ? dr : dx, dweight,
                                      dbias);
        });
    share_out(m, blocks_of(m), [&](int64_t block) {
        each_block<N>(m, block, [&](auto channels) {
            backward_block<N, channels.WIDE, RELU>(channels, grad, y, x, means, factors, dx, dr,
                                                    dweight, dbias);
        });
    });
}

template <class N>
int run_forward(const Maps<Sum<N>>* m, const N* x, const N* residual, double eps, int64_t relu, N* y,
                Sum<N>* means, Sum<N>* variances, Sum<N>* factors) {
    return checked([&] {
        require_maps(m);
        require(x && y && means && variances && factors);
        auto run = relu ? residual ? forward<N, true, true> : forward<N, true, false>
                        : residual ? forward<N, false, true> : forward<N, false, false>;
        run(*m, x, residual, eps, y, means, variances, factors);
    });
}

template <class N>
int run_backward(const Maps<Sum<N>>* m, const N* grad, const N* y, const N* x, const Sum<N>* means,
                 const Sum<N>* factors, N* dx, N* dr, Sum<N>* dweight, Sum<N>* dbias) {
    return checked([&] {
        require_maps(m);
        require(grad && x && means && factors && dx && dweight && dbias);
        auto run = y ? backward<N, true> : backward<N, false>;
        run(*m, grad, y, x, means, factors, dx, dr, dweight, dbias);
    });
}

}  // namespace
