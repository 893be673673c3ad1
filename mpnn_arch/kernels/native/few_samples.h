// The forward product of few samples, which would leave most lanes of a panel empty: every row of weights times
// the channels that its node receives, gathered.
#pragma once
#include "rounds.h"

// A vector, or a number, of weights as they are multiplied: those of bfloat16 are widened.
template <class T, class W>
INLINE Vec<T> weights_at(const W* p) {
    if constexpr (std::is_same<T, W>::value) return load_once(p);
    else return (Vec<float>)(widen(p) << 16);
}
template <class T, class W>
INLINE T weight_at(const W* p) {
    if constexpr (std::is_same<T, W>::value) return *p;
    else return bf16_to_float(*p);
}

// Samples; of more, which leave a tile few rows, panels take no longer.
template <class T>
constexpr int FEW = LANES<T> >= 16 ? 4 : LANES<T> >= 8 ? 3 : 2;

// Calls body(std::integral_constant<int, count>()), for a count of 1 to MOST.
template <int MOST, class Body>
INLINE void of_few(int64_t count, Body body) {
    if constexpr (MOST > 1)
        if (count < MOST) return of_few<MOST - 1>(count, body);
    body(std::integral_constant<int, MOST>());
}

// The terms of the node that has most.
inline int64_t most_terms(const Side& side, int64_t nodes) {
    int64_t most = 0;
    for (int64_t v = 0; v < nodes; ++v) most = std::max(most, side.start[v + 1] - side.start[v]);
    return most;
}

// What node v receives of each sample -> [SAMPLES][line], of PLACES more than its terms.
template <class T, int SAMPLES>
void gather_terms(const Plan& plan, int64_t v, const Rows<T>& x, T* lines, int64_t line) {
    const Columns& columns = columns_of<T>(plan);
    for (int64_t i = columns.start[v]; i + 1 < columns.start[v + 1]; ++i) {
        int64_t channel = columns.channel[i], column = columns.column[i];
        bool whole = channel + PLACES<T> <= plan.in_channels;  // the next vector overwrites what is too much
        int64_t count = whole ? PLACES<T> : columns.column[i + 1] - column;
        for (int s = 0; s < SAMPLES; ++s) {
            const T* from = x.x + s * x.row + channel;
            T* to = lines + s * line + column;
            if (whole) memcpy(to, from, PLACES<T> * sizeof(T));  // a constant makes it one vector
            else memcpy(to, from, count * sizeof(T));
        }
    }
}

// LANES sums, of `rows` rows of weights times SAMPLES lines of x, over `count` terms: [SAMPLES][rows].
template <class T, int SAMPLES, class W>
void dot_rows(const W* w, int64_t rows, const T* x, int64_t line, int64_t count, T* sums) {
    constexpr int L = LANES<T>, ROWS = L / SAMPLES;
    const W* row[ROWS];
    for (int r = 0; r < ROWS; ++r) row[r] = w + std::min<int64_t>(r, rows - 1) * count;
    Vec<T> sum[L] = {};
    auto add = [&](int64_t k, auto get) {
        Vec<T> v[SAMPLES];
#pragma GCC unroll 4
        for (int s = 0; s < SAMPLES; ++s) v[s] = get(x + s * line + k);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; ++r) {
            __builtin_prefetch(row[r] + ROWS * count + k);  // of the next rows: too many streams
            Vec<T> weights = get(row[r] + k);
#pragma GCC unroll 4
            for (int s = 0; s < SAMPLES; ++s) sum[s * ROWS + r] += weights * v[s];
        }
    };
    int64_t k = 0;
    for (; k + L <= count; k += L) add(k, [](const auto* p) { return weights_at<T>(p); });
    int64_t rest = count - k;
    if (rest && k) {  // again the last whole vector, without what is summed
        Mask<T> kept[L];
        for (int i = 0; i < L; ++i) kept[i] = i < L - rest ? 0 : -1;
        add(count - L, [&](const auto* p) { return masked<T>(weights_at<T>(p), kept); });
    } else if (rest) {
        add(0, [&](const auto* p) {
            T some[L] = {};
            for (int64_t i = 0; i < rest; ++i) some[i] = weight_at<T>(p + i);
            return load(some);
        });
    }
    store(sums, sum_lanes<T>(sum));
}

template <class T, int SAMPLES, class W>
void few_rows(const Job<T>& job, const W* weight, Range rows, T* lines, int64_t line) {
    constexpr int ROWS = LANES<T> / SAMPLES;
    const Side& side = *job.side;
    each_node(side.channels, job.plan->num_nodes, rows, [&](int64_t v, int64_t row, int64_t last) {
        int64_t count = side.start[v + 1] - side.start[v];
        gather_terms<T, SAMPLES>(*job.plan, v, job.x, lines, line);
        const W* w = weight + side.cost[v] + (row - side.channels[v]) * count;
        for (; row < last; row += ROWS, w += ROWS * count) {
            int64_t some = std::min<int64_t>(ROWS, last - row);
            T sums[LANES<T>];
            dot_rows<T, SAMPLES>(w, some, lines, line, count, sums);
            for (int s = 0; s < SAMPLES; ++s)
                for (int64_t r = 0; r < some; ++r) {
                    T sum = sums[s * ROWS + r];
                    if (job.bias) sum += job.bias[row + r];
                    job.y[s * job.y_row + row + r] = job.relu && sum < 0 ? T(0) : sum;
                }
        }
    });
}

// `weight` is the job's, or the same in bfloat16.
template <class T, int SAMPLES, class W>
void few_samples(const Job<T>& job, const W* weight, int threads) {
    const Side& side = *job.side;
    int64_t nodes = job.plan->num_nodes, line = most_terms(side, nodes) + PLACES<T>;
    T* lines = Scratch::take<T>(threads * SAMPLES * line);
    parallel(threads, [&](const Team& team) {
        few_rows<T, SAMPLES>(job, weight, costed_part(side, nodes, team.me, team.size),
                             lines + team.me * SAMPLES * line, line);
    });
}

template <class T, class W>
void few_samples(const Job<T>& job, const W* weight, int threads) {
    of_few<FEW<T>>(job.x.count,
                   [&](auto samples) { few_samples<T, samples.value>(job, weight, threads); });
}
