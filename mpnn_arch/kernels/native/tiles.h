// The two register tiles of a round on vectors. Every sum runs over k (or over the samples)
// in one fixed order inside one tile, so its bits do not depend on how tiles are shared out.
#pragma once
#include "vector.h"

// ---- product tile: ROWS outputs by WIDE vectors of samples -------------------------------------
//
//   out[r][s] = sum over k of weight(r, k) * x[offset[k] * SCALE + s]
//
// The forward product reads weight(r, k) = w[r * row_stride + k]. The transposed product (gradient
// for the input) reads w[where[k] + r * row_stride], `where` naming the row of the weight block.

// Steps ahead of which memory is prefetched; a transposed product's `offset` and `where` hold as
// many entries past their end.
constexpr int AHEAD = 8;

template <class T>
using ProductTile = void (*)(const T* w, ptrdiff_t row_stride, const int64_t* where, const T* x,
                             const int32_t* offset, ptrdiff_t count, T* out, ptrdiff_t out_stride);

template <class T, int ROWS, int WIDE, int SCALE, bool TRANSPOSED>
void product_tile(const T* w, ptrdiff_t stride, const int64_t* where, const T* x,
                  const int32_t* offset, ptrdiff_t count, T* out, ptrdiff_t out_stride) {
    // In a round on vectors (SCALE > 1) an edge's weights to one row lie side by side.
    const ptrdiff_t row_stride = TRANSPOSED && SCALE > 1 ? 1 : stride;
    constexpr int L = LANES<T>;
    Vec<T> sum[ROWS][WIDE] = {};
    // One base pointer for four rows: x86 addresses base, base + s, base + 2s, and base + 3s needs
    // one more register, so 14 rows take 4 pointers and 2 strides.
    ptrdiff_t group = 4 * row_stride;
    for (ptrdiff_t k = 0; k < count; ++k) {
        const T* at = x + ptrdiff_t(offset[k]) * SCALE;
        Vec<T> v[WIDE];
#pragma GCC unroll 8
        for (int i = 0; i < WIDE; ++i) v[i] = load(at + i * L);
        const T* base = TRANSPOSED ? w + where[k] : w + k;
        if (TRANSPOSED && SCALE > 1) {
            // Every row of weights begins where the processor does not expect it.
            const T* soon = x + ptrdiff_t(offset[k + AHEAD]) * SCALE;
            __builtin_prefetch(soon);
            __builtin_prefetch(soon + L);
            __builtin_prefetch(w + where[k + AHEAD]);
            __builtin_prefetch(w + where[k + AHEAD] + ROWS - 1);
        }
#pragma GCC unroll 14
        for (int r = 0; r < ROWS; ++r) {
            if (r && r % 4 == 0) base += group;
            T weight = base[r % 4 * row_stride];
#pragma GCC unroll 8
            for (int i = 0; i < WIDE; ++i) sum[r][i] += weight * v[i];
        }
    }
#pragma GCC unroll 14
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int i = 0; i < WIDE; ++i) store(out + r * out_stride + i * L, sum[r][i]);
}

// Rows that fit the registers beside WIDE vectors of x and one weight.
template <int WIDE>
constexpr int MOST_ROWS = (VECTOR_REGISTERS - WIDE - 2) / WIDE < 14
                              ? (VECTOR_REGISTERS - WIDE - 2) / WIDE
                              : 14;

template <class T, int WIDE, int SCALE, bool TRANSPOSED, size_t... R>
ProductTile<T> pick_product(int rows, std::index_sequence<R...>) {
    static const ProductTile<T> table[] = {product_tile<T, R + 1, WIDE, SCALE, TRANSPOSED>...};
    return table[rows - 1];
}

template <class T, int WIDE, int SCALE, bool TRANSPOSED>
ProductTile<T> pick_product(int rows) {
    return pick_product<T, WIDE, SCALE, TRANSPOSED>(rows,
                                                    std::make_index_sequence<MOST_ROWS<WIDE>>());
}

// ---- outer tile: ROWS rows of a weight block by COLS vectors of its columns --------------------
//
//   out[r][c] = sum over samples of g[sample][r] * x[sample][c]
//
// Samples go in units: a vector holds PLACES channels of x, UNIT samples of each, and g's unit is
// repeated along it. A unit is short, so a vector wastes little on a run of few channels and its
// lanes need little adding up.
//
// Both lie as [groups][units][HELD][UNIT]. A group is GROUP channels and the first of the next one,
// so neither a vector nor a tile leaves it; the units of a channel lie close to each other, and
// HELD spreads them over the sets of a cache.

constexpr int GROUP = 128, HELD = 140;

template <class T>
INLINE int64_t grouped_size(int64_t channels, int64_t units) {
    return (channels + GROUP - 1) / GROUP * units * HELD * UNIT<T>;
}
template <class T>
INLINE int64_t grouped(int64_t channel, int64_t units) {
    return channel / GROUP * units * HELD * UNIT<T> + channel % GROUP * UNIT<T>;
}

template <class T>
struct OuterTask {
    const T* g;                    // at the tile's first row
    const T* x;
    ptrdiff_t units, units_held;   // to sum over, and those that x and g have room for
    const int32_t* start;          // first channel of each vector
    const int32_t* column;         // where its sums go, and where those of the next one go
    int32_t row_width;             // columns of the block
    T* out;                        // at the tile's first row
    bool add;
};

template <class T>
using OuterTile = void (*)(const OuterTask<T>&);

// PLACES sums into their columns, of which the first `real` count.
template <class T>
INLINE void put_sums(const T* from, T* to, int32_t real, int32_t room, bool add) {
    if (real == PLACES<T> || (!add && room >= PLACES<T>)) {
        // Sums past `real` are overwritten by the vector to the right, which comes later.
        for (int i = 0; i < PLACES<T>; ++i) to[i] = add ? to[i] + from[i] : from[i];
    } else {
        for (int32_t i = 0; i < real; ++i) to[i] = add ? to[i] + from[i] : from[i];
    }
}

template <class T, int ROWS, int COLS>
void outer_tile(const OuterTask<T>& t) {
    Vec<T> sum[ROWS][COLS] = {};
    const T* at[COLS];
#pragma GCC unroll 8
    for (int c = 0; c < COLS; ++c) at[c] = t.x + grouped<T>(t.start[c], t.units_held);
    const T* g = t.g;
    for (ptrdiff_t q = 0; q < t.units; ++q, g += HELD * UNIT<T>) {
        const ptrdiff_t shift = q * HELD * UNIT<T>;
        Vec<T> v[COLS];
#pragma GCC unroll 8
        for (int c = 0; c < COLS; ++c) {
            v[c] = load(at[c] + shift);
            __builtin_prefetch(at[c] + shift + AHEAD * HELD * UNIT<T>);
        }
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; ++r) {
            Vec<T> repeated = repeat_unit<T>(g + r * UNIT<T>);
#pragma GCC unroll 8
            for (int c = 0; c < COLS; ++c) sum[r][c] += repeated * v[c];
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; ++r) {
        T* row = t.out + ptrdiff_t(r) * t.row_width;
        T flat[(COLS + 1) * PLACES<T>];
#pragma GCC unroll 4
        for (int c = 0; c < COLS; c += UNIT<T>) {
            if (UNIT<T> == 1) store(flat + c * PLACES<T>, sum[r][c]);
            else store(flat + c * PLACES<T>, sum_pairs<T>(sum[r][c], sum[r][c + (c + 1 < COLS)]));
        }
#pragma GCC unroll 4
        for (int c = 0; c < COLS; ++c)
            put_sums(flat + c * PLACES<T>, row + t.column[c], t.column[c + 1] - t.column[c],
                     t.row_width - t.column[c], t.add);
    }
}

// The wider the tile, the fewer rows fit beside it.
constexpr int OUTER_COLS = VECTOR_REGISTERS == 32 ? 3 : 2;
constexpr int OUTER_ROWS = VECTOR_REGISTERS == 32 ? 9 : 5;
static_assert(OUTER_ROWS <= HELD - GROUP, "a tile's rows must lie in one group");

template <class T, int COLS, size_t... R>
OuterTile<T> pick_outer(int rows, std::index_sequence<R...>) {
    static const OuterTile<T> table[] = {outer_tile<T, R + 1, COLS>...};
    return table[rows - 1];
}

template <class T>
OuterTile<T> pick_outer(int rows, int cols) {
    constexpr auto all = std::make_index_sequence<OUTER_ROWS>();
    switch (cols) {
        case 1: return pick_outer<T, 1>(rows, all);
        case 2: return pick_outer<T, 2>(rows, all);
        default: return pick_outer<T, OUTER_COLS>(rows, all);
    }
}
