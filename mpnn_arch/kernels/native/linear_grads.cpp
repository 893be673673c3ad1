// The gradient of a round over vectors with respect to its weights, on edge u -> v the sum over samples
// of grad_v x_u^T; alone, or with that with respect to x, for which grad is packed once.
#include "rounds.h"
#include "weight_sum.h"

namespace {

template <class T>
void both(const Gradients<Rows<T>>& job, const T* weight, T* dx, T* out, int threads) {
    const Plan& plan = job.plan;
    Job<T> input = {&plan, &plan.backward, job.g, plan.out_channels, weight, dx, plan.in_channels};
    PanelProduct<Job<T>, 2, true> product(input, threads);
    Pieces<T> pieces(plan, job.x.count);
    // What is used first and what is used last share memory.
    int64_t shared = std::max(product.scratch_size(), grouped_size<T>(plan.in_channels, pieces.each));
    T* g_panels = Scratch::take<T>(product.panels * product.x_panel + shared);
    T* scratch = g_panels + product.panels * product.x_panel;
    parallel(threads, [&](const Team& team) {
        product.run(team, g_panels, scratch, true);
        team.barrier();
        weight_pass(team, job, pieces, scratch, g_panels, true, Sums<T>{out});
    });
}

}  // namespace

extern "C" {

EXPORT int NAMED(linear_grad_weight)(const Plan* plan, const T* grad, int64_t grad_row, const T* x,
                              int64_t x_row, int64_t batch, T* weight, int64_t threads) {
    return checked([&] {
        require_plan(plan, grad, x, weight);
        require(batch >= 1);
        require_rows(batch, grad_row, plan->out_channels);
        require_rows(batch, x_row, plan->in_channels);
        Pieces<T> pieces(*plan, batch);
        T* scratch = Scratch::take<T>(piece_size(*plan, pieces));
        weight_alone(Gradients<Rows<T>>{*plan, {grad, grad_row, batch}, {x, x_row, batch}}, pieces,
                     scratch, Sums<T>{weight}, team_size(threads));
    });
}

// grad_x and grad_weight at once.
EXPORT int NAMED(linear_grads)(const Plan* plan, const T* grad, int64_t grad_row, const T* x,
                        int64_t x_row, int64_t batch, const T* weight, T* grad_x, T* grad_weight,
                        int64_t threads) {
    return checked([&] {
        require_plan(plan, grad, x, weight);
        require(grad_x && grad_weight && batch >= 1);
        require_rows(batch, grad_row, std::max(plan->in_channels, plan->out_channels));
        require_rows(batch, x_row, plan->in_channels);
        both(Gradients<Rows<T>>{*plan, {grad, grad_row, batch}, {x, x_row, batch}}, weight, grad_x,
             grad_weight, team_size(threads));
    });
}

EXPORT int NAMED(places)() { return PLACES<T>; }

}  // extern "C"
