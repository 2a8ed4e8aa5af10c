// Makes a network of float32 or bfloat16 weights, and measures the two limits of the machine that `wavenet bench`
// reports.
#include "engine.h"

#include <chrono>
#include <stdexcept>

#include "network.h"

namespace wavenet {

std::shared_ptr<const Network> make_network(const Description& model, const std::string& weights) {
    if (weights == "float32") return std::make_shared<PackedNetwork<Float32>>(model);
    if (weights == "bfloat16") return std::make_shared<PackedNetwork<BFloat16>>(model);
    if (weights == "int8") return make_int8_network(model);
    throw std::invalid_argument("weights is '" + weights + "'; expected float32, bfloat16 or int8");
}

// Runs `work`, which returns how much it did, for a tenth of a second, and returns the best rate of five rounds.
template <class Work>
static double rate(Work work) {
    using Clock = std::chrono::steady_clock;
    double best = 0;
    for (int round = 0; round < 5; ++round) {
        const auto begun = Clock::now();
        double done = 0, seconds = 0;
        do {
            done += work();
            seconds = std::chrono::duration<double>(Clock::now() - begun).count();
        } while (seconds < 0.02);
        best = std::max(best, done / seconds);
    }
    return best;
}

#if defined(__aarch64__)
#define WAVENET_REGISTER "+w"  // of vectors
#else
#define WAVENET_REGISTER "+x"
#endif

static volatile float sink;  // the compiler must compute what is stored here

double read_rate(int64_t bytes) {
    Buffer<float> buffer(std::max<int64_t>(bytes / 4, 8 * kLanes), 1.0f);
    return rate([&] {
        Floats sums[8] = {};
        size_t i = 0;
        for (; i + 8 * kLanes <= buffer.size(); i += 8 * kLanes)
            for (int k = 0; k < 8; ++k) sums[k] += load<Floats>(buffer.data() + i + k * kLanes);
        for (int k = 1; k < 8; ++k) sums[0] += sums[k];
        sink = sums[0][0];
        return 4.0 * i;
    });
}

double multiply_add_rate() {
    return rate([&] {
        Floats sums[10] = {};
        Floats factor = splat(sink), addend = splat(1.0f);
        constexpr int turns = 10000;
        for (int turn = 0; turn < turns; ++turn) {
            for (Floats& sum : sums) sum = sum * factor + addend;
            asm volatile("" : WAVENET_REGISTER(sums[0]));
        }
        for (int k = 1; k < 10; ++k) sums[0] += sums[k];
        sink = sums[0][0] * 0;
        return 10.0 * turns * kLanes;
    });
}

}  // namespace wavenet
