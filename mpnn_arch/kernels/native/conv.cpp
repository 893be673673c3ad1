// A round over maps: the products of linear.cpp, where each term is one tap of a kernel.
#include "conv_product.h"
#include "conv_weight.h"

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
