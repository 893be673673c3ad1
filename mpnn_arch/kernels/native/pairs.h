// Rounds in bfloat16: numbers are multiplied in pairs of adjacent terms, summed in float and rounded once.
//
// The terms of a sum are channels, and a pair is two adjacent channels of one node's share. A share of
// odd size is padded with a zero. Of a gradient with respect to weights the terms are samples.
#pragma once
#include "checks.h"
#include "panel.h"

// A plan whose terms are pairs: `plan.forward` and `plan.backward` count them. Rows of weights are read
// where the tensor has them.
struct PairPlan {
    Plan plan;                 // its channels are those of the round
    int64_t in_pairs, out_pairs;
    const int32_t* in_size;    // (N) channels of every share
    const int32_t* out_size;
    const int32_t* in_start;   // (in_pairs + 1) first channel of every pair, and the end
    const int32_t* out_start;
    const int64_t* edge;       // (N + 1) node v receives along edge[v] .. edge[v + 1]
    const int32_t* edge_size;  // (E) channels that the edge's sender has
    const int64_t* row_step;   // (backward terms) from a pair's first row of weights to its second, or 0
};

inline void require_pairs(const PairPlan* pairs, const void* first, const void* second, const void* written) {
    require(pairs);
    require_plan(&pairs->plan, first, second, written);
    for (int64_t count : {pairs->in_pairs, pairs->out_pairs}) require(count >= 1 && count <= MOST_INDEX);
}

// Some shares one after the other -> the same, each padded to whole pairs. Vectors are copied past a share,
// where neither what is read nor what is written ends, and overwritten by the next one.
inline Bf16* pad_shares(const Bf16* from, const Bf16* from_end, const int32_t* size, int64_t shares,
                        Bf16* to, const Bf16* to_end) {
    constexpr int L = LANES<Bf16>;
    for (int64_t i = 0; i < shares; ++i) {
        int64_t count = size[i], whole = (count + L - 1) / L * L;
        if (from_end - from >= whole && to_end - to >= whole)
            for (int64_t j = 0; j < count; j += L) store(to + j, load(from + j));
        else
            memcpy(to, from, count * sizeof(Bf16));
        from += count, to += count;
        if (count % 2) *to++ = 0;
    }
    return to;
}

// Sums -> bfloat16, with a bias. Inlined, as only some sources are compiled for processors with its instructions.
INLINE void round_all(const float* from, int64_t count, float bias, Bf16* to) {
    constexpr int L = LANES<float>;
    int64_t i = 0;
    for (; i + L <= count; i += L)
        *reinterpret_cast<LooseHalf*>(to + i) = round_to_bf16<L>(load(from + i) + bias);
    for (; i < count; ++i) to[i] = round_to_bf16(from[i] + bias);
}

// The weights that node v's outputs read -> [rows][pairs of terms], `area` numbers each.
inline void pack_row_pairs(const PairPlan& pairs, int64_t v, const Bf16* weight, int64_t area, Pair* to) {
    const Side& side = pairs.plan.forward;
    int64_t rows = side.channels[v + 1] - side.channels[v];
    const Bf16* from = weight + pairs.plan.weight_offset[v] * area;
    to += side.cost[v] * area;
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t e = pairs.edge[v]; e < pairs.edge[v + 1]; ++e)
            for (int64_t left = pairs.edge_size[e]; left > 0; left -= 2, to += area) {
                pair_all(from, left > 1 ? from + area : nullptr, area, to);
                from += std::min<int64_t>(left, 2) * area;
            }
}

// Rows whose numbers lie in pairs, from an address that need not be a pair's.
struct PairRows {
    typedef Pair Number;
    const Bf16* x;
    int64_t row, count;  // `row` in bfloat16

    INLINE const Pair* from(int64_t i, int64_t c) const {
        return reinterpret_cast<const Pair*>(x + i * row + 2 * c);
    }
    INLINE Pair at(int64_t i, int64_t c) const {
        return pair_up(x[i * row + 2 * c], x[i * row + 2 * c + 1]);
    }
    INLINE Vec<Pair> vector(int64_t i, int64_t c) const { return load(from(i, c)); }
    INLINE void prefetch(int64_t i, int64_t c) const { __builtin_prefetch(x + i * row + 2 * c); }
};

// Rows 2 i and 2 i + 1 of samples as row i of pairs.
struct SamplePairs {
    typedef Pair Number;
    const Bf16* x;
    int64_t row, batch, count;  // `count` is of pairs

    SamplePairs(const Bf16* x, int64_t row, int64_t batch)
        : x(x), row(row), batch(batch), count((batch + 1) / 2) {}
    INLINE Pair at(int64_t i, int64_t c) const {
        const Bf16* low = x + 2 * i * row + c;
        return pair_up(*low, 2 * i + 1 < batch ? low[row] : Bf16(0));
    }
    INLINE Vec<Pair> vector(int64_t i, int64_t c) const {
        const Bf16* low = x + 2 * i * row + c;
        return 2 * i + 1 < batch ? pair_up(low, low + row) : widen(low);
    }
    INLINE void prefetch(int64_t i, int64_t c) const {
        __builtin_prefetch(x + 2 * i * row + c);
        __builtin_prefetch(x + (2 * i + 1) * row + c);
    }
};

// The weights that node v's outputs read in a transposed product -> [pairs of terms][rows], `area` numbers
// each.
inline void pack_term_pairs(const PairPlan& pairs, int64_t v, const Bf16* weight, int64_t area, Pair* to) {
    const Side& side = pairs.plan.backward;
    int64_t run = (side.channels[v + 1] - side.channels[v]) * area;
    to += side.cost[v] * area;
    for (int64_t k = side.start[v]; k < side.start[v + 1]; ++k, to += run) {
        const Bf16* low = weight + side.where[k] * area;
        int64_t step = pairs.row_step[k] * area;
        // Rows of weights start at addresses that the hardware prefetcher cannot predict. Most pairs have the
        // same step.
        const Bf16* next = weight + side.where[k + PACKED_AHEAD] * area;
        __builtin_prefetch(next);
        __builtin_prefetch(next + step);
        pair_all(low, step ? low + step : nullptr, run, to);
    }
}
