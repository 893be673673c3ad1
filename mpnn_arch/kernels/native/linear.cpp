// A round over vectors, y_v = sum over u in N(v) of W_vu x_u, and its gradient with respect to x.
#include "checks.h"
#include "rounds.h"

namespace {

template <class T, int WIDE, bool TRANSPOSED>
void run_product(const Job<T>& job, int threads) {
    PanelProduct<T, WIDE, TRANSPOSED> product(job, threads);
    int64_t x_size = product.at_once() * product.x_panel;
    T* x = Scratch::take<T>(x_size + product.scratch_size());
    parallel(threads, [&](const Team& team) { product.run(team, x, x + x_size, false); });
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
