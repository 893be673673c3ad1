// A round over maps in bfloat16, and its gradients.
#include "conv_product.h"
#include "conv_weight.h"

extern "C" {

EXPORT int conv2d_forward_bf16(const PairPlan* pairs, const Geometry* g, const Bf16* x,
                               const Bf16* weight, const Bf16* bias, Bf16* y, int64_t threads) {
    return checked([&] {
        require_pairs(pairs, x, weight, y);
        const Plan& plan = pairs->plan;
        forward<Pair>({plan, pairs, checked_geometry(g, plan), x, weight, bias, y},
                      team_size(threads));
    });
}

EXPORT int conv2d_grad_input_bf16(const PairPlan* pairs, const Geometry* g, const Bf16* grad,
                                  const Bf16* weight, Bf16* x, int64_t threads) {
    return checked([&] {
        require_pairs(pairs, grad, weight, x);
        const Plan& plan = pairs->plan;
        grad_input<Pair>({plan, pairs, checked_geometry(g, plan), grad, weight, nullptr, x},
                         team_size(threads));
    });
}

EXPORT int conv2d_grad_weight_bf16(const Plan* plan, const Geometry* g, const Bf16* grad,
                                   const Bf16* x, Bf16* weight, int64_t threads) {
    return checked([&] {
        require_plan(plan, grad, x, weight);
        grad_weight<Bf16>(*plan, checked_geometry(g, *plan), grad, x, weight, team_size(threads));
    });
}

}  // extern "C"
