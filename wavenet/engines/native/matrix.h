// Matrices packed for y += W x, with weights in float32 or bfloat16, for one vector x or several at once.
//
// Memory bandwidth limits one stream, so the weights are stored in the order in which they are read: tile by tile of
// outputs, whose sums stay in registers, and within a tile input by input. A lane belongs to an output, and each input
// is broadcast to all lanes, so there are no horizontal sums. Several streams share each weight that is read.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <vector>
#if defined(__unix__)
#include <unistd.h>
#endif

#include "simd.h"

namespace wavenet {
namespace {

template <class T>
struct CacheAligned {
    using value_type = T;
    CacheAligned() = default;
    template <class U>
    CacheAligned(const CacheAligned<U>&) {}
    T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(64))); }
    void deallocate(T* pointer, size_t) { ::operator delete(pointer, std::align_val_t(64)); }
    bool operator==(const CacheAligned&) const { return true; }
    bool operator!=(const CacheAligned&) const { return false; }
};

template <class T>
using Buffer = std::vector<T, CacheAligned<T>>;

// One block of memory for all weights, in the order in which they are read, so that prefetching mostly hits.
class Arena {
public:
    explicit Arena(size_t bytes) : far_(exceeds_cache(bytes)), memory_(bytes) {}

    // Whether a core's second-level cache is too small for it, as far as the system tells. Then prefetching pays, and
    // otherwise it costs.
    bool far() const { return far_; }

    template <class T>
    T* take(size_t count) {
        T* taken = reinterpret_cast<T*>(memory_.data() + used_);
        used_ += (count * sizeof(T) + 63) / 64 * 64;
        if (used_ > memory_.size()) throw std::logic_error("the weights do not fit the arena");
        return taken;
    }

private:
    static bool exceeds_cache([[maybe_unused]] size_t bytes) {
#if defined(_SC_LEVEL2_CACHE_SIZE)
        return static_cast<long>(bytes) > sysconf(_SC_LEVEL2_CACHE_SIZE);
#else
        return true;
#endif
    }

    bool far_;
    Buffer<char> memory_;
    size_t used_ = 0;
};

constexpr int kUnit = 2 * kLanes;  // outputs that a format computes together
constexpr int kUnits = 4;          // units of a full tile: eight sums in registers hide the latency of multiply-adds
constexpr int kAhead = 1024;       // bytes by which one stream prefetches weights: the cache's latency times its rate
constexpr int kStreams = 4;        // streams that share a unit's weights in registers

inline int padded(int channels) { return (channels + kUnit - 1) / kUnit * kUnit; }

// Activations of several streams, a row for each, in the form in which a format keeps and multiplies them.
template <class Stored>
struct Rows {
    Stored* values;
    int stride;
    float* peaks;  // of each row; only int8 has them

    Stored* row(int stream) const { return values + static_cast<size_t>(stream) * stride; }
};

// The formats of float weights keep activations as they are.
struct Unrounded {
    using Stored = float;
    using Sum = float;
    static constexpr float kZero = 0;

    static void keep(const float* x, int width, Stored* to, float&) { std::copy_n(x, width, to); }
    static void recall(const Stored* x, float, int width, float* to) { std::copy_n(x, width, to); }

    static void keep_gated(const float* filter, const float* gate, int width, Stored* to, float&) {
        for (int i = 0; i < width; i += kLanes) store(to + i, gated(load<Floats>(filter + i), load<Floats>(gate + i)));
    }
};

template <class Format>
class FloatMatrix;

// A format defines how a unit of weights is stored, multiplied by the inputs of one step, and summed.
struct Float32 : Unrounded {
    using Matrix = FloatMatrix<Float32>;
    using Word = float;
    static constexpr int kWords = 2 * kLanes;  // words per input and unit

    static void multiply_add(const Word* weights, float input, Floats& low, Floats& high) {
        low += load<Floats>(weights) * input;
        high += load<Floats>(weights + kLanes) * input;
    }
};

// A word has two weights. Clearing its lower half makes a float32 of the upper; shifting it up, of the lower.
struct BFloat16 : Unrounded {
    using Matrix = FloatMatrix<BFloat16>;
    using Word = uint32_t;
    static constexpr int kWords = kLanes;

    static void multiply_add(const Word* weights, float input, Floats& low, Floats& high) {
        const Words both = load<Words>(weights);
        low += reinterpret<Floats>(both << 16) * input;
        high += reinterpret<Floats>(both & 0xffff0000u) * input;
    }
};

template <class Format>
class FloatMatrix {
    using Word = typename Format::Word;

public:
    // `weight(output, input)` returns an entry. The outputs are padded with zeros to whole units.
    template <class Weight>
    FloatMatrix(Arena& arena, int outputs, int inputs, Weight weight, const std::vector<float>& = {})
        : outputs_(padded(outputs)), inputs_(inputs), words_(arena.take<Word>(count(outputs, inputs))) {
        auto entry = [&](int output, int input) { return output < outputs ? weight(output, input) : 0.0f; };
        Word* word = words_;
        for (int tile = 0; tile < outputs_ / kUnit; tile += kUnits)
            for (int input = 0; input < inputs_; ++input)
                for (int unit = tile; unit < std::min(tile + kUnits, outputs_ / kUnit); ++unit)
                    for (int index = 0; index < Format::kWords; ++index)
                        *word++ = pack(entry, unit * kUnit + index, input);
    }

    int64_t bytes() const { return static_cast<int64_t>(outputs_) * inputs_ / kUnit * Format::kWords * sizeof(Word); }

    // Only int8 has scales that matrices can share.
    template <class Weight>
    static std::vector<float> row_peaks(int, int, Weight) {
        return {};
    }

    // The most bytes of the arena that a matrix takes.
    static size_t room(int outputs, int inputs) { return count(outputs, inputs) * sizeof(Word) + 64; }

    // y += W x for each stream. Rows of y, padded to units, are `y_stride` apart.
    void multiply_add(Rows<float> x, float* y, int y_stride, int streams) const {
        const Word* weights = words_;
        for (int tile = 0; tile < outputs_; tile += kUnits * kUnit) {
            const int units = std::min(kUnits, (outputs_ - tile) / kUnit);
            int stream = 0;
            for (; stream + kStreams <= streams; stream += kStreams)
                for (int unit = 0; unit < units; ++unit)
                    apply<1, kStreams>(weights + unit * Format::kWords, units, x.row(stream), x.stride,
                                       y + stream * y_stride + tile + unit * kUnit, y_stride);
            for (; stream < streams; ++stream) whole_tile(units, weights, x.row(stream), y + stream * y_stride + tile);
            weights += static_cast<size_t>(inputs_) * units * Format::kWords;
        }
    }

    // The sum of several products, as the format keeps it: `clear`, then `accumulate` for each, then `total`.
    static void clear(const Buffer<float>& bias, float* sums) { std::copy(bias.begin(), bias.end(), sums); }
    void accumulate(Rows<float> x, float* sums, int stride, int streams) const {
        multiply_add(x, sums, stride, streams);
    }
    void total(const float* sums, float, const Buffer<float>&, float* y) const { std::copy_n(sums, outputs_, y); }

private:
    template <class Entry>
    static Word pack(Entry entry, int output, int input) {
        if constexpr (Format::kWords == kLanes)
            return bfloat16(entry(output, input)) | bfloat16(entry(output + kLanes, input)) << 16;
        else
            return entry(output, input);
    }

    static uint32_t bfloat16(float value) {  // rounded to nearest, ties to even
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    }

    static size_t count(int outputs, int inputs) {
        return static_cast<size_t>(padded(outputs) / kUnit) * inputs * Format::kWords;
    }

    void whole_tile(int units, const Word* weights, const float* x, float* y) const {
        if (units == 4) return apply<4, 1>(weights, 4, x, 0, y, 0);
        if (units == 3) return apply<3, 1>(weights, 3, x, 0, y, 0);
        if (units == 2) return apply<2, 1>(weights, 2, x, 0, y, 0);
        apply<1, 1>(weights, 1, x, 0, y, 0);
    }

    // Multiplies `Units` units of a tile of `tile_units` for `Count` streams; the sums stay in registers.
    template <int Units, int Count>
    void apply(const Word* weights, int tile_units, const float* x, int stride, float* y, int y_stride) const {
        Floats sums[Count][2 * Units] = {};
        constexpr int ahead = kAhead / sizeof(Word);
        const int next = Count == 1 ? ahead : inputs_ * tile_units * Format::kWords;  // several streams: the next tile
        for (int input = 0; input < inputs_; ++input, weights += tile_units * Format::kWords)
            for (int unit = 0; unit < Units; ++unit) {
                if (unit * Format::kWords * sizeof(Word) % 64 == 0)  // once per cache line
                    __builtin_prefetch(weights + unit * Format::kWords + next);
                for (int s = 0; s < Count; ++s)
                    Format::multiply_add(weights + unit * Format::kWords, x[s * stride + input], sums[s][2 * unit],
                                         sums[s][2 * unit + 1]);
            }
        for (int s = 0; s < Count; ++s)
            for (int vector = 0; vector < 2 * Units; ++vector) {
                float* to = y + s * y_stride + vector * kLanes;
                store(to, load<Floats>(to) + sums[s][vector]);
            }
    }

    int outputs_, inputs_;
    Word* words_;
};

}  // namespace
}  // namespace wavenet
