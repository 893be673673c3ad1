// ReLU of a vector, and its gradient.
#pragma once
#include "vector.h"

template <class S>
struct BitsOf {
    typedef std::conditional_t<sizeof(S) == 4, int32_t, int64_t> Bit;
    typedef Bit Bits __attribute__((vector_size(sizeof(Vec<S>))));
};

// As torch's: NaN stays, and its gradient passes.
template <class S>
INLINE Vec<S> relu(Vec<S> v) {
    typedef typename BitsOf<S>::Bits Bits;
    return (Vec<S>)((Bits)v & ~(Bits)(v < Vec<S>{}));
}
template <class S>
INLINE Vec<S> passed(Vec<S> grad, Vec<S> y) {
    typedef typename BitsOf<S>::Bits Bits;
    return (Vec<S>)((Bits)grad & ~(Bits)(y <= Vec<S>{}));
}
