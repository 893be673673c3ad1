// Rows of a round's product over panels of samples.
#pragma once
#include "panel.h"
#include "product.h"
#include "tables.h"

template <class T>
struct Job {
    const Plan* plan;
    const Side* side;
    const T* x;
    int64_t x_row, batch, x_channels;
    const T* weight;
    T* y;
    int64_t y_row;
};

// Computes output channels rows.first .. rows.last of `panels` packed panels.
template <class T, int WIDE, bool TRANSPOSED>
void run_panels(const Job<T>& job, Range rows, int64_t panels, const T* x, T* y) {
    constexpr int WIDTH = WIDE * LANES<T>;
    const Plan& plan = *job.plan;
    const Side& side = *job.side;
    int64_t y_channels = side.channels[plan.num_nodes];
    int64_t v = node_of(side.channels, plan.num_nodes, rows.first);
    for (int64_t row = rows.first; row < rows.last; ++v) {
        int64_t last = std::min(rows.last, side.channels[v + 1]), height = last - row;
        if (height <= 0) continue;
        int64_t count = side.start[v + 1] - side.start[v];
        int64_t local = row - side.channels[v];
        int64_t stride = TRANSPOSED ? 1 : plan.row_width[v];
        const T* w = TRANSPOSED ? job.weight + local
                                : job.weight + plan.weight_offset[v] + local * stride;
        int64_t tiles = (height + MOST_ROWS<WIDE> - 1) / MOST_ROWS<WIDE>;
        for (int64_t p = 0; p < panels; ++p) {
            for (int64_t t = 0; t < tiles; ++t) {
                Range part = even_part(height, t, tiles);
                const T* from = w + part.first * stride;
                pick_product<T, WIDE, TRANSPOSED>(part.last - part.first)(
                    from, stride, TRANSPOSED ? side.where + side.start[v] : nullptr,
                    x + p * job.x_channels * WIDTH, side.term + side.start[v], count,
                    y + (p * y_channels + row + part.first) * WIDTH);
            }
        }
        row = last;
    }
}
