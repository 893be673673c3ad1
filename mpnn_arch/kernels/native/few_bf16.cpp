// A round over vectors in bfloat16, and its gradients, for few samples: these and the sums are widened, and the
// weights as they are read, so that no instructions for bfloat16 are needed.
#include <vector>

#include "checks.h"
#include "few_grads.h"
#include "pairs.h"

namespace {

// Rows of bfloat16 in float.
struct Widened {
    std::vector<float> numbers;
    int64_t row;

    Widened(const Bf16* x, int64_t x_row, int64_t count, int64_t channels)
        : numbers(count * channels), row(channels) {
        for (int64_t i = 0; i < count; ++i)
            for (int64_t c = 0; c < channels; ++c)
                numbers[i * channels + c] = bf16_to_float(x[i * x_row + c]);
    }
    Rows<float> rows() const { return {numbers.data(), row, int64_t(numbers.size()) / row}; }
};

void require_few(const Plan* plan, int64_t batch, int64_t row, int64_t channels, int64_t most) {
    require(batch >= 1 && batch <= most);
    require_rows(batch, row, channels);
}

}  // namespace

extern "C" {

EXPORT int few_samples_bf16() { return FEW<float>; }

EXPORT int few_forward_bf16(const Plan* plan, const Bf16* x, int64_t x_row, int64_t batch,
                            const Bf16* weight, const Bf16* bias, Bf16* y, int64_t threads) {
    return checked([&] {
        require_plan(plan, x, weight, y);
        require_few(plan, batch, x_row, std::max(plan->in_channels, plan->out_channels), FEW<float>);
        Widened wide(x, x_row, batch, plan->in_channels);
        Widened add(bias, plan->out_channels, bias ? 1 : 0, plan->out_channels);
        std::vector<float> sums(batch * plan->out_channels);
        Job<float> job = {plan,        &plan->forward,     wide.rows(), plan->in_channels, nullptr,
                          sums.data(), plan->out_channels, bias ? add.numbers.data() : nullptr};
        few_samples(job, weight, team_size(threads));
        round_all(sums.data(), sums.size(), 0, y);
    });
}

EXPORT int few_grad_input_bf16(const Plan* plan, const Bf16* grad, int64_t row, int64_t batch,
                               const Bf16* weight, Bf16* x, int64_t threads) {
    return checked([&] {
        require_plan(plan, grad, weight, x);
        require_few(plan, batch, row, std::max(plan->in_channels, plan->out_channels), FEW_FOR_INPUT);
        Widened wide(grad, row, batch, plan->out_channels);
        std::vector<float> sums(batch * plan->in_channels);
        few_grad_input(*plan, wide.rows(), weight, sums.data(), team_size(threads));
        round_all(sums.data(), sums.size(), 0, x);
    });
}

EXPORT int few_grad_weight_bf16(const Plan* plan, const Bf16* grad, int64_t grad_row, const Bf16* x,
                                int64_t x_row, int64_t batch, Bf16* weight, int64_t threads) {
    return checked([&] {
        require_plan(plan, grad, x, weight);
        require_few(plan, batch, grad_row, plan->out_channels, FEW_FOR_WEIGHTS);
        require_rows(batch, x_row, plan->in_channels);
        Widened g(grad, grad_row, batch, plan->out_channels), wide(x, x_row, batch, plan->in_channels);
        Gradients<Rows<float>> job = {*plan, g.rows(), wide.rows()};
        few_grad_weight<float>(job, weight, static_cast<float*>(nullptr), team_size(threads));
    });
}

}  // extern "C"
