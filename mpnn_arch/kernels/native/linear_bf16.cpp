// A round over vectors in bfloat16, and its gradients.
#include "pairs.h"
#include "rounds.h"
#include "weight_sum.h"
#if BF16_PRODUCTS
#include <cpuid.h>
#endif

namespace {

// A product of pairs of channels.
struct PairJob {
    typedef Pair Number;
    const PairPlan* pairs;
    const Plan* plan;
    const Side* side;
    const int32_t* size;       // channels of every share of x
    PairRows x;
    int64_t channels, x_channels;
    bool padded;               // some share of x is
    bool aligned;              // the stored weights are, as pairs
    const Bf16* weights;
    const Pair* weight;        // the same, as they are stored
    const Bf16* bias;
    Bf16* y;
    int64_t y_row;

    PairJob(const PairPlan* pairs, bool transposed, PairRows x, const Bf16* weights, const Bf16* bias,
            Bf16* y)
        : pairs(pairs), plan(&pairs->plan), side(transposed ? &plan->backward : &plan->forward),
          size(transposed ? pairs->out_size : pairs->in_size), x(x),
          channels(transposed ? plan->out_channels : plan->in_channels),
          x_channels(transposed ? pairs->out_pairs : pairs->in_pairs),
          padded(2 * x_channels != channels),
          aligned(reinterpret_cast<uintptr_t>(weights) % sizeof(Pair) == 0), weights(weights),
          weight(reinterpret_cast<const Pair*>(weights)), bias(bias), y(y),
          y_row(transposed ? plan->in_channels : plan->out_channels) {}

    int64_t room() const { return padded ? LANES<Pair> * x_channels : 0; }
    void pack(int64_t first, int64_t width, Pair* to, Pair* room) const {
        if (!padded) return pack_panel(x, first, x_channels, to, width);
        // As many rows at a time as are transposed at once.
        Bf16* rows = reinterpret_cast<Bf16*>(room);
        for (int64_t s = 0; s < width; s += LANES<Pair>) {
            PairRows some = {rows, 2 * x_channels,
                             std::clamp<int64_t>(x.count - first - s, 0, LANES<Pair>)};
            for (int64_t i = 0; i < some.count; ++i) {
                const Bf16* from = x.x + (first + s + i) * x.row;
                Bf16* row = rows + i * some.row;
                pad_shares(from, from + channels, size, plan->num_nodes, row, row + some.row);
            }
            pack_rows(some, 0, x_channels, to + s, width);
        }
    }
    void unpack(int64_t first, int64_t width, const float* from, Range rows) const {
        Bf16* to = y + first * y_row;
        unpack_panel(from, width, std::min(width, x.count - first), rows.first, rows.last,
                     [&](int64_t i, int64_t c, auto sums) {
                         Bf16* at = to + i * y_row + c;
                         if constexpr (std::is_same<decltype(sums), float>::value) {
                             *at = round_to_bf16(sums + (bias ? bf16_to_float(bias[c]) : 0.0f));
                         } else {
                             Vec<float> add = {};
                             if (bias) add = (Vec<float>)(widen(bias + c) << 16);
                             *reinterpret_cast<LooseHalf*>(at) =
                                 round_to_bf16<LANES<float>>(sums + add);
                         }
                     });
    }
    template <bool TRANSPOSED>
    bool packs_weights(int64_t) const {
        return TRANSPOSED || padded || !aligned;
    }
    template <bool TRANSPOSED>
    void pack_weights(int64_t v, Pair* to) const {
        if (TRANSPOSED) return pack_term_pairs(*pairs, v, weights, 1, to);
        Bf16* row = reinterpret_cast<Bf16*>(to + side->cost[v]);
        const Bf16* row_end = reinterpret_cast<Bf16*>(to + side->cost[v + 1]);
        const Bf16 *from = weights + plan->weight_offset[v], *end = weights + plan->weight_offset[v + 1];
        const int32_t* sizes = pairs->edge_size + pairs->edge[v];
        int64_t edges = pairs->edge[v + 1] - pairs->edge[v];
        for (; from < end; from += plan->fan_in[v])
            row = pad_shares(from, end, sizes, edges, row, row_end);
    }
};

}  // namespace

extern "C" {

EXPORT int linear_forward_bf16(const PairPlan* pairs, const Bf16* x, int64_t x_row, int64_t batch,
                               const Bf16* weight, const Bf16* bias, Bf16* y, int64_t threads) {
    return checked([&] {
        if (batch == 0) return;
        require_pairs(pairs, x, weight, y);
        require_rows(batch, x_row, std::max(pairs->plan.in_channels, pairs->plan.out_channels));
        run_product<false>(PairJob(pairs, false, {x, x_row, batch}, weight, bias, y),
                           team_size(threads));
    });
}

EXPORT int linear_grad_input_bf16(const PairPlan* pairs, const Bf16* grad, int64_t row, int64_t batch,
                                  const Bf16* weight, Bf16* x, int64_t threads) {
    return checked([&] {
        if (batch == 0) return;
        require_pairs(pairs, grad, weight, x);
        require_rows(batch, row, std::max(pairs->plan.in_channels, pairs->plan.out_channels));
        run_product<true>(PairJob(pairs, true, {grad, row, batch}, weight, nullptr, x),
                          team_size(threads));
    });
}

EXPORT int linear_grad_weight_bf16(const Plan* plan, const Bf16* grad, int64_t grad_row, const Bf16* x,
                                   int64_t x_row, int64_t batch, Bf16* weight, int64_t threads) {
    return checked([&] {
        require_plan(plan, grad, x, weight);
        require(batch >= 1);
        require_rows(batch, grad_row, plan->out_channels);
        require_rows(batch, x_row, plan->in_channels);
        Gradients<SamplePairs> job = {*plan, {grad, grad_row, batch}, {x, x_row, batch}};
        Pieces<Pair> pieces(*plan, job.x.count);
        int64_t size = piece_size(*plan, pieces);
        // Sums of several pieces are rounded after the last; of one, this memory is not touched.
        Pair* scratch = Scratch::take<Pair>(size + plan->weight_offset[plan->num_nodes]);
        weight_alone(job, pieces, scratch,
                     Sums<Pair>{reinterpret_cast<float*>(scratch + size), weight},
                     team_size(threads));
    });
}

// How bfloat16 is multiplied: 1 by instructions of the processor, 0 emulated, -1 not at all, as the
// processor lacks the instructions that this library has.
EXPORT int bf16_products() {
#if BF16_PRODUCTS
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 5 & 1 ? 1 : -1;
#else
    return 0;
#endif
}

}  // extern "C"
