// Two of the three register tiles that do all the arithmetic; outer.h has the third. Every sum runs over k (or over the samples)
// in one fixed order inside one tile, so its bits do not depend on how tiles are shared out.
#pragma once
#include "vector.h"

// ---- product tile: ROWS outputs by WIDE vectors of samples -------------------------------------
//
//   out[r][s] = sum over k of weight(r, k) * x[offset[k] * SCALE + s]
//
// The forward product reads weight(r, k) = w[r * row_stride + k]. The transposed product (gradient
// for the input) reads w[where[k] + r * row_stride], `where` naming the row of the weight block.

// Steps ahead of which weights are prefetched; a transposed product's `where` holds as many entries
// past its end.
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

// ---- dot tile: ROWS rows by COLS columns of a weight block, along lines of samples ---------------
//
//   out[r][c] = sum over s of g[r * line + s] * x[start[c] + s]
//
// Each column may start anywhere, as the taps of a kernel do.

template <class T>
using DotTile = void (*)(const T* g, ptrdiff_t line, const T* x, const int64_t* start,
                         ptrdiff_t length, T* out, ptrdiff_t out_stride, bool add);

template <class T, int ROWS, int COLS>
void dot_tile(const T* g, ptrdiff_t line, const T* x, const int64_t* start, ptrdiff_t length,
              T* out, ptrdiff_t out_stride, bool add) {
    constexpr int L = LANES<T>;
    Vec<T> sum[ROWS][COLS] = {};
    const T *at[COLS], *row[ROWS];
#pragma GCC unroll 8
    for (int c = 0; c < COLS; ++c) at[c] = x + start[c];
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; ++r) row[r] = g + r * line;
    for (ptrdiff_t s = 0; s < length; s += L) {
        Vec<T> v[COLS];
#pragma GCC unroll 8
        for (int c = 0; c < COLS; ++c) v[c] = load(at[c] + s);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; ++r) {
            Vec<T> u = load(row[r] + s);
#pragma GCC unroll 8
            for (int c = 0; c < COLS; ++c) sum[r][c] += u * v[c];
        }
    }
    // Lanes are added up four vectors at a time, first within quads, then the quads.
    Vec<T> quads[ROWS];
    const Vec<T> none = {};
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; ++r)
        quads[r] = sum_quads<T>(sum[r][0], COLS > 1 ? sum[r][COLS > 1] : none,
                                COLS > 2 ? sum[r][COLS > 2 ? 2 : 0] : none,
                                COLS > 3 ? sum[r][COLS > 3 ? 3 : 0] : none);
    T flat[(ROWS + 3) * QUAD];
    constexpr int STEP = L / QUAD;  // rows whose sums fill a vector
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r += STEP) {
        Vec<T> total = quads[r];
        if (STEP == 2) total = sum_pairs<T>(quads[r], quads[r + (r + 1 < ROWS)]);
        if (STEP == 4)
            total = sum_quads<T>(quads[r], r + 1 < ROWS ? quads[r + (r + 1 < ROWS)] : none,
                                 r + 2 < ROWS ? quads[r + 2 * (r + 2 < ROWS)] : none,
                                 r + 3 < ROWS ? quads[r + 3 * (r + 3 < ROWS)] : none);
        store(flat + r * QUAD, total);
    }
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < COLS; ++c) {
            T* to = out + r * out_stride + c;
            *to = add ? *to + flat[r * QUAD + c] : flat[r * QUAD + c];
        }
}

constexpr int DOT_COLS = 4;
constexpr int DOT_ROWS = VECTOR_REGISTERS == 32 ? 6 : 2;

template <class T, int COLS, size_t... R>
DotTile<T> pick_dot(int rows, std::index_sequence<R...>) {
    static const DotTile<T> table[] = {dot_tile<T, R + 1, COLS>...};
    return table[rows - 1];
}

template <class T>
DotTile<T> pick_dot(int rows, int cols) {
    constexpr auto all = std::make_index_sequence<DOT_ROWS>();
    switch (cols) {
        case 1: return pick_dot<T, 1>(rows, all);
        case 2: return pick_dot<T, 2>(rows, all);
        case 3: return pick_dot<T, 3>(rows, all);
        default: return pick_dot<T, 4>(rows, all);
    }
}
