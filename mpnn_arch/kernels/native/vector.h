// A SIMD vector from GCC's vector extensions, and shuffles that convert layouts. The width follows
// the target machine; the only intrinsic is that of bfloat16 products.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(VECTOR_BYTES)  // given with VECTOR_REGISTERS, to test the tiles of another processor
#elif defined(__AVX512F__)
#define VECTOR_BYTES 64
#define VECTOR_REGISTERS 32
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define VECTOR_REGISTERS 16
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define VECTOR_REGISTERS 32
#else
#define VECTOR_BYTES 16
#define VECTOR_REGISTERS 16
#endif

// The constraint of a vector in one register, where the processor has registers that wide.
#if defined(__AVX512F__) && VECTOR_BYTES == 64
#define REGISTER "+v"
#elif defined(__AVX__) && VECTOR_BYTES == 32
#define REGISTER "+x"
#elif defined(__aarch64__) && VECTOR_BYTES == 16
#define REGISTER "+w"
#endif

#if defined(__AVX512BF16__) && VECTOR_BYTES == 64
#include <immintrin.h>
#define BF16_PRODUCTS 1
#else
#define BF16_PRODUCTS 0
#endif

#define INLINE inline __attribute__((always_inline))

#ifdef __clang__
constexpr int CLANG = 1;
#else
constexpr int CLANG = 0;
#endif
#ifdef __aarch64__
constexpr int CLANG_ON_ARM = CLANG;
#else
constexpr int CLANG_ON_ARM = 0;
#endif

// Whether the loads of a tile leave time for prefetches. Elsewhere, scattered weights that are read often are
// copied into contiguous memory first.
constexpr bool SPARE_LOADS = VECTOR_BYTES == 64;

// The bits of a bfloat16, and of two, which are multiplied together.
typedef uint16_t Bf16;
typedef uint32_t Pair;

// A vector holds at least QUAD numbers; lanes are summed four vectors at a time.
constexpr int QUAD = 4;
template <class T>
constexpr int LANES = VECTOR_BYTES / sizeof(T) > QUAD ? VECTOR_BYTES / sizeof(T) : QUAD;

template <class T>
struct Simd;
#define DEFINE_SIMD(T)                                                                   \
    template <>                                                                             \
    struct Simd<T> {                                                                        \
        typedef T Vec __attribute__((vector_size(LANES<T> * sizeof(T))));                   \
        typedef T Loose __attribute__((vector_size(LANES<T> * sizeof(T)), aligned(sizeof(T)), \
                                       may_alias));                                         \
    };
DEFINE_SIMD(float)
DEFINE_SIMD(double)
DEFINE_SIMD(Bf16)
DEFINE_SIMD(Pair)
#undef DEFINE_SIMD

template <class T>
using Vec = typename Simd<T>::Vec;

template <class T>
INLINE Vec<T> load(const T* p) {
    return *reinterpret_cast<const typename Simd<T>::Loose*>(p);
}
// A vector that several products read. GCC may otherwise make it a memory operand of each of them; a tile
// then waits for its loads, of which a vector across two cache lines takes two.
template <class T>
INLINE Vec<T> load_once(const T* p) {
    Vec<T> v = load(p);
#ifdef REGISTER
    if constexpr (sizeof v == VECTOR_BYTES) asm("" : REGISTER(v));
#endif
    return v;
}
template <class T>
INLINE void store(T* p, Vec<T> v) {
    *reinterpret_cast<typename Simd<T>::Loose*>(p) = v;
}

// What products of T are summed in.
template <class T>
using Sum = std::conditional_t<std::is_integral<T>::value, float, T>;

// What numbers are stored as that are multiplied as T.
template <class T>
using Stored = std::conditional_t<std::is_same<T, Pair>::value, Bf16, T>;

// sum += a * b. A lane of bfloat16 holds two, whose products are added one after the other.
template <class T>
INLINE void add_product(Vec<Sum<T>>& sum, Vec<T> a, Vec<T> b) {
    if constexpr (!std::is_integral<T>::value) {
        sum += a * b;
    } else {
#if BF16_PRODUCTS
        sum = (Vec<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
        Vec<Pair> u = (Vec<Pair>)a, v = (Vec<Pair>)b;
        sum += (Vec<float>)(u & 0xffff0000) * (Vec<float>)(v & 0xffff0000);
        sum += (Vec<float>)(u << 16) * (Vec<float>)(v << 16);
#endif
    }
}
template <class T>
INLINE void add_product(Vec<Sum<T>>& sum, T a, Vec<T> b) {
    if constexpr (std::is_integral<T>::value) add_product<T>(sum, Vec<T>{} + a, b);
    else sum += a * b;
}

template <class T, class Pick, size_t... I>
INLINE Vec<T> pick(Vec<T> a, Vec<T> b, Pick f, std::index_sequence<I...>) {
    return __builtin_shufflevector(a, b, f(int(I))...);
}
template <class T, class Pick>
INLINE Vec<T> pick(Vec<T> a, Vec<T> b, Pick f) {
    return pick<T>(a, b, f, std::make_index_sequence<LANES<T>>());
}

// a0 b0 a1 b1 ... from the first (second) halves.
template <class T>
INLINE Vec<T> weave_low(Vec<T> a, Vec<T> b) {
    return pick<T>(a, b, [](int i) constexpr { return i / 2 + i % 2 * LANES<T>; });
}
template <class T>
INLINE Vec<T> weave_high(Vec<T> a, Vec<T> b) {
    return pick<T>(a, b, [](int i) constexpr { return LANES<T> / 2 + i / 2 + i % 2 * LANES<T>; });
}

// Samples multiplied at once: as many as one 8-byte broadcast carries. Where vectors are short, and written
// out after few products each, one: then a vector's sums need not be added up.
template <class T>
constexpr int UNIT = VECTOR_REGISTERS == 16 ? 1 : 8 / sizeof(T);
// Channels that a vector holds, UNIT samples of each.
template <class T>
constexpr int PLACES = LANES<T> / UNIT<T>;

// The same UNIT numbers repeated, broadcast as an integer, which preserves their bits.
template <class T, size_t... I>
INLINE Vec<T> repeat_unit(const T* p, std::index_sequence<I...>) {
    typedef std::conditional_t<UNIT<T> * sizeof(T) == 8, int64_t, int32_t> Unit;
    typedef Unit Units __attribute__((vector_size(sizeof(Vec<T>))));
    Unit unit;
    memcpy(&unit, p, sizeof unit);
    return (Vec<T>)(Units){((void)I, unit)...};
}
template <class T>
INLINE Vec<T> repeat_unit(const T* p) {
    return repeat_unit<T>(p, std::make_index_sequence<PLACES<T>>());
}

// The sums of adjacent pairs, those of a and then those of b.
template <class T>
INLINE Vec<T> sum_pairs(Vec<T> a, Vec<T> b) {
    return pick<T>(a, b, [](int i) constexpr { return 2 * i; }) +
           pick<T>(a, b, [](int i) constexpr { return 2 * i + 1; });
}

// Four vectors of quads -> the sums of the quads of a, then of those of b, c and d.
template <class T>
INLINE Vec<T> sum_quads(Vec<T> a, Vec<T> b, Vec<T> c, Vec<T> d) {
    auto low = [](int i) constexpr { return i / 4 * 4 + i % 4 / 2 + i % 2 * LANES<T>; };
    auto high = [](int i) constexpr { return i / 4 * 4 + 2 + i % 4 / 2 + i % 2 * LANES<T>; };
    auto first = [](int i) constexpr { return i / 4 * 4 + i % 2 + i % 4 / 2 * LANES<T>; };
    auto last = [](int i) constexpr { return i / 4 * 4 + 2 + i % 2 + i % 4 / 2 * LANES<T>; };
    Vec<T> ab = pick<T>(a, b, low) + pick<T>(a, b, high);
    Vec<T> cd = pick<T>(c, d, low) + pick<T>(c, d, high);
    Vec<T> sums = pick<T>(ab, cd, first) + pick<T>(ab, cd, last);
    // Transpose the quads, so that each vector's sums are contiguous.
    constexpr int QUADS = LANES<T> / QUAD;
    return pick<T>(sums, sums, [](int i) constexpr { return i % QUADS * QUAD + i / QUADS; });
}

// The sums over the lanes of LANES vectors, first within quads, then over the quads.
template <class T>
INLINE Vec<T> sum_lanes(const Vec<T>* v) {
    constexpr int L = LANES<T>;
    Vec<T> quads[L / QUAD];
#pragma GCC unroll 4
    for (int i = 0; i < L / QUAD; ++i)
        quads[i] = sum_quads<T>(v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]);
    if constexpr (L == 4 * QUAD) return sum_quads<T>(quads[0], quads[1], quads[2], quads[3]);
    else if constexpr (L == 2 * QUAD) return sum_pairs<T>(quads[0], quads[1]);
    else return quads[0];
}

// All bits set where a number is kept, none where it is masked out.
template <class T>
using Mask = std::conditional_t<sizeof(T) == 2, int16_t,
                                std::conditional_t<sizeof(T) == 4, int32_t, int64_t>>;

template <class T>
INLINE Vec<T> masked(Vec<T> v, const Mask<T>* mask) {
    typedef Mask<T> Bits __attribute__((vector_size(sizeof(Vec<T>))));
    Bits bits;
    memcpy(&bits, mask, sizeof bits);
    return (Vec<T>)((Bits)v & bits);
}

// As many bfloat16 as a vector has floats.
typedef Bf16 LooseHalf __attribute__((vector_size(LANES<float> * sizeof(Bf16)), aligned(2), may_alias));

INLINE Vec<Pair> widen(const Bf16* p) {
    return __builtin_convertvector(*reinterpret_cast<const LooseHalf*>(p), Vec<Pair>);
}
// Two numbers, the first in the low half, which lies first in memory.
INLINE Vec<Pair> pair_up(const Bf16* low, const Bf16* high) { return widen(low) | widen(high) << 16; }
INLINE Pair pair_up(Bf16 low, Bf16 high) { return low | Pair(high) << 16; }

// low[i] and high[i] -> to[i]; zeros in place of a null `high`.
inline void pair_all(const Bf16* low, const Bf16* high, int64_t count, Pair* to) {
    constexpr int L = LANES<Pair>;
    if (count < L) {
        for (int64_t i = 0; i < count; ++i) to[i] = pair_up(low[i], high ? high[i] : Bf16(0));
        return;
    }
    for (int64_t i = 0; i < count; i += L) {
        i = std::min<int64_t>(i, count - L);  // the last one overlaps the one before
        store(to + i, high ? pair_up(low + i, high + i) : widen(low + i));
    }
}

INLINE float bf16_to_float(Bf16 x) {
    Pair bits = Pair(x) << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}
// Some floats, their bits, and as many bfloat16.
template <int COUNT>
struct Some {
    typedef float Floats __attribute__((vector_size(COUNT * sizeof(float))));
    typedef Pair Bits __attribute__((vector_size(COUNT * sizeof(Pair))));
    typedef Bf16 Rounded __attribute__((vector_size(COUNT * sizeof(Bf16))));
};

// The nearest bfloat16, ties to even; NaN stays NaN.
template <int COUNT>
INLINE typename Some<COUNT>::Rounded round_to_bf16(typename Some<COUNT>::Floats x) {
#if BF16_PRODUCTS
    // These make numbers below the normal ones zero, as products do.
    if constexpr (COUNT == 16) return (typename Some<16>::Rounded)_mm512_cvtneps_pbh((__m512)x);
    else if constexpr (COUNT == 8) return (typename Some<8>::Rounded)_mm256_cvtneps_pbh((__m256)x);
#endif
    typedef typename Some<COUNT>::Bits Bits;
    Bits bits = (Bits)x, up = bits + 0x7fff + (bits >> 16 & 1);
    Bits is_nan = (Bits)(x != x);
    bits = ((up & ~is_nan) | ((bits | 0x400000) & is_nan)) >> 16;
    return __builtin_convertvector(bits, typename Some<COUNT>::Rounded);
}
INLINE Bf16 round_to_bf16(float x) {
    Pair bits;
    memcpy(&bits, &x, sizeof bits);
    return (x == x ? bits + 0x7fff + (bits >> 16 & 1) : bits | 0x400000) >> 16;
}

// Transposes LANES rows of LANES numbers in registers.
template <class T>
INLINE void transpose(Vec<T>* r) {
    constexpr int L = LANES<T>;
    Vec<T> s[L];
#pragma GCC unroll 4
    for (int step = 1; step < L; step *= 2) {
#pragma GCC unroll 16
        for (int i = 0; i < L / 2; ++i) {
            s[2 * i] = weave_low<T>(r[i], r[i + L / 2]);
            s[2 * i + 1] = weave_high<T>(r[i], r[i + L / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < L; ++i) r[i] = s[i];
    }
}
