// A round over maps: the products of linear.cpp, where each term is one tap of a kernel.
#include "conv_product.h"
#include "conv_weight.h"

extern "C" {

EXPORT int NAMED(conv2d_forward)(const Plan* plan, const Geometry* g, const T* x, const T* weight, T* y,
                          int64_t threads) {
    return checked([&] {
        require_plan(plan, x, weight, y);
        forward<T>({*plan, nullptr, checked_geometry(g, *plan), x, weight, nullptr, y},
                   team_size(threads));
    });
}

EXPORT int NAMED(conv2d_grad_input)(const Plan* plan, const Geometry* g, const T* grad, const T* weight,
                             T* x, int64_t threads) {
    return checked([&] {
        require_plan(plan, grad, weight, x);
        grad_input<T>({*plan, nullptr, checked_geometry(g, *plan), grad, weight, nullptr, x},
                      team_size(threads));
    });
}

EXPORT int NAMED(conv2d_grad_weight)(const Plan* plan, const Geometry* g, const T* grad, const T* x,
                              T* weight, int64_t threads) {
    return checked([&] {
        require_plan(plan, grad, x, weight);
        grad_weight<T>(*plan, checked_geometry(g, *plan), grad, x, weight, team_size(threads));
    });
}

}  // extern "C"
