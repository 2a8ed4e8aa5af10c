// The format int8: weights and activations of 8 bits, integer products, float32 between them.
//
// A vector v, which is a row of weights or the activations of one time, is rounded to bytes with its peak:
//
//     peak = max |v|,    q = round(v * (127 / peak)) in -127 ... 127, ties to even
//
// If the peak is under 1e-30, it is 0 and so are the bytes. If it is over 1e30 or not a number, it is NaN. Gated
// activations have the fixed peak 1. A product is y += (sum of q_w q_x) * ((peak_w / 127^2) * peak_x). The sum is an
// exact 32-bit integer. The skip projections of all layers share the peak of a row, and their integers are summed
// before the one multiplication. Each layer's input, the skip sum and the head's hidden layer are rounded after relu,
// if they have one. The gate is `gated_in_base_2`. All other operations are float32, each rounded by itself (see
// simd.h), so every instruction set computes the same bits. tests/int8_twin.py is the same in torch.
//
// A queue holds bytes and peaks. A state is saved as q / 127 * peak: its peak is `peak` exactly, because the entry that
// had it has q = +-127, and it rounds to the same bytes, because four roundings move 127 by less than 0.0001.
#pragma once

#include <cmath>
#include <limits>
#include <stdexcept>

#include "int8_dot.h"
#include "matrix.h"

namespace wavenet {
namespace {

// 2^x for |x| <= 126, with a relative error of 3e-6: x = n + r, and a polynomial for 2^r.
inline Floats exp2(Floats x) {
    const Floats rounder = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, in the lowest bits
    const Floats n = x + rounder, r = x - (n - rounder);
    Floats p = r * 9.58282966e-3f + 5.59064001e-2f;
    p = p * r + 2.40240991e-1f;
    p = p * r + 6.93124175e-1f;
    p = p * r + 1.0f;
    return reinterpret<Floats>(reinterpret<Ints>(p) + (reinterpret<Ints>(n) << 23));
}

// tanh(filter) * sigmoid(gate), as `gated`; fewer terms suffice for what is rounded to a byte.
inline Floats gated_in_base_2(Floats filter, Floats gate) {
    const Floats limit = splat(50.0f);
    const Floats a = exp2(larger(-limit, smaller(limit, filter * -2.88539008f)));
    const Floats b = exp2(larger(-limit, smaller(limit, gate * -1.44269504f)));
    return (1.0f - a) / ((1.0f + a) * (1.0f + b));
}

class Int8Matrix;

struct Int8 {
    using Matrix = Int8Matrix;
    using Stored = Byte;
    using Sum = int32_t;
    static constexpr Byte kZero = Dot::kZero;

    // Rounds a row of activations; `width` is a multiple of kLanes.
    static void keep(const float* x, int width, Byte* to, float& peak) {
        Ints peaks = {};  // as integers, absolute values have the order of their values, then infinity, then NaN
        for (int i = 0; i < width; i += kLanes) {
            const Ints magnitude = load<Ints>(x + i) & 0x7fffffff;
            peaks = magnitude > peaks ? magnitude : peaks;
        }
        peak = limited(reinterpret<float>(largest(peaks)));
        if (!(peak > 0)) return static_cast<void>(std::fill_n(to, width, kZero));
        const Floats factor = splat(127 / peak);
        for (int i = 0; i < width; i += kLanes) store_rounded(load<Floats>(x + i) * factor, to + i);
    }

    static void keep_gated(const float* filter, const float* gate, int width, Byte* to, float& peak) {
        Ints poison = {};
        for (int i = 0; i < width; i += kLanes) {
            const Floats value = gated_in_base_2(load<Floats>(filter + i), load<Floats>(gate + i));
            poison |= value != value;
            store_rounded(value * 127.0f, to + i);
        }
        peak = largest(-poison) ? std::numeric_limits<float>::quiet_NaN() : 1.0f;
    }

    static void recall(const Byte* x, float peak, int width, float* to) {
        for (int i = 0; i < width; ++i) to[i] = static_cast<float>(static_cast<int8_t>(x[i] - kZero)) / 127 * peak;
    }

    static float limited(float peak) {
        if (peak < 1e-30f) return 0;
        return peak < 1e30f ? peak : std::numeric_limits<float>::quiet_NaN();
    }

private:
    // The lowest byte of x + 1.5 * 2^23 is the rounded x.
    static void store_rounded(Floats x, Byte* to) {
        store_lowest_bytes(reinterpret<Words>(x + (12582912.0f + kZero)), to);
    }
};

// A lane has an output; its four bytes are the weights of four inputs, so that a row of a tile is [output][4].
class Int8Matrix {
public:
    // Peaks are those of the rows, unless given. The outputs and inputs are padded with zeros.
    template <class Weight>
    Int8Matrix(Arena& arena, int outputs, int inputs, Weight weight, const std::vector<float>& peaks = {})
        : outputs_(padded(outputs)), steps_((inputs + 3) / 4), far_(arena.far()),
          corrections_(arena.take<int32_t>(outputs_)), bytes_(arena.take<Byte>(count(outputs, inputs))),
          units_(arena.take<float>(outputs_)) {
        const std::vector<float> own = peaks.empty() ? row_peaks(outputs, inputs, weight) : peaks;
        for (int output = 0; output < outputs; ++output) units_[output] = own[output] / (127 * 127);
        Byte* byte = bytes_;
        for_tiles([&](int first, int vectors) {
            for (int step = 0; step < steps_; ++step)
                for (int output = first; output < first + vectors * kLanes; ++output)
                    for (int input = 4 * step; input < 4 * step + 4; ++input) {
                        const bool inside = output < outputs && input < inputs && own[output] > 0;
                        const int q = inside ? rounded(weight(output, input), own[output]) : 0;
                        corrections_[output] -= Dot::kZero * q;
                        *byte++ = static_cast<Byte>(q);
                    }
        });
    }

    template <class Weight>
    static std::vector<float> row_peaks(int outputs, int inputs, Weight weight) {
        if (inputs > kMostInputs) throw std::invalid_argument("a sum has too many inputs for weights='int8'");
        std::vector<float> peaks(outputs);
        for (int output = 0; output < outputs; ++output) {
            float peak = 0;
            for (int input = 0; input < inputs; ++input) {
                const float magnitude = std::fabs(weight(output, input));
                if (!(magnitude <= peak)) peak = magnitude;  // also if it is NaN
                if (peak != peak) break;
            }
            peaks[output] = Int8::limited(peak);
        }
        return peaks;
    }

    int64_t bytes() const {
        return static_cast<int64_t>(outputs_) * steps_ * 4 + outputs_ * (sizeof(float) + sizeof(int32_t));
    }

    // The most bytes of the arena that a matrix takes.
    static size_t room(int outputs, int inputs) { return count(outputs, inputs) + 8 * padded(outputs) + 3 * 64; }

    // y += W x for each stream. Rows of y, padded to units, are `y_stride` apart.
    void multiply_add(Rows<Byte> x, float* y, int y_stride, int streams) const {
        for_products(
            x, streams, [](int, int) { return Ints{}; },
            [=](int stream, int output, Ints sum) {
                add_product(sum, output, x.peaks[stream], y + stream * y_stride + output);
            });
    }

    // sums += W x, in integers
    void accumulate(Rows<Byte> x, int32_t* sums, int stride, int streams) const {
        for_products(
            x, streams, [=](int stream, int output) { return load<Ints>(sums + stream * stride + output); },
            [=](int stream, int output, Ints sum) { store(sums + stream * stride + output, sum); });
    }

    static void clear(const Buffer<float>& bias, int32_t* sums) { std::fill_n(sums, bias.size(), 0); }

    // y = bias + what the sums amount to
    void total(const int32_t* sums, float peak, const Buffer<float>& bias, float* y) const {
        std::copy(bias.begin(), bias.end(), y);
        for (int i = 0; i < outputs_; i += kLanes) add_product(load<Ints>(sums + i), i, peak, y + i);
    }

private:
    static constexpr int kMostInputs = 2147483647 / (127 * 127);  // of one sum, which then cannot overflow
    static constexpr int kTile = kRegisters == 32 ? 16 : 8;       // vectors of outputs, for one stream
    static constexpr int kSharers = kRegisters == 32 ? 4 : 2;     // streams that share four vectors of weights

    static int rounded(float weight, float peak) { return static_cast<int>(std::nearbyint(weight * (127 / peak))); }

    static size_t count(int outputs, int inputs) {
        return static_cast<size_t>(padded(outputs)) * ((inputs + 3) / 4) * 4;
    }

    void add_product(Ints sum, int output, float peak, float* y) const {
        const Floats unit = load<Floats>(units_ + output) * peak;
        store(y, load<Floats>(y) + __builtin_convertvector(sum, Floats) * unit);
    }

    // Calls work(first output, vectors): full tiles, then smaller ones, each half as large.
    template <class Work>
    void for_tiles(Work work) const {
        int first = 0;
        for (int vectors = kTile; vectors >= 2; vectors /= 2)
            for (; first + vectors * kLanes <= outputs_; first += vectors * kLanes) work(first, vectors);
    }

    // The integer products of all outputs and streams: `begin(stream, output)` is added, `end` takes the sums.
    template <class Begin, class End>
    void for_products(Rows<Byte> x, int streams, Begin begin, End end) const {
        far_ ? for_products<true>(x, streams, begin, end) : for_products<false>(x, streams, begin, end);
    }

    // Not inlined, GCC 12 keeps the sums of both kinds in registers; otherwise a stream is a tenth slower.
    template <bool Prefetches, class Begin, class End>
    [[gnu::noinline]] void for_products(Rows<Byte> x, int streams, Begin begin, End end) const {
        for_tiles([&](int first, int vectors) {
            const Byte* weights = bytes_ + static_cast<size_t>(first) * steps_ * 4;
            int stream = 0;
            for (; vectors >= 4 && stream + kSharers <= streams; stream += kSharers)
                for (int vector = 0; vector < vectors; vector += 4)
                    multiply<4, kSharers, Prefetches>(weights + vector * 4 * kLanes, vectors, x, stream,
                                                      first + vector * kLanes, begin, end);
            for (; stream < streams; ++stream) whole_tile<Prefetches>(weights, vectors, x, stream, first, begin, end);
        });
    }

    template <bool Prefetches, class Begin, class End>
    void whole_tile(const Byte* weights, int vectors, Rows<Byte> x, int stream, int first, Begin begin, End end) const {
        if constexpr (kTile == 16)
            if (vectors == 16) return multiply<16, 1, Prefetches>(weights, 16, x, stream, first, begin, end);
        if (vectors == 8) return multiply<8, 1, Prefetches>(weights, 8, x, stream, first, begin, end);
        if (vectors == 4) return multiply<4, 1, Prefetches>(weights, 4, x, stream, first, begin, end);
        multiply<2, 1, Prefetches>(weights, 2, x, stream, first, begin, end);
    }

    // Multiplies `Vectors` vectors of a tile of `tile` vectors for `Count` streams; the sums stay in registers.
    template <int Vectors, int Count, bool Prefetches, class Begin, class End>
    void multiply(const Byte* weights, int tile, Rows<Byte> x, int stream, int output, Begin begin, End end) const {
        constexpr int bytes = 4 * kLanes;
        Ints sums[Vectors][Count];
// Unrolled at -O2 too: the sums would be in memory.
#pragma GCC unroll 16
        for (int v = 0; v < Vectors; ++v)
#pragma GCC unroll 16
            for (int s = 0; s < Count; ++s)
                sums[v][s] = begin(stream + s, output + v * kLanes) + load<Ints>(&corrections_[output + v * kLanes]);
        const int next = Count == 1 ? kAhead : steps_ * tile * bytes;  // several streams: the next tile
        const Byte* inputs = x.row(stream);
        for (int step = 0; step < steps_; ++step, weights += tile * bytes, inputs += 4) {
            Dot::Inputs four[Count];
            for (int s = 0; s < Count; ++s) four[s] = Dot::broadcast(inputs + s * x.stride);
#pragma GCC unroll 16
            for (int v = 0; v < Vectors; ++v) {
                if (Prefetches && v * bytes % 64 == 0)  // once per cache line
                    __builtin_prefetch(weights + v * bytes + next);
                const Bytes loaded = load<Bytes>(weights + v * bytes);
                for (int s = 0; s < Count; ++s) sums[v][s] = Dot::add(sums[v][s], loaded, four[s]);
            }
        }
#pragma GCC unroll 16
        for (int v = 0; v < Vectors; ++v)
#pragma GCC unroll 16
            for (int s = 0; s < Count; ++s) end(stream + s, output + v * kLanes, sums[v][s]);
    }

    int outputs_, steps_;
    bool far_;              // the weights do not stay in the cache
    int32_t* corrections_;  // these three in the order in which they are read
    Byte* bytes_;
    float* units_;  // peaks / 127^2
};

}  // namespace
}  // namespace wavenet
