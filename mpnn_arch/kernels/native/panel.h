// Samples side by side: the layout in which the kernels read a batch.
#pragma once
#include <algorithm>

#include "relu.h"

// Vectors ahead in every row that are prefetched: rows are too many, and too short, for the hardware.
constexpr int ROW_AHEAD = 4;

// A batch by rows of samples.
template <class T>
struct Rows {
    typedef T Number;
    const T* x;
    int64_t row, count;

    INLINE T at(int64_t i, int64_t c) const { return x[i * row + c]; }
    INLINE Vec<T> vector(int64_t i, int64_t c) const { return load(x + i * row + c); }
    INLINE void prefetch(int64_t i, int64_t c) const { __builtin_prefetch(x + i * row + c); }
};

// The gradient before a ReLU, by rows of the gradient after it and of its results y.
template <class T>
struct PassedRows {
    typedef T Number;
    const T *x, *y;
    int64_t row, y_row, count;

    INLINE T at(int64_t i, int64_t c) const { return y[i * y_row + c] <= 0 ? T(0) : x[i * row + c]; }
    INLINE Vec<T> vector(int64_t i, int64_t c) const {
        return passed<T>(load(x + i * row + c), load(y + i * y_row + c));
    }
    INLINE void prefetch(int64_t i, int64_t c) const {
        __builtin_prefetch(x + i * row + c);
        __builtin_prefetch(y + i * y_row + c);
    }
};

// A vector of rows from `first` on -> [channels][width], zeros past the last row.
template <class Rows, class T>
void pack_rows(const Rows& rows, int64_t first, int64_t channels, T* panel, int64_t width) {
    constexpr int L = LANES<T>;
    const int64_t count = std::min<int64_t>(L, rows.count - first);
    if (channels < L || count <= 0) {
        for (int64_t c = 0; c < channels; ++c)
            for (int64_t i = 0; i < L; ++i)
                panel[c * width + i] = i < count ? rows.at(first + i, c) : T(0);
        return;
    }
    for (int64_t c = 0; c < channels; c += L) {
        c = std::min<int64_t>(c, channels - L);
        Vec<T> block[L];
        if (count == L) {
#pragma GCC unroll 16
            for (int i = 0; i < L; ++i) rows.prefetch(first + i, c + ROW_AHEAD * L);
#pragma GCC unroll 16
            for (int i = 0; i < L; ++i) block[i] = rows.vector(first + i, c);
        } else {
            for (int i = 0; i < L; ++i)
                block[i] = i < count ? rows.vector(first + i, c) : Vec<T>{};
        }
        transpose<T>(block);
#pragma GCC unroll 16
        for (int i = 0; i < L; ++i) store(panel + (c + i) * width, block[i]);
    }
}

// Rows, `width` from `first` on -> [channels][width].
template <class Rows, class T>
void pack_panel(const Rows& rows, int64_t first, int64_t channels, T* panel, int64_t width) {
    for (int64_t s = 0; s < width; s += LANES<T>)
        pack_rows(rows, first + s, channels, panel + s, width);
}

// Back: channels first .. last of a panel of `count` samples -> rows, which `put` writes: put(i, c, number) of
// row i from channel c on, or a vector of numbers.
template <class T, class Put>
INLINE void unpack_panel(const T* panel, int64_t width, int64_t count, int64_t first, int64_t last,
                         Put put) {
    constexpr int L = LANES<T>;
    for (int64_t s = 0; s < count; s += L) {
        if (last - first < L) {
            for (int64_t i = s; i < std::min(s + L, count); ++i)
                for (int64_t c = first; c < last; ++c) put(i, c, panel[c * width + i]);
            continue;
        }
        for (int64_t c = first; c < last; c += L) {
            c = std::min<int64_t>(c, last - L);
            Vec<T> block[L];
#pragma GCC unroll 16
            for (int i = 0; i < L; ++i) block[i] = load(panel + (c + i) * width + s);
            transpose<T>(block);
            if (s + L <= count) {
#pragma GCC unroll 16
                for (int i = 0; i < L; ++i) put(s + i, c, block[i]);
            } else {
                for (int i = 0; s + i < count; ++i) put(s + i, c, block[i]);
            }
        }
    }
}
