// The processor's peak, see peak.h.
#include "peak.h"

extern "C" {

EXPORT double NAMED(peak)(double seconds, int64_t threads) {
    return peak_of<T>(seconds, threads, T(0.999), T(1e-3));
}

}  // extern "C"
