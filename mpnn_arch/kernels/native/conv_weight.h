// The gradient with respect to the weights of a round over maps.
#pragma once
#include "conv_lines.h"
#include "pairs.h"

namespace {

// Positions that a tile sums at once: its rows of the gradient stay in the L1 cache while the
// columns are processed.
template <class T>
constexpr int64_t SEGMENT = 5120 / sizeof(T);
// Rows of a node whose shifted lines are in memory at once.
constexpr int64_t SHIFTED_ROWS = 16;

// The part of the images in memory that is summed at once: some images, or some rows of one.
struct Segment {
    int64_t image, images, row, rows;
};

std::vector<Segment> make_segments(int64_t images, int64_t rows, int64_t wide, int64_t most) {
    std::vector<Segment> made;
    if (rows * wide >= most) {
        int64_t parts = parts_of(rows * wide, most);
        for (int64_t image = 0; image < images; ++image)
            for (int64_t i = 0; i < parts; ++i) {
                Range part = even_part(rows, i, parts);
                if (part.last > part.first)
                    made.push_back({image, 1, part.first, part.last - part.first});
            }
    } else {
        int64_t parts = parts_of(images, most / (rows * wide));
        for (int64_t i = 0; i < parts; ++i) {
            Range part = even_part(images, i, parts);
            made.push_back({part.first, part.last - part.first, 0, rows});
        }
    }
    return made;
}

// One channel's gradient, shifted as a tap of the kernel reads it: the rows of `segment`, `wide`
// long, zeros outside the map, padded to whole vectors per image.
template <class T>
void shift_gradient(const Lattice& l, const Lines<T>& grads, int64_t first_image, bool flat,
                    const Segment& segment, int64_t channel, int64_t shift, const Mask<T>* mask,
                    int64_t length, T* to) {
    constexpr int64_t L = LANES<T>;
    int64_t rows = l.g.out_size[0], columns = l.g.out_size[1], wide = l.wide;
    const T* begin = grads.maps;
    const T* end = begin + l.g.batch * grads.channels * rows * columns;
    for (int64_t i = 0; i < segment.images; ++i, to += length) {
        int64_t done = 0;
        for (int64_t row = segment.row; row < segment.row + segment.rows;) {
            int64_t image = segment.image + i, in_image = row;
            if (flat) image = row / l.high, in_image = row % l.high;
            int64_t some = std::min(segment.row + segment.rows - row, rows - in_image);
            if (some <= 0) {
                some = std::min(l.high - in_image, segment.row + segment.rows - row);
                memset(to + done, 0, some * wide * sizeof(T));
                done += some * wide, row += some;
                continue;
            }
            const T* map = begin + ((first_image + image) * grads.channels + channel) * rows *
                                       columns +
                           in_image * columns;
            if (wide == columns) {
                const T* from = map - shift;
                T* out = to + done;
                int64_t count = some * wide, p = 0;
                // In the first and the last map, a vector may extend past the tensor.
                for (; p + L <= count && from + p < begin; p += L)
                    for (int64_t j = p; j < p + L; ++j) out[j] = mask[j] ? from[j] : T(0);
                if (shift == 0)
                    for (; p + L <= count; p += L) store(out + p, load(from + p));
                for (; p + L <= count && from + p + L <= end; p += L)
                    store(out + p, masked<T>(load(from + p), mask + p));
                for (; p < count; ++p) out[p] = mask[p] ? from[p] : T(0);
            } else {
                for (int64_t r = 0; r < some; ++r) {
                    T* out = to + done + r * wide;
                    for (int64_t c = 0; c < wide; ++c)
                        out[c] = c - shift >= 0 && c - shift < columns
                                     ? map[r * columns + c - shift]
                                     : T(0);
                }
            }
            done += some * wide, row += some;
        }
        memset(to + done, 0, (length - done) * sizeof(T));
    }
}

// Prefetches memory that is needed next, a little at every step, while tiles compute: `pieces` of
// `count` numbers, at distance `apart`.
template <class T>
class Ahead {
  public:
    Ahead(const T* from, int64_t count, int64_t pieces, int64_t apart, int64_t steps)
        : from(from), count(count), pieces(pieces), apart(apart),
          portion(whole_vectors<T>(parts_of(count * pieces, steps))) {}
    INLINE void step() {
        for (int64_t end = std::min(done + portion, count), i = done; i < end; i += LANES<T>)
            __builtin_prefetch(from + piece * apart + i, 0, 2);
        if (++piece == pieces) piece = 0, done += portion;
    }

  private:
    const T* from;
    int64_t count, pieces, apart, portion, piece = 0, done = 0;
};

// What one thread sums: rows of weight blocks, over the images in memory.
template <class T>
struct WeightSum {
    const Plan& plan;
    const Lines<T>& source;
    const Lines<T>& grads;
    const Taps& taps;
    const std::vector<Mask<T>>& masks;
    int64_t mask_line, g_line;  // strides between masks, and between shifted lines
    bool flat;                  // images so close that their lines are processed as one
    T* shifted;                 // scratch for shifted lines of the gradient
    Sum<T>* weight;             // the result
    int64_t image = 0;          // number of the first image in memory
    std::vector<int64_t> from = {}, column_at = {}, row_at = {};

    // Some rows of a node's block.
    struct Band {
        int64_t channel, rows, row_width;
        Sum<T>* out;
    };

    // Where every column of node v's block reads its line, and where its sum is written.
    void find_columns(int64_t v) {
        const Lattice& l = source.lattice;
        const Geometry& g = l.g;
        from.clear();
        column_at.clear();
        for (int64_t k = 0; k < plan.fan_in[v]; ++k)
            for (int64_t a = 0; a < g.kernel[0]; ++a) {
                int64_t term = plan.forward.term[plan.forward.start[v] + k];
                int64_t phase = l.place_of(0, l.phase(0, a)) * l.used[1].size();
                from.push_back((term * source.phases + phase) * source.line +
                               l.shift(0, a) * l.wide);
                column_at.push_back((k * g.kernel[0] + a) * g.kernel[1]);
            }
    }

    // The gradient's rows as the taps of a group read them, `line` being the first of these taps.
    void fill_gradient(const Band& band, const Group& group, int64_t line, const Segment& s,
                       int64_t length, DotTask<T>& task) const {
        const Lattice& l = source.lattice;
        if (source.in_place) {
            task.g = grads.maps + (image + s.image) * grads.image + band.channel * grads.line +
                     s.row * l.wide;
            task.g_line = grads.line, task.g_image = grads.image;
            return;
        }
        for (int64_t r = 0; r < band.rows; ++r)
            for (int64_t t = 0; t < group.count; ++t)
                shift_gradient(l, grads, image, flat, s, band.channel + r, taps.shifts[line + t],
                               masks.data() + (line + t) * mask_line, length,
                               shifted + (r * group.count + t) * g_line);
        task.g = shifted, task.g_line = g_line, task.g_image = length;
    }

    // The band's sums of a group of taps over a segment; `lines` are those of x.
    void sum_group(const Band& band, const Group& group, int64_t line, const Segment& s,
                   const T* lines, bool add) {
        const Lattice& l = source.lattice;
        int64_t length = whole_vectors<T>(s.rows * l.wide), columns = from.size();
        row_at.clear();
        for (int64_t r = 0; r < band.rows; ++r)
            for (int64_t t = 0; t < group.count; ++t)
                row_at.push_back(r * band.row_width + group.first + t * group.step);
        DotTask<T> task = {};
        fill_gradient(band, group, line, s, length, task);
        const T* first_g = task.g;
        task.x = lines + s.image * source.image + s.row * l.wide + group.along;
        task.x_image = source.image;
        task.images = s.images, task.length = length;
        task.out = band.out, task.add = add;
        int64_t tiles = parts_of(row_at.size(), DOT_ROWS), spans = parts_of(columns, DOT_COLS);
        // The rows of the next node, as many as this one has.
        int64_t next = band.channel + band.rows, g_area = l.g.out_size[0] * l.g.out_size[1];
        int64_t rows_left = std::min(band.rows, plan.out_channels - next);
        int64_t g_image = plan.out_channels * g_area;
        Ahead<T> ahead(grads.maps + (image + s.image) * g_image + next * g_area,
                       flat ? 0 : rows_left * g_area, s.images, g_image, tiles * spans);
        for (int64_t t = 0; t < tiles; ++t) {
            Range tile = even_part(row_at.size(), t, tiles);
            task.g = first_g + tile.first * task.g_line;
            task.row_at = row_at.data() + tile.first;
            for (int64_t p = 0; p < spans; ++p) {
                Range span = even_part(columns, p, spans);
                ahead.step();
                task.start = from.data() + span.first;
                task.column_at = column_at.data() + span.first;
                pick_dot<T>(tile.last - tile.first, span.last - span.first)(task);
            }
        }
    }

    // Rows rows.first .. rows.last of all blocks, over the segments of the images in memory.
    void sum_rows(Range rows, const std::vector<Segment>& segments, const T* lines) {
        const Geometry& g = source.lattice.g;
        int64_t area = g.kernel[0] * g.kernel[1];
        each_node(plan.forward.channels, plan.num_nodes, rows, [&](int64_t v, int64_t row, int64_t last) {
            int64_t height = last - row;
            find_columns(v);
            // No edge may lead to this node.
            int64_t bands = from.empty() ? 0 : parts_of(height, SHIFTED_ROWS);
            for (int64_t b = 0; b < bands; ++b) {
                Range part = even_part(height, b, bands);
                Band band = {row + part.first, part.last - part.first, plan.fan_in[v] * area};
                band.out = weight + plan.weight_offset[v] * area +
                           (band.channel - plan.forward.channels[v]) * band.row_width;
                for (const Segment& s : segments) {
                    int64_t line = 0;
                    for (const Group& group : taps.groups) {
                        sum_group(band, group, line, s, lines, image > 0 || &s != segments.data());
                        line += group.count;
                    }
                }
            }
        });
    }
};

// Weights of the rows before an output channel.
inline int64_t weights_before(const Plan& plan, int64_t channel) {
    if (channel >= plan.out_channels) return plan.weight_offset[plan.num_nodes];
    int64_t v = node_of(plan.forward.channels, plan.num_nodes, channel);
    return plan.weight_offset[v] + (channel - plan.forward.channels[v]) * plan.fan_in[v];
}

template <class T>
void grad_weight(const Plan& plan, const Geometry& g, const T* grad, const T* x, T* weight,
                 int threads) {
    typedef Sum<T> S;
    constexpr bool ROUNDS = !std::is_same<T, S>::value;  // once all images are summed
    Lattice l(g);
    Lines<T> source(l, x, plan.in_channels, true), grads(l, grad, plan.out_channels, false);
    int64_t rows_of_image = g.out_size[0], wide = l.wide;
    source.hold(std::max(images_held<T>(l, plan.in_channels * l.phases, g.batch),
                         std::min(g.batch, parts_of(SEGMENT<T>, l.image()))));
    grads.hold(source.held);
    bool flat = !source.in_place && source.held > 1 &&
                l.image() < whole_vectors<T>(rows_of_image * wide);
    Taps taps;
    for (size_t f = 0; f < l.used[1].size(); ++f)
        taps.add(l, l.used[1][f], f * source.line, 1);
    int64_t taps_a_row = taps.shifts.size();
    auto segments_of = [&](int64_t images) {
        return flat ? make_segments(1, (images - 1) * l.high + rows_of_image, wide, SEGMENT<T>)
                    : make_segments(images, rows_of_image, wide, SEGMENT<T>);
    };
    int64_t most_rows = 0, g_line = 0;
    for (int64_t images : {source.held, g.batch % source.held}) {
        if (!images) continue;
        for (const Segment& s : segments_of(images)) {
            most_rows = std::max(most_rows, s.rows);
            g_line = std::max(g_line, s.images * whole_vectors<T>(s.rows * wide));
        }
    }
    g_line += LANES<T>;
    std::vector<int64_t> back(taps.shifts);
    for (int64_t& shift : back) shift = -shift;
    int64_t mask_line = whole_vectors<T>(most_rows * wide);
    require(double(taps_a_row) * mask_line <= MOST_INDEX);
    std::vector<Mask<T>> masks = make_masks<T>(back, mask_line, wide, g.out_size[1]);
    int64_t room = whole_vectors<T>(SHIFTED_ROWS * taps_a_row * g_line);
    int64_t area = g.kernel[0] * g.kernel[1], all = plan.weight_offset[plan.num_nodes] * area;
    int64_t parts = sizeof(S) / sizeof(T);
    T* rooms = Scratch::take<T>(threads * room + source.size() +
                                (ROUNDS ? parts * all + LANES<T> : 0));
    T* made = rooms + threads * room;
    S* sums = reinterpret_cast<S*>(weight);
    if (ROUNDS) sums = reinterpret_cast<S*>(made + whole_vectors<T>(source.size()));
    parallel(threads, [&](const Team& team) {
        Range rows = costed_part(plan.forward, plan.num_nodes, team.me, team.size);
        WeightSum<T> sum = {plan, source, grads, taps, masks, mask_line, g_line, flat,
                            rooms + team.me * room, sums};
        for (; sum.image < g.batch; sum.image += source.held) {
            int64_t some = std::min(source.held, g.batch - sum.image);
            source.fill(sum.image, some, made, nullptr, team.me, team.size);
            team.barrier();
            sum.sum_rows(rows, segments_of(some), source.begin(made, sum.image));
            team.barrier();
        }
        if constexpr (ROUNDS) {
            int64_t first = weights_before(plan, rows.first) * area;
            round_all(sums + first, weights_before(plan, rows.last) * area - first, 0, weight + first);
        }
    });
}

}  // namespace
