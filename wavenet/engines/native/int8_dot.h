// What int8 needs of each instruction set: dot products of four bytes in each 32-bit lane, the lowest byte of each, and
// the largest lane. All are integers, so all have the same result.
//
// `Dot::add(sum, weights, inputs)` adds to each lane the products of its four weights, -127 to 127, and four inputs
// that all lanes share. Inputs are stored as value + `kZero`. If that is 128, each sum has 128 times its weights too
// much. No intermediate sum saturates: that of two products is at most 2 * 127 * 127 = 32,258.
#pragma once

#include "simd.h"
#if defined(__ARM_NEON)
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

namespace wavenet {
namespace {

typedef uint8_t Byte;
typedef Byte Bytes __attribute__((vector_size(4 * kLanes)));

#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif

inline int32_t four_bytes(const Byte* from) { return load<int32_t>(from); }

// Stores the lowest byte of each lane. GCC 12 moves one at a time if it is left to it.
inline void store_lowest_bytes(Words words, Byte* to) {
#if defined(__AVX512F__) && defined(__AVX512BW__)
    store(to, _mm512_cvtepi32_epi8(reinterpret<__m512i>(words)));
#elif defined(__AVX2__)
    const __m256i order = _mm256_broadcastsi128_si256(_mm_setr_epi32(0x0c080400, -1, -1, -1));
    const __m256i gathered = _mm256_shuffle_epi8(reinterpret<__m256i>(words), order);
    const __m128i low = _mm256_castsi256_si128(gathered), high = _mm256_extracti128_si256(gathered, 1);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_unpacklo_epi32(low, high));
#else
    typedef Byte Row __attribute__((vector_size(kLanes)));
    store(to, __builtin_convertvector(words, Row));
#endif
}

// The largest lane.
inline int32_t largest(Ints lanes) {
#if defined(__AVX512F__) && defined(__AVX512BW__)
    return _mm512_reduce_max_epi32(reinterpret<__m512i>(lanes));
#else
    int32_t values[kLanes];
    store(values, lanes);
    for (int half = kLanes / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) values[i] = values[i] > values[i + half] ? values[i] : values[i + half];
    return values[0];
#endif
}

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)

struct Dot {
    using Inputs = __m512i;
    static constexpr int kZero = 128;
    static Inputs broadcast(const Byte* four) { return _mm512_set1_epi32(four_bytes(four)); }
    static Ints add(Ints sum, Bytes weights, Inputs inputs) {
        return reinterpret<Ints>(_mm512_dpbusd_epi32(reinterpret<__m512i>(sum), inputs, reinterpret<__m512i>(weights)));
    }
};

#elif defined(__AVX512F__) && defined(__AVX512BW__)

// The inputs' signs go to the weights.
struct Dot {
    struct Inputs {
        __m512i magnitudes;
        __mmask64 negative;
    };
    static constexpr int kZero = 0;
    static Inputs broadcast(const Byte* four) {
        const __m512i values = _mm512_set1_epi32(four_bytes(four));
        return {_mm512_abs_epi8(values), _mm512_movepi8_mask(values)};
    }
    static Ints add(Ints sum, Bytes weights, Inputs inputs) {
        const __m512i given = reinterpret<__m512i>(weights);
        const __m512i turned = _mm512_mask_sub_epi8(given, inputs.negative, _mm512_setzero_si512(), given);
        const __m512i pairs = _mm512_maddubs_epi16(inputs.magnitudes, turned);
        return sum + reinterpret<Ints>(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
    }
};

#elif defined(__AVXVNNI__) && defined(__AVX2__)

struct Dot {
    using Inputs = __m256i;
    static constexpr int kZero = 128;
    static Inputs broadcast(const Byte* four) { return _mm256_set1_epi32(four_bytes(four)); }
    static Ints add(Ints sum, Bytes weights, Inputs inputs) {
        return reinterpret<Ints>(
            _mm256_dpbusd_avx_epi32(reinterpret<__m256i>(sum), inputs, reinterpret<__m256i>(weights)));
    }
};

#elif defined(__AVX2__)

// The inputs' signs go to the weights.
struct Dot {
    struct Inputs {
        __m256i values, magnitudes;
    };
    static constexpr int kZero = 0;
    static Inputs broadcast(const Byte* four) {
        const __m256i values = _mm256_set1_epi32(four_bytes(four));
        return {values, _mm256_abs_epi8(values)};
    }
    static Ints add(Ints sum, Bytes weights, Inputs inputs) {
        const __m256i turned = _mm256_sign_epi8(reinterpret<__m256i>(weights), inputs.values);
        const __m256i pairs = _mm256_maddubs_epi16(inputs.magnitudes, turned);
        return sum + reinterpret<Ints>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
};

#elif defined(__SSE2__)

// As 16-bit numbers: the even bytes of each lane, and the odd ones.
struct Dot {
    struct Inputs {
        __m128i even, odd;
    };
    static constexpr int kZero = 0;
    static Inputs split(__m128i bytes) {
        return {_mm_srai_epi16(_mm_slli_epi16(bytes, 8), 8), _mm_srai_epi16(bytes, 8)};
    }
    static Inputs broadcast(const Byte* four) { return split(_mm_set1_epi32(four_bytes(four))); }
    static Ints add(Ints sum, Bytes weights, Inputs inputs) {
        const Inputs both = split(reinterpret<__m128i>(weights));
        return sum + reinterpret<Ints>(_mm_madd_epi16(both.even, inputs.even)) +
               reinterpret<Ints>(_mm_madd_epi16(both.odd, inputs.odd));
    }
};

#elif defined(__ARM_NEON) && defined(__aarch64__)

struct Dot {
    using Inputs = int8x16_t;
    static constexpr int kZero = 0;
    static Inputs broadcast(const Byte* four) { return vreinterpretq_s8_s32(vdupq_n_s32(four_bytes(four))); }
    static Ints add(Ints sum, Bytes weights, Inputs inputs) {
        const int8x16_t given = reinterpret<int8x16_t>(weights);
#if defined(__ARM_FEATURE_DOTPROD)
        return reinterpret<Ints>(vdotq_s32(reinterpret<int32x4_t>(sum), given, inputs));
#else
        const int16x8_t low = vmull_s8(vget_low_s8(given), vget_low_s8(inputs));
        const int16x8_t pairs = vpaddq_s16(low, vmull_high_s8(given, inputs));
        return reinterpret<Ints>(vpadalq_s16(reinterpret<int32x4_t>(sum), pairs));
#endif
    }
};

#elif defined(__wasm_simd128__)

// As 16-bit numbers: the even bytes of each lane, and the odd ones.
struct Dot {
    struct Inputs {
        v128_t even, odd;
    };
    static constexpr int kZero = 0;
    static Inputs split(v128_t bytes) {
        return {wasm_i16x8_shr(wasm_i16x8_shl(bytes, 8), 8), wasm_i16x8_shr(bytes, 8)};
    }
    static Inputs broadcast(const Byte* four) { return split(wasm_v128_load32_splat(four)); }
    static Ints add(Ints sum, Bytes weights, Inputs inputs) {
        const Inputs both = split(reinterpret<v128_t>(weights));
        return sum + reinterpret<Ints>(wasm_i32x4_dot_i16x8(both.even, inputs.even)) +
               reinterpret<Ints>(wasm_i32x4_dot_i16x8(both.odd, inputs.odd));
    }
};

#else

struct Dot {
    using Inputs = Ints;
    static constexpr int kZero = 0;
    static Inputs broadcast(const Byte* four) { return Ints{} + four_bytes(four); }
    static Ints add(Ints sum, Bytes weights, Inputs inputs) {
        const Ints four = reinterpret<Ints>(weights);
        for (int shift = 0; shift < 32; shift += 8) sum += (four << shift >> 24) * (inputs << shift >> 24);
        return sum;
    }
};

#endif

}  // namespace
}  // namespace wavenet
