// The forward product of one or two samples, which would leave most lanes of a panel empty: every row of weights
// times the channels that its node receives, gathered.
#pragma once
#include "rounds.h"

constexpr int FEW = 2;  // samples; of more, gathering takes longer than a panel

// The terms of the node that has most.
inline int64_t most_terms(const Side& side, int64_t nodes) {
    int64_t most = 0;
    for (int64_t v = 0; v < nodes; ++v) most = std::max(most, side.start[v + 1] - side.start[v]);
    return most;
}

// What node v receives of each sample -> [SAMPLES][line].
template <class T, int SAMPLES, class Rows>
void gather_terms(const Side& side, int64_t v, const Rows& x, T* lines, int64_t line) {
    const int32_t* term = side.term + side.start[v];
    for (int s = 0; s < SAMPLES; ++s)
        for (int64_t k = 0; k < side.start[v + 1] - side.start[v]; ++k)
            lines[s * line + k] = x.at(s, term[k]);
}

// LANES sums, of `rows` rows of weights times SAMPLES lines of x, over `count` terms: [rows][SAMPLES].
template <class T, int SAMPLES>
void dot_rows(const T* w, int64_t rows, const T* x, int64_t line, int64_t count, T* sums) {
    constexpr int L = LANES<T>, ROWS = L / SAMPLES;
    const T* row[ROWS];
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
            for (int s = 0; s < SAMPLES; ++s) sum[r * SAMPLES + s] += weights * v[s];
        }
    };
    int64_t k = 0;
    for (; k + L <= count; k += L) add(k, [](const T* p) { return load_once(p); });
    int64_t rest = count - k;
    if (rest && k) {  // again the last whole vector, without what is summed
        Mask<T> kept[L];
        for (int i = 0; i < L; ++i) kept[i] = i < L - rest ? 0 : -1;
        add(count - L, [&](const T* p) { return masked<T>(load(p), kept); });
    } else if (rest) {
        add(0, [&](const T* p) {
            T some[L] = {};
            for (int64_t i = 0; i < rest; ++i) some[i] = p[i];
            return load(some);
        });
    }
    store(sums, sum_lanes<T>(sum));
}

template <class T, int SAMPLES>
void few_rows(const Job<T>& job, Range rows, T* lines, int64_t line) {
    constexpr int ROWS = LANES<T> / SAMPLES;
    const Side& side = *job.side;
    each_node(side.channels, job.plan->num_nodes, rows, [&](int64_t v, int64_t row, int64_t last) {
        int64_t count = side.start[v + 1] - side.start[v];
        gather_terms<T, SAMPLES>(side, v, job.x, lines, line);
        const T* w = job.weight + side.cost[v] + (row - side.channels[v]) * count;
        for (; row < last; row += ROWS, w += ROWS * count) {
            int64_t some = std::min<int64_t>(ROWS, last - row);
            T sums[LANES<T>];
            dot_rows<T, SAMPLES>(w, some, lines, line, count, sums);
            for (int s = 0; s < SAMPLES; ++s)
                for (int64_t r = 0; r < some; ++r) {
                    T sum = sums[r * SAMPLES + s];
                    if (job.bias) sum += job.bias[row + r];
                    job.y[s * job.y_row + row + r] = job.relu && sum < 0 ? T(0) : sum;
                }
        }
    });
}

template <class T, int SAMPLES>
void few_samples(const Job<T>& job, int threads) {
    const Side& side = *job.side;
    int64_t nodes = job.plan->num_nodes, line = most_terms(side, nodes);
    T* lines = Scratch::take<T>(threads * SAMPLES * line);
    parallel(threads, [&](const Team& team) {
        few_rows<T, SAMPLES>(job, costed_part(side, nodes, team.me, team.size),
                             lines + team.me * SAMPLES * line, line);
    });
}

template <class T>
void few_samples(const Job<T>& job, int threads) {
    if (job.x.count == 1) few_samples<T, 1>(job, threads);
    else few_samples<T, 2>(job, threads);
}
