// The processor's peak: multiply-adds on registers alone, nothing read and nothing written.
#pragma once
#include <chrono>

#include "tables.h"
#include "vector.h"

namespace {

// Independent sums, enough to hide the latency of an addition on two units.
constexpr int CHAINS = VECTOR_REGISTERS * 3 / 4;
constexpr int64_t BLOCK = 20000;

double seconds_now() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

// sum = sum * factor + term; of bfloat16, sum += factor * term.
template <class N>
INLINE void step(Vec<Sum<N>>& sum, Vec<N> factor, Vec<N> term) {
    if constexpr (std::is_integral<N>::value) add_product<N>(sum, factor, term);
    else sum = sum * factor + term;
}

// Operations a second of the calling thread, a multiplication and an addition each counted as one.
// No loop runs over the sums: an index that varies would put them into memory.
template <class N, size_t... I>
double one_thread(double seconds, Vec<N> factor, Vec<N> term, std::index_sequence<I...>) {
    typedef Sum<N> S;
    Vec<S> sums[] = {(Vec<S>{} + S(I))...};
    int64_t blocks = 0;
    double start = seconds_now(), taken;
    do {
        for (int64_t k = 0; k < BLOCK; ++k) {
            (step<N>(sums[I], factor, term), ...);
            asm volatile("" : "+m"(blocks));  // no iteration is computed in advance
        }
        ++blocks;
        taken = seconds_now() - start;
    } while (taken < seconds);
    volatile S used = (sums[I] + ...)[0];
    (void)used;
    return 2.0 * sizeof(S) / sizeof(Stored<N>) * LANES<S> * CHAINS * BLOCK * blocks / taken;
}

// The sum over `threads` threads that run at once, in operations a second; 0 where a number is wrong.
template <class N>
double peak_of(double seconds, int64_t threads, N factor, N term) {
    if (!(seconds > 0 && seconds < 60) || threads < 1 || threads > 1024) return 0;
    double each[1024] = {}, total = 0;
    parallel(int(threads), [&](const Team& team) {
        each[team.me] = one_thread<N>(seconds, Vec<N>{} + factor, Vec<N>{} + term,
                                      std::make_index_sequence<CHAINS>());
    });
    for (double one : each) total += one;
    return total;
}

}  // namespace
