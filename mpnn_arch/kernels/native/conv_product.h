// The forward product of a round over maps, and the gradient with respect to its input.
#pragma once
#include "conv_lines.h"
#include "pairs.h"

namespace {

// Rows of a node that are accumulated together, and the bytes for their sums: most of the L1 cache.
constexpr int64_t BAND = 9, ROOM = 32 << 10;
// Positions from which on scattered weights are read often enough to be copied into contiguous memory, where
// they lie in pieces of less than two cache lines, or where prefetching them takes too long.
constexpr int64_t OFTEN = 512;
bool worth_gathering(double piece_bytes, int64_t positions) {
    return positions >= OFTEN && (piece_bytes < 128 || !SPARE_LOADS);
}
// Rows and columns of one remainder by the stride that a gradient is written into, in all.
constexpr double MOST_PARTS = 1 << 27;

// Whether to process rows in threes: in pairs, an odd number would leave one row over, and a single
// row does not keep the multipliers busy. Four vectors are left to one tile.
bool tall_tiles(int64_t rows, int64_t vectors) {
    return TALL_ROWS && rows > 1 && (rows % 2 || rows % 3 == 0) && vectors != TILE_WIDE;
}

// One product over the lines.
template <class T>
struct Work {
    const Plan& plan;
    const Side& side;
    const Lattice& lattice;
    const Lines<T>& source;
    bool transposed;
    bool gathered;              // read a copy of the weights, contiguous per node
    const T* weight;            // as they are stored, unless gathered
    const Stored<T>* bias;      // may be null
    Stored<T>* y;               // (B, channels, rows, columns)
    int64_t y_channels;
    int64_t y_size[2];          // (rows, columns) of a map
    int64_t rows, step[2];      // `rows` rows are written, every step[0]-th
    int64_t first_row;
    Taps taps;
    std::vector<Part> parts;    // columns 0, 1 ... step[1] - 1 and every step[1]-th
    std::vector<int32_t> offset;  // offset that every term reads at, per row of taps
    std::vector<int64_t> where;   // offset of its weights
    int64_t tap_rows = 0;
    bool flat = false;          // images so close that their lines are processed as one
    bool contiguous = false, direct = false;
    int64_t chunk = 0;          // rows of positions at a time
    int64_t z_line = 0;
    std::vector<Mask<Sum<T>>> masks;
    std::vector<Shifted<Sum<T>>> lines;

    int64_t rows_of(int64_t images) const {
        return flat ? (images - 1) * lattice.high + rows : rows;
    }

    // Sets the rows of the kernel that take part, and the shift of each along a line.
    void prepare(const std::vector<int64_t>& kernel_rows, const std::vector<int64_t>& along) {
        const Lattice& l = lattice;
        constexpr int64_t L = LANES<T>;
        int64_t area = l.g.kernel[0] * l.g.kernel[1], wide = l.wide;
        tap_rows = kernel_rows.size();
        if (!tap_rows) {
            taps = {};
            for (Part& part : parts) part = {0, 0};
        }
        int64_t terms = side.start[plan.num_nodes];
        // Offsets of terms have 32 bits.
        require(double(source.channels) * source.phases * source.line + l.margin <= MOST_INDEX);
        offset.resize(terms * tap_rows);
        where.resize(terms * tap_rows + TERMS_AHEAD);
        for (int64_t v = 0, at = 0; v < plan.num_nodes; ++v)
            for (int64_t term = side.start[v]; term < side.start[v + 1]; ++term)
                for (int64_t a = 0; a < tap_rows; ++a, ++at) {
                    int64_t first = term - side.start[v];
                    if (transposed)
                        first = gathered ? first * (side.channels[v + 1] - side.channels[v])
                                         : side.where[term];
                    offset[at] =
                        int32_t(side.term[term] * source.phases * source.line + along[a]);
                    where[at] = first * area + kernel_rows[a] * l.g.kernel[1];
                }
        contiguous = wide == y_size[1] && step[0] * step[1] == 1;
        flat = source.held > 1 && l.image() < whole_vectors<T>(rows * wide);
        const auto& shifts = taps.shifts;
        int64_t lines_a_row = std::max<int64_t>(shifts.size(), 1);
        int64_t rows_in_all = rows_of(source.held);
        int64_t most = std::clamp<int64_t>(
            ROOM / int64_t(BAND * lines_a_row * wide * sizeof(T)), 1, rows_in_all);
        auto cost = [&](int64_t rows) {
            return rows_in_all / rows * whole_vectors<T>(rows * wide) +
                   whole_vectors<T>(rows_in_all % rows * wide);
        };
        chunk = most;
        for (int64_t rows = most; rows > most / 2; --rows)
            if (cost(rows) < cost(chunk)) chunk = rows;
        direct = std::is_same<T, Stored<T>>::value && contiguous && !flat && shifts == std::vector<int64_t>{0} &&
                 rows * wide % L == 0 && chunk * wide % L == 0;
        int64_t reach = 0;
        for (int64_t shift : shifts) reach = std::max(reach, std::abs(shift));
        int64_t places = whole_vectors<T>(chunk * wide);
        z_line = places + 2 * whole_vectors<T>(reach) + L;
        int64_t mask_line = places + L;
        require(double(shifts.size()) * mask_line <= MOST_INDEX);
        masks = make_masks<Sum<T>>(shifts, mask_line, wide, wide);
        for (size_t i = 0; i < shifts.size(); ++i)
            lines.push_back({int64_t(i) * z_line + whole_vectors<T>(reach), shifts[i],
                             shifts[i] ? masks.data() + i * mask_line : nullptr});
    }
    // Scratch size: sums of a band of rows, the positions of every part, and those interleaved.
    int64_t room() const { return (BAND * lines.size() + 2 * step[1]) * z_line; }
    // Writes sums of an output channel.
    void write(const Sum<T>* from, int64_t count, int64_t channel, Stored<T>* to) const {
        if constexpr (std::is_same<T, Stored<T>>::value) copy(from, count, to);
        else round_all(from, count, bias ? bf16_to_float(bias[channel]) : 0.0f, to);
    }
};

// Writes a line's sums, rows of positions first .. last, into an output channel.
template <class T>
void put_rows(const Work<T>& work, int64_t first_image, int64_t image, int64_t first, int64_t last,
              int64_t channel, const Sum<T>* z, Sum<T>* spare) {
    typedef Sum<T> S;
    constexpr int64_t L = LANES<S>;
    const Lattice& l = work.lattice;
    for (int64_t row = first; row < last;) {
        int64_t in_image = row;
        if (work.flat) image = row / l.high, in_image = row % l.high;
        int64_t some = std::min(last - row, work.rows - in_image);
        if (some <= 0) {
            row += l.high - in_image;
            continue;
        }
        Stored<T>* map = work.y + ((first_image + image) * work.y_channels + channel) * work.y_size[0] *
                              work.y_size[1];
        int64_t from = (row - first) * l.wide, count = some * l.wide, step = work.step[1];
        auto add = [&](const Part& part, S* to) {
            add_lines(z, work.lines.data() + part.line, part.lines, from, from + count, to);
        };
        row += some;
        if (work.contiguous) {
            Stored<T>* to = map + in_image * l.wide;
            if constexpr (std::is_same<T, Stored<T>>::value) {
                add(work.parts[0], to);
            } else {
                add(work.parts[0], spare);
                work.write(spare, count, channel, to);
            }
            continue;
        }
        for (size_t i = 0; i < work.parts.size(); ++i) add(work.parts[i], spare + i * work.z_line);
        const S* side_by_side = spare;
        if (step > 1) {
            S* woven = spare + step * work.z_line;
            int64_t p = 0;
            if (step == 2)
                for (; p + L <= count; p += L) {
                    Vec<S> a = load(spare + p), b = load(spare + work.z_line + p);
                    store(woven + 2 * p, weave_low<S>(a, b));
                    store(woven + 2 * p + L, weave_high<S>(a, b));
                }
            for (; p < count; ++p)
                for (int64_t i = 0; i < step; ++i)
                    woven[p * step + i] = spare[i * work.z_line + p];
            side_by_side = woven;
        }
        for (int64_t r = 0; r < some; ++r)
            work.write(side_by_side + r * l.wide * step, work.y_size[1], channel,
                       map + (work.first_row + (in_image + r) * work.step[0]) * work.y_size[1]);
    }
}

// Computes output channels rows.first .. rows.last of `images` images whose lines start at x.
template <class T>
void run_work(const Work<T>& work, Range rows, int64_t first_image, int64_t images, const T* x,
              Sum<T>* z, const T* weights) {
    constexpr int64_t L = LANES<T>;
    const Plan& plan = work.plan;
    const Side& side = work.side;
    const Lattice& l = work.lattice;
    int64_t area = l.g.kernel[0] * l.g.kernel[1], lines = work.lines.size();
    int64_t y_area = work.y_size[0] * work.y_size[1];
    int64_t places_in_all = work.rows_of(images), walked = work.flat ? 1 : images;
    Sum<T>* spare = z + BAND * lines * work.z_line;
    auto pick = pick_tap_tile<T, false>;
    if constexpr (std::is_same<T, Stored<T>>::value)
        if (work.transposed && !work.gathered) pick = pick_tap_tile<T, true>;
    each_node(side.channels, plan.num_nodes, rows, [&](int64_t v, int64_t row, int64_t last) {
        int64_t height = last - row;
        int64_t local = row - side.channels[v], first_term = side.start[v] * work.tap_rows;
        int64_t count = side.start[v + 1] * work.tap_rows - first_term;
        int64_t stride = work.transposed ? area : (side.start[v + 1] - side.start[v]) * area;
        const T* w = work.gathered ? weights + side.cost[v] * area
                                   : work.weight +
                                         (work.transposed ? 0 : plan.weight_offset[v] * area);
        int64_t bands = parts_of(height, BAND);
        for (int64_t b = 0; b < bands; ++b) {
            Range band = even_part(height, b, bands);
            int64_t channel = row + band.first, band_rows = band.last - band.first;
            const T* band_w = w + (local + band.first) * stride;
            for (int64_t image = 0; image < walked; ++image)
                for (int64_t top = 0; top < places_in_all; top += work.chunk) {
                    int64_t bottom = std::min(top + work.chunk, places_in_all);
                    int64_t vectors = parts_of((bottom - top) * l.wide, L);
                    bool tall = work.taps.all_in_one() && tall_tiles(band_rows, vectors);
                    int64_t blocks = parts_of(vectors, tall ? TALL_WIDE : TILE_WIDE);
                    const T* from = x + image * work.source.image + top * l.wide;
                    Sum<T>* to = lines ? z + work.lines[0].line : z;
                    int64_t row_out = lines * work.z_line;
                    if constexpr (std::is_same<T, Stored<T>>::value) {
                        if (work.direct) {
                            row_out = y_area;
                            to = work.y + top * l.wide +
                                 ((first_image + image) * work.y_channels + channel) * y_area;
                        }
                    }
                    for (int64_t p = 0; p < blocks; ++p) {
                        Range block = even_part(vectors, p, blocks);
                        int64_t line = 0;
                        for (const Group& group : work.taps.groups) {
                            int64_t most = tall ? TALL_ROWS : TILE_SUMS / group.count;
                            int64_t tiles = parts_of(band_rows, most);
                            for (int64_t t = 0; t < tiles; ++t) {
                                Range part = even_part(band_rows, t, tiles);
                                TapTask<T> task = {band_w + part.first * stride + group.first,
                                                   stride,
                                                   group.step,
                                                   work.where.data() + first_term,
                                                   from + group.along + block.first * L,
                                                   work.offset.data() + first_term,
                                                   count,
                                                   to + part.first * row_out +
                                                       line * work.z_line + block.first * L,
                                                   row_out,
                                                   work.z_line,
                                                   work.direct};
                                pick(group.count, part.last - part.first,
                                     block.last - block.first)(task);
                            }
                            line += group.count;
                        }
                    }
                    if (work.direct) continue;
                    for (int64_t r = 0; r < band_rows; ++r)
                        put_rows(work, first_image, image, top, bottom, channel + r,
                                 z + r * row_out, spare);
                }
        }
    });
}

// Whether there are enough images to distribute them over the threads.
bool images_suffice(int64_t batch, int threads) {
    return batch % threads == 0 || batch >= 4 * threads;
}

// Number of images that one thread processes.
int64_t images_each(int64_t batch, int threads) {
    return images_suffice(batch, threads) ? parts_of(batch, threads) : batch;
}

// Runs the products over the batch, distributing images over threads where there are enough, else
// output channels. `gather(v, to)` copies node v's weights.
template <class T, class Gather>
void over_images(int64_t batch, const Lines<T>& source, const std::vector<Work<T>>& works,
                 int threads, Gather gather) {
    static_assert(sizeof(T) == sizeof(Sum<T>), "lines and sums share memory");
    const Plan& plan = works[0].plan;
    const Side& side = works[0].side;
    bool by_image = images_suffice(batch, threads);
    int64_t size = source.size(), room = source.room();
    for (const Work<T>& work : works) room = std::max(room, work.room());
    room = whole_vectors<T>(room);
    const Geometry& g = works[0].lattice.g;
    int64_t area = g.kernel[0] * g.kernel[1];
    bool gathered = works[0].gathered;
    T* rooms = Scratch::take<T>((by_image ? threads : 1) * size + threads * room +
                                (gathered ? side.cost[plan.num_nodes] * area : 0));
    T* made = rooms + threads * room;
    T* weights = made + (by_image ? threads : 1) * size;
    parallel(threads, [&](const Team& team) {
        T* own = rooms + team.me * room;
        Sum<T>* z = reinterpret_cast<Sum<T>*>(own);
        if (gathered) team.each(plan.num_nodes, [&](int64_t v) { gather(v, weights); });
        if (by_image) {
            Range mine = even_part(batch, team.me, team.size);
            T* x = made + team.me * size;
            for (int64_t image = mine.first; image < mine.last; image += source.held) {
                int64_t some = std::min(source.held, mine.last - image);
                source.fill(image, some, x, own, 0, 1);
                for (const Work<T>& work : works)
                    run_work(work, {0, side.channels[plan.num_nodes]}, image, some,
                             source.begin(x, image), z, weights);
            }
        } else {
            for (int64_t image = 0; image < batch; image += source.held) {
                int64_t some = std::min(source.held, batch - image);
                source.fill(image, some, made, own, team.me, team.size);
                team.barrier();
                for (const Work<T>& work : works)
                    run_work(work, costed_part(side, plan.num_nodes, team.me, team.size), image, some,
                             source.begin(made, image), z, weights);
                team.barrier();
            }
        }
    });
}

// The operands of a product. For pairs, `pairs` is their plan, and `plan` is its.
template <class T>
struct Operands {
    const Plan& plan;
    const PairPlan* pairs;
    const Geometry& g;
    const Stored<T> *x, *weight, *bias;
    Stored<T>* y;

    const T* stored_weights() const {
        if constexpr (std::is_same<T, Stored<T>>::value) return weight;
        else return nullptr;
    }
};

template <class T>
void forward(const Operands<T>& of, int threads) {
    const Plan& plan = of.plan;
    const Geometry& g = of.g;
    Lattice l(g);
    int64_t channels = of.pairs ? of.pairs->in_pairs : plan.in_channels;
    Lines<T> source(l, of.x, channels, true, of.pairs ? of.pairs->in_start : nullptr);
    source.hold(images_held<T>(l, channels * l.phases, images_each(g.batch, threads)));
    std::vector<Work<T>> works = {{plan, plan.forward, l, source, false, of.pairs != nullptr,
                                   of.stored_weights(), of.bias, of.y, plan.out_channels,
                                   {g.out_size[0], g.out_size[1]}, g.out_size[0], {1, 1}, 0}};
    for (size_t f = 0; f < l.used[1].size(); ++f)
        works[0].taps.add(l, l.used[1][f], f * source.line, 1);
    works[0].parts = {{0, g.kernel[1]}};
    std::vector<int64_t> rows, along;
    for (int64_t a = 0; a < g.kernel[0]; ++a) {
        rows.push_back(a);
        along.push_back(l.place_of(0, l.phase(0, a)) * l.used[1].size() * source.line +
                        l.shift(0, a) * l.wide);
    }
    works[0].prepare(rows, along);
    over_images(g.batch, source, works, threads, [&](int64_t v, T* to) {
        if constexpr (std::is_same<T, Pair>::value)
            pack_row_pairs(*of.pairs, v, of.weight, g.kernel[0] * g.kernel[1], to);
    });
}

template <class T>
void grad_input(const Operands<T>& of, int threads) {
    const Plan& plan = of.plan;
    const Side& side = plan.backward;
    const Geometry& g = of.g;
    Lattice l(g);
    int64_t channels = of.pairs ? of.pairs->out_pairs : plan.out_channels;
    Lines<T> source(l, of.x, channels, false, of.pairs ? of.pairs->out_start : nullptr);
    source.hold(images_held<T>(l, channels, images_each(g.batch, threads)));
    std::vector<Work<T>> works;
    int64_t area = g.kernel[0] * g.kernel[1];
    double piece = double(plan.in_channels) / plan.num_nodes * area * sizeof(T);
    bool gathered = of.pairs || worth_gathering(piece, g.batch * g.out_size[0] * g.out_size[1]);
    require(double(std::min(g.stride[0], g.in_size[0])) * g.stride[1] <= MOST_PARTS);
    for (int64_t top = 0; top < std::min(g.stride[0], g.in_size[0]); ++top) {
        works.push_back({plan, side, l, source, true, gathered, of.stored_weights(), nullptr, of.y,
                         plan.in_channels,
                         {g.in_size[0], g.in_size[1]}, parts_of(g.in_size[0] - top, g.stride[0]),
                         {g.stride[0], g.stride[1]}, top});
        Work<T>& work = works.back();
        for (int64_t left = 0; left < g.stride[1]; ++left) {
            int64_t before = work.taps.shifts.size();
            work.taps.add(l, left, 0, -1);
            work.parts.push_back({before, int64_t(work.taps.shifts.size()) - before});
        }
        std::vector<int64_t> rows, along;
        for (int64_t a = 0; a < g.kernel[0]; ++a)
            if (l.phase(0, a) == top) {
                rows.push_back(a);
                along.push_back(-l.shift(0, a) * l.wide);
            }
        work.prepare(rows, along);
    }
    over_images(g.batch, source, works, threads, [&](int64_t v, T* to) {
        if constexpr (std::is_same<T, Pair>::value) {
            pack_term_pairs(*of.pairs, v, of.weight, area, to);
        } else {
            int64_t run = (side.channels[v + 1] - side.channels[v]) * area;
            to += side.cost[v] * area;
            for (int64_t k = side.start[v]; k < side.start[v + 1]; ++k, to += run)
                copy(of.weight + side.where[k] * area, run, to);
        }
    });
}

}  // namespace
