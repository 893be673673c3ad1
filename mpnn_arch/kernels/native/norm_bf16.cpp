// Batch normalisation of maps in bfloat16, with parameters and statistics in float; see norm.cpp.
#include "norm.h"

extern "C" {

EXPORT int norm_forward_bf16(const Maps<float>* m, const Bf16* x, const Bf16* residual, double eps,
                             int64_t relu, Bf16* y, float* means, float* variances, float* factors) {
    return run_forward(m, x, residual, eps, relu, y, means, variances, factors);
}

EXPORT int norm_backward_bf16(const Maps<float>* m, const Bf16* grad, const Bf16* y, const Bf16* x,
                              const float* means, const float* factors, Bf16* dx, Bf16* dr,
                              float* dweight, float* dbias) {
    return run_backward(m, grad, y, x, means, factors, dx, dr, dweight, dbias);
}

}  // extern "C"
