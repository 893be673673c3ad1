// What batch normalisation works on: numbers N, which are float, double or bfloat16, of channels that are
// computed in Sum<N>, of which the parameters and statistics are, too.
#pragma once
#include <cmath>

#include "checks.h"
#include "relu.h"

namespace {

// Maps (batch, channels, area), and what a channel is multiplied by and added to; null for none.
template <class S>
struct Maps {
    int64_t batch, channels, area, threads;
    const S *weight, *bias;
};

template <class S>
void require_maps(const Maps<S>* m) {
    require(m && m->batch >= 1 && m->channels >= 1 && m->area >= 1);
    for (int64_t size : {m->batch, m->channels, m->area}) require(size <= MOST_INDEX);
    require(double(m->batch) * m->channels * m->area <= MOST_NUMBERS);
}

// A vector of a map's numbers, widened; part of one, the rest of it zeros; and back.
template <class N>
INLINE Vec<Sum<N>> load_map(const N* p) {
    if constexpr (std::is_same<N, Bf16>::value) return (Vec<float>)(widen(p) << 16);
    else return load(p);
}
template <class N>
INLINE Vec<Sum<N>> load_map(const N* p, int64_t count) {
    N some[LANES<Sum<N>>] = {};
    memcpy(some, p, count * sizeof(N));
    return load_map(some);
}
template <class N>
INLINE void store_map(N* p, Vec<Sum<N>> v) {
    if constexpr (std::is_same<N, Bf16>::value)
        *reinterpret_cast<LooseHalf*>(p) = round_to_bf16<LANES<float>>(v);
    else store(p, v);
}
template <class N>
INLINE void store_map(N* p, Vec<Sum<N>> v, int64_t count) {
    N some[LANES<Sum<N>>];
    store_map(some, v);
    memcpy(p, some, count * sizeof(N));
}

}  // namespace
