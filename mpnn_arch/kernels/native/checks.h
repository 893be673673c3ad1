// What the entry points check before they read or write anything, once per call.
//
// A caller passes raw addresses and sizes, so a size that does not belong to the tensors would be
// read or written past their ends. Products of sizes are bounded in floating point, which does not
// overflow.
#pragma once
#include <climits>
#include <exception>

#include "tables.h"

// The return codes of the entry points.
constexpr int DONE = 0, NO_MEMORY = 1, REFUSED = 2;

struct Refused : std::exception {};

inline void require(bool holds) {
    if (!holds) throw Refused();
}

// Runs an entry point; no exception may leave a C function.
template <class Run>
int checked(Run run) try {
    run();
    return DONE;
} catch (const Refused&) {
    return REFUSED;
} catch (const std::exception&) {
    return NO_MEMORY;
}

// Offsets into lines of maps and indices of channels have 32 bits.
constexpr int64_t MOST_INDEX = INT32_MAX;
// Numbers in a buffer: far more than fit into memory, and their bytes do not overflow.
constexpr double MOST_NUMBERS = double(int64_t(1) << 45);

inline void require_plan(const Plan* plan, const void* first, const void* second,
                         const void* written) {
    require(plan && first && second && written);
    require(plan->num_nodes >= 1 && plan->num_nodes <= MOST_INDEX);
    for (int64_t channels : {plan->in_channels, plan->out_channels})
        require(channels >= 1 && channels <= MOST_INDEX);
}

inline void require_rows(int64_t batch, int64_t row, int64_t channels) {
    require(batch >= 0 && row >= 0);
    require(double(batch) * double(std::max(row, channels)) <= MOST_NUMBERS);
}

// Threads of a team: as many as asked for, up to the processors of the machine (or 64, so that a
// small machine can reproduce a larger one). A team of tens of thousands overflows the stack in
// OpenMP itself.
inline int team_size(int64_t threads) {
    static const int64_t most = std::max<int64_t>(64, std::thread::hardware_concurrency());
    return int(std::clamp<int64_t>(threads, 1, most));
}
