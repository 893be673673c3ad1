// A round on maps: the products of linear.cpp, each term one tap of a kernel.
//
// Maps are copied, some images at a time, into one long line per channel: rows of `wide` numbers,
// `high` rows an image, zeros in between. A tap then is a shift along that line, whatever the
// padding and dilation. A stride cuts an input map into phases (the rows and columns of one
// remainder), each a line of its own, so taps stay shifts. Sums at the places between the maps are
// made and thrown away; they are few.
#include <vector>

#include "tables.h"
#include "tiles.h"

namespace {

struct Geometry {
    int64_t batch;
    int64_t in_size[2], out_size[2], kernel[2], stride[2], padding[2], dilation[2];
};

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// The common lattice of a round's input and output maps.
struct Lattice {
    explicit Lattice(const Geometry& g) : g(g) {
        int64_t low[2], high_shift[2], length[2];
        for (int d = 0; d < 2; ++d) {
            low[d] = high_shift[d] = 0;
            for (int64_t a = 0; a < g.kernel[d]; ++a) {
                low[d] = std::min(low[d], shift(d, a));
                high_shift[d] = std::max(high_shift[d], shift(d, a));
            }
            int64_t phase_size = (g.in_size[d] + g.stride[d] - 1) / g.stride[d];
            length[d] = std::max(phase_size - low[d], g.out_size[d] + high_shift[d]);
        }
        high = length[0];
        wide = length[1];
        phases = g.stride[0] * g.stride[1];
        // Zeros before the first and after the last image, as far as a tap can shift.
        margin = std::max(-low[0], high_shift[0]) * wide + std::max(-low[1], high_shift[1]);
    }
    int64_t shift(int d, int64_t a) const {
        return floor_div(a * g.dilation[d] - g.padding[d], g.stride[d]);
    }
    int64_t phase(int d, int64_t a) const {
        return a * g.dilation[d] - g.padding[d] - shift(d, a) * g.stride[d];
    }
    int64_t image() const { return high * wide; }
    // Of one line holding `images` images, read in steps of `step`.
    int64_t line(int64_t images, int64_t step) const {
        return 2 * margin + (images * image() + step - 1) / step * step;
    }

    Geometry g;
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

// One map (rows, columns), every stride-th from (top, left), into its place on a line, zeros
// around it.
template <class T>
void copy_in(const T* map, int64_t rows, int64_t columns, const int64_t* stride, int64_t top,
             int64_t left, T* to, int64_t wide, int64_t high) {
    T* end = to + high * wide;
    for (int64_t r = top; r < rows; r += stride[0], to += wide) {
        const T* from = map + r * columns;
        int64_t i = 0;
        if (stride[1] == 1) copy(from, i = columns, to);
        else
            for (int64_t c = left; c < columns; c += stride[1]) to[i++] = from[c];
        for (; i < wide; ++i) to[i] = T(0);
    }
    memset(to, 0, (end - to) * sizeof(T));
}

// What one product does with the lines.
template <class T>
struct Work {
    const Plan& plan;
    const Side& side;
    const Lattice& lattice;
    const T* weight;
    T* y;                       // (B, channels, rows, columns)
    int64_t y_channels;
    int64_t y_size[2];          // of a whole map
    int64_t part_size[2];       // of the part that this call writes: one phase, or all of it
    int64_t part_stride[2], part_first[2];
    std::vector<int64_t> tap;   // which taps
    std::vector<int64_t> along; // where each reads, from the output's place, on x's lines
    int64_t x_line;             // from channel to channel of x
};

// A tile, `rows` output channels by `count` places of their lines from `place` on, into the maps.
template <class T>
void copy_out(const Work<T>& work, int64_t first_image, int64_t images, int64_t place,
              int64_t count, const T* tile, int64_t rows, int64_t channel) {
    const Lattice& l = work.lattice;
    const int64_t area = work.y_size[0] * work.y_size[1], step = work.part_stride[1];
    int64_t image = place / l.image(), rest = place % l.image();
    int64_t row = rest / l.wide, column = rest % l.wide;
    for (int64_t done = 0; done < count && image < images;) {
        int64_t run = std::min(l.wide - column, count - done);
        int64_t real = std::min(run, work.part_size[1] - column);
        if (row < work.part_size[0] && real > 0) {
            T* to = work.y + ((first_image + image) * work.y_channels + channel) * area +
                    (work.part_first[0] + row * work.part_stride[0]) * work.y_size[1] +
                    work.part_first[1] + column * step;
            const T* from = tile + done;
            for (int64_t r = 0; r < rows; ++r, to += area, from += count) {
                if (step == 1) copy(from, real, to);
                else
                    for (int64_t i = 0; i < real; ++i) to[i * step] = from[i];
            }
        }
        done += run;
        column = 0;
        if (++row == l.high) row = 0, ++image;
    }
}

// Output channels rows.first .. rows.last of `images` images whose lines start at x.
template <class T, int WIDE, bool TRANSPOSED>
void run_lines(const Work<T>& work, Range rows, int64_t first_image, int64_t images, const T* x) {
    constexpr int64_t WIDTH = WIDE * LANES<T>;
    const Plan& plan = work.plan;
    const Side& side = work.side;
    const Lattice& l = work.lattice;
    int64_t area = l.g.kernel[0] * l.g.kernel[1], taps = work.tap.size();
    std::vector<int32_t> offset;
    std::vector<int64_t> where;
    alignas(64) T tile[MOST_ROWS<WIDE> * WIDTH];
    bool whole = l.high == work.y_size[0] && l.wide == work.y_size[1] && l.phases == 1;
    int64_t v = node_of(side.channels, plan.num_nodes, rows.first);
    for (int64_t row = rows.first; row < rows.last; ++v) {
        int64_t last = std::min(rows.last, side.channels[v + 1]), height = last - row;
        if (height <= 0) continue;
        int64_t local = row - side.channels[v];
        int64_t terms = side.start[v + 1] - side.start[v], count = terms * taps;
        offset.resize(count);
        if (TRANSPOSED) where.assign(count + AHEAD, 0);
        for (int64_t k = 0, at = 0; k < terms; ++k)
            for (int64_t t = 0; t < taps; ++t, ++at) {
                int64_t term = side.start[v] + k;
                offset[at] = int32_t(side.term[term] * work.x_line + work.along[t]);
                if (TRANSPOSED) where[at] = side.where[term] * area + work.tap[t];
            }
        int64_t stride = TRANSPOSED ? area : plan.row_width[v] * area;
        const T* w = TRANSPOSED ? work.weight + local * area
                                : work.weight + plan.weight_offset[v] * area + local * stride;
        int64_t tiles = (height + MOST_ROWS<WIDE> - 1) / MOST_ROWS<WIDE>;
        int64_t end = images * l.image();
        for (int64_t place = 0; place < end; place += WIDTH) {
            int64_t image = place / l.image();
            bool direct = whole && place + WIDTH <= (image + 1) * l.image();
            for (int64_t t = 0; t < tiles; ++t) {
                Range part = even_part(height, t, tiles);
                const T* from = w + part.first * stride;
                T* to = tile;
                int64_t to_stride = WIDTH;
                if (direct) {
                    to = work.y + ((first_image + image) * work.y_channels + row + part.first) *
                                      l.image() + (place - image * l.image());
                    to_stride = l.image();
                }
                pick_product<T, WIDE, 1, TRANSPOSED>(part.last - part.first)(
                    from, stride, where.data(), x + place, offset.data(), count, to, to_stride);
                if (!direct)
                    copy_out(work, first_image, images, place, WIDTH, tile,
                             part.last - part.first, row + part.first);
            }
        }
        row = last;
    }
}

// Whether there are images enough that each thread takes its own.
bool images_suffice(int64_t batch, int threads) {
    return batch % threads == 0 || batch >= 4 * threads;
}

// Runs `product` (on `held` images at a time, from their lines of `size` numbers in all) over the
// batch, threads sharing out images where there are enough, else output channels.
template <class T, class Fill, class Product>
void over_images(int64_t batch, int64_t held, int64_t size, const Side& side, int64_t nodes,
                 int threads, Fill fill, Product product) {
    if (images_suffice(batch, threads)) {
        T* scratch = Scratch::take<T>(threads * size);
#pragma omp parallel num_threads(threads)
        {
            Range mine = even_part(batch, omp_get_thread_num(), omp_get_num_threads());
            T* x = scratch + omp_get_thread_num() * size;
            for (int64_t image = mine.first; image < mine.last; image += held) {
                int64_t some = std::min(held, mine.last - image);
                fill(x, image, some, 0, 1);
                product(x, image, some, Range{0, side.channels[nodes]});
            }
        }
        return;
    }
    T* x = Scratch::take<T>(size);
#pragma omp parallel num_threads(threads)
    {
        int64_t me = omp_get_thread_num(), team = omp_get_num_threads();
        for (int64_t image = 0; image < batch; image += held) {
            int64_t some = std::min(held, batch - image);
            fill(x, image, some, me, team);
#pragma omp barrier
            product(x, image, some, costed_part(side, nodes, me, team));
#pragma omp barrier
        }
    }
}

// The widest step in which a line is read.
template <class T>
constexpr int64_t STEP = 4 * LANES<T>;

// Images whose lines fill half of a second-level cache; `most` there are.
template <class T>
int64_t images_held(const Lattice& l, int64_t lines, int64_t most) {
    return std::clamp<int64_t>((1 << 20) / int64_t(lines * l.image() * sizeof(T)), 1, most);
}

// The images that one thread works on.
int64_t images_each(int64_t batch, int threads) {
    return images_suffice(batch, threads) ? (batch + threads - 1) / threads : batch;
}

// Copies maps (channels of some images) onto lines: part `me` of `team` of the channels.
template <class T>
void fill_lines(const Lattice& l, const T* maps, int64_t channels, bool phased, int64_t image,
                int64_t images, int64_t line, T* to, int64_t me, int64_t team) {
    const int64_t* size = phased ? l.g.in_size : l.g.out_size;
    const int64_t one[2] = {1, 1};
    const int64_t* stride = phased ? l.g.stride : one;
    int64_t phases = phased ? l.phases : 1;
    Range mine = even_part(channels, me, team);
    for (int64_t c = mine.first; c < mine.last; ++c)
        for (int64_t f = 0; f < phases; ++f) {
            T* start = to + (c * phases + f) * line;
            T* end = start + l.margin + images * l.image();
            memset(start, 0, l.margin * sizeof(T));
            memset(end, 0, (start + line - end) * sizeof(T));
            for (int64_t i = 0; i < images; ++i)
                copy_in(maps + ((image + i) * channels + c) * size[0] * size[1], size[0], size[1],
                        stride, f / stride[1], f % stride[1],
                        start + l.margin + i * l.image(), l.wide, l.high);
        }
}

template <class T, bool TRANSPOSED>
void run_work(const Work<T>& work, Range rows, int64_t image, int64_t images, const T* x) {
    int64_t nodes = work.plan.num_nodes, share = work.side.channels[nodes] / nodes;
    if (VECTOR_REGISTERS == 16 || share > 6)
        run_lines<T, 2, TRANSPOSED>(work, rows, image, images, x);
    else
        run_lines<T, 4, TRANSPOSED>(work, rows, image, images, x);
}

template <class T>
void forward(const Plan& plan, const Geometry& g, const T* x, const T* weight, T* y, int threads) {
    Lattice l(g);
    int64_t held = images_held<T>(l, plan.in_channels * l.phases, images_each(g.batch, threads));
    int64_t line = l.line(held, STEP<T>);
    Work<T> work = {plan, plan.forward, l, weight, y, plan.out_channels,
                    {g.out_size[0], g.out_size[1]}, {g.out_size[0], g.out_size[1]},
                    {1, 1}, {0, 0}, {}, {}, line * l.phases};
    for (int64_t a = 0; a < g.kernel[0]; ++a)
        for (int64_t b = 0; b < g.kernel[1]; ++b) {
            work.tap.push_back(a * g.kernel[1] + b);
            work.along.push_back((l.phase(0, a) * g.stride[1] + l.phase(1, b)) * line +
                                 l.shift(0, a) * l.wide + l.shift(1, b) + l.margin);
        }
    over_images<T>(
        g.batch, held, plan.in_channels * l.phases * line, plan.forward, plan.num_nodes, threads,
        [&](T* to, int64_t image, int64_t images, int64_t me, int64_t team) {
            fill_lines(l, x, plan.in_channels, true, image, images, line, to, me, team);
        },
        [&](const T* lines, int64_t image, int64_t images, Range rows) {
            run_work<T, false>(work, rows, image, images, lines);
        });
}

template <class T>
void grad_input(const Plan& plan, const Geometry& g, const T* grad, const T* weight, T* x,
                int threads) {
    Lattice l(g);
    int64_t held = images_held<T>(l, plan.out_channels, images_each(g.batch, threads));
    int64_t line = l.line(held, STEP<T>);
    std::vector<Work<T>> works;
    for (int64_t top = 0; top < std::min(g.stride[0], g.in_size[0]); ++top)
        for (int64_t left = 0; left < std::min(g.stride[1], g.in_size[1]); ++left) {
            Work<T> work = {plan, plan.backward, l, weight, x, plan.in_channels,
                            {g.in_size[0], g.in_size[1]},
                            {(g.in_size[0] - top + g.stride[0] - 1) / g.stride[0],
                             (g.in_size[1] - left + g.stride[1] - 1) / g.stride[1]},
                            {g.stride[0], g.stride[1]}, {top, left}, {}, {}, line};
            for (int64_t a = 0; a < g.kernel[0]; ++a)
                for (int64_t b = 0; b < g.kernel[1]; ++b)
                    if (l.phase(0, a) == top && l.phase(1, b) == left) {
                        work.tap.push_back(a * g.kernel[1] + b);
                        work.along.push_back(l.margin - l.shift(0, a) * l.wide - l.shift(1, b));
                    }
            works.push_back(std::move(work));
        }
    over_images<T>(
        g.batch, held, plan.out_channels * line, plan.backward, plan.num_nodes, threads,
        [&](T* to, int64_t image, int64_t images, int64_t me, int64_t team) {
            fill_lines(l, grad, plan.out_channels, false, image, images, line, to, me, team);
        },
        [&](const T* lines, int64_t image, int64_t images, Range rows) {
            for (const Work<T>& work : works)
                run_work<T, true>(work, rows, image, images, lines);
        });
}

// Places of a line that a tile sums at once: its rows of the gradient stay in the first-level cache
// while the columns pass by.
template <class T>
constexpr int64_t SEGMENT = 5120 / sizeof(T);

template <class T>
void grad_weight(const Plan& plan, const Geometry& g, const T* grad, const T* x, T* weight,
                 int threads) {
    Lattice l(g);
    int64_t x_lines = plan.in_channels * l.phases;
    int64_t held = std::max(images_held<T>(l, x_lines + plan.out_channels, g.batch),
                            std::min(g.batch, (SEGMENT<T> + l.image() - 1) / l.image()));
    int64_t line = l.line(held, STEP<T>);
    int64_t area = g.kernel[0] * g.kernel[1];
    std::vector<int64_t> along;
    for (int64_t a = 0; a < g.kernel[0]; ++a)
        for (int64_t b = 0; b < g.kernel[1]; ++b)
            along.push_back((l.phase(0, a) * g.stride[1] + l.phase(1, b)) * line +
                            l.shift(0, a) * l.wide + l.shift(1, b) + l.margin);
    T* to = Scratch::take<T>((x_lines + plan.out_channels) * line);
    T* grads = to + x_lines * line;
#pragma omp parallel num_threads(threads)
    {
        int64_t me = omp_get_thread_num(), team = omp_get_num_threads();
        Range rows = costed_part(plan.forward, plan.num_nodes, me, team);
        std::vector<int64_t> from;
        for (int64_t image = 0; image < g.batch; image += held) {
            int64_t some = std::min(held, g.batch - image);
            fill_lines(l, x, plan.in_channels, true, image, some, line, to, me, team);
            fill_lines(l, grad, plan.out_channels, false, image, some, line, grads, me, team);
#pragma omp barrier
            int64_t length = some * l.image(), v = node_of(plan.forward.channels, plan.num_nodes,
                                                           rows.first);
            for (int64_t row = rows.first; row < rows.last; ++v) {
                int64_t last = std::min(rows.last, plan.forward.channels[v + 1]);
                int64_t height = last - row;
                if (height <= 0) continue;
                int64_t columns = plan.row_width[v] * area;
                from.resize(columns);
                for (int64_t k = 0, at = 0; k < plan.row_width[v]; ++k)
                    for (int64_t t = 0; t < area; ++t, ++at)
                        from[at] = plan.forward.term[plan.forward.start[v] + k] * l.phases * line +
                                   along[t];
                T* out = weight + plan.weight_offset[v] * area +
                         (row - plan.forward.channels[v]) * columns;
                int64_t tiles = (height + DOT_ROWS - 1) / DOT_ROWS;
                int64_t spans = (columns + DOT_COLS - 1) / DOT_COLS;
                for (int64_t t = 0; t < tiles; ++t) {
                    Range tile = even_part(height, t, tiles);
                    for (int64_t at = 0; at < length; at += SEGMENT<T>) {
                        for (int64_t s = 0; s < spans; ++s) {
                            Range span = even_part(columns, s, spans);
                            pick_dot<T>(tile.last - tile.first, span.last - span.first)(
                                grads + (row + tile.first) * line + l.margin + at, line, to + at,
                                from.data() + span.first, std::min(SEGMENT<T>, length - at),
                                out + tile.first * columns + span.first, columns,
                                image > 0 || at > 0);
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
