// The register tile of a weight gradient: ROWS rows of a weight block by COLS vectors of its columns.
//
//   out[r][c] = sum over samples of g[sample][r] * x[sample][c]
//
// Samples are processed in units: a vector contains PLACES channels of x, UNIT samples of each, and
// g's unit is repeated along it. A unit is short, so a vector wastes little on a run of few
// channels and few lanes have to be added up.
//
// The layout of x is [groups][units][HELD][UNIT]. A group is GROUP channels and the first of the
// next one, so no vector crosses groups; the units of a channel are close in memory, and HELD
// spreads them over the sets of a cache. The layout of g is [panels][rows][BUNCH][UNIT], that of a
// product's panels.
#pragma once
#include <algorithm>

#include "vector.h"

// The wider the tile, the fewer rows fit in registers. Few rows leave some for a third vector. Clang, in whose loops
// a tile that fills all registers moves its sums about, is left one.
constexpr int OUTER_COLS = VECTOR_REGISTERS == 32 ? 3 : 2;
constexpr int OUTER_ROWS = VECTOR_REGISTERS == 32 ? 9 - CLANG_ON_ARM : 6;
constexpr int FEW_ROWS = 4 - CLANG;
constexpr int outer_cols(int64_t rows) { return rows <= FEW_ROWS ? 3 : OUTER_COLS; }
constexpr int64_t outer_tiles(int64_t rows) { return (rows + OUTER_ROWS - 1) / OUTER_ROWS; }
// Prefetch distance, in units. A small tile is bound by its loads, among which a prefetch counts: where
// registers are few, the last tile that reads a span prefetches all of the next one.
constexpr int UNITS_AHEAD = VECTOR_REGISTERS == 32 ? 8 : 0;
// Rows of sums that are prefetched with a panel.
constexpr int LINES_AT_ONCE = 4;

// Samples of a panel of g, and units: those of a product's panel of two vectors.
template <class T>
constexpr int PANEL = 2 * LANES<T>;
template <class T>
constexpr int BUNCH = PANEL<T> / UNIT<T>;

constexpr int GROUP = 128, HELD = 140;
static_assert(PLACES<float> <= HELD - GROUP && PLACES<double> <= HELD - GROUP,
              "a vector must lie in one group");

template <class T>
INLINE int64_t grouped_size(int64_t channels, int64_t units) {
    return (channels + GROUP - 1) / GROUP * units * HELD * UNIT<T>;
}
template <class T>
INLINE int64_t grouped(uint64_t channel, int64_t units) {
    return int64_t(channel / GROUP) * units * HELD * UNIT<T> +
           int64_t(channel % GROUP) * UNIT<T>;
}

// Where sums are written; those of bfloat16, once they are whole, rounded.
template <class T>
struct Sums {
    Sum<T>* whole;
    Bf16* rounded = nullptr;

    Sums at(int64_t i) const { return {whole + i, rounded ? rounded + i : nullptr}; }
    Sums rounded_if(bool ends) const { return {whole, ends ? rounded : nullptr}; }
};

template <class T>
struct OuterTask {
    const T* g;                    // at the tile's first row
    ptrdiff_t g_step;              // from panel to panel of g
    const T* x;
    ptrdiff_t units, units_held;   // number to sum over, and the capacity of x
    const int32_t* start;          // first channel of each vector, and of the next span's
    const int32_t* column;         // column of its sums, and of the next one's
    int32_t row_width;             // columns of the block
    Sums<T> out;                   // at the tile's first row
    bool add;                      // to what `out.whole` holds
};

template <class T>
using OuterTile = void (*)(const OuterTask<T>&);

// Writes PLACES sums into their columns, `at` and following.
template <class T>
INLINE void put(Vec<Sum<T>> sums, const OuterTask<T>& t, ptrdiff_t at) {
    constexpr int COUNT = PLACES<T>;
    typedef Sum<T> S;
    typedef S Part __attribute__((vector_size(COUNT * sizeof(S))));
    typedef S Loose __attribute__((vector_size(COUNT * sizeof(S)), aligned(sizeof(S)), may_alias));
    Part part;
    memcpy(&part, &sums, sizeof part);
    Loose& place = *reinterpret_cast<Loose*>(t.out.whole + at);
    if (t.add) part += place;
    if constexpr (std::is_integral<T>::value) {
        if (t.out.rounded) {
            auto rounded = round_to_bf16<COUNT>((typename Some<COUNT>::Floats)part);
            memcpy(t.out.rounded + at, &rounded, sizeof rounded);
            return;
        }
    }
    place = part;
}

template <class T>
INLINE void put_one(Sum<T> sum, const OuterTask<T>& t, ptrdiff_t at) {
    if (t.add) sum += t.out.whole[at];
    if constexpr (std::is_integral<T>::value) {
        if (t.out.rounded) {
            t.out.rounded[at] = round_to_bf16(sum);
            return;
        }
    }
    t.out.whole[at] = sum;
}

template <class T, int COLS>
INLINE void put_row(const Vec<Sum<T>>* sum, const OuterTask<T>& t, ptrdiff_t row, bool whole) {
    typedef Sum<T> S;
#pragma GCC unroll 4
    for (int c = 0; c < COLS; ++c) {
        Vec<S> sums = sum[c];
        if (UNIT<T> == 2) {
            // The sums of two vectors; the second half is the odd vector's.
            Vec<S> pairs = sum_pairs<S>(sum[c / 2 * 2], sum[c / 2 * 2 + (c / 2 * 2 + 1 < COLS)]);
            sums = c % 2 ? pick<S>(pairs, pairs, [](int i) constexpr {
                return (i + LANES<S> / 2) % LANES<S>;
            }) : pairs;
        }
        ptrdiff_t to = row + t.column[c];
        if (whole) {
            put<T>(sums, t, to);
        } else {
            S flat[LANES<S>];
            store(flat, sums);
            for (int32_t i = 0; i < t.column[c + 1] - t.column[c] && i < PLACES<T>; ++i)
                put_one<T>(flat[i], t, to + i);
        }
    }
}

template <class T, int ROWS, int COLS, bool NEXT>
void outer_tile(const OuterTask<T>& t) {
    constexpr int STEP = HELD * UNIT<T>, LAST = COLS * LANES<T> - 1;
    Vec<Sum<T>> sum[ROWS][COLS] = {};
    const T* at[COLS];
#pragma GCC unroll 8
    for (int c = 0; c < COLS; ++c) at[c] = t.x + grouped<T>(t.start[c], t.units_held);
    const T* next = NEXT ? t.x + grouped<T>(t.start[COLS], t.units_held) : nullptr;
    // Sums are written in short pieces of many rows, which wait for their cache lines one after the other: those of
    // some rows are prefetched with each panel, not with each unit, whose loop has few instructions to spare.
    const Sum<T>* line = t.out.whole + t.column[0];
    int lines_left = ROWS;
    const T* panel = t.g;
    for (ptrdiff_t left = t.units; left > 0; left -= BUNCH<T>, panel += t.g_step) {
        for (int r = 0; r < LINES_AT_ONCE && lines_left > 0; ++r, --lines_left, line += t.row_width) {
            __builtin_prefetch(line, 1);
            if (COLS > 1) __builtin_prefetch(line + COLS * PLACES<T> - 1, 1);
        }
        const int count = int(std::min<ptrdiff_t>(left, BUNCH<T>));
        const T* g = panel;
#pragma GCC unroll 2
        for (int i = 0; i < count; ++i, g += UNIT<T>) {
            if (NEXT) {
                __builtin_prefetch(next);
                if (COLS > 1) __builtin_prefetch(next + LAST);
                next += STEP;
            }
            Vec<T> v[COLS];
#pragma GCC unroll 8
            for (int c = 0; c < COLS; ++c) {
                v[c] = load_once(at[c]);
                if (UNITS_AHEAD) __builtin_prefetch(at[c] + UNITS_AHEAD * STEP);
                at[c] += STEP;
            }
#pragma GCC unroll 12
            for (int r = 0; r < ROWS; ++r) {
                Vec<T> repeated = repeat_unit<T>(g + r * PANEL<T>);
#pragma GCC unroll 8
                for (int c = 0; c < COLS; ++c) add_product<T>(sum[r][c], repeated, v[c]);
            }
        }
    }
    // Whole vectors may be written where all their columns exist, or where the vector to the right,
    // written later, overwrites the excess.
    bool whole = true;
#pragma GCC unroll 4
    for (int c = 0; c < COLS; ++c)
        whole &= t.add ? t.column[c + 1] - t.column[c] >= PLACES<T>
                       : t.column[c] + PLACES<T> <= t.row_width;
    // Inlined by order: sums that a call reads live in memory, where each product would be stored.
    auto put_from_memory = [&]() __attribute__((always_inline)) {
        Vec<Sum<T>> sums[ROWS][COLS];
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
            for (int c = 0; c < COLS; ++c) sums[r][c] = sum[r][c];
        asm("" : : "r"(sums) : "memory");
#pragma GCC unroll 1
        for (int r = 0; r < ROWS; ++r)
            put_row<T, COLS>(sums[r], t, ptrdiff_t(r) * t.row_width, whole);
    };
    // The rare ends of rows, unrolled, would take half of a build. Clang allocates registers for the loops and for
    // what follows together, and would spill sums in the loops.
    if (CLANG || !whole) return put_from_memory();
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; ++r)
        put_row<T, COLS>(sum[r], t, ptrdiff_t(r) * t.row_width, true);
}

template <class T, int COLS, bool NEXT, size_t... R>
OuterTile<T> pick_outer(int rows, std::index_sequence<R...>) {
    static const OuterTile<T> table[] = {outer_tile<T, R + 1, COLS, NEXT>...};
    return table[rows - 1];
}

// `next`: there is a span after this one, and no tile after this one reads this span.
template <class T, bool NEXT = false>
OuterTile<T> pick_outer(int rows, int cols, bool next) {
    if constexpr (!NEXT && !UNITS_AHEAD)
        if (next) return pick_outer<T, true>(rows, cols, next);
    constexpr auto all = std::make_index_sequence<OUTER_ROWS>();
    switch (cols) {
        case 1: return pick_outer<T, 1, NEXT>(rows, all);
        case 2: return pick_outer<T, 2, NEXT>(rows, all);
        default:
            return pick_outer<T, 3, NEXT>(
                rows, std::make_index_sequence<OUTER_COLS == 3 ? OUTER_ROWS : FEW_ROWS>());
    }
}
