// A round over vectors, y_v = sum over u in N(v) of W_vu x_u, and its gradient with respect to x. `bias` may be
// null; a ReLU of the sums may follow.
#include "checks.h"
#include "few_grads.h"

extern "C" {

EXPORT int NAMED(linear_forward)(const Plan* plan, const T* x, int64_t x_row, int64_t batch,
                          const T* weight, const T* bias, int64_t relu, T* y, int64_t threads) {
    return checked([&] {
        if (batch == 0) return;
        require_plan(plan, x, weight, y);
        require_rows(batch, x_row, std::max(plan->in_channels, plan->out_channels));
        Job<T> job = {plan,   &plan->forward, {x, x_row, batch}, plan->in_channels,
                      weight, y,              plan->out_channels, bias, relu != 0};
        if (batch <= FEW<T>) return few_samples(job, weight, team_size(threads));
        run_product<false>(job, team_size(threads));
    });
}

EXPORT int NAMED(linear_grad_input)(const Plan* plan, const T* grad, int64_t row, int64_t batch,
                             const T* weight, T* x, int64_t threads) {
    return checked([&] {
        if (batch == 0) return;
        require_plan(plan, grad, weight, x);
        require_rows(batch, row, std::max(plan->in_channels, plan->out_channels));
        Job<T> job = {plan,   &plan->backward, {grad, row, batch}, plan->out_channels,
                      weight, x,               plan->in_channels};
        int team = team_size(threads);
        if (batch <= FEW_FOR_INPUT) return few_grad_input(*plan, job.x, weight, x, team);
        run_product<true>(job, team);
    });
}

}  // extern "C"
