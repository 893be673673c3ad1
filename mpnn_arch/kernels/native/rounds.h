// A round's product over panels of samples, and how a team shares it.
#pragma once
#ifdef __linux__
#include <unistd.h>
#endif

#include <type_traits>

#include "panel.h"
#include "product.h"
#include "tables.h"

// A copy of `count` numbers in vectors of WIDTH; the last one overlaps the one before.
template <int WIDTH, class T>
INLINE void copy_vectors(const T* from, T* to, int64_t count) {
    typedef T Part __attribute__((vector_size(WIDTH * sizeof(T)), aligned(sizeof(T)), may_alias));
    for (int64_t i = 0; i < count; i += WIDTH) {
        i = std::min<int64_t>(i, count - WIDTH);
        *reinterpret_cast<Part*>(to + i) = *reinterpret_cast<const Part*>(from + i);
    }
}

// The weights that node v's outputs read in a transposed product -> [terms][rows].
template <class T>
void pack_weights(const Side& side, int64_t v, const T* weight, T* to) {
    int64_t rows = side.channels[v + 1] - side.channels[v];
    auto copy_terms = [&](auto width) {
        for (int64_t k = side.start[v]; k < side.start[v + 1]; ++k, to += rows) {
            const T* next = weight + side.where[k + PACKED_AHEAD];
            __builtin_prefetch(next);
            if (rows * sizeof(T) > 32) __builtin_prefetch(next + rows - 1);
            copy_vectors<width()>(weight + side.where[k], to, rows);
        }
    };
    to += side.cost[v];
    if (rows >= LANES<T>) copy_terms(std::integral_constant<int, LANES<T>>());
    else if (rows >= QUAD) copy_terms(std::integral_constant<int, QUAD>());
    else copy_terms(std::integral_constant<int, 1>());
}

// A product of numbers as they are stored, plus a bias, null for none, and a ReLU of the sum.
template <class T, class Rows = ::Rows<T>>
struct Job {
    typedef T Number;
    const Plan* plan;
    const Side* side;
    Rows x;
    int64_t x_channels;
    const T* weight;
    T* y;
    int64_t y_row;
    const T* bias = nullptr;
    bool relu = false;

    int64_t room() const { return 0; }  // numbers of scratch memory for packing a panel
    void pack(int64_t first, int64_t width, T* to, T*) const {
        pack_panel(x, first, x_channels, to, width);
    }
    void unpack(int64_t first, int64_t width, const T* from, Range rows) const {
        T* to = y + first * y_row;
        unpack_panel(from, width, std::min(width, x.count - first), rows.first, rows.last,
                     [&](int64_t i, int64_t c, auto numbers) {
                         T* at = to + i * y_row + c;
                         if constexpr (std::is_same<decltype(numbers), T>::value) {
                             if (bias) numbers += bias[c];
                             *at = relu && numbers < 0 ? T(0) : numbers;
                         } else {
                             if (bias) numbers += load(bias + c);
                             store(at, relu ? ::relu<T>(numbers) : numbers);
                         }
                     });
    }
    // Packing the weights of a transposed product takes about as long as half a panel.
    template <bool TRANSPOSED>
    bool packs_weights(int64_t panels) const {
        return TRANSPOSED && !SPARE_LOADS && panels > 3;
    }
    template <bool TRANSPOSED>
    void pack_weights(int64_t v, T* to) const {
        if (TRANSPOSED) ::pack_weights(*side, v, weight, to);
    }
};

// Computes output channels rows.first .. rows.last of `panels` packed panels. `weight` is the job's, or
// packed.
template <int WIDE, Weights WEIGHTS, class Job, class T = typename Job::Number>
void run_panels(const Job& job, const T* weight, Range rows, int64_t panels, const T* x,
                Sum<T>* y) {
    constexpr int WIDTH = WIDE * LANES<T>;
    const Plan& plan = *job.plan;
    const Side& side = *job.side;
    int64_t y_channels = side.channels[plan.num_nodes];
    each_node(side.channels, plan.num_nodes, rows, [&](int64_t v, int64_t row, int64_t last) {
        int64_t height = last - row;
        int64_t count = side.start[v + 1] - side.start[v];
        int64_t local = row - side.channels[v];
        int64_t stride = WEIGHTS == BY_ROW ? count : side.channels[v + 1] - side.channels[v];
        int64_t step = WEIGHTS == BY_ROW ? stride : 1;  // from row to row
        const T* w = weight + (WEIGHTS == SCATTERED ? 0 : side.cost[v]) + local * step;
        int64_t tiles = (height + MOST_ROWS<WIDE> - 1) / MOST_ROWS<WIDE>;
        for (int64_t p = 0; p < panels; ++p) {
            for (int64_t t = 0; t < tiles; ++t) {
                Range part = even_part(height, t, tiles);
                const T* from = w + part.first * step;
                pick_product<T, WIDE, WEIGHTS>(part.last - part.first)(
                    from, stride, WEIGHTS == SCATTERED ? side.where + side.start[v] : nullptr,
                    x + p * job.x_channels * WIDTH, side.term + side.start[v], count,
                    y + (p * y_channels + row + part.first) * WIDTH);
            }
        }
    });
}

// Bytes of a core's L2 cache, or a usual number where the system does not report it.
inline int64_t l2_cache() {
    static const int64_t bytes = [] {
        int64_t reported = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
        reported = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
        return reported > 0 ? reported : int64_t(1) << 20;
    }();
    return bytes;
}

// Panels by thread, in turns that fit the L2 cache; where they are few, rows of all panels by thread.
template <class Job, int WIDE, bool TRANSPOSED>
class PanelProduct {
    typedef typename Job::Number T;
    static_assert(sizeof(T) == sizeof(Sum<T>), "panels of x and of y share memory");
    static constexpr int64_t WIDTH = WIDE * LANES<T>;
    const Job& job;
    int64_t y_channels, threads, y_panel, held;
    bool by_panel, packs_weights;

    void compute(const T* weight, Range rows, int64_t some, const T* x, Sum<T>* y) const {
        if (!TRANSPOSED) run_panels<WIDE, BY_ROW>(job, weight, rows, some, x, y);
        else if (packs_weights) run_panels<WIDE, BY_TERM>(job, weight, rows, some, x, y);
        else run_panels<WIDE, SCATTERED>(job, weight, rows, some, x, y);
    }

  public:
    int64_t panels, x_panel;  // their number, and the numbers in one of x

    PanelProduct(const Job& job, int64_t threads)
        : job(job), y_channels(job.side->channels[job.plan->num_nodes]), threads(threads),
          y_panel(y_channels * WIDTH), panels((job.x.count + WIDTH - 1) / WIDTH),
          x_panel(job.x_channels * WIDTH) {
        packs_weights = job.template packs_weights<TRANSPOSED>(panels);
        by_panel = panels % threads == 0 || panels >= 4 * threads;
        // As many panels at once as fit in half of the L2 cache: their weights are read once.
        held = std::max<int64_t>(1, l2_cache() / 2 / int64_t((x_panel + y_panel) * sizeof(T)));
        // Even out the turns.
        int64_t each = (panels + threads - 1) / threads, turns = (each + held - 1) / held;
        held = (each + turns - 1) / turns;
    }

    // Panels in memory at once, and the numbers in those of y, in packed weights and in what packing
    // panels of x takes.
    int64_t at_once() const { return by_panel ? threads * held : panels; }
    int64_t scratch_size() const {
        return at_once() * y_panel + threads * job.room() +
               (packs_weights ? job.side->cost[job.plan->num_nodes] : 0);
    }

    // Packs the weights, if they are read packed, into `scratch`, of scratch_size(); all threads call it first.
    void prepare(const Team& team, Sum<T>* scratch) const {
        if (packs_weights)
            team.each(job.plan->num_nodes,
                      [&](int64_t v) { job.template pack_weights<TRANSPOSED>(v, packed(scratch)); });
    }

    // Panels first .. last, which are packed into `x`: of at_once() panels or, if they are kept, of all.
    void run(const Team& team, Range which, T* x, Sum<T>* scratch, bool kept) const {
        const T* weight = packs_weights ? packed(scratch) : job.weight;
        T* room = reinterpret_cast<T*>(scratch + at_once() * y_panel) + team.me * job.room();
        int64_t count = which.last - which.first;
        if (!by_panel) {
            team.each(count, [&](int64_t p) {
                job.pack((which.first + p) * WIDTH, WIDTH, x + p * x_panel, room);
            });
            Range rows = costed_part(*job.side, job.plan->num_nodes, team.me, team.size);
            compute(weight, rows, count, x, scratch);
            for (int64_t p = 0; p < count; ++p)
                job.unpack((which.first + p) * WIDTH, WIDTH, scratch + p * y_panel, rows);
            return;
        }
        Range mine = even_part(count, team.me, team.size), rows = {0, y_channels};
        Sum<T>* own = scratch + team.me * held * y_panel;
        for (int64_t p = mine.first; p < mine.last; p += held) {
            int64_t some = std::min(held, mine.last - p), first = which.first + p;
            T* at = x + (kept ? p : team.me * held) * x_panel;
            for (int64_t i = 0; i < some; ++i)
                job.pack((first + i) * WIDTH, WIDTH, at + i * x_panel, room);
            compute(weight, rows, some, at, own);
            for (int64_t i = 0; i < some; ++i)
                job.unpack((first + i) * WIDTH, WIDTH, own + i * y_panel, rows);
        }
    }

  private:
    T* packed(Sum<T>* scratch) const {
        return reinterpret_cast<T*>(scratch + at_once() * y_panel) + threads * job.room();
    }
};

// Runs a product in tiles as wide as its batch and its rows allow.
template <class Job, int WIDE, bool TRANSPOSED>
void run_product(const Job& job, int threads) {
    PanelProduct<Job, WIDE, TRANSPOSED> product(job, threads);
    typedef typename Job::Number T;
    int64_t x_size = product.at_once() * product.x_panel;
    T* x = Scratch::take<T>(x_size + product.scratch_size());
    Sum<T>* y = reinterpret_cast<Sum<T>*>(x + x_size);
    parallel(threads, [&](const Team& team) {
        product.prepare(team, y);
        product.run(team, {0, product.panels}, x, y, false);
    });
}

template <bool TRANSPOSED, class Job>
void run_product(const Job& job, int threads) {
    constexpr int L = LANES<typename Job::Number>;
    int64_t nodes = job.plan->num_nodes;
    int64_t share = job.side->channels[nodes] / nodes;
    // Few rows leave registers free: process more samples at once, if there are enough.
    if (job.x.count <= L) run_product<Job, 1, TRANSPOSED>(job, threads);
    else if (VECTOR_REGISTERS == 16 || share >= 6 || job.x.count <= 2 * L)
        run_product<Job, 2, TRANSPOSED>(job, threads);
    else run_product<Job, 4, TRANSPOSED>(job, threads);
}
