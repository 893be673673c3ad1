// The gradient of a round over vectors with respect to its weights, on edge u -> v the sum over samples
// of grad_v x_u^T; alone, or with that with respect to x, for which grad is packed once. A ReLU that followed
// gives its results y, (batch, out_channels), and the gradient is that before it.
#include "few_grads.h"

namespace {

// Piece by piece of the batch, whose g then is still in a cache; all of g at first, where the panels of a piece
// are too few for the threads.
template <class T, class Grads>
void both(const Gradients<Grads, Rows<T>>& job, const T* weight, T* dx, T* out, T* bias, int threads) {
    const Plan& plan = job.plan;
    Job<T, Grads> input = {&plan, &plan.backward, job.g, plan.out_channels, weight, dx,
                           plan.in_channels};
    PanelProduct<Job<T, Grads>, 2, true> product(input, threads);
    Pieces<T> pieces(plan, job.x.count);
    int64_t each = pieces.each / BUNCH<T>;
    if (each % threads) each = product.panels;
    int64_t held = std::min(each, product.panels);
    T* g = Scratch::take<T>(held * product.x_panel + product.scratch_size() +
                            grouped_size<T>(plan.in_channels, pieces.each));
    T* scratch = g + held * product.x_panel;
    T* x_units = scratch + product.scratch_size();
    parallel(threads, [&](const Team& team) {
        product.prepare(team, scratch);
        for (int64_t first = 0; first < pieces.units; first += pieces.each) {
            int64_t panel = first / BUNCH<T>, at = panel % each;
            if (at == 0) {
                product.run(team, {panel, std::min(panel + each, product.panels)}, g, scratch, true);
                team.barrier();
            }
            weight_piece(team, job, pieces, first, x_units, g + at * product.x_panel, true,
                         Sums<T>{out}, bias);
        }
    });
}

template <class T, class Grads>
void run(const Gradients<Grads, Rows<T>>& job, const T* weight, T* dx, T* out, T* bias, int threads) {
    if (job.x.count <= FEW_FOR_INPUT && dx) {
        few_grad_input(job.plan, job.g, weight, dx, threads);
        dx = nullptr;
    }
    if (job.x.count <= FEW_FOR_WEIGHTS && !dx) return few_grad_weight(job, out, bias, threads);
    if (dx) return both(job, weight, dx, out, bias, threads);
    Pieces<T> pieces(job.plan, job.x.count);
    T* scratch = Scratch::take<T>(piece_size(job.plan, pieces));
    weight_alone(job, pieces, scratch, Sums<T>{out}, threads, bias);
}

}  // namespace

extern "C" {

// Gradients with respect to x, if dx is not null, to the weights, and, if dbias is not null, to the bias.
EXPORT int NAMED(linear_grads)(const Plan* plan, const T* grad, int64_t grad_row, const T* y,
                        const T* x, int64_t x_row, int64_t batch, const T* weight, T* dx, T* dweight,
                        T* dbias, int64_t threads) {
    return checked([&] {
        require_plan(plan, grad, x, dweight);
        require(batch >= 1 && (weight || !dx));
        require_rows(batch, grad_row, std::max(plan->in_channels, plan->out_channels));
        require_rows(batch, x_row, plan->in_channels);
        int team = team_size(threads);
        Rows<T> rows = {x, x_row, batch};
        if (y) {
            PassedRows<T> grads = {grad, y, grad_row, plan->out_channels, batch};
            run<T>(Gradients<PassedRows<T>, Rows<T>>{*plan, grads, rows}, weight, dx, dweight, dbias,
                   team);
        } else {
            run<T>(Gradients<Rows<T>>{*plan, {grad, grad_row, batch}, rows}, weight, dx, dweight, dbias,
                   team);
        }
    });
}

EXPORT int NAMED(places)() { return PLACES<T>; }

}  // extern "C"
