// The processor's peak: fused multiply-adds on registers alone, nothing read and nothing written.
#include <chrono>

#include "tables.h"
#include "vector.h"

namespace {

using T = NUMBER;
// Independent sums, enough to hide the latency of an addition on two units.
constexpr int CHAINS = VECTOR_REGISTERS * 3 / 4;
constexpr int64_t BLOCK = 20000;

double seconds_now() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

// Operations a second of the calling thread, a multiplication and an addition each counted as one.
// No loop runs over the sums: an index that varies would put them into memory.
template <size_t... I>
double one_thread(double seconds, std::index_sequence<I...>) {
    Vec<T> sums[] = {(Vec<T>{} + T(I))...};
    Vec<T> factor = Vec<T>{} + T(0.999), term = Vec<T>{} + T(1e-3);
    int64_t blocks = 0;
    double start = seconds_now(), taken;
    do {
        for (int64_t k = 0; k < BLOCK; ++k) {
            ((sums[I] = sums[I] * factor + term), ...);
            asm volatile("" : "+m"(blocks));  // no iteration is computed in advance
        }
        ++blocks;
        taken = seconds_now() - start;
    } while (taken < seconds);
    volatile T used = (sums[I] + ...)[0];
    (void)used;
    return 2.0 * LANES<T> * CHAINS * BLOCK * blocks / taken;
}

}  // namespace

extern "C" {

// The sum over `threads` threads that run at once, in operations a second; 0 where a number is wrong.
EXPORT double NAMED(peak)(double seconds, int64_t threads) {
    if (!(seconds > 0 && seconds < 60) || threads < 1 || threads > 1024) return 0;
    double each[1024] = {}, total = 0;
    parallel(int(threads), [&](const Team& team) { each[team.me] = one_thread(seconds, std::make_index_sequence<CHAINS>()); });
    for (double one : each) total += one;
    return total;
}

}  // extern "C"
