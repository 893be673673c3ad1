// A round on maps: the products of linear.cpp, each term one tap of a kernel.
//
// Maps are copied, some images at a time, into one long line per channel: rows of `wide` numbers,
// `high` rows an image, zeros below it. A row of taps then is a shift along that line, whatever the
// padding and dilation. A stride cuts an input map into phases (the rows and columns of one
// remainder), each a line of its own, so taps stay shifts. Taps beside each other in a row have
// sums of their own, which are shifted into place at the end; so lines need no columns of zeros.
#include <vector>

#include "conv_tiles.h"
#include "tables.h"

namespace {

struct Geometry {
    int64_t batch;
    int64_t in_size[2], out_size[2], kernel[2], stride[2], padding[2], dilation[2];
};

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
int64_t parts_of(int64_t count, int64_t most) { return (count + most - 1) / most; }
template <class T>
int64_t whole_vectors(int64_t count) {
    return parts_of(count, LANES<T>) * LANES<T>;
}

// The common lattice of a round's input and output maps.
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
        // Zeros before the first and after the last image, as far as a tap can shift.
        margin = std::max(-low, most) * wide;
    }
    int64_t shift(int d, int64_t a) const {
        return floor_div(a * g.dilation[d] - g.padding[d], g.stride[d]);
    }
    int64_t phase(int d, int64_t a) const {
        return a * g.dilation[d] - g.padding[d] - shift(d, a) * g.stride[d];
    }
    // Of a phase among those that taps read.
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

// Every `stride`-th number of a row from `left` on; up to a vector past them is written too.
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

// One map (rows, columns), every stride-th from (top, left), into its place on a line, zeros
// around it.
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

// Where a tile finds its numbers: lines made from maps, or the maps themselves.
template <class T>
struct Lines {
    const Lattice& lattice;
    const T* maps;
    int64_t channels, phases;
    bool phased, in_place;
    int64_t held;         // images at a time
    int64_t line, image;  // from channel to channel, from image to image

    Lines(const Lattice& l, const T* maps, int64_t channels, bool phased)
        : lattice(l), maps(maps), channels(channels), phases(phased ? l.phases : 1),
          phased(phased) {
        const Geometry& g = l.g;
        in_place = g.kernel[0] * g.kernel[1] * g.stride[0] * g.stride[1] == 1 &&
                   g.padding[0] + g.padding[1] == 0 && l.image() % LANES<T> == 0;
    }
    void hold(int64_t images) {
        held = images;
        image = in_place ? channels * lattice.image() : lattice.image();
        // A vector may reach past the last image; an odd number of vectors spreads the lines over
        // the sets of a cache.
        int64_t vectors =
            parts_of(2 * lattice.margin + held * lattice.image(), LANES<T>) + 1;
        line = in_place ? lattice.image() : (vectors + 1 - vectors % 2) * LANES<T>;
    }
    int64_t size() const { return in_place ? 0 : channels * phases * line; }

    // Makes the lines of some images: part `me` of `team` of the channels.
    void fill(int64_t first, int64_t images, T* to, int64_t me, int64_t team) const {
        if (in_place) return;
        const Lattice& l = lattice;
        const int64_t* size = phased ? l.g.in_size : l.g.out_size;
        const int64_t one[2] = {1, 1};
        const int64_t* stride = phased ? l.g.stride : one;
        int64_t phase_columns = phased ? l.used[1].size() : 1;
        Range mine = even_part(channels, me, team);
        for (int64_t c = mine.first; c < mine.last; ++c)
            for (int64_t f = 0; f < phases; ++f) {
                T* start = to + (c * phases + f) * line;
                T* end = start + l.margin + images * l.image();
                memset(start, 0, l.margin * sizeof(T));
                for (int64_t i = 0; i < images; ++i)
                    copy_in(maps + ((first + i) * channels + c) * size[0] * size[1], size[0],
                            size[1], stride, phased ? l.used[0][f / phase_columns] : 0,
                            phased ? l.used[1][f % phase_columns] : 0,
                            start + l.margin + i * l.image(), l.wide, l.high);
                memset(end, 0, (start + line - end) * sizeof(T));
            }
    }
    // The first image of those held, without its margin.
    const T* begin(const T* made, int64_t first) const {
        return in_place ? maps + first * image : made + lattice.margin;
    }
};

// Images whose lines fill half of a second-level cache; `most` there are.
template <class T>
int64_t images_held(const Lattice& l, int64_t lines, int64_t most) {
    return std::clamp<int64_t>((1 << 20) / int64_t(lines * l.image() * sizeof(T)), 1, most);
}

// Taps beside each other in every row of a kernel, which read the same line.
struct Group {
    int64_t first, count, step;  // columns of the kernel
    int64_t along;               // of the line that they read, from the first phase's
};

// The columns of a kernel, those of one phase together, and how far each is shifted.
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

// The columns of the output from one on, every stride-th, and the lines whose sums go there.
struct Part {
    int64_t line, lines;
};

// Of a row of `wide` places, those whose number lies `shift` further on within `real` columns.
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

// ---- forward, and gradient for the input -------------------------------------------------------

// Rows of a node that are summed side by side, and the room for their sums: a good part of a
// first-level cache.
constexpr int64_t BAND = 9, ROOM = 32 << 10;
// Places from which on each weight is read often enough to be laid side by side first.
constexpr int64_t OFTEN = 512;

// Whether rows go in threes: in pairs, one of an odd number would be left over, and one row gives
// the multipliers too little to do. Four vectors are left to one tile.
bool tall_tiles(int64_t rows, int64_t vectors) {
    return TALL_ROWS && rows > 1 && (rows % 2 || rows % 3 == 0) && vectors != TILE_WIDE;
}

// What one product does with the lines.
template <class T>
struct Work {
    const Plan& plan;
    const Side& side;
    const Lattice& lattice;
    const Lines<T>& source;
    bool transposed;
    bool gathered;              // a copy of the weights, each node's side by side, is read
    const T* weight;
    T* y;                       // (B, channels, rows, columns)
    int64_t y_channels;
    int64_t y_size[2];          // of a map
    int64_t rows, step[2];      // it writes `rows` rows, every step[0]-th
    int64_t first_row;
    Taps taps;
    std::vector<Part> parts;    // columns 0, 1 ... step[1] - 1 and every step[1]-th
    std::vector<int32_t> offset;  // where every term reads, for each row of taps
    std::vector<int64_t> where;   // and its weights
    int64_t tap_rows = 0;
    bool flat = false;          // images lie so close that their lines are walked as one
    bool contiguous = false, direct = false;
    int64_t chunk = 0;          // rows of places at a time
    int64_t z_line = 0;
    std::vector<Mask<T>> masks;
    std::vector<Shifted<T>> lines;

    int64_t rows_of(int64_t images) const {
        return flat ? (images - 1) * lattice.high + rows : rows;
    }

    // Which rows of the kernel take part, and how far each is shifted along a line.
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
        offset.resize(terms * tap_rows);
        where.resize(terms * tap_rows);
        for (int64_t v = 0, at = 0; v < plan.num_nodes; ++v)
            for (int64_t term = side.start[v]; term < side.start[v + 1]; ++term)
                for (int64_t a = 0; a < tap_rows; ++a, ++at) {
                    int64_t first = term - side.start[v];
                    if (gathered) first *= side.channels[v + 1] - side.channels[v];
                    else if (transposed) first = side.where[term];
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
        direct = contiguous && !flat && shifts == std::vector<int64_t>{0} &&
                 rows * wide % L == 0 && chunk * wide % L == 0;
        int64_t reach = 0;
        for (int64_t shift : shifts) reach = std::max(reach, std::abs(shift));
        int64_t places = whole_vectors<T>(chunk * wide);
        z_line = places + 2 * whole_vectors<T>(reach) + L;
        int64_t mask_line = places + L;
        masks = make_masks<T>(shifts, mask_line, wide, wide);
        for (size_t i = 0; i < shifts.size(); ++i)
            lines.push_back({int64_t(i) * z_line + whole_vectors<T>(reach), shifts[i],
                             shifts[i] ? masks.data() + i * mask_line : nullptr});
    }
    // Sums of a band of rows, the places of every part, and those side by side.
    int64_t room() const { return (BAND * lines.size() + 2 * step[1]) * z_line; }
};

// A line's sums, `rows` rows of places from `first` on, into an output channel.
template <class T>
void put_rows(const Work<T>& work, int64_t first_image, int64_t image, int64_t first, int64_t last,
              int64_t channel, const T* z, T* spare) {
    constexpr int64_t L = LANES<T>;
    const Lattice& l = work.lattice;
    for (int64_t row = first; row < last;) {
        int64_t in_image = row;
        if (work.flat) image = row / l.high, in_image = row % l.high;
        int64_t some = std::min(last - row, work.rows - in_image);
        if (some <= 0) {
            row += l.high - in_image;
            continue;
        }
        T* map = work.y + ((first_image + image) * work.y_channels + channel) * work.y_size[0] *
                              work.y_size[1];
        int64_t from = (row - first) * l.wide, count = some * l.wide, step = work.step[1];
        auto add = [&](const Part& part, T* to) {
            add_lines(z, work.lines.data() + part.line, part.lines, from, from + count, to);
        };
        row += some;
        if (work.contiguous) {
            add(work.parts[0], map + in_image * l.wide);
            continue;
        }
        for (size_t i = 0; i < work.parts.size(); ++i) add(work.parts[i], spare + i * work.z_line);
        const T* side_by_side = spare;
        if (step > 1) {
            T* woven = spare + step * work.z_line;
            int64_t p = 0;
            if (step == 2)
                for (; p + L <= count; p += L) {
                    Vec<T> a = load(spare + p), b = load(spare + work.z_line + p);
                    store(woven + 2 * p, weave_low<T>(a, b));
                    store(woven + 2 * p + L, weave_high<T>(a, b));
                }
            for (; p < count; ++p)
                for (int64_t i = 0; i < step; ++i)
                    woven[p * step + i] = spare[i * work.z_line + p];
            side_by_side = woven;
        }
        for (int64_t r = 0; r < some; ++r)
            copy(side_by_side + r * l.wide * step, work.y_size[1],
                 map + (work.first_row + (in_image + r) * work.step[0]) * work.y_size[1]);
    }
}

// Output channels rows.first .. rows.last of `images` images whose lines start at x.
template <class T>
void run_work(const Work<T>& work, Range rows, int64_t first_image, int64_t images, const T* x,
              T* z, const T* weights) {
    constexpr int64_t L = LANES<T>;
    const Plan& plan = work.plan;
    const Side& side = work.side;
    const Lattice& l = work.lattice;
    int64_t area = l.g.kernel[0] * l.g.kernel[1], lines = work.lines.size();
    int64_t y_area = work.y_size[0] * work.y_size[1];
    int64_t places_in_all = work.rows_of(images), walked = work.flat ? 1 : images;
    T* spare = z + BAND * lines * work.z_line;
    int64_t v = node_of(side.channels, plan.num_nodes, rows.first);
    for (int64_t row = rows.first; row < rows.last; ++v) {
        int64_t last = std::min(rows.last, side.channels[v + 1]), height = last - row;
        if (height <= 0) continue;
        int64_t local = row - side.channels[v], first_term = side.start[v] * work.tap_rows;
        int64_t count = side.start[v + 1] * work.tap_rows - first_term;
        int64_t stride = work.transposed ? area : plan.row_width[v] * area;
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
                    T* to = lines ? z + work.lines[0].line : z;
                    int64_t row_out = lines * work.z_line;
                    if (work.direct) {
                        row_out = y_area;
                        to = work.y + top * l.wide +
                             ((first_image + image) * work.y_channels + channel) * y_area;
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
                                                   work.z_line};
                                pick_tap_tile<T>(group.count, part.last - part.first,
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
        row = last;
    }
}

// Whether there are images enough that each thread takes its own.
bool images_suffice(int64_t batch, int threads) {
    return batch % threads == 0 || batch >= 4 * threads;
}

// The images that one thread works on.
int64_t images_each(int64_t batch, int threads) {
    return images_suffice(batch, threads) ? parts_of(batch, threads) : batch;
}

// Runs the works over the batch, threads sharing out images where there are enough, else output
// channels.
template <class T>
void over_images(int64_t batch, const Lines<T>& source, const std::vector<Work<T>>& works,
                 int threads) {
    const Plan& plan = works[0].plan;
    const Side& side = works[0].side;
    bool by_image = images_suffice(batch, threads);
    int64_t size = source.size(), room = 0;
    for (const Work<T>& work : works) room = std::max(room, whole_vectors<T>(work.room()));
    const Geometry& g = works[0].lattice.g;
    int64_t area = g.kernel[0] * g.kernel[1];
    bool gathered = works[0].gathered;
    T* rooms = Scratch::take<T>((by_image ? threads : 1) * size + threads * room +
                                (gathered ? side.cost[plan.num_nodes] * area : 0));
    T* made = rooms + threads * room;
    T* weights = made + (by_image ? threads : 1) * size;
#pragma omp parallel num_threads(threads)
    {
        int64_t me = omp_get_thread_num(), team = omp_get_num_threads();
        T* z = rooms + me * room;
        if (gathered) {
#pragma omp for schedule(static)
            for (int64_t v = 0; v < plan.num_nodes; ++v) {
                int64_t run = (side.channels[v + 1] - side.channels[v]) * area;
                T* to = weights + side.cost[v] * area;
                for (int64_t k = side.start[v]; k < side.start[v + 1]; ++k, to += run)
                    copy(works[0].weight + side.where[k] * area, run, to);
            }
        }
        if (by_image) {
            Range mine = even_part(batch, me, team);
            T* x = made + me * size;
            for (int64_t image = mine.first; image < mine.last; image += source.held) {
                int64_t some = std::min(source.held, mine.last - image);
                source.fill(image, some, x, 0, 1);
                for (const Work<T>& work : works)
                    run_work(work, {0, side.channels[plan.num_nodes]}, image, some,
                             source.begin(x, image), z, weights);
            }
        } else {
            for (int64_t image = 0; image < batch; image += source.held) {
                int64_t some = std::min(source.held, batch - image);
                source.fill(image, some, made, me, team);
#pragma omp barrier
                for (const Work<T>& work : works)
                    run_work(work, costed_part(side, plan.num_nodes, me, team), image, some,
                             source.begin(made, image), z, weights);
#pragma omp barrier
            }
        }
    }
}

template <class T>
void forward(const Plan& plan, const Geometry& g, const T* x, const T* weight, T* y, int threads) {
    Lattice l(g);
    Lines<T> source(l, x, plan.in_channels, true);
    source.hold(images_held<T>(l, plan.in_channels * l.phases, images_each(g.batch, threads)));
    std::vector<Work<T>> works = {{plan, plan.forward, l, source, false, false, weight, y,
                                   plan.out_channels,
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
    over_images(g.batch, source, works, threads);
}

template <class T>
void grad_input(const Plan& plan, const Geometry& g, const T* grad, const T* weight, T* x,
                int threads) {
    Lattice l(g);
    Lines<T> source(l, grad, plan.out_channels, false);
    source.hold(images_held<T>(l, plan.out_channels, images_each(g.batch, threads)));
    std::vector<Work<T>> works;
    bool gathered = g.batch * g.out_size[0] * g.out_size[1] >= OFTEN;
    for (int64_t top = 0; top < std::min(g.stride[0], g.in_size[0]); ++top) {
        works.push_back({plan, plan.backward, l, source, true, gathered, weight, x,
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
    over_images(g.batch, source, works, threads);
}

// ---- gradient for the weights ------------------------------------------------------------------

// Places that a tile sums at once: its rows of the gradient stay in the first-level cache while
// the columns pass by.
template <class T>
constexpr int64_t SEGMENT = 5120 / sizeof(T);
// Rows of a node whose shifted lines are held at once.
constexpr int64_t SHIFTED_ROWS = 16;

// What of the held images is summed at once: some images, or some rows of one.
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

// One channel's gradient, shifted as a tap of the kernel sees it: rows `wide` long from
// `segment`, zeros where there is no number, up to whole vectors an image.
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
                // The first and the last map of all: a vector there may leave the tensor.
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

// Memory that is needed soon, asked for a little at every step: it comes from the last cache while
// tiles compute. `pieces` of `count` numbers lie `apart`.
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

template <class T>
void grad_weight(const Plan& plan, const Geometry& g, const T* grad, const T* x, T* weight,
                 int threads) {
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
    int64_t taps_a_row = taps.shifts.size(), area = g.kernel[0] * g.kernel[1];
    int64_t g_area = g.out_size[0] * g.out_size[1];
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
    std::vector<Mask<T>> masks = make_masks<T>(back, mask_line, wide, g.out_size[1]);
    int64_t room = whole_vectors<T>(SHIFTED_ROWS * taps_a_row * g_line);
    T* rooms = Scratch::take<T>(threads * room + source.size());
    T* made = rooms + threads * room;
#pragma omp parallel num_threads(threads)
    {
        int64_t me = omp_get_thread_num(), team = omp_get_num_threads();
        Range rows = costed_part(plan.forward, plan.num_nodes, me, team);
        T* shifted = rooms + me * room;
        std::vector<int64_t> from, column_at, row_at;
        for (int64_t image = 0; image < g.batch; image += source.held) {
            int64_t some = std::min(source.held, g.batch - image);
            source.fill(image, some, made, me, team);
#pragma omp barrier
            const T* lines = source.begin(made, image);
            std::vector<Segment> segments = segments_of(some);
            int64_t v = node_of(plan.forward.channels, plan.num_nodes, rows.first);
            for (int64_t row = rows.first; row < rows.last; ++v) {
                int64_t last = std::min(rows.last, plan.forward.channels[v + 1]);
                int64_t height = last - row;
                if (height <= 0) continue;
                int64_t columns = plan.row_width[v] * g.kernel[0];
                from.resize(columns);
                column_at.resize(columns);
                for (int64_t k = 0, at = 0; k < plan.row_width[v]; ++k)
                    for (int64_t a = 0; a < g.kernel[0]; ++a, ++at) {
                        int64_t term = plan.forward.term[plan.forward.start[v] + k];
                        int64_t phase = l.place_of(0, l.phase(0, a)) * l.used[1].size();
                        from[at] = (term * source.phases + phase) * source.line +
                                   l.shift(0, a) * wide;
                        column_at[at] = k * area + a * g.kernel[1];
                    }
                int64_t row_width = plan.row_width[v] * area;
                int64_t bands = parts_of(height, SHIFTED_ROWS);
                for (int64_t b = 0; b < bands; ++b) {
                    Range band = even_part(height, b, bands);
                    int64_t channel = row + band.first, band_rows = band.last - band.first;
                    T* out = weight + plan.weight_offset[v] * area +
                             (channel - plan.forward.channels[v]) * row_width;
                    for (const Segment& s : segments) {
                        int64_t length = whole_vectors<T>(s.rows * wide), line = 0;
                        const T* seen = lines + s.image * source.image + s.row * wide;
                        for (const Group& group : taps.groups) {
                            row_at.clear();
                            for (int64_t r = 0; r < band_rows; ++r)
                                for (int64_t t = 0; t < group.count; ++t, ++line) {
                                    int64_t tap = group.first + t * group.step;
                                    row_at.push_back(r * row_width + tap);
                                }
                            line -= band_rows * group.count;
                            DotTask<T> task = {};
                            task.g_line = g_line, task.g_image = length;
                            if (source.in_place) {
                                task.g = grad + (image + s.image) * grads.image +
                                         channel * grads.line + s.row * wide;
                                task.g_line = grads.line, task.g_image = grads.image;
                            } else {
                                for (int64_t r = 0; r < band_rows; ++r)
                                    for (int64_t t = 0; t < group.count; ++t)
                                        shift_gradient(
                                            l, grads, image, flat, s, channel + r,
                                            taps.shifts[line + t],
                                            masks.data() + (line + t) * mask_line, length,
                                            shifted + (r * group.count + t) * g_line);
                                task.g = shifted;
                            }
                            const T* first_g = task.g;
                            task.x_image = source.image;
                            task.images = s.images, task.length = length;
                            task.out = out, task.add = image > 0 || &s != segments.data();
                            int64_t tiles = parts_of(row_at.size(), DOT_ROWS);
                            int64_t spans = parts_of(columns, DOT_COLS);
                            // The rows of the next node, as many as of this one.
                            int64_t next = channel + band_rows;
                            int64_t rows_left = std::min(band_rows, plan.out_channels - next);
                            int64_t g_image = plan.out_channels * g_area;
                            Ahead<T> ahead(grad + (image + s.image) * g_image + next * g_area,
                                           flat ? 0 : rows_left * g_area, s.images, g_image,
                                           tiles * spans);
                            for (int64_t t = 0; t < tiles; ++t) {
                                Range tile = even_part(row_at.size(), t, tiles);
                                task.g = first_g + tile.first * task.g_line;
                                task.row_at = row_at.data() + tile.first;
                                for (int64_t p = 0; p < spans; ++p) {
                                    Range span = even_part(columns, p, spans);
                                    ahead.step();
                                    task.x = seen + group.along;
                                    task.start = from.data() + span.first;
                                    task.column_at = column_at.data() + span.first;
                                    pick_dot<T>(tile.last - tile.first,
                                                span.last - span.first)(task);
                                }
                            }
                            line += group.count;
                        }
                    }
                }
                row = last;
            }
#pragma omp barrier
        }
    }
}

}  // namespace

extern "C" {

int NAMED(conv2d_forward)(const Plan* plan, const Geometry* g, const T* x, const T* weight, T* y,
                          int64_t threads) try {
    forward<T>(*plan, *g, x, weight, y, threads);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

int NAMED(conv2d_grad_input)(const Plan* plan, const Geometry* g, const T* grad, const T* weight,
                             T* x, int64_t threads) try {
    grad_input<T>(*plan, *g, grad, weight, x, threads);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

int NAMED(conv2d_grad_weight)(const Plan* plan, const Geometry* g, const T* grad, const T* x,
                              T* weight, int64_t threads) try {
    grad_weight<T>(*plan, *g, grad, x, weight, threads);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

}  // extern "C"
