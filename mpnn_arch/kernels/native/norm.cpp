// Batch normalisation of maps, see norm.h.
#include "norm.h"

extern "C" {

// y, and (channels,) means, variances and 1 / sqrt(variance + eps); `residual` may be null.
EXPORT int NAMED(norm_forward)(const Maps<T>* m, const T* x, const T* residual, double eps, int64_t relu,
                        T* y, T* means, T* variances, T* factors) {
    return run_forward(m, x, residual, eps, relu, y, means, variances, factors);
}

// Gradients with respect to x, weight and bias; and to the residual, if dr is not null. `y` is null
// where no activation followed.
EXPORT int NAMED(norm_backward)(const Maps<T>* m, const T* grad, const T* y, const T* x, const T* means,
                         const T* factors, T* dx, T* dr, T* dweight, T* dbias) {
    return run_backward(m, grad, y, x, means, factors, dx, dr, dweight, dbias);
}

}  // extern "C"
