// The register tiles of a round over maps. Every sum runs over its terms (or positions) in a fixed
// order inside one tile, so results do not depend on how tiles are distributed over threads.
#pragma once
#include "vector.h"

// ---- tap tile: ROWS outputs and TAPS taps of each by WIDE vectors of positions ------------------
//
//   out[r][t][p] = sum over k of w[where[k] + r * row_stride + t * tap_stride] * x[offset[k] + p]
//
// Adjacent taps in a row of a kernel read the same positions. Their sums are shifted and added up
// once all terms are summed (`add_lines`), so a vector of x is loaded once for all of them, without
// a shift, and no position between two lines is ever computed.

constexpr int MOST_TAPS = 3;
constexpr int TILE_SUMS = 6;  // at most ROWS * TAPS
constexpr int TILE_WIDE = VECTOR_REGISTERS == 32 ? 4 : 2;
// With MOST_TAPS taps, where registers allow it, also this many rows by one vector less.
constexpr int TALL_ROWS = VECTOR_REGISTERS == 32 ? 3 : 0;
constexpr int TALL_WIDE = TILE_WIDE - 1;

template <class T>
struct TapTask {
    const T* w;
    ptrdiff_t row_stride, tap_stride;
    const int64_t* where;
    const T* x;
    const int32_t* offset;
    ptrdiff_t count;               // terms
    Sum<T>* out;
    ptrdiff_t row_out, tap_out;
    bool maps;                     // `out` is rows of maps, else scratch memory
};

// Prefetch distance of scattered weights, in terms; `where` has as many entries past its end.
constexpr int TERMS_AHEAD = 36;

template <class T>
using TapTile = void (*)(const TapTask<T>&);

// SCATTERED: the hardware cannot predict where the weights of a term lie.
template <class T, bool SCATTERED, int TAPS, int ROWS, int WIDE>
void tap_tile(const TapTask<T>& task) {
    constexpr int L = LANES<T>;
    Vec<Sum<T>> sum[ROWS][TAPS][WIDE] = {};
    const ptrdiff_t row_stride = task.row_stride, tap_stride = task.tap_stride;
    const int64_t* where = task.where;
    const int32_t* offset = task.offset;
    const T *w = task.w, *x = task.x;
    if (TAPS == 1 && task.maps) {
        // Sums are written in short pieces of many maps, which wait for their cache lines one after the other.
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
            for (int i = 0; i < WIDE; ++i) __builtin_prefetch(task.out + r * task.row_out + i * L, 1);
    }
    for (ptrdiff_t k = 0, count = task.count; k < count; ++k) {
        const T* at = x + offset[k];
        Vec<T> v[WIDE];
#pragma GCC unroll 8
        for (int i = 0; i < WIDE; ++i) v[i] = load_once(at + i * L);
        if (SCATTERED) {
            const T* next = w + where[k + TERMS_AHEAD];
            __builtin_prefetch(next);
            if (ROWS > 1) __builtin_prefetch(next + (ROWS - 1) * row_stride);
            if (ROWS > 3) __builtin_prefetch(next + ROWS / 2 * row_stride);
        }
        const T* row = w + where[k];
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r, row += row_stride)
#pragma GCC unroll 8
            for (int t = 0; t < TAPS; ++t) {
                T weight = row[t * tap_stride];
#pragma GCC unroll 8
                for (int i = 0; i < WIDE; ++i) add_product<T>(sum[r][t][i], weight, v[i]);
            }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int t = 0; t < TAPS; ++t)
#pragma GCC unroll 8
            for (int i = 0; i < WIDE; ++i)
                store(task.out + r * task.row_out + t * task.tap_out + i * L, sum[r][t][i]);
}

template <class T, bool SCATTERED, int TAPS, int ROWS, size_t... W>
TapTile<T> pick_tap_tile(int wide, std::index_sequence<W...>) {
    static const TapTile<T> table[] = {tap_tile<T, SCATTERED, TAPS, ROWS, W + 1>...};
    return table[wide - 1];
}

template <class T, bool SCATTERED, int TAPS>
TapTile<T> pick_tap_tile(int rows, int wide) {
    constexpr auto all = std::make_index_sequence<TILE_WIDE>();
    constexpr int MOST = TILE_SUMS / TAPS;
    if (TALL_ROWS && TAPS == MOST_TAPS && rows == TALL_ROWS)
        return pick_tap_tile<T, SCATTERED, TAPS, 3>(wide, std::make_index_sequence<TALL_WIDE>());
    switch (rows) {
        case 1: return pick_tap_tile<T, SCATTERED, TAPS, 1>(wide, all);
        case 2: return pick_tap_tile<T, SCATTERED, TAPS, MOST < 2 ? 1 : 2>(wide, all);
        case 3: return pick_tap_tile<T, SCATTERED, TAPS, MOST < 3 ? 1 : 3>(wide, all);
        case 4: return pick_tap_tile<T, SCATTERED, TAPS, MOST < 4 ? 1 : 4>(wide, all);
        case 5: return pick_tap_tile<T, SCATTERED, TAPS, MOST < 5 ? 1 : 5>(wide, all);
        default: return pick_tap_tile<T, SCATTERED, TAPS, MOST < 6 ? 1 : 6>(wide, all);
    }
}

template <class T, bool SCATTERED>
TapTile<T> pick_tap_tile(int taps, int rows, int wide) {
    switch (taps) {
        case 1: return pick_tap_tile<T, SCATTERED, 1>(rows, wide);
        case 2: return pick_tap_tile<T, SCATTERED, 2>(rows, wide);
        default: return pick_tap_tile<T, SCATTERED, 3>(rows, wide);
    }
}

// ---- shifted lines ------------------------------------------------------------------------------

template <class T>
INLINE T masked(T v, Mask<T> mask) {
    return mask ? v : T(0);
}

// One line of numbers, read at an offset of `shift` where the mask is set; null masks nothing.
template <class T>
struct Shifted {
    ptrdiff_t line, shift;
    const Mask<T>* mask;
};

template <class T, int COUNT>
void add_lines(const T* z, const Shifted<T>* lines, ptrdiff_t first, ptrdiff_t last, T* to) {
    constexpr int L = LANES<T>;
    const T* from[COUNT];
    const Mask<T>* mask[COUNT];
    for (int i = 0; i < COUNT; ++i)
        from[i] = z + lines[i].line + lines[i].shift, mask[i] = lines[i].mask;
    auto vector = [&](ptrdiff_t p) {
        Vec<T> sum = {};
#pragma GCC unroll 4
        for (int i = 0; i < COUNT; ++i) {
            Vec<T> v = load(from[i] + p);
            sum += mask[i] ? masked<T>(v, mask[i] + p) : v;
        }
        return sum;
    };
    ptrdiff_t p = first;
    for (; p + L <= last; p += L) store(to + p - first, vector(p));
    if (p < last) {
        T rest[L];
        store(rest, vector(p));
        for (ptrdiff_t i = 0; p + i < last; ++i) to[p - first + i] = rest[i];
    }
}

// to[p - first] = sum over lines of their numbers at p, for first <= p < last. Lines must be
// readable for one vector past their end.
template <class T>
void add_lines(const T* z, const Shifted<T>* lines, ptrdiff_t count, ptrdiff_t first,
               ptrdiff_t last, T* to) {
    switch (count) {
        case 0: memset(to, 0, (last - first) * sizeof(T)); return;
        case 1: return add_lines<T, 1>(z, lines, first, last, to);
        case 2: return add_lines<T, 2>(z, lines, first, last, to);
        case 3: return add_lines<T, 3>(z, lines, first, last, to);
    }
    add_lines<T, 3>(z, lines, first, last, to);
    for (ptrdiff_t i = 3; i < count; ++i) {
        const T* from = z + lines[i].line + lines[i].shift + first;
        for (ptrdiff_t p = 0; p < last - first; ++p)
            to[p] += lines[i].mask ? masked(from[p], lines[i].mask[first + p]) : from[p];
    }
}

// ---- dot tile: ROWS rows by COLS columns of a weight block, summed over positions ---------------
//
//   out[row_at[r] + column_at[c]] = sum over images and positions of
//                                   g[r * g_line + image * g_image + p] *
//                                   x[start[c] + image * x_image + p]
//
// `length`, the number of positions per image, is a multiple of a vector.

template <class T>
struct DotTask {
    const T* g;
    ptrdiff_t g_line, g_image;
    const T* x;
    ptrdiff_t x_image;
    const int64_t* start;
    ptrdiff_t images, length;
    Sum<T>* out;
    const int64_t *row_at, *column_at;
    bool add;
};

template <class T>
using DotTile = void (*)(const DotTask<T>&);

template <class T, int ROWS, int COLS>
void dot_tile(const DotTask<T>& task) {
    typedef Sum<T> S;
    constexpr int L = LANES<T>;
    Vec<S> sum[ROWS][COLS] = {};
    const T *at[COLS], *row[ROWS];
#pragma GCC unroll 8
    for (int c = 0; c < COLS; ++c) at[c] = task.x + task.start[c];
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; ++r) row[r] = task.g + r * task.g_line;
    const ptrdiff_t length = task.length;
    for (ptrdiff_t image = 0; image < task.images; ++image) {
        for (ptrdiff_t s = 0; s < length; s += L) {
            Vec<T> v[COLS];
#pragma GCC unroll 8
            for (int c = 0; c < COLS; ++c) v[c] = load_once(at[c] + s);
#pragma GCC unroll 12
            for (int r = 0; r < ROWS; ++r) {
                Vec<T> u = load_once(row[r] + s);
#pragma GCC unroll 8
                for (int c = 0; c < COLS; ++c) add_product<T>(sum[r][c], u, v[c]);
            }
        }
#pragma GCC unroll 8
        for (int c = 0; c < COLS; ++c) at[c] += task.x_image;
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; ++r) row[r] += task.g_image;
    }
    S flat[(ROWS + 3) * QUAD];
    constexpr int STEP = LANES<S> / QUAD;  // rows whose sums fill a vector
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r += STEP) {
        Vec<S> some[LANES<S>];
#pragma GCC unroll 16
        for (int i = 0; i < LANES<S>; ++i) {
            int of = r + i / QUAD, c = i % QUAD;
            some[i] = of < ROWS && c < COLS ? sum[of][c] : Vec<S>{};
        }
        store(flat + r * QUAD, sum_lanes<S>(some));
    }
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < COLS; ++c) {
            S* to = task.out + task.row_at[r] + task.column_at[c];
            *to = task.add ? *to + flat[r * QUAD + c] : flat[r * QUAD + c];
        }
}

constexpr int DOT_COLS = VECTOR_REGISTERS == 32 ? 4 : 3;
constexpr int DOT_ROWS = VECTOR_REGISTERS == 32 ? 6 : 4;

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
        default: return pick_dot<T, DOT_COLS>(rows, all);
    }
}
