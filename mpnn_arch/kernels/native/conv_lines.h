// The memory layout of maps that the tiles of a round over maps read.
//
// Maps are copied, some images at a time, into one long line per channel: rows of `wide` numbers,
// `high` rows per image, zeros below it. A row of taps is then a shift along that line, for any
// padding and dilation. A stride splits an input map into phases (the rows and columns of one
// remainder), each with its own line, so that taps remain shifts. Adjacent taps in a row have
// separate sums, which are shifted and added at the end, so lines need no columns of zeros.
#pragma once
#include <vector>

#include "checks.h"
#include "conv_tiles.h"

namespace {

struct Geometry {
    int64_t batch;
    int64_t in_size[2], out_size[2], kernel[2], stride[2], padding[2], dilation[2];
};

// The geometry, if it is one of a convolution whose numbers can be counted.
Geometry checked_geometry(const Geometry* given, const Plan& plan) {
    require(given);
    Geometry g = *given;
    require(g.batch >= 1 && g.batch <= MOST_INDEX);
    double area[3] = {1, 1, 1};
    for (int d = 0; d < 2; ++d) {
        for (int64_t size : {g.in_size[d], g.kernel[d], g.stride[d], g.dilation[d]})
            require(size >= 1 && size <= MOST_INDEX);
        require(g.padding[d] >= 0 && g.padding[d] <= MOST_INDEX);
        // Positions of the kernel's first tap, less one.
        int64_t span = g.in_size[d] + 2 * g.padding[d] - g.dilation[d] * (g.kernel[d] - 1) - 1;
        require(span >= 0 && g.out_size[d] == span / g.stride[d] + 1);
        // A stride past the end has no effect; phases are counted by stride.
        g.stride[d] = std::min(g.stride[d], span + 1);
        area[0] *= g.in_size[d], area[1] *= g.out_size[d], area[2] *= g.kernel[d];
    }
    require(area[2] <= MOST_NUMBERS);
    require(area[0] * g.batch * plan.in_channels <= MOST_NUMBERS);
    require(area[1] * g.batch * plan.out_channels <= MOST_NUMBERS);
    // Every tap looks its phase up among those used.
    for (int d = 0; d < 2; ++d)
        require(double(g.kernel[d]) * std::min(g.kernel[d], g.stride[d]) <= MOST_INDEX);
    return g;
}

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
int64_t parts_of(int64_t count, int64_t most) { return (count + most - 1) / most; }
template <class T>
int64_t whole_vectors(int64_t count) {
    return parts_of(count, LANES<T>) * LANES<T>;
}

// The grid that a round's input and output maps have in common.
struct Lattice {
    explicit Lattice(const Geometry& g) : g(g) {
        int64_t phase_size[2];
        for (int d = 0; d < 2; ++d) {
            phase_size[d] = parts_of(g.in_size[d], g.stride[d]);
            for (int64_t a = 0; a < g.kernel[d]; ++a)
                if (place_of(d, phase(d, a)) == int64_t(used[d].size()))
                    used[d].push_back(phase(d, a));
        }
        int64_t low = 0, most = 0;
        for (int64_t a = 0; a < g.kernel[0]; ++a) {
            low = std::min(low, shift(0, a));
            most = std::max(most, shift(0, a));
        }
        high = std::max(phase_size[0] - low, g.out_size[0] + most);
        wide = std::max(phase_size[1], g.out_size[1]);
        phases = used[0].size() * used[1].size();
        require(double(high) * wide <= MOST_NUMBERS);
        require(double(std::max(-low, most)) * wide <= MOST_NUMBERS);
        // Zeros before the first and after the last image, as far as a tap can shift.
        margin = std::max(-low, most) * wide;
    }
    int64_t shift(int d, int64_t a) const {
        return floor_div(a * g.dilation[d] - g.padding[d], g.stride[d]);
    }
    int64_t phase(int d, int64_t a) const {
        return a * g.dilation[d] - g.padding[d] - shift(d, a) * g.stride[d];
    }
    // The index of a phase among those that taps read.
    int64_t place_of(int d, int64_t phase) const {
        return std::find(used[d].begin(), used[d].end(), phase) - used[d].begin();
    }
    int64_t image() const { return high * wide; }

    Geometry g;
    std::vector<int64_t> used[2];
    int64_t high, wide, phases, margin;
};

template <class T>
INLINE void copy(const T* from, int64_t count, T* to) {
    constexpr int L = LANES<T>;
    if (count < L) {
        for (int64_t i = 0; i < count; ++i) to[i] = from[i];
        return;
    }
    for (int64_t i = 0; i + L < count; i += L) store(to + i, load(from + i));
    store(to + count - L, load(from + count - L));
}

// Every `stride`-th number of a row from `left` on; may write up to a vector past them.
template <class T>
INLINE int64_t copy_every(const T* row, int64_t columns, int64_t stride, int64_t left, T* to) {
    constexpr int L = LANES<T>;
    int64_t i = 0;
    if (stride == 2) {
        auto put = [&](Vec<T> a, Vec<T> b) {
            store(to + i, left ? pick<T>(a, b, [](int i) constexpr { return 2 * i + 1; })
                               : pick<T>(a, b, [](int i) constexpr { return 2 * i; }));
        };
        for (; 2 * i + 2 * L <= columns; i += L) put(load(row + 2 * i), load(row + 2 * i + L));
        for (; 2 * i + L <= columns; i += L / 2) put(load(row + 2 * i), Vec<T>{});
    }
    for (int64_t c = left + i * stride; c < columns; c += stride) to[i++] = row[c];
    return i;
}

// Copies one map (rows, columns), every stride-th from (top, left), into a line, zeros around it.
template <class T>
void copy_in(const T* map, int64_t rows, int64_t columns, const int64_t* stride, int64_t top,
             int64_t left, T* to, int64_t wide, int64_t high) {
    T* end = to + high * wide;
    if (stride[0] == 1 && stride[1] == 1 && columns == wide) {
        copy(map, rows * columns, to);
        to += rows * columns;
    } else {
        for (int64_t r = top; r < rows; r += stride[0], to += wide) {
            const T* from = map + r * columns;
            int64_t i = columns;
            if (stride[1] == 1) copy(from, columns, to);
            else i = copy_every(from, columns, stride[1], left, to);
            for (; i < wide; ++i) to[i] = T(0);
        }
    }
    memset(to, 0, (end - to) * sizeof(T));
}

// What a tile reads: lines copied from maps, or the maps themselves.
template <class T>
struct Lines {
    const Lattice& lattice;
    const Stored<T>* maps;
    const int32_t* pair_start;  // first channel of every pair, and the end, where T is a pair
    int64_t channels, phases;
    bool phased, in_place;
    int64_t held;         // images in the lines at a time
    int64_t line, image;  // strides between channels and between images

    Lines(const Lattice& l, const Stored<T>* maps, int64_t channels, bool phased,
          const int32_t* pair_start = nullptr)
        : lattice(l), maps(maps), pair_start(pair_start), channels(channels),
          phases(phased ? l.phases : 1), phased(phased) {
        const Geometry& g = l.g;
        require(double(channels) * this->phases * (l.image() + 2 * l.margin) <= MOST_NUMBERS);
        in_place = !pair_start && g.kernel[0] * g.kernel[1] * g.stride[0] * g.stride[1] == 1 &&
                   g.padding[0] + g.padding[1] == 0 && l.image() % LANES<T> == 0;
    }
    void hold(int64_t images) {
        held = images;
        image = in_place ? channels * lattice.image() : lattice.image();
        // A vector may extend past the last image; an odd number of vectors spreads the lines over
        // the sets of a cache.
        int64_t vectors =
            parts_of(2 * lattice.margin + held * lattice.image(), LANES<T>) + 1;
        line = in_place ? lattice.image() : (vectors + 1 - vectors % 2) * LANES<T>;
    }
    int64_t size() const { return in_place ? 0 : channels * phases * line; }
    const int64_t* map_size() const { return phased ? lattice.g.in_size : lattice.g.out_size; }
    // Numbers that fill() needs for itself.
    int64_t room() const { return pair_start ? map_size()[0] * map_size()[1] : 0; }

    // One channel of an image; of a pair, both side by side in `room`.
    const T* map(int64_t image, int64_t channel, T* room) const {
        int64_t area = map_size()[0] * map_size()[1];
        if constexpr (std::is_same<T, Pair>::value) {
            int64_t low = pair_start[channel], end = pair_start[channel + 1];
            const Bf16* from = maps + (image * pair_start[channels] + low) * area;
            pair_all(from, end - low == 2 ? from + area : nullptr, area, room);
            return room;
        } else {
            return maps + (image * channels + channel) * area;
        }
    }

    // Fills the lines of some images; thread `me` of `team` fills its part of the channels.
    void fill(int64_t first, int64_t images, T* to, T* room, int64_t me, int64_t team) const {
        if (in_place) return;
        const Lattice& l = lattice;
        const int64_t* size = map_size();
        const int64_t one[2] = {1, 1};
        const int64_t* stride = phased ? l.g.stride : one;
        int64_t phase_columns = phased ? l.used[1].size() : 1;
        Range mine = even_part(channels, me, team);
        for (int64_t c = mine.first; c < mine.last; ++c) {
            T* start = to + c * phases * line;
            for (int64_t i = 0; i < images; ++i) {
                const T* from = map(first + i, c, room);
                for (int64_t f = 0; f < phases; ++f)
                    copy_in(from, size[0], size[1], stride,
                            phased ? l.used[0][f / phase_columns] : 0,
                            phased ? l.used[1][f % phase_columns] : 0,
                            start + f * line + l.margin + i * l.image(), l.wide, l.high);
            }
            for (int64_t f = 0; f < phases; ++f, start += line) {
                T* end = start + l.margin + images * l.image();
                memset(start, 0, l.margin * sizeof(T));
                memset(end, 0, (start + line - end) * sizeof(T));
            }
        }
    }
    // Start of the first image in the lines, past the margin.
    const T* begin(const T* made, int64_t first) const {
        if constexpr (!std::is_same<T, Pair>::value)
            if (in_place) return maps + first * image;
        return made + lattice.margin;
    }
};

// Number of images whose lines fill half of the L2 cache, at most `most`.
template <class T>
int64_t images_held(const Lattice& l, int64_t lines, int64_t most) {
    return std::clamp<int64_t>((1 << 20) / int64_t(lines * l.image() * sizeof(T)), 1, most);
}

// Adjacent taps in every row of a kernel, which read the same line.
struct Group {
    int64_t first, count, step;  // columns of the kernel
    int64_t along;               // offset of the line that they read from the first phase's
};

// The columns of a kernel, grouped by phase, and the shift of each.
struct Taps {
    std::vector<Group> groups;
    std::vector<int64_t> shifts;

    bool all_in_one() const { return groups.size() == 1 && groups[0].count == MOST_TAPS; }
    void add(const Lattice& l, int64_t phase, int64_t along, int64_t sign) {
        int64_t found = 0;
        for (int64_t b = 0; b < l.g.kernel[1]; ++b) {
            if (l.phase(1, b) != phase) continue;
            if (found++ % MOST_TAPS == 0) groups.push_back({b, 0, 1, along});
            Group& group = groups.back();
            if (group.count++ == 1) group.step = b - group.first;
            shifts.push_back(sign * l.shift(1, b));
        }
    }
};

// Every stride-th output column from a first one on, and the lines that are added into them.
struct Part {
    int64_t line, lines;
};

// Masks over rows of `wide` positions, set where position + shift is within the `real` columns.
template <class T>
std::vector<Mask<T>> make_masks(const std::vector<int64_t>& shifts, int64_t count, int64_t wide,
                                int64_t real) {
    std::vector<Mask<T>> masks(shifts.size() * count);
    for (size_t i = 0; i < shifts.size(); ++i)
        for (int64_t p = 0; p < count; ++p) {
            int64_t column = p % wide + shifts[i];
            masks[i * count + p] = column >= 0 && column < real ? -1 : 0;
        }
    return masks;
}

}  // namespace
