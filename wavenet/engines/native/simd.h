// Vectors as wide as the target's, by the compiler's vector extensions; the exponential and the gate.
//
// int8.cpp promises the same bits on every instruction set: it is compiled without fused multiply-adds, and defines
// WAVENET_REPRODUCIBLE, which fixes the order of sums. The headers' names are local to each file, so that the linker
// does not merge functions that round differently.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace wavenet {
namespace {

#if defined(WAVENET_REPRODUCIBLE)
constexpr bool kReproducible = true;
#else
constexpr bool kReproducible = false;
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));

template <class Vector, class Scalar>
inline Vector load(const Scalar* from) {
    Vector vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}

template <class Vector, class Scalar>
inline void store(Scalar* to, Vector vector) {
    std::memcpy(to, &vector, sizeof vector);
}

template <class To, class From>
inline To reinterpret(From from) {
    static_assert(sizeof(To) == sizeof(From), "only between vectors of one size");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

inline Floats splat(float value) { return Floats{} + value; }

// If one of them is NaN, both return b.
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }

// The dot product. Each lane is summed first, so the result does not depend on the alignment of a and b.
template <class Scalar>
inline Scalar dot(const Scalar* a, const Scalar* b, int count) {
    constexpr int bytes = kReproducible ? 64 : 4 * kLanes, width = bytes / sizeof(Scalar);
    typedef Scalar Lanes __attribute__((vector_size(bytes)));
    Lanes even = {}, odd = {};
    int i = 0;
    for (; i + 2 * width <= count; i += 2 * width) {
        even += load<Lanes>(a + i) * load<Lanes>(b + i);
        odd += load<Lanes>(a + i + width) * load<Lanes>(b + i + width);
    }
    even += odd;
    Scalar sum = 0;
    for (int lane = 0; lane < width; ++lane) sum += even[lane];
    for (; i < count; ++i) sum += a[i] * b[i];
    return sum;
}

// e^x for |x| <= 87, with a relative error of 2e-7: x = n ln 2 + r, and a polynomial for e^r (Cephes' coefficients).
inline Floats exp(Floats x) {
    const Floats rounder = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const Floats n = (x * 1.44269504f + rounder) - rounder;
    const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const Ints exponent = (__builtin_convertvector(n, Ints) + 127) << 23;
    return p * reinterpret<Floats>(exponent);
}

typedef double Doubles __attribute__((vector_size(64)));
typedef int64_t Longs __attribute__((vector_size(64)));
constexpr int kDoubles = 8;

// e^x for -708 <= x <= 0, with a relative error of 2e-16: as above, with the terms of Taylor's series. It has the same
// bits wherever products and sums round by themselves.
inline Doubles exp(Doubles x) {
    const double rounder = 6755399441055744.0;  // 1.5 * 2^52
    const Doubles shifted = x * 1.4426950408889634 + rounder, n = shifted - rounder;
    const Doubles r = (x - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
    Doubles p = r * (1.0 / 6227020800) + 1.0 / 479001600;
    for (double term : {1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120,
                        1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0})
        p = p * r + term;
    return reinterpret<Doubles>(reinterpret<Longs>(p) + (reinterpret<Longs>(shifted) << 52));
}

// tanh(filter) * sigmoid(gate) = (1 - a) / ((1 + a) (1 + b)) with a = e^(-2 filter), b = e^-gate: one division.
inline Floats gated(Floats filter, Floats gate) {
    const Floats limit = splat(40.0f);  // tanh and sigmoid saturate long before, and e^40 * e^40 is finite
    const Floats a = exp(larger(-limit, smaller(limit, filter * -2.0f)));
    const Floats b = exp(larger(-limit, smaller(limit, -gate)));
    return (1.0f - a) / ((1.0f + a) * (1.0f + b));
}

}  // namespace
}  // namespace wavenet
