// A round over vectors, y_v = sum over u in N(v) of W_vu x_u, and its gradient with respect to x.
#include "checks.h"
#include "rounds.h"

namespace {

template <class T, int WIDE, bool TRANSPOSED>
void run_product(const Job<T>& job, int threads) {
    constexpr int64_t WIDTH = WIDE * LANES<T>;
    int64_t nodes = job.plan->num_nodes, y_channels = job.side->channels[nodes];
    int64_t panels = (job.batch + WIDTH - 1) / WIDTH;
    int64_t x_panel = job.x_channels * WIDTH, y_panel = y_channels * WIDTH;
    auto pack = [&](int64_t p, T* to) {
        pack_panel(job.x + p * WIDTH * job.x_row, job.x_row,
                   std::min(WIDTH, job.batch - p * WIDTH), job.x_channels, to, WIDTH);
    };
    auto unpack = [&](int64_t p, const T* from, Range rows) {
        unpack_panel(from, WIDTH, std::min(WIDTH, job.batch - p * WIDTH), rows.first, rows.last,
                     job.y + p * WIDTH * job.y_row, job.y_row);
    };
    // Process as many panels at once as fit in half of the L2 cache: their weights are read once.
    int64_t held = std::max<int64_t>(1, (1 << 20) / int64_t((x_panel + y_panel) * sizeof(T)));
    if (panels % threads == 0 || panels >= 4 * threads) {
        // Even out the turns.
        int64_t each = (panels + threads - 1) / threads, turns = (each + held - 1) / held;
        held = (each + turns - 1) / turns;
        T* scratch = Scratch::take<T>(threads * held * (x_panel + y_panel));
        parallel(threads, [&](const Team& team) {
            Range mine = even_part(panels, team.me, team.size);
            T* x = scratch + team.me * held * (x_panel + y_panel);
            T* y = x + held * x_panel;
            for (int64_t p = mine.first; p < mine.last; p += held) {
                int64_t some = std::min(held, mine.last - p);
                for (int64_t i = 0; i < some; ++i) pack(p + i, x + i * x_panel);
                run_panels<T, WIDE, TRANSPOSED>(job, {0, y_channels}, some, x, y);
                for (int64_t i = 0; i < some; ++i) unpack(p + i, y + i * y_panel, {0, y_channels});
            }
        });
        return;
    }
    T* x = Scratch::take<T>(panels * (x_panel + y_panel));
    T* y = x + panels * x_panel;
    parallel(threads, [&](const Team& team) {
        team.each(panels, [&](int64_t p) { pack(p, x + p * x_panel); });
        Range rows = costed_part(*job.side, nodes, team.me, team.size);
        run_panels<T, WIDE, TRANSPOSED>(job, rows, panels, x, y);
        for (int64_t p = 0; p < panels; ++p) unpack(p, y + p * y_panel, rows);
    });
}

template <class T, bool TRANSPOSED>
void product(const Job<T>& job, int threads) {
    constexpr int L = LANES<T>;
    int64_t nodes = job.plan->num_nodes;
    int64_t share = job.side->channels[nodes] / nodes;
    // Few rows leave registers free: process more samples at once, if there are enough.
    if (job.batch <= L) run_product<T, 1, TRANSPOSED>(job, threads);
    else if (VECTOR_REGISTERS == 16 || share >= 6 || job.batch <= 2 * L)
        run_product<T, 2, TRANSPOSED>(job, threads);
    else run_product<T, 4, TRANSPOSED>(job, threads);
}

}  // namespace

extern "C" {

EXPORT int NAMED(linear_forward)(const Plan* plan, const T* x, int64_t x_row, int64_t batch,
                          const T* weight, T* y, int64_t threads) {
    return checked([&] {
        if (batch == 0) return;
        require_plan(plan, x, weight, y);
        require_rows(batch, x_row, std::max(plan->in_channels, plan->out_channels));
        Job<T> job = {plan,  &plan->forward,    x, x_row, batch, plan->in_channels,
                      weight, y, plan->out_channels};
        product<T, false>(job, team_size(threads));
    });
}

EXPORT int NAMED(linear_grad_input)(const Plan* plan, const T* grad, int64_t row, int64_t batch,
                             const T* weight, T* x, int64_t threads) {
    return checked([&] {
        if (batch == 0) return;
        require_plan(plan, grad, weight, x);
        require_rows(batch, row, std::max(plan->in_channels, plan->out_channels));
        Job<T> job = {plan,  &plan->backward,   grad, row, batch, plan->out_channels,
                      weight, x, plan->in_channels};
        product<T, true>(job, team_size(threads));
    });
}

}  // extern "C"
