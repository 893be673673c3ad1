// The register tile of a round over vectors: ROWS outputs by WIDE vectors of samples.
//
//   out[r][s] = sum over k of weight(r, k) * x[offset[k]][s]
//
// x and out are panels, WIDE vectors of samples per channel. Every sum runs over k in a fixed order
// inside one tile, so results depend neither on where the weights lie nor on how tiles are distributed
// over threads.
#pragma once
#include "tables.h"

// Where weight(r, k) lies.
enum Weights {
    BY_ROW,     // w[r * stride + k], as they are stored: the forward product's
    SCATTERED,  // w[where[k] + r], as they are stored: the transposed product's (gradient of the input)
    BY_TERM,    // w[k * stride + r], packed: the transposed product's
};

template <class T>
using ProductTile = void (*)(const T* w, ptrdiff_t stride, const int64_t* where, const T* x,
                             const int32_t* offset, ptrdiff_t count, Sum<T>* out);

template <class T, int ROWS, int WIDE, Weights WEIGHTS>
void product_tile(const T* w, ptrdiff_t stride, const int64_t* where, const T* x,
                  const int32_t* offset, ptrdiff_t count, Sum<T>* out) {
    constexpr int L = LANES<T>, WIDTH = WIDE * L;
    ptrdiff_t row_stride = WEIGHTS == BY_ROW ? stride : 1;
    Vec<Sum<T>> sum[ROWS][WIDE] = {};
    // One base pointer for four rows: x86 addresses base, base + s, base + 2s, and base + 3s needs
    // one more register, so 14 rows take 4 pointers and 2 strides.
    ptrdiff_t group = 4 * row_stride;
    for (ptrdiff_t k = 0; k < count; ++k) {
        const T* at = x + ptrdiff_t(offset[k]) * WIDTH;
        Vec<T> v[WIDE];
#pragma GCC unroll 8
        for (int i = 0; i < WIDE; ++i) v[i] = load_once(at + i * L);
        const T* base = w + (WEIGHTS == BY_ROW ? k : WEIGHTS == BY_TERM ? k * stride : where[k]);
        // Stored weights are read once, by too many rows for the hardware: those of the tile's next rows.
        if (WEIGHTS == BY_ROW && ROWS * WIDE >= 8) __builtin_prefetch(w + ROWS * stride + k * ROWS);
        if (WEIGHTS == SCATTERED) {
            // Rows of weights start at addresses that the hardware prefetcher cannot predict. A short
            // one seldom crosses into a second cache line, and a prefetch takes a load's place.
            __builtin_prefetch(w + where[k + AHEAD]);
            if (ROWS * sizeof(T) > 32) __builtin_prefetch(w + where[k + AHEAD] + ROWS - 1);
        }
#pragma GCC unroll 14
        for (int r = 0; r < ROWS; ++r) {
            if (r && r % 4 == 0) base += group;
            T weight = base[r % 4 * row_stride];
#pragma GCC unroll 8
            for (int i = 0; i < WIDE; ++i) add_product<T>(sum[r][i], weight, v[i]);
        }
    }
#pragma GCC unroll 14
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int i = 0; i < WIDE; ++i) store(out + r * WIDTH + i * L, sum[r][i]);
}

// Rows that fit the registers beside WIDE vectors of x and one weight, which takes one more on ARM.
template <int WIDE>
constexpr int MOST_ROWS = std::min((VECTOR_REGISTERS - WIDE - 2 - CLANG_ON_ARM) / WIDE, 14 - CLANG_ON_ARM);

template <class T, int WIDE, Weights WEIGHTS, size_t... R>
ProductTile<T> pick_product(int rows, std::index_sequence<R...>) {
    static const ProductTile<T> table[] = {product_tile<T, R + 1, WIDE, WEIGHTS>...};
    return table[rows - 1];
}

template <class T, int WIDE, Weights WEIGHTS>
ProductTile<T> pick_product(int rows) {
    return pick_product<T, WIDE, WEIGHTS>(rows, std::make_index_sequence<MOST_ROWS<WIDE>>());
}
