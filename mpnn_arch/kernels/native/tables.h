// A plan as the kernels read it, the distribution of work over threads, and scratch memory.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <new>

#include "team.h"
#include "vector.h"

// Each source is compiled twice, for NUMBER float and double.
#ifndef NUMBER
#define NUMBER float
#endif
typedef NUMBER T;
#define NAMED_float(name) name##_f32
#define NAMED_double(name) name##_f64
#define NAMED_AS(number) NAMED_##number
#define NAMED_OF(number) NAMED_AS(number)
#define NAMED(name) NAMED_OF(NUMBER)(name)

// Prefetch distances of scattered weights, in terms: in a product, and where they are packed before.
constexpr int AHEAD = 48, PACKED_AHEAD = 16;

// One product by the nodes it writes: forward the targets, transposed the sources.
struct Side {
    const int64_t* channels;   // (N + 1) node's output channels are channels[v] .. channels[v + 1]
    const int64_t* start;      // (N + 1) its terms are start[v] .. start[v + 1]
    const int32_t* term;       // (terms) the channel of x that each term reads
    const int64_t* where;      // (terms) its weights, and AHEAD more; null for the forward product
    const int64_t* cost;       // (N + 1) running multiply-adds
};

// The columns of every weight block, split into vectors that do not cross from one run of adjacent
// neighbours to the next.
struct Columns {
    const int64_t* start;      // (N + 1) node v's are start[v] .. start[v + 1] - 1, then one marker
    const int32_t* channel;    // first channel of each
    const int32_t* column;     // first column of each; at the marker, the row's width
};

struct Plan {
    int64_t num_nodes;
    int64_t in_channels;
    int64_t out_channels;
    const int64_t* weight_offset;
    const int64_t* fan_in;
    Side forward;
    Side backward;
    Columns narrow;            // for float
    Columns wide;              // for double
};

template <class T>
const Columns& columns_of(const Plan& plan) {
    return sizeof(T) == 4 ? plan.narrow : plan.wide;
}

struct Range {
    int64_t first, last;
};

// Part `i` of `parts` of 0 .. count, as even as possible.
inline Range even_part(int64_t count, int64_t i, int64_t parts) {
    return {count * i / parts, count * (i + 1) / parts};
}

// Part `i` of `parts` of all channels, split into parts of equal cost. Splits fall between
// channels, not only between nodes, so that a few large nodes are distributed too.
inline Range costed_part(const Side& side, int64_t nodes, int64_t i, int64_t parts) {
    auto cut = [&](int64_t part) -> int64_t {
        if (part <= 0) return 0;
        if (part >= parts) return side.channels[nodes];
        double goal = double(side.cost[nodes]) * part / parts;
        const int64_t* found = std::upper_bound(side.cost, side.cost + nodes + 1, int64_t(goal));
        int64_t v = std::max<int64_t>(found - side.cost - 1, 0);
        if (v >= nodes) return side.channels[nodes];
        double spent = side.cost[v + 1] > side.cost[v]
                           ? (goal - side.cost[v]) / (side.cost[v + 1] - side.cost[v])
                           : 0;
        return side.channels[v] + int64_t(spent * (side.channels[v + 1] - side.channels[v]));
    };
    return {cut(i), cut(i + 1)};
}

inline int64_t node_of(const int64_t* channels, int64_t nodes, int64_t channel) {
    return std::upper_bound(channels, channels + nodes + 1, channel) - channels - 1;
}

// Calls body(v, row, last) for every node v that has some of the channels `rows`: its are row .. last.
template <class Body>
void each_node(const int64_t* channels, int64_t nodes, Range rows, Body body) {
    int64_t row = rows.first;
    for (int64_t v = node_of(channels, nodes, row); row < rows.last; ++v) {
        int64_t last = std::min(rows.last, channels[v + 1]);
        if (last <= row) continue;
        body(v, row, last);
        row = last;
    }
}

// Memory reused between calls: a fresh block this large would cost a page fault every 4 KiB.
class Scratch {
  public:
    template <class T>
    static T* take(size_t count) {
        static thread_local Scratch held;
        if (count > SIZE_MAX / 2 / sizeof(T)) throw std::bad_alloc();
        return static_cast<T*>(held.at_least(count * sizeof(T) + 4096));
    }
    ~Scratch() { release(); }

  private:
    void* at_least(size_t bytes) {
        if (bytes > size) {
            release();
            size_t rounded = (bytes + PAGE - 1) / PAGE * PAGE;
            memory = ::operator new(rounded, std::align_val_t(PAGE));
            size = rounded;
        }
        return memory;
    }
    void release() {
        ::operator delete(memory, std::align_val_t(PAGE));
        memory = nullptr, size = 0;
    }
    static constexpr size_t PAGE = 4096;
    void* memory = nullptr;
    size_t size = 0;
};
