// Matrices packed for y += W x, with weights in float32, bfloat16 or int8, for one vector x or several at once.
//
// Memory bandwidth limits one stream, so the weights are stored in the order in which they are read: tile by tile of
// outputs, whose sums stay in registers, and within a tile input by input. A lane belongs to an output, and each input
// is broadcast to all lanes, so there are no horizontal sums. Several streams share each weight that is read.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <vector>

#include "simd.h"

namespace wavenet {

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
    explicit Arena(size_t bytes) : memory_(bytes) {}

    template <class T>
    T* take(size_t count) {
        T* taken = reinterpret_cast<T*>(memory_.data() + used_);
        used_ += (count * sizeof(T) + 63) / 64 * 64;
        if (used_ > memory_.size()) throw std::logic_error("the weights do not fit the arena");
        return taken;
    }

private:
    Buffer<char> memory_;
    size_t used_ = 0;
};

// Memory for inputs rounded to integers. Each thread has its own.
struct Scratch {
    Buffer<int32_t> inputs;
    std::vector<float> scales;
};

constexpr int kUnit = 2 * kLanes;  // outputs that a format computes together
constexpr int kUnits = 4;          // units of a full tile: eight sums in registers hide the latency of multiply-adds
constexpr int kAhead = 1024;       // bytes by which one stream prefetches weights: the cache's latency times its rate
constexpr int kStreams = 4;        // streams that share a unit's weights in registers

inline int padded(int channels) { return (channels + kUnit - 1) / kUnit * kUnit; }

// A format defines how a unit of weights is stored, multiplied by the inputs of one step, and summed.
struct Float32 {
    using Word = float;
    using Input = float;
    using Sum = Floats;
    static constexpr int kInputs = 1;          // inputs per step
    static constexpr int kWords = 2 * kLanes;  // words per step and unit

    static void multiply_add(const Word* weights, Input input, Sum& low, Sum& high) {
        low += load<Floats>(weights) * input;
        high += load<Floats>(weights + kLanes) * input;
    }
};

// A word has two weights. Clearing its lower half makes a float32 of the upper; shifting it up, of the lower.
struct BFloat16 {
    using Word = uint32_t;
    using Input = float;
    using Sum = Floats;
    static constexpr int kInputs = 1;
    static constexpr int kWords = kLanes;

    static void multiply_add(const Word* weights, Input input, Sum& low, Sum& high) {
        const Words both = load<Words>(weights);
        low += reinterpret<Floats>(both << 16) * input;
        high += reinterpret<Floats>(both & 0xffff0000u) * input;
    }
};

// Integer dot products: 8-bit weights with a scale per output, inputs rounded to 16 bits with a scale per vector.
// A word has the weights of two inputs for an output of the unit's lower half and for one of its upper half, in turn.
struct Int8 {
    using Word = uint32_t;
    using Input = int32_t;  // two inputs of 16 bits
    using Sum = Ints;
    static constexpr int kInputs = 2;
    static constexpr int kWords = kLanes;

    static void multiply_add(const Word* weights, Input inputs, Sum& low, Sum& high) {
        const Shorts both = load<Shorts>(weights), pair = reinterpret<Shorts>(Ints{} + inputs);
        low = multiply_pairs(low, (both << 8) >> 8, pair);
        high = multiply_pairs(high, both >> 8, pair);
    }
};

template <class Format>
class Matrix {
    using Word = typename Format::Word;
    using Input = typename Format::Input;
    using Sum = typename Format::Sum;
    static constexpr bool kScaled = Format::kInputs == 2;

public:
    // `weight(output, input)` returns an entry. The outputs are padded with zeros to whole units.
    template <class Weight>
    Matrix(Arena& arena, int outputs, int inputs, Weight weight)
        : outputs_(padded(outputs)), inputs_(inputs), steps_((inputs + Format::kInputs - 1) / Format::kInputs),
          words_(arena.take<Word>(count(outputs, inputs))) {
        scales_.assign(kScaled ? outputs_ : 0, 0.0f);
        auto entry = [&](int output, int input) {
            return output < outputs && input < inputs ? weight(output, input) : 0.0f;
        };
        if (kScaled)
            for (int output = 0; output < outputs; ++output) {
                float largest = 0;
                for (int input = 0; input < inputs; ++input)
                    largest = std::max(largest, std::fabs(entry(output, input)));
                scales_[output] = largest / 127;
            }
        Word* word = words_;
        for (int tile = 0; tile < outputs_ / kUnit; tile += kUnits)
            for (int step = 0; step < steps_; ++step)
                for (int unit = tile; unit < std::min(tile + kUnits, outputs_ / kUnit); ++unit)
                    for (int index = 0; index < Format::kWords; ++index)
                        *word++ = pack(entry, unit * kUnit, index, step);
    }

    int64_t bytes() const {
        return static_cast<int64_t>(outputs_) * steps_ / kUnit * Format::kWords * sizeof(Word) +
               scales_.size() * sizeof(float);
    }

    // The most bytes of the arena that a matrix takes.
    static size_t room(int outputs, int inputs) { return count(outputs, inputs) * sizeof(Word) + 64; }

    // y += W x for each stream. Rows of x are `x_stride` apart; rows of y, padded to units, are `y_stride` apart.
    void multiply_add(const float* x, int x_stride, float* y, int y_stride, int streams, Scratch& scratch) const {
        const Input* inputs = prepare(x, x_stride, streams, scratch);
        const float* scales = scratch.scales.data();
        const int stride = kScaled ? steps_ : x_stride;
        const Word* weights = words_;
        for (int tile = 0; tile < outputs_; tile += kUnits * kUnit) {
            const int units = std::min(kUnits, (outputs_ - tile) / kUnit);
            int stream = 0;
            for (; stream + kStreams <= streams && streams >= kStreams; stream += kStreams)
                for (int unit = 0; unit < units; ++unit)
                    apply<1, kStreams>(weights + unit * Format::kWords, units, inputs + stream * stride, stride,
                                       tile + unit * kUnit, y + stream * y_stride, y_stride,
                                       kScaled ? scales + stream : nullptr);
            for (; stream < streams; ++stream)
                whole_tile(units, weights, inputs + stream * stride, tile, y + stream * y_stride,
                           kScaled ? scales + stream : nullptr);
            weights += static_cast<size_t>(steps_) * units * Format::kWords;
        }
    }

private:
    template <class Entry>
    Word pack(Entry entry, int output, int index, int step) const {
        if constexpr (kScaled) {
            uint32_t word = 0;
            for (int half = 0; half < 2; ++half)
                for (int upper = 0; upper < 2; ++upper) {
                    const int row = output + upper * kLanes + index;
                    const float scale = scales_[row] > 0 ? scales_[row] : 1.0f;
                    const float rounded = std::nearbyint(entry(row, 2 * step + half) / scale);  // -127 to 127
                    word |= static_cast<uint32_t>(static_cast<uint8_t>(static_cast<int8_t>(rounded)))
                            << (16 * half + 8 * upper);
                }
            return word;
        } else if constexpr (sizeof(Word) * Format::kWords == sizeof(float) * kLanes) {
            return bfloat16(entry(output + index, step)) | bfloat16(entry(output + kLanes + index, step)) << 16;
        } else {
            return entry(output + index, step);
        }
    }

    static uint32_t bfloat16(float value) {  // rounded to nearest, ties to even
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    }

    static size_t count(int outputs, int inputs) {
        return static_cast<size_t>(padded(outputs) / kUnit) * ((inputs + Format::kInputs - 1) / Format::kInputs) *
               Format::kWords;
    }

    // Float formats use the inputs as they are. Int8 rounds them, as finely as its sums allow without overflow.
    const Input* prepare(const float* x, int stride, int streams, Scratch& scratch) const {
        if constexpr (kScaled) {
            scratch.scales.resize(std::max(scratch.scales.size(), static_cast<size_t>(streams)));
            scratch.inputs.resize(std::max(scratch.inputs.size(), static_cast<size_t>(streams) * steps_ + kLanes));
            const float finest = std::min(32767.0f, 2147483647.0f / 127 / (2 * steps_) - 1);
            for (int stream = 0; stream < streams; ++stream)
                scratch.scales[stream] = round_inputs(
                    x + static_cast<size_t>(stream) * stride, finest,
                    reinterpret_cast<int16_t*>(scratch.inputs.data() + static_cast<size_t>(stream) * steps_));
            return scratch.inputs.data();
        } else {
            return x;
        }
    }

    // Returns the scale. Reads x up to a whole vector.
    float round_inputs(const float* x, float finest, int16_t* rounded) const {
        Floats peaks = {}, poison = {};
        for (int i = 0; i < inputs_; i += kLanes) {
            const Floats values = load<Floats>(x + i);
            peaks = larger(peaks, larger(values, -values));
            poison += values * 0.0f;  // NaN if a value is not finite
        }
        float largest = 0;
        for (int lane = 0; lane < kLanes; ++lane) largest = std::max(largest, peaks[lane]) + poison[lane];
        if (!(largest > 0 && largest < 1e30f)) {
            std::fill_n(rounded, 2 * steps_, int16_t{0});
            return largest == 0 ? 0 : std::numeric_limits<float>::quiet_NaN();
        }
        const Floats factor = splat(finest / largest), rounder = splat(12582912.0f);
        for (int i = 0; i < inputs_; i += kLanes)
            store(rounded + i, narrow((load<Floats>(x + i) * factor + rounder) - rounder));
        return largest / finest;
    }

    void whole_tile(int units, const Word* weights, const Input* inputs, int output, float* y,
                    const float* scale) const {
        if (units == 4) return apply<4, 1>(weights, 4, inputs, 0, output, y, 0, scale);
        if (units == 3) return apply<3, 1>(weights, 3, inputs, 0, output, y, 0, scale);
        if (units == 2) return apply<2, 1>(weights, 2, inputs, 0, output, y, 0, scale);
        apply<1, 1>(weights, 1, inputs, 0, output, y, 0, scale);
    }

    // Multiplies `Units` units of a tile of `tile_units` for `Count` streams; the sums stay in registers.
    template <int Units, int Count>
    void apply(const Word* weights, int tile_units, const Input* inputs, int stride, int output, float* y, int y_stride,
               const float* scales) const {
        Sum sums[Count][2 * Units] = {};
        constexpr int ahead = kAhead / sizeof(Word);
        const int next = Count == 1 ? ahead : steps_ * tile_units * Format::kWords;  // several streams: the next tile
        for (int step = 0; step < steps_; ++step, weights += tile_units * Format::kWords)
            for (int unit = 0; unit < Units; ++unit) {
                if (unit * Format::kWords * sizeof(Word) % 64 == 0)  // once per cache line
                    __builtin_prefetch(weights + unit * Format::kWords + next);
                for (int s = 0; s < Count; ++s)
                    Format::multiply_add(weights + unit * Format::kWords, inputs[s * stride + step], sums[s][2 * unit],
                                         sums[s][2 * unit + 1]);
            }
        for (int s = 0; s < Count; ++s)
            for (int vector = 0; vector < 2 * Units; ++vector) {
                float* to = y + s * y_stride + output + vector * kLanes;
                Floats sum = as_floats(sums[s][vector]);
                if constexpr (kScaled) sum *= load<Floats>(scales_.data() + output + vector * kLanes) * scales[s];
                store(to, load<Floats>(to) + sum);
            }
    }

    static Floats as_floats(Floats sum) { return sum; }
    static Floats as_floats(Ints sum) { return __builtin_convertvector(sum, Floats); }

    int outputs_, inputs_, steps_;
    Word* words_;
    Buffer<float> scales_;
};

}  // namespace wavenet
