// Samples side by side: the layout in which the kernels read a batch.
#pragma once
#include <algorithm>

#include "vector.h"

// Vectors ahead in every row that are prefetched: rows are too many, and too short, for the hardware.
constexpr int ROW_AHEAD = 4;

// (batch, channels) rows, `width` samples from `first` on -> [channels][width], zeros past the batch.
template <class T>
void pack_panel(const T* x, int64_t row, int64_t batch, int64_t first, int64_t channels, T* panel,
                int64_t width) {
    constexpr int L = LANES<T>;
    const int64_t count = std::min(width, batch - first);
    x += first * row;
    for (int64_t s = 0; s < width; s += L) {
        if (channels < L || s >= count) {
            for (int64_t c = 0; c < channels; ++c)
                for (int64_t i = s; i < s + L; ++i)
                    panel[c * width + i] = i < count ? x[i * row + c] : T(0);
            continue;
        }
        for (int64_t c = 0; c < channels; c += L) {
            c = std::min<int64_t>(c, channels - L);
            Vec<T> block[L];
            const T* from = x + s * row + c;
            if (s + L <= count) {
#ifdef PA
#pragma GCC unroll 16
                for (int i = 0; i < L; ++i) __builtin_prefetch(from + i * row + PA * L);
#endif
#pragma GCC unroll 16
                for (int i = 0; i < L; ++i) block[i] = load(from + i * row);
            } else {
                for (int i = 0; i < L; ++i)
                    block[i] = s + i < count ? load(from + i * row) : Vec<T>{};
            }
            transpose<T>(block);
#pragma GCC unroll 16
            for (int i = 0; i < L; ++i) store(panel + (c + i) * width + s, block[i]);
        }
    }
}

// Back: channels first .. last of a panel of `count` samples -> rows.
template <class T>
void unpack_panel(const T* panel, int64_t width, int64_t count, int64_t first, int64_t last, T* y,
                  int64_t row) {
    constexpr int L = LANES<T>;
    for (int64_t s = 0; s < count; s += L) {
        if (last - first < L) {
            for (int64_t i = s; i < std::min(s + L, count); ++i)
                for (int64_t c = first; c < last; ++c) y[i * row + c] = panel[c * width + i];
            continue;
        }
        for (int64_t c = first; c < last; c += L) {
            c = std::min<int64_t>(c, last - L);
            Vec<T> block[L];
#pragma GCC unroll 16
            for (int i = 0; i < L; ++i) block[i] = load(panel + (c + i) * width + s);
            transpose<T>(block);
            T* to = y + s * row + c;
#ifdef UA
#pragma GCC unroll 16
            for (int i = 0; i < L; ++i) __builtin_prefetch(to + i * row + UA * L, 1);
#endif
            if (s + L <= count) {
#pragma GCC unroll 16
                for (int i = 0; i < L; ++i) store(to + i * row, block[i]);
            } else {
                for (int i = 0; s + i < count; ++i) store(to + i * row, block[i]);
            }
        }
    }
}
