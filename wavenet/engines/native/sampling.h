// From the network's outputs to a symbol, one sample at a time, as in distributions.py and sampling.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "engine.h"
#include "simd.h"

namespace wavenet {
namespace {

// Logarithms in float32, or rounded from those in double: libraries then differ only if a double lies next to a tie.
inline float log1p(float x) { return kReproducible ? static_cast<float>(std::log1p(double{x})) : std::log1p(x); }
inline float log(float x) { return kReproducible ? static_cast<float>(std::log(double{x})) : std::log(x); }

inline float compand(float value, int classes) {
    const float mu = static_cast<float>(classes - 1), clipped = std::min(1.0f, std::max(-1.0f, value));
    return std::copysign(log1p(mu * std::fabs(clipped)) / log1p(mu), clipped);
}

struct Prediction {
    float mean = 0, scale = 1;
};

// Chooses a class by inverse CDF, in double. `remainder` is where in the class's share the uniform lies, 0 to 1.
class Chooser {
public:
    struct Choice {
        int index;
        double remainder;
    };

    Choice operator()(const float* logits, int count, double uniform, const SamplingOptions& options) {
        if (options.temperature == 0) return {static_cast<int>(std::max_element(logits, logits + count) - logits), 0.5};
        const float largest = largest_of(logits, count);
        exponentiate(logits, count, largest, options.temperature);
        if (options.top_k > 0 && options.top_k < count) keep_top(options.top_k, count);
        if (options.top_p > 0) keep_share(options.top_p, count);
        Doubles totals = {};
        for (size_t i = 0; i < shares_.size(); i += kDoubles) totals += load<Doubles>(&shares_[i]);
        const double threshold = sum(totals) * uniform;
        double below = 0;
        int index = 0;
        for (; index + kDoubles < count; index += kDoubles) {  // whole vectors below the threshold
            const double next = below + sum(load<Doubles>(&shares_[index]));
            if (next > threshold) break;
            below = next;
        }
        while (index < count - 1 && !(below + shares_[index] > threshold)) below += shares_[index++];
        return {index, std::min(1.0, std::max(0.0, (threshold - below) / shares_[index]))};
    }

private:
    // If one of them is NaN, any may come of it.
    static float largest_of(const float* x, int count) {
        if (count < kLanes) return *std::max_element(x, x + count);
        Floats most = load<Floats>(x);
        for (int i = kLanes; i <= count - kLanes; i += kLanes) most = larger(load<Floats>(x + i), most);
        most = larger(load<Floats>(x + count - kLanes), most);
        float result = most[0];
        for (int lane = 1; lane < kLanes; ++lane) result = std::max(result, most[lane]);
        return result;
    }

    static double sum(Doubles x) { return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7])); }

    // shares_ = e^((logits - largest) / temperature), and zeros up to a whole number of vectors
    void exponentiate(const float* logits, int count, float largest, double temperature) {
        shares_.assign((count + kDoubles - 1) / kDoubles * kDoubles, 0.0);
        for (int i = 0; i < count; ++i) shares_[i] = (static_cast<double>(logits[i]) - largest) / temperature;
        for (size_t i = 0; i < shares_.size(); i += kDoubles) {
            const Doubles x = load<Doubles>(&shares_[i]);
            const Doubles share = exp(x > -708.0 ? x : Doubles{} - 708.0);
            store(&shares_[i], x > -708.0 ? share : Doubles{});  // nothing for what underflows, and for NaN
        }
        std::fill(shares_.begin() + count, shares_.end(), 0.0);
    }

    void rank(int count) {
        ranked_.resize(count);
        std::iota(ranked_.begin(), ranked_.end(), 0);
        std::stable_sort(ranked_.begin(), ranked_.end(), [this](int a, int b) { return shares_[a] > shares_[b]; });
    }

    void keep_top(int k, int count) {
        rank(count);
        for (size_t place = k; place < ranked_.size(); ++place) shares_[ranked_[place]] = 0;
    }

    // Keeps the fewest most probable classes whose shares add up to p.
    void keep_share(double p, int count) {
        rank(count);
        const double enough = p * std::accumulate(shares_.begin(), shares_.end(), 0.0);
        double before = 0;
        for (int index : ranked_) {
            const double share = shares_[index];
            if (!(before < enough)) shares_[index] = 0;
            before += share;
        }
    }

    std::vector<double> shares_;
    std::vector<int> ranked_;
};

// The quantile of the standard normal distribution: Abramowitz & Stegun 26.2.23, then Halley's method.
inline double normal_quantile(double share) {
    const double t = std::sqrt(-2 * std::log(std::min(share, 1 - share)));
    double x = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
    if (share < 0.5) x = -x;
    for (int turn = 0; turn < 2; ++turn) {
        const double below =
            share < 0.5 ? std::erfc(-x / std::sqrt(2.0)) / 2 - share : (1 - share) - std::erfc(x / std::sqrt(2.0)) / 2;
        const double step = below * std::sqrt(2 * std::acos(-1.0)) * std::exp(x * x / 2);
        x -= step / (1 + x * step / 2);
    }
    return x;
}

class Distribution {
public:
    virtual ~Distribution() = default;
    virtual int parameters() const = 0;
    virtual void place(const float* outputs, const Prediction* prediction, float* parameters) const = 0;
    virtual int64_t sample(const float* parameters, double uniform, const SamplingOptions&, Chooser&) const = 0;
    static std::unique_ptr<Distribution> of(const DistributionDescription& given);
};

class Categorical : public Distribution {
public:
    explicit Categorical(int classes) : classes_(classes) {}
    int parameters() const override { return classes_; }

    void place(const float* outputs, const Prediction* prediction, float* parameters) const override {
        int first = 0;
        if (prediction) {
            const float level = (compand(prediction->mean, classes_) + 1) / 2 * static_cast<float>(classes_ - 1);
            first = classes_ - 1 - static_cast<int>(std::floor(level + 0.5f));
        }
        std::copy_n(outputs + first, classes_, parameters);
    }

    int64_t sample(const float* parameters, double uniform, const SamplingOptions& options,
                   Chooser& choose) const override {
        return choose(parameters, classes_, uniform, options).index;
    }

private:
    int classes_;
};

class Mixture : public Distribution {
public:
    Mixture(int components, int levels, bool logistic)
        : components_(components), levels_(levels), logistic_(logistic) {}
    int parameters() const override { return 3 * components_; }

    void place(const float* outputs, const Prediction* prediction, float* parameters) const override {
        const float shift = prediction ? prediction->mean : 0, factor = prediction ? prediction->scale : 1;
        const float narrowest = -log(levels_ * 16.0f), widening = prediction ? log(factor) : 0;
        for (int k = 0; k < components_; ++k) {
            const float mean = shift + factor * outputs[components_ + k],
                        scale = outputs[2 * components_ + k] + widening;
            parameters[k] = outputs[k];
            parameters[components_ + k] = std::min(2.0f, std::max(-2.0f, mean));
            parameters[2 * components_ + k] = std::min(0.0f, std::max(narrowest, scale));
        }
    }

    int64_t sample(const float* parameters, double uniform, const SamplingOptions& options,
                   Chooser& choose) const override {
        const auto [component, remainder] = choose(parameters, components_, uniform, options);
        const double least = std::ldexp(1.0, -20), share = std::min(1 - least, std::max(least, remainder));
        const double deviation = logistic_ ? std::log(share / (1 - share)) : normal_quantile(share);
        const double mean = parameters[components_ + component],
                     scale = std::exp(static_cast<double>(parameters[2 * components_ + component]));
        const double half = levels_ / 2.0,
                     symbol = std::nearbyint((mean + options.temperature * scale * deviation) * half) + half;
        return symbol > 0 ? static_cast<int64_t>(std::min(symbol, levels_ - 1.0)) : 0;
    }

private:
    int components_, levels_;
    bool logistic_;
};

inline std::unique_ptr<Distribution> Distribution::of(const DistributionDescription& given) {
    const int symbols = static_cast<int>(given.decoded.size());
    if (given.kind == "categorical") return std::make_unique<Categorical>(symbols);
    return std::make_unique<Mixture>(given.components, symbols, given.kind == "logistic_mixture");
}

}  // namespace
}  // namespace wavenet
